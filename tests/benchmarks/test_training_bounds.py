"""A bound that a chip cannot meet is named as such, never counted as met."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.training import documented, judged


def result(**changes: Any) -> dict[str, Any]:
    measured = {
        "speedup": {"keras": 9.0, "int8": 14.0},
        "feature_pass_share_of_best_forward": 0.89,
        "peak_memory_mib_for_5216_films": 2861.0,
        "sample": 64,
        "load": [0.1, 1.9],
    }
    return {**measured, **changes}


@pytest.mark.parametrize(("simd", "int8"), [(["avx2"], None), (["avx2", "avx512_vnni"], False)])
def test_a_bound_is_met_missed_or_meant_for_another_chip(simd: list[str], int8: bool | None) -> None:
    checks = judged(result(), simd)
    met = {name: check["met"] for name, check in checks.items()}
    assert met == {
        "speedup_keras": True,
        "speedup_int8": int8,
        "feature_pass_of_best_forward": False,
        "peak_memory_mib": True,
    }
    assert judged(result(peak_memory_mib_for_5216_films=2862.0), simd)["peak_memory_mib"]["met"] is False


def test_the_table_says_what_was_wanted() -> None:
    rows = documented(result(required=judged(result(), ["avx2"])))["rows"]
    assert ["speedup_int8", 14.0, "at least 20", "chip without VNNI"] in rows
    assert ["peak_memory_mib", 2861.0, "at most 2861", "yes"] in rows
