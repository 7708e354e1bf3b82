"""Frozen features, computed once per film and copy, kept on disk.

The frozen part of the network never sees a film twice. A pass that was cut short goes on where it stopped, and a
cache is used only for the very weights, preprocessing, engine and pixels that it was computed from.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from training_job import files
from training_job.console import progress
from training_job.litert import Signature
from training_job.stop import Stop

if TYPE_CHECKING:
    import keras

BATCH = 32
NOTHING = (0, 0.0)


@dataclass(frozen=True)
class Trunk:
    """The frozen part. identity: weights, preprocessing and engine. shapes: of each point's feature.

    map_type: what maps [h, w, c] are kept in: float16 (relative error 5e-4, a tenth of int8's) makes block4_pool of
    5,216 films 1 GB instead of 2; float32 where films differ by little more than that. Vectors are kept as float32.
    """

    identity: str
    shapes: dict[str, tuple[int, ...]]
    run: Callable[[np.ndarray], dict[str, np.ndarray]]
    map_type: str = "float16"

    def kept_in(self, name: str) -> str:
        return self.map_type if len(self.shapes[name]) == 3 else "float32"


@dataclass(frozen=True)
class Kept:
    """Features [n, ...] in a .npy file, indexed by rows as an array is; what is read is a copy.

    The file is mapped only while it is read or written: pages of a map that stays open count as the job's memory, 2 GB
    of them with block4_pool of 5,216 films and an augmented copy.
    """

    path: Path
    dtype: np.dtype
    shape: tuple[int, ...]
    offset: int

    @classmethod
    def in_file(cls, path: Path) -> Kept:
        opened = np.load(path, mmap_mode="r")
        return cls(path, opened.dtype, opened.shape, opened.offset)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> np.ndarray:
        return np.array(self._map("r")[rows])

    def __setitem__(self, rows: Any, values: np.ndarray) -> None:
        self._map("r+")[rows] = values

    def _map(self, mode: Literal["r", "r+"]) -> np.memmap:
        return np.memmap(self.path, self.dtype, mode, self.offset, self.shape)


Features = np.ndarray | Kept


def keras_trunk(model: keras.Model, identity: str, map_type: str) -> Trunk:
    """Features by Keras (GPU, or float32 on CPU), as a graph: eager VGG16 costs a fifth more."""
    import tensorflow as tf

    compiled = tf.function(lambda films: model(films, training=False), reduce_retracing=True)

    def run(films: np.ndarray) -> dict[str, np.ndarray]:
        outputs = compiled(tf.constant(films[..., None], tf.float32))
        return {name: value.numpy() for name, value in outputs.items()}

    shapes = {name: tuple(tensor.shape[1:]) for name, tensor in model.output.items()}
    return Trunk(f"keras {identity}", shapes, run, map_type)


def litert_trunk(tflite: bytes, shapes: dict[str, tuple[int, ...]], identity: str, map_type: str) -> Trunk:
    """Features by the quantised .tflite on CPU."""
    signature = Signature(tflite)

    def run(films: np.ndarray) -> dict[str, np.ndarray]:
        rows = [signature(film[..., None]) for film in films]
        return {name: np.concatenate([row[name] for row in rows]) for name in shapes}

    return Trunk(f"int8 {identity}", shapes, run, map_type)


def compute(trunk: Trunk, films: np.ndarray, cache: Path, label: str, stop: Stop) -> dict[str, Kept]:
    """Features {point: [n, ...]} of uint8 films [n, s, s], in files under `cache`.

    Raises FloatingPointError when a feature is not finite in the type that it is kept in; OSError naming the file when
    the disk cannot hold it, before anything is computed.
    """
    cache.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    stem = hashlib.sha256(trunk.identity.encode() + _digest(films)).hexdigest()[:20]
    paths = {name: cache / f"{stem}-{name}-{trunk.kept_in(name)}.npy" for name in trunk.shapes}
    marks = {name: path.with_suffix(".json") for name, path in paths.items()}
    shapes = {name: (len(films), *trunk.shapes[name]) for name in paths}
    found = {name: _found(marks[name], path, shapes[name], trunk.kept_in(name)) for name, path in paths.items()}
    done, spent = min(rows for rows, _ in found.values()), max(seconds for _, seconds in found.values())
    for name, path in paths.items():
        if found[name] == NOTHING:
            marks[name].unlink(missing_ok=True)
            _create(path, shapes[name], trunk.kept_in(name))
    kept = {name: Kept.in_file(path) for name, path in paths.items()}
    for start in progress(range(done, len(films), BATCH), f"features of {label}", unit=BATCH, total=len(films) - done):
        stop.check()
        rows = slice(start, min(start + BATCH, len(films)))
        for name, values in trunk.run(films[rows]).items():
            rounded = values.astype(kept[name].dtype)
            if not np.isfinite(rounded).all():
                raise FloatingPointError(f"a {name} feature is not finite as {rounded.dtype}; check the weights file")
            kept[name][rows] = rounded
        for name in paths:
            mark = {"rows": rows.stop, "seconds": spent + time.perf_counter() - started}
            marks[name].write_text(json.dumps(mark))
    return kept


def _create(path: Path, shape: tuple[int, ...], kept_in: str) -> None:
    """A new file whose every byte has its place on disk: a page of a sparse file that finds none ends in SIGBUS."""
    with files.naming(path):
        try:
            np.lib.format.open_memmap(path, "w+", dtype=kept_in, shape=shape)
            with path.open("r+b") as file:
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
        except OSError:
            path.unlink(missing_ok=True)
            raise


def _found(mark: Path, data: Path, shape: tuple[int, ...], kept_in: str) -> tuple[int, float]:
    """How many rows an earlier pass left, in how many seconds; none unless the file is whole and of this kind."""
    try:
        there, told = np.load(data, mmap_mode="r"), json.loads(mark.read_text())
        if (there.shape, there.dtype) == (shape, np.dtype(kept_in)):
            return int(told["rows"]), float(told["seconds"])
    except (OSError, ValueError, KeyError, EOFError):
        pass
    return NOTHING


def seconds_spent(kept: dict[str, Kept]) -> float:
    """What the pass cost that left these features, in all processes that worked on it."""
    return max(json.loads(one.path.with_suffix(".json").read_text())["seconds"] for one in kept.values())


def keep(films: np.ndarray, cache: Path, copy: int) -> Kept:
    """Films of an augmented copy, on disk. Raises OSError naming the file when the disk cannot hold them."""
    path = cache / f"films-of-copy-{copy}.npy"
    _create(path, films.shape, films.dtype.name)
    kept = Kept.in_file(path)
    kept[:] = films
    return kept


def _digest(films: np.ndarray) -> bytes:
    return hashlib.sha256(np.ascontiguousarray(films).data).digest()


@dataclass(frozen=True)
class Samples:
    """Training inputs: one array per copy, all with the same rows; drawn as if they were one array after the other."""

    copies: Sequence[Features]
    rows: np.ndarray
    targets: np.ndarray
    weights: np.ndarray

    def __len__(self) -> int:
        return len(self.copies) * len(self.rows)

    def order(self, seed: int, epoch: int) -> np.ndarray:
        return np.random.default_rng((seed, epoch)).permutation(len(self))

    def take(self, picks: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(inputs, targets, weights) of positions 0..len-1."""
        copy, position = np.divmod(picks, len(self.rows))
        first = self.copies[0]
        inputs = np.empty((len(picks), *first.shape[1:]), np.float32)
        for number, array in enumerate(self.copies):
            chosen = np.flatnonzero(copy == number)
            inputs[chosen] = array[self.rows[position[chosen]] if number == 0 else position[chosen]]
        return inputs, self.targets[position], self.weights[position]
