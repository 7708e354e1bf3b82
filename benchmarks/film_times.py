"""How long one film takes on one virtual CPU, by chip, precision of the served model and side of its films.

What this project measured, VGG16 at 224 px on a chip without VNNI, is read from its committed result. What it could not
measure is one table of constants with its source; a smaller film takes as much less time as it takes operations.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from benchmarks.record import RESULTS

SIDE, SMALL = 224, 112
VNNI_INFER_SECONDS = {
    ("int8", SIDE): 0.053,
    ("float16", SIDE): 0.300,
    ("int8", SMALL): 0.019,
    ("float16", SMALL): 0.079,
}
"""The network alone: LiteRT, one thread, another machine. float16 runs at float32's speed, int8 is fast only here."""
SAME_SPEED = {"float32": "float16"}
"""float16 weights are widened to float32 once, when the file is loaded: the rows of one stand for both."""
URGENT = 0.3
"""Share of films that are urgent, and so get a picture of their heat map; an assumption."""
S3_CALL_SECONDS = 0.015
"""An assumption. A film takes HEAD, GET, the PUT of its result and, if it is urgent, that of its picture."""
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
    """Every combination, of each chip the fastest first, from a result of benchmarks.inference, whose function serves
    int8 at 224 px and draws every film. float16 on AVX2 is that function's time plus the difference between the two
    engines of the same run.
    """
    function, engines = inference["function"]["threads_1"]["wall_ms"], inference["engines"]
    slower = engines["litert_float32"]["infer_ms"] - engines["litert_int8"]["infer_ms"]
    rest = (function["handler"] - function["infer"] - (1 - URGENT) * function["heatmap"]) / 1000
    avx2 = {"int8": function["infer"] / 1000, "float16": (function["infer"] + slower) / 1000}
    chips = {
        "AVX-512 VNNI": VNNI_INFER_SECONDS,
        "AVX2": {(name, side): avx2[name] * (side / SIDE) ** 2 for name, side in VNNI_INFER_SECONDS},
    }
    found = [
        Serving(f"{chip}, {precision}, {side} px", seconds, rest, (3 + URGENT) * S3_CALL_SECONDS)
        for chip, networks in chips.items()
        for (precision, side), seconds in networks.items()
    ]
    return sorted(found, key=lambda serving: (serving.name.partition(",")[0], serving.network))


def extremes(found: list[Serving]) -> list[Serving]:
    """Of each chip the fastest and the slowest."""
    half = len(found) // 2
    return [found[0], found[half - 1], found[half], found[-1]]
