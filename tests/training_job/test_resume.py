"""What a job that goes on must share with the one that was cut short, and what it still knows of it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cxr.hyperparameters import Hyperparameters
from training_job import learning, provenance
from training_job.checkpoint import Checkpoints, State
from training_job.container import Container
from training_job.context import Context
from training_job.devices import Devices
from training_job.provenance import fingerprint


def films(*train: int, digest: str = "d") -> Any:
    """As much of a dataset as a fingerprint knows: its digest and the rows of its buckets."""
    return SimpleNamespace(digest=digest, rows={"train": np.array(train)})


def test_a_checkpoint_belongs_to_one_code_one_split_into_buckets_and_one_set_of_films(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """patients.csv moves films between buckets without touching any of them."""
    ours = Hyperparameters()
    marks = [fingerprint(ours, films(1, 2), "w", "int8", False) for _ in range(2)]
    assert marks[0] == marks[1]
    others = [
        fingerprint(ours, films(1, 3), "w", "int8", False),
        fingerprint(ours, films(1, 2, digest="other"), "w", "int8", False),
        fingerprint(ours, films(1, 2), "w", "keras", False),
        fingerprint(ours, films(1, 2), "w", "int8", True),
        fingerprint(Hyperparameters(seed=1), films(1, 2), "w", "int8", False),
    ]
    monkeypatch.setattr(provenance, "code_version", lambda: "another")
    others.append(fingerprint(ours, films(1, 2), "w", "int8", False))
    monkeypatch.setattr(provenance, "versions", lambda: {"keras": "another"})
    others.append(fingerprint(ours, films(1, 2), "w", "int8", False))
    assert len({marks[0], *others}) == 8


def epoch(number: int, seconds: float) -> dict[str, float]:
    return {"epoch": number, "seconds": seconds}


def test_a_job_resumed_in_fine_tuning_reports_both_histories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, dataset = Context(Container(tmp_path), Hyperparameters(fine_tune_blocks=1)), films(0, 1)
    net = SimpleNamespace(
        weights_sha256="w",
        head=SimpleNamespace(feature="embedding"),
        standardize=lambda embeddings: None,
        freeze_all_but=lambda blocks: None,
    )
    monkeypatch.setattr(learning, "build", lambda *_: net)
    monkeypatch.setattr(
        learning, "_inputs", lambda *_: ({cut: [np.zeros((2, 3))] for cut in ("embedding", "block4_pool")}, 70.0)
    )
    phases = []

    def fine_tuned(both: learning._Phases, name: str, *_: Any) -> State | None:
        phases.append(name)
        return both.checkpoints.load()

    monkeypatch.setattr(learning._Phases, "train", fine_tuned)
    saved = State("fine_tune", 1, history=[epoch(1, 50.0)], earlier={"head": [epoch(1, 5.0), epoch(2, 6.0)]})
    Checkpoints(tmp_path / "checkpoints" / "keras", fingerprint(ours.settings, dataset, "w", "keras", False)).save(
        saved
    )
    learned = learning.learn(ours, dataset, None, Devices(0, "keras", False), "keras")
    assert phases == ["fine_tune"], "the head is not trained again"
    assert learned.histories == {"head": [epoch(1, 5.0), epoch(2, 6.0)], "fine_tune": [epoch(1, 50.0)]}
    spent = ours.clock.total()
    assert (spent["features"], spent["head"], spent["fine_tune"]) == (70.0, 11.0, 50.0), "what the first process cost"
    assert spent["total"] == pytest.approx(131.0, abs=5.0)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut short"])
def test_a_checkpoint_that_cannot_be_read_is_named_and_the_job_starts_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes
) -> None:
    ours = Checkpoints(tmp_path, "f")
    ours.save(State("head", epoch=1))
    ours.refuse({"label_flips": 1.0})
    for name in ("state.npz", "refused.json"):
        (tmp_path / name).write_bytes(content)
    assert ours.load() is None and ours.refusal() is None
    said = capsys.readouterr().out
    assert all(f"checkpoint {tmp_path / name} cannot be read" in said for name in ("state.npz", "refused.json"))


def test_a_whole_checkpoint_that_lost_its_end_is_not_taken_up(tmp_path: Path) -> None:
    ours = Checkpoints(tmp_path, "f")
    ours.save(State("head", epoch=1, weights=[np.zeros(1000)]))
    whole = (tmp_path / "state.npz").read_bytes()
    (tmp_path / "state.npz").write_bytes(whole[: len(whole) // 2])
    assert ours.load() is None
