"""How long one film takes on one virtual CPU, by chip and precision of the served model.

What this project measured is read from its committed result; what it could not measure, a chip with VNNI, is one table
of constants with its source.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from benchmarks.record import RESULTS

VNNI_INFER_SECONDS = {"int8": 0.053, "float16": 0.300}
"""The network alone: LiteRT, one thread, another machine. float16 runs at float32's speed, int8 is fast only here."""
SAME_SPEED = {"float32": "float16"}
"""float16 weights are widened to float32 once, when the file is loaded: the rows of one stand for both."""
NOTE = "The network's time on AVX-512 VNNI is from the design's notes, not measured here."


class Serving(NamedTuple):
    """A host and a model on it, with the parts of a film's time (s): the network, the rest of the function (decoding,
    verdict, heat map, JSON, log), and S3.
    """

    name: str
    network: float
    rest: float
    s3: float

    @property
    def film_seconds(self) -> float:
        return round(self.network + self.rest + self.s3, 4)


def committed() -> dict[str, Any]:
    """benchmarks/results/inference.json."""
    return json.loads((RESULTS / "inference.json").read_text())


def servings(inference: Mapping[str, Any]) -> list[Serving]:
    """Every combination, fastest first, from a result of benchmarks.inference, whose function serves int8. float16 on
    AVX2 is that function's time plus the difference between the two engines of the same run.
    """
    function, engines = inference["function"]["threads_1"]["wall_ms"], inference["engines"]
    slower = engines["litert_float32"]["infer_ms"] - engines["litert_int8"]["infer_ms"]
    avx2 = {"int8": function["infer"] / 1000, "float16": (function["infer"] + slower) / 1000}
    rest = (function["handler"] - function["infer"]) / 1000
    s3 = inference["s3_ms_per_film"] / 1000
    return [
        Serving(f"{chip}, {precision}", seconds, rest, s3)
        for chip, networks in (("AVX-512 VNNI", VNNI_INFER_SECONDS), ("AVX2", avx2))
        for precision, seconds in networks.items()
    ]
