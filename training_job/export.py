"""Keras model -> .tflite bytes, with the checks that a silent failure would otherwise slip through.

A converted file is accepted only if it has the size of its weights and (see serving.py) answers as Keras does.
One converter route (`from_concrete_functions` with a model) writes a 30 KB file of NaN without a word.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import zipfile
from collections.abc import Iterator, Mapping

import keras

BYTES_PER_WEIGHT = {"float32": 4.0, "float16": 2.0, "int8": 1.0}
PRECISIONS = tuple(BYTES_PER_WEIGHT)


class BrokenExport(RuntimeError):
    """The converter's file cannot hold the model's weights."""


def to_tflite(model: keras.Model, precision: str) -> bytes:
    """A .tflite of a one-input model, batch of one, signature `serving_default`, outputs named as the model's.

    `int8` is dynamic-range: int8 weights, float activations in and out. Raises BrokenExport on an impossible size.
    """
    import tensorflow as tf

    (tensor,) = model.inputs
    single = keras.Input(tensor.shape[1:], batch_size=1, name=tensor.name.split(":")[0])
    fixed = keras.Model(single, model(single))
    converter = tf.lite.TFLiteConverter.from_keras_model(fixed)
    if precision != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if precision == "float16":
        converter.target_spec.supported_types = [tf.float16]
    with contextlib.redirect_stdout(io.StringIO()), _quiet_stderr():
        content = converter.convert()
    expected = fixed.count_params() * BYTES_PER_WEIGHT[precision]
    if not 0.85 * expected < len(content) < 1.5 * expected + 200_000 * BYTES_PER_WEIGHT["float32"] * 2:
        raise BrokenExport(
            f"the {precision} export has {len(content):,} bytes where {fixed.count_params():,} weights need about "
            f"{expected:,.0f}; convert with TFLiteConverter.from_keras_model"
        )
    return content


@contextlib.contextmanager
def _quiet_stderr() -> Iterator[None]:
    """The converter's C++ side writes to file descriptor 2 only."""
    saved = os.dup(2)
    with open(os.devnull, "w") as sink:
        os.dup2(sink.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(saved, 2)
            os.close(saved)


def with_card(model: bytes, card: Mapping[str, object]) -> bytes:
    """The .tflite with `labels.txt` and `card.json` (threshold, limits, intended use) in its associated files.

    TFLite's convention for them: a zip at the end of the flatbuffer; interpreters ignore it, `zipfile` reads it. No
    table of metadata stands in the flatbuffer itself.
    """
    tail = io.BytesIO(model)
    tail.seek(0, io.SEEK_END)
    with zipfile.ZipFile(tail, "a") as archive:
        for name, text in (
            ("labels.txt", "\n".join(card["classes"]) + "\n"),  # type: ignore[arg-type]
            ("card.json", json.dumps(card, indent=2, sort_keys=True) + "\n"),
        ):
            archive.writestr(zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0)), text)
    return tail.getvalue()
