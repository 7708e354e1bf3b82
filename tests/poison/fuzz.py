"""Mutates sound JPEG, PNG and DICOM films and asks for a verdict: never a crash, a fifth status, an answer out of the
contract, more work than cxr.work allows or more than 512 MB.

    python -m tests.poison.fuzz --seconds 600 [--seed N]

A child process does the reading, so that a crash of a decoder is seen; the last input is kept in build/fuzz/. Prints
one line of JSON and exits 1 if a rule was broken.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import sys
import tempfile
import time
import traceback
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np

from cxr.bundle import SIDE
from cxr.engine import Engine, Output
from cxr.labels import STATUSES
from cxr.overlay import overlay, png
from cxr.reader import read_film
from cxr.reasons import UNREADABLE
from cxr.verdict import Limits
from cxr.work import MAX_PARTS, MAX_PASSES, Work
from inference_lambda import assessment
from tests.poison.mutations import mutated
from tests.poison.poison_corpus import corpus
from tests.poison.poison_dicom import compressed, header, saved
from tests.poison.poison_raster import deep_colour, deep_png, encoded

ROOT = Path(__file__).resolve().parents[2]
KEPT = ROOT / "build" / "fuzz"
LIMIT_MB = 512
SLOW_SECONDS = 10.0
LIMITS = Limits(0.5, 0.5, 0.5, 0.05, 10.0)


class MeanEngine(Engine):
    """Answers by brightness, so that fuzzing reads films instead of waiting for a network."""

    def __init__(self) -> None:
        self.side = SIDE

    def run(self, pixels: np.ndarray) -> Output:
        share = float(pixels.mean()) / 255
        return Output(share, pixels[::16, ::16].astype(np.float32), 40 * abs(share - 0.5))


def big_files() -> list[bytes]:
    """The largest films that are allowed: 25 megapixels, in the forms that take the most memory."""
    from PIL import Image
    from pydicom.uid import JPEG2000Lossless

    ramp = np.add.outer(np.arange(5000, dtype=np.uint16), np.arange(5000, dtype=np.uint16))
    grey = Image.fromarray((ramp >> 6).astype(np.uint8))
    return [
        deep_png(ramp),
        deep_colour(ramp[:3900, :3900], 6, 4),
        deep_colour(ramp[:4500, :4500], 2, 3),
        encoded(Image.merge("RGBA", (grey,) * 4), "PNG", compress_level=1),
        encoded(Image.merge("RGB", (grey,) * 3), "JPEG", progressive=True),
        encoded(grey.convert("P"), "PNG", transparency=b"\xff" * 256, compress_level=1),
        saved(header(ramp)),
        saved(compressed(ramp, JPEG2000Lossless, 16)),
    ]


def read(folder: Path, seconds: float, seed: int, state: dict) -> None:
    """Runs in the child: every file of `folder`, then mutations of the sound ones until the time is over."""
    randomness = random.Random(seed)
    sound = [file.read_bytes() for file in sorted(folder.glob("sound-*"))]
    given = sorted(folder.iterdir(), reverse=True)
    progress = Progress(seed=seed, baseline_mb=_peak_mb())
    deadline = None
    while given or deadline is None or time.monotonic() < deadline:
        if given:
            data = given.pop().read_bytes()
        else:
            deadline = deadline or time.monotonic() + seconds
            data = mutated(randomness.choice(sound), randomness, sound)
            (KEPT / "current.bin").write_bytes(data)
        started = time.process_time()
        try:
            status, work = judged(data)
        except Exception:
            state["error"] = traceback.format_exc()
            return
        progress.add(status, time.process_time() - started, work)
        state.update(progress.state())
    state["finished"] = True


def judged(data: bytes) -> tuple[str, Work]:
    """The status of one file and what it cost. AssertionError if the answer breaks the contract of a verdict."""
    work = Work()
    assessment.read_film = partial(read_film, work=work)  # type: ignore[assignment]
    assessed = assessment.assess(data, MeanEngine(), LIMITS)
    verdict, film = assessed.verdict, assessed.film
    assert (film is None) == (verdict.label is None) == (verdict.status == "unreadable")
    if film is None:
        (why,) = verdict.reasons
        assert why.code in UNREADABLE
        assert why.code == "too_complex" or (work.parts <= MAX_PARTS and work.passes <= MAX_PASSES)
    else:
        assert film.pixels.shape == (SIDE, SIDE) and film.pixels.dtype == np.uint8
        assert work.parts <= MAX_PARTS and work.passes <= MAX_PASSES and assessed.output is not None
        png(overlay(film.pixels, assessed.output.heatmap, (film.width, film.height)))
    return verdict.status, work


class Progress:
    """What has been read so far."""

    def __init__(self, seed: int, baseline_mb: int) -> None:
        self.seed, self.baseline_mb = seed, baseline_mb
        self.counts: Counter[str] = Counter()
        self.slowest, self.parts, self.passes = 0.0, 0, 0

    def add(self, status: str, seconds: float, work: Work) -> None:
        self.counts[status] += 1
        self.slowest = max(self.slowest, seconds)
        self.parts, self.passes = max(self.parts, work.parts), max(self.passes, work.passes)

    def state(self) -> dict:
        counts, slowest = dict(self.counts), round(self.slowest, 2)
        return {
            "files": sum(counts.values()),
            "counts": counts,
            "slowest_cpu_s": slowest,
            "most_parts": self.parts,
            "most_passes": self.passes,
            "seed": self.seed,
            "baseline_mb": self.baseline_mb,
            "peak_mb": _peak_mb(),
        }


def _peak_mb() -> int:
    """Peak resident memory of this process; getrusage() would report the parent's if that was larger."""
    status = Path("/proc/self/status").read_text()
    return round(int(status.partition("VmHWM:")[2].split()[0]) / 1024)


def write_inputs(folder: Path, big: bool) -> None:
    """The corpus; its sound and small files are named sound-* and become the seeds of the mutations."""
    for number, file in enumerate(corpus()):
        kind = "sound" if file.judged and len(file.data) < 200_000 else "other"
        (folder / f"{kind}-{number:03d}").write_bytes(file.data)
    for number, data in enumerate(big_files() if big else ()):
        (folder / f"big-{number}").write_bytes(data)


def broken_rules(state: dict, exit_code: int | None) -> list[str]:
    broken = []
    if exit_code != 0 or not state.get("finished"):
        broken.append(f"the reader died with exit code {exit_code}; see build/fuzz/current.bin")
    if "error" in state:
        broken.append("an exception left the reader; see build/fuzz/current.bin")
    if strange := set(state.get("counts", {})) - set(STATUSES):
        broken.append(f"unknown statuses {strange}")
    if state.get("peak_mb", 0) > LIMIT_MB:
        broken.append(f"{state['peak_mb']} MB is over the limit of {LIMIT_MB} MB")
    if state.get("slowest_cpu_s", 0) > SLOW_SECONDS:
        broken.append(
            f"one file took {state['slowest_cpu_s']} s of CPU, the limit is {SLOW_SECONDS} s; see build/fuzz/"
        )
    return broken


def main() -> int:
    parser = argparse.ArgumentParser(description="Mutate films and ask for verdicts.")
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=None, help="the printed one repeats a run")
    parser.add_argument("--big", action="store_true", help="begin with films of 25 megapixels")
    options = parser.parse_args()
    KEPT.mkdir(parents=True, exist_ok=True)
    seed = random.SystemRandom().randrange(2**31) if options.seed is None else options.seed
    spawn = multiprocessing.get_context("spawn")
    with spawn.Manager() as manager, tempfile.TemporaryDirectory() as folder:
        write_inputs(Path(folder), options.big)
        shared = manager.dict()
        child = spawn.Process(target=read, args=(Path(folder), options.seconds, seed, shared))
        child.start()
        child.join()
        state = dict(shared)
    broken = broken_rules(state, child.exitcode)
    print(json.dumps({**state, "broken": broken}))
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
