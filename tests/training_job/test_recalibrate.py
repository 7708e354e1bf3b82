"""Recalibration moves limits only, by films that judge none of them, and ends with a sentence, never a traceback."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy.special import expit

from cxr.labels import CLASSES
from cxr.verdict import Limits
from local_aws.synthetic import film
from training_job import package, recalibrate, recalibration, scores
from training_job.dataset import Films
from training_job.scoring import Scored, scored, table
from training_job.stop import Stop

LIMITS = Limits(threshold=0.4, quantile_normal=0.5, quantile_pneumonia=None, alpha=0.1, ood_limit=30.0)


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Intervals are not what is asked about here."""
    monkeypatch.setattr(scores, "RESAMPLES", 20)


def hospital(patients: int = 300, seed: int = 0) -> tuple[Scored, Films]:
    """Two films a patient, logits a third too large, distances around 20."""
    rng = np.random.default_rng(seed)
    n = 2 * patients
    labels = np.repeat(rng.integers(0, 2, patients), 2)
    truth = np.where(labels == 1, 1.2, -1.2) + rng.normal(0, 1.5, n)
    films = Films(
        [f"{CLASSES[label]}/{row}.png" for row, label in enumerate(labels)],
        np.zeros((n, 1, 1), np.uint8),
        labels,
        [f"p{row // 2}" for row in range(n)],
        [str(row) for row in range(n)],
        np.zeros(n),
    )
    return scored(expit(4 * truth / 3), rng.normal(20, 2, n), films.saturations, LIMITS), films


def outcome(now: Scored, films: Films, alpha: float = 0.1) -> recalibration.Outcome:
    return recalibration.recalibrated(now, films, LIMITS, alpha, 0.95)


def changed(now: Scored, rows: np.ndarray) -> Scored:
    """Other outputs on some films: the least likely answer, and far away."""
    probabilities, distances = now.probabilities.copy(), now.distances.copy()
    probabilities[rows], distances[rows] = 1 - probabilities[rows], distances[rows] + 5
    return scored(probabilities, distances, np.zeros(len(probabilities)), LIMITS)


def test_the_third_that_judges_sets_nothing_and_the_others_set_what_they_should() -> None:
    now, films = hospital()
    rows, plain = recalibration.parts(films, 0.1), outcome(now, films)
    of_part = {name: {films.patients[row] for row in picked} for name, picked in rows.items()}
    assert not of_part["tune"] & of_part["calibrate"] and not of_part["check"] & (
        of_part["tune"] | of_part["calibrate"]
    )
    assert sorted(np.concatenate(list(rows.values()))) == list(range(len(films)))
    judged = outcome(changed(now, rows["check"]), films)
    assert (judged.limits, judged.line) == (plain.limits, plain.line) and judged.after != plain.after
    tuned = outcome(changed(now, rows["tune"]), films)
    assert tuned.line != plain.line and tuned.limits.ood_limit == plain.limits.ood_limit
    moved = outcome(changed(now, rows["calibrate"]), films)
    assert (moved.line, moved.limits.threshold) == (plain.line, plain.limits.threshold)
    assert moved.limits.quantile_normal != plain.limits.quantile_normal
    assert moved.limits.ood_limit == pytest.approx(plain.limits.ood_limit + 5)


def test_before_is_the_old_bundle_and_after_the_new_on_the_same_films() -> None:
    now, films = hospital()
    plain = outcome(now, films)
    check = recalibration.parts(films, 0.1)["check"]
    part = films.take(check)

    assert plain.before == table(part, now.take(check), LIMITS)
    assert plain.after == table(part, plain.scored.take(check), plain.limits)
    assert plain.line.slope == pytest.approx(3 / 4, rel=0.35)
    assert [plain.parts[row] for row in check] == ["check"] * len(check)


def test_the_quantiles_count_patients_not_films() -> None:
    now, films = hospital()
    plain, rows = outcome(now, films), recalibration.parts(films, 0.1)["calibrate"]
    of_class = {name: {films.patients[row] for row in rows if films.labels[row] == i} for i, name in enumerate(CLASSES)}
    assert plain.calibrated == {name: len(patients) for name, patients in of_class.items()}
    assert sum(plain.calibrated.values()) < sum(plain.counts["calibrate"].values())


def test_a_bundle_recalibrated_again_and_again_becomes_no_more_certain_than_a_new_one_may() -> None:
    """Films that are told apart perfectly ask for an infinite slope."""
    now, films = hospital()
    once = outcome(scored(np.where(films.labels == 1, 0.9, 0.1), now.distances, films.saturations, LIMITS), films)
    again = outcome(once.scored, films)
    assert 0.9 < once.scored.probabilities.max() < 0.999
    np.testing.assert_allclose(again.scored.probabilities, once.scored.probabilities, atol=0.002)


def test_few_patients_move_the_offset_alone_and_are_told_so() -> None:
    few, enough = outcome(*hospital(60)), outcome(*hospital(300))
    assert few.line.slope == 1.0 != enough.line.slope and few.line.offset != 0.0
    assert any("only the offset was fitted; give 25 of each class" in note for note in few.notes)
    assert not any("only the offset" in note for note in enough.notes)


def test_too_few_patients_for_alpha_are_told_of_and_none_are_turned_away_in_silence() -> None:
    now, films = hospital(60)
    few = outcome(now, films, alpha=0.03)
    assert any("calibration patients are too few for alpha 0.03 (needs 33)" in note for note in few.notes)
    assert any("the distance limit comes from" in note for note in few.notes)
    wanted = recalibration.patients_wanted(0.05)
    enough = outcome(*hospital(2 * wanted + 20), alpha=0.05)
    assert enough.limits.quantile_normal is not None and enough.limits.quantile_pneumonia is not None


def test_figures_that_got_worse_are_told_of() -> None:
    """The check third is of other films than those that set the temperature."""
    now, films = hospital()
    check = recalibration.parts(films, 0.1)["check"]
    probabilities = now.probabilities.copy()
    probabilities[check] = np.where(films.labels[check] == 1, 0.99, 0.01)
    worse = outcome(scored(probabilities, now.distances, films.saturations, LIMITS), films)
    assert any("calibration error (ECE) on the check third got worse" in note for note in worse.notes)


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run the command with a bundle that is not looked at; (exit code, what it said to stderr)."""
    monkeypatch.setattr(recalibrate, "read_bundle", lambda *_: SimpleNamespace(side=224))
    monkeypatch.setattr(Limits, "from_bundle", lambda bundle: LIMITS)
    monkeypatch.setattr(Stop, "install", lambda stop: stop)
    for number, label in enumerate(CLASSES):
        (tmp_path / "ours" / label).mkdir(parents=True)
        rng = np.random.default_rng(number)
        film(label, rng, (240, 200)).save(tmp_path / "ours" / label / "1.png")

    def run(*more: str) -> tuple[int, str]:
        arguments = ["--bundle", str(tmp_path), "--data", str(tmp_path / "ours"), "--output", str(tmp_path / "new")]
        try:
            return recalibrate.main([*arguments, *more]), capsys.readouterr().err
        except SystemExit as usage:
            return int(str(usage.code)), capsys.readouterr().err

    return run


def test_a_bad_patient_list_is_a_sentence(tmp_path: Path, command: Any) -> None:
    (tmp_path / "ours" / "patients.csv").write_text("file,patient\nelsewhere/1.png,p1\n")
    code, said = command()
    assert code == 1 and "1 of its rows name no film" in said and "Traceback" not in said


def test_a_patient_list_in_another_encoding_is_a_sentence(tmp_path: Path, command: Any) -> None:
    (tmp_path / "ours" / "patients.csv").write_text("file,patient\nNORMAL/1.png,Müller\n", encoding="cp1252")
    code, said = command()
    assert code == 1 and "save it as CSV UTF-8" in said and "Traceback" not in said


def test_too_few_patients_are_refused_before_any_film_is_scored(tmp_path: Path, command: Any) -> None:
    """There is no model to score with; the remedy follows from alpha."""
    code, said = command("--alpha", "0.05")
    assert code == 1 and "give at least 75 patients per class (alpha 0.05 needs 19 of each in a third)" in said
    assert not (tmp_path / "new").exists() and not list(tmp_path.glob(".new*"))


def test_one_film_under_both_labels_is_refused(tmp_path: Path, command: Any) -> None:
    shutil.copy(tmp_path / "ours" / "NORMAL" / "1.png", tmp_path / "ours" / "PNEUMONIA" / "same.png")
    code, said = command()
    assert code == 1 and "has two labels" in said


def test_an_output_that_is_there_is_never_overwritten(tmp_path: Path, command: Any) -> None:
    (tmp_path / "new").write_text("mine")
    code, said = command()
    assert code == 2 and "nothing is overwritten" in said and (tmp_path / "new").read_text() == "mine"


def test_the_bundle_may_be_the_folder_that_one_is_in(
    tmp_path: Path, command: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert recalibrate.main(["--bundle", ".", "--data", "ours"]) == 1


def test_a_full_disk_gives_a_remedy_that_a_hospital_can_follow(command: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "new/model.keras")

    monkeypatch.setattr(recalibrate, "read_films", full)
    code, said = command()
    assert code == 1 and "disk full at new/model.keras: free some there, or name another --output" in said


def test_the_card_says_what_goes_in_and_what_the_file_is_for() -> None:
    card = package.card("ours", 112, LIMITS)
    assert "float32 [1,112,112,1]" in card["input"] and "not a diagnosis" in card["intended_use"]
    assert card["conformal"] == {"alpha": 0.1, "quantile": {"NORMAL": 0.5, "PNEUMONIA": None}}
