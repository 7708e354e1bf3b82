"""What the pipeline benchmark uploads, and the record of it: every upload is a file that no other upload is.

Rule: the bytes of each upload version are known by their sha256, so that a result can be held against the very film
that it claims to be about.
"""

from __future__ import annotations

import hashlib
import io
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from cxr.labels import CLASSES
from local_aws.synthetic import film, photograph

DISTINCT_FILMS = 24
SIZES = ((1024, 832), (1312, 1008), (896, 896))
PHOTOGRAPHS, BROKEN = 0.02, 0.02
REPORT_EVERY = 250
MAX_WAITING = 60
"""Uploading pauses while so many messages wait: three batches for each of two warm processes."""


@dataclass(frozen=True)
class File:
    """One thing to upload. kind: film, photograph or broken."""

    key: str
    data: bytes
    kind: str


@dataclass(frozen=True)
class Put:
    """One upload as S3 acknowledged it; sent: time.time() when the request began."""

    key: str
    version: str
    sha256: str
    kind: str
    sent: float


class Files:
    """Makes the n-th file: a synthetic film, a photograph or rubbish, each unique."""

    def __init__(self, seed: int, distinct: int = DISTINCT_FILMS) -> None:
        rng = np.random.default_rng(seed)
        self._random = random.Random(seed)
        self._films = [_jpeg(film(CLASSES[n % 2], rng, size=SIZES[n % len(SIZES)])) for n in range(distinct)]
        self._photographs = [_jpeg(photograph(rng)) for _ in range(4)]

    def make(self, key: str, number: int) -> File:
        draw = self._random.random()
        if draw < BROKEN:
            data = self._random.choice(self._films)
            return File(key, with_comment(data, number)[: len(data) // 3], "broken")
        kind = "photograph" if draw < BROKEN + PHOTOGRAPHS else "film"
        source = self._photographs if kind == "photograph" else self._films
        return File(key, with_comment(source[number % len(source)], number), kind)


def with_comment(jpeg: bytes, number: int) -> bytes:
    """The same picture with `number` in a comment segment: other bytes, same pixels."""
    text = f"upload {number}".encode()
    return jpeg[:2] + b"\xff\xfe" + (len(text) + 2).to_bytes(2, "big") + text + jpeg[2:]


class Uploader:
    """Puts files over HTTP as fast as the queue takes them, and keeps the record."""

    def __init__(self, s3: Any, bucket: str, waiting: Callable[[], int], stop: threading.Event) -> None:
        self._s3, self._bucket, self._waiting, self._stop = s3, bucket, waiting, stop
        self._lock = threading.Lock()
        self.puts: list[Put] = []

    def put(self, file: File) -> Put:
        sent = time.time()
        answer = self._s3.put_object(Bucket=self._bucket, Key=file.key, Body=file.data)
        done = Put(file.key, answer["VersionId"], hashlib.sha256(file.data).hexdigest(), file.kind, sent)
        with self._lock:
            self.puts.append(done)
        return done

    def put_all(self, files: Iterator[File], threads: int = 2) -> None:
        """Upload in batches, pausing while MAX_WAITING messages wait."""
        with ThreadPoolExecutor(threads) as pool:
            batch: list[File] = []
            for file in files:
                batch.append(file)
                if len(batch) == 10:
                    self._pause()
                    list(pool.map(self.put, batch))
                    batch = []
                    if len(self.puts) % REPORT_EVERY == 0:
                        print(f"{time.strftime('%H:%M:%S')} {len(self.puts)} uploaded", flush=True)
            list(pool.map(self.put, batch))

    def _pause(self) -> None:
        while self._waiting() > MAX_WAITING and not self._stop.wait(0.1):
            pass


def _jpeg(image: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=88)
    return buffer.getvalue()
