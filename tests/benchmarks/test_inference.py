"""What is said of the engines is measured against Keras, and a bound belongs to the chip that it was set for."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.inference import agreement, fractions, judged

ENGINES: dict[str, dict[str, Any]] = {
    "keras_predict": {"infer_ms": 100.0, "cpu_ms": 100.0, "probabilities": [0.1, 0.9, 0.4, 0.6]},
    "keras_vgg16_224": {"infer_ms": 400.0, "cpu_ms": 400.0, "probabilities": [0.5, 0.5, 0.5, 0.5]},
    "litert_int8": {"infer_ms": 25.0, "cpu_ms": 20.0, "probabilities": [0.1, 0.8, 0.55, 0.5]},
}
FUNCTION = {"threads_1": {"wall_ms": {"decode": 5.0, "infer": 25.0, "handler": 35.0}, "peak_rss_mb": 200.0}}
COLD = {"function": {"wall_ms": 1000.0}, "tensorflow": {"wall_ms": 8000.0}}


@pytest.mark.parametrize(
    ("instruction", "same_network", "at_224"), [("avx512_vnni", False, True), ("avx2", None, True), (None, None, True)]
)
def test_a_limit_for_chips_with_vnni_is_not_missed_by_others(
    instruction: str | None, same_network: bool | None, at_224: bool
) -> None:
    checks = judged(ENGINES, FUNCTION, COLD, instruction)
    assert (checks["infer_of_keras_predict"]["value"], checks["infer_of_keras_predict"]["met"]) == (0.25, same_network)
    assert checks["infer_of_keras_at_224"]["value"] == 0.062 and checks["infer_of_keras_at_224"]["met"] is at_224
    assert checks["infer_of_keras_at_224"]["limit"] == (0.07 if instruction == "avx512_vnni" else 0.15)


def test_the_engines_agree_with_keras_on_the_same_network() -> None:
    said = agreement(ENGINES, [0, 1, 0, 1])
    assert "keras_vgg16_224" not in said, "it is another network"
    assert said["keras_predict"] == {"max_abs": 0.0, "labels_differ": 0, "auroc": 1.0, "n": 4}
    assert said["litert_int8"] == {"max_abs": 0.15, "labels_differ": 1, "auroc": 0.75, "n": 4}


def test_a_share_of_the_peak_is_that_of_a_film_s_operations() -> None:
    assert fractions(ENGINES, {"gop_per_s": 500.0}, gop=5.0) == {"litert_int8_fraction": 0.5}
    assert fractions(ENGINES, {"gop_per_s": None}, gop=5.0) == {}
