"""Recalibration ends with a sentence, never with a traceback."""

from __future__ import annotations

from pathlib import Path

import pytest

from cxr.verdict import Limits
from training_job import package, recalibrate
from training_job.stop import Stop

LIMITS = Limits(threshold=0.4, quantile_normal=0.5, quantile_pneumonia=None, alpha=0.1, ood_limit=30.0)


def test_a_bad_patient_list_is_a_sentence_not_a_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for label in ("NORMAL", "PNEUMONIA"):
        (tmp_path / "ours" / label).mkdir(parents=True)
        (tmp_path / "ours" / label / "1.png").write_bytes(b"x")
    (tmp_path / "ours" / "patients.csv").write_text("file,patient\nelsewhere/1.png,p1\n")
    monkeypatch.setattr(recalibrate, "read_bundle", lambda *_: None)
    monkeypatch.setattr(Limits, "from_bundle", lambda bundle: LIMITS)
    monkeypatch.setattr(Stop, "install", lambda stop: stop)
    arguments = ["--bundle", str(tmp_path), "--data", str(tmp_path / "ours"), "--output", str(tmp_path / "new")]
    assert recalibrate.main(arguments) == 1
    assert "1 of its rows name no film" in capsys.readouterr().err


def test_the_card_says_what_goes_in_and_what_the_file_is_for() -> None:
    card = package.card("ours", LIMITS)
    assert "float32 [1,224,224,1]" in card["input"] and "not a diagnosis" in card["intended_use"]
    assert card["conformal"] == {"alpha": 0.1, "quantile": {"NORMAL": 0.5, "PNEUMONIA": None}}
