"""bfloat16 where the hardware has it."""

from __future__ import annotations

from pathlib import Path

import pytest

from training_job.arithmetic import BRAIN, PLAIN, policy


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("flags : fpu avx2 avx512f avx512_bf16 amx_tile", BRAIN),
        ("Features : fp asimd bf16 i8mm", BRAIN),
        ("flags : fpu avx2 avx512f avx512_vnni", PLAIN),
        ("", PLAIN),
    ],
)
def test_a_chip_without_bfloat16_trains_in_float32(tmp_path: Path, flags: str, expected: str) -> None:
    (tmp_path / "cpuinfo").write_text(flags)
    assert policy("auto", 0, tmp_path / "cpuinfo") == expected
    assert policy("auto", 0, tmp_path / "missing") == PLAIN


def test_what_was_asked_for_is_done_whatever_the_chip(tmp_path: Path) -> None:
    assert policy("true", 0, tmp_path / "missing") == BRAIN
    (tmp_path / "cpuinfo").write_text("flags : amx_bf16")
    assert policy("false", 0, tmp_path / "cpuinfo") == PLAIN
