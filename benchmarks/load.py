"""What the pipeline benchmark uploads, and the record of it: every upload is a file that no other upload is.

The sha256 of each upload version is kept, so that a result can be compared with the very film that it claims to be
about.
"""

from __future__ import annotations

import hashlib
import io
import random
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from cxr.labels import CLASSES
from local_aws.synthetic import film, photograph

DISTINCT_FILMS = 24
SIZES = ((1024, 832), (1312, 1008), (896, 896))
PHOTOGRAPHS, BROKEN = 0.02, 0.02
BURST, LOOKS_EVERY = 10, 0.1
"""Files between two looks at the queue, and seconds between two looks while it is full."""
REPORT_EVERY = 250
MAX_WAITING = 60
"""Uploading pauses while more messages wait: three batches for each of two warm processes."""


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
        self._films = [jpeg(film(CLASSES[n % 2], rng, size=SIZES[n % len(SIZES)])) for n in range(distinct)]
        self._photographs = [jpeg(photograph(rng)) for _ in range(4)]

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

    def __init__(self, s3: Any, bucket: str, waiting: Callable[[], int]) -> None:
        self._s3, self._bucket, self._waiting = s3, bucket, waiting
        self._lock = threading.Lock()
        self.puts: list[Put] = []

    def put(self, file: File) -> Put:
        sent = time.time()
        answer = self._s3.put_object(Bucket=self._bucket, Key=file.key, Body=file.data)
        done = Put(file.key, answer["VersionId"], hashlib.sha256(file.data).hexdigest(), file.kind, sent)
        with self._lock:
            self.puts.append(done)
        return done

    def put_all(self, files: Iterable[File], threads: int = 2) -> None:
        """Upload in bursts, pausing while more than MAX_WAITING messages wait."""
        files = iter(files)
        with ThreadPoolExecutor(threads) as pool:
            while burst := list(islice(files, BURST)):
                while self._waiting() > MAX_WAITING:
                    time.sleep(LOOKS_EVERY)
                list(pool.map(self.put, burst))
                if len(self.puts) % REPORT_EVERY == 0:
                    print(f"{time.strftime('%H:%M:%S')} {len(self.puts)} uploaded", flush=True)


def jpeg(image: Any) -> bytes:
    """A picture as a camera's file."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=88)
    return buffer.getvalue()
