"""What a job that goes on must share with the one that was cut short, and what it still knows of it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from training_job import learning, package
from training_job.checkpoint import Checkpoints, State
from training_job.container import Container
from training_job.devices import Devices
from training_job.hyperparameters import Hyperparameters
from training_job.job import Job
from training_job.stop import Stop


def films(*train: int, digest: str = "d") -> Any:
    """As much of a dataset as a fingerprint knows: its digest and the rows of its buckets."""
    return SimpleNamespace(digest=digest, rows={"train": np.array(train)})


def job(folder: Path, **settings: Any) -> Job:
    return Job(Container(folder), Hyperparameters(**settings), Stop())


def test_a_checkpoint_belongs_to_one_code_one_split_into_buckets_and_one_set_of_films(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """patients.csv moves films between buckets without touching any of them."""
    ours = job(tmp_path)
    marks = [ours.fingerprint(films(1, 2), "w", "int8") for _ in range(2)]
    assert marks[0] == marks[1]
    others = [
        ours.fingerprint(films(1, 3), "w", "int8"),
        ours.fingerprint(films(1, 2, digest="other"), "w", "int8"),
        ours.fingerprint(films(1, 2), "w", "keras"),
        job(tmp_path, seed=1).fingerprint(films(1, 2), "w", "int8"),
    ]
    monkeypatch.setattr(package, "code_version", lambda: "another")
    others.append(ours.fingerprint(films(1, 2), "w", "int8"))
    assert len({marks[0], *others}) == 6


def test_a_job_resumed_in_fine_tuning_reports_both_histories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, dataset = job(tmp_path, fine_tune_blocks=1), films(0, 1)
    net = SimpleNamespace(
        weights_sha256="w",
        head=SimpleNamespace(feature="embedding"),
        standardize=lambda embeddings: None,
        freeze_all_but=lambda blocks: None,
    )
    monkeypatch.setattr(learning, "_build", lambda job, weights: net)
    monkeypatch.setattr(
        learning, "_inputs", lambda *_: {cut: [np.zeros((2, 3))] for cut in ("embedding", "block4_pool")}
    )
    monkeypatch.setattr(ours, "augmented_copies", lambda dataset: [])
    phases = []

    def fine_tuned(*arguments: Any) -> State:
        phases.append(arguments[5])
        return arguments[6].load()

    monkeypatch.setattr(learning, "_phase", fine_tuned)
    saved = State("fine_tune", epoch=1, history=[{"epoch": 1}], earlier={"head": [{"epoch": 1}, {"epoch": 2}]})
    Checkpoints(tmp_path / "checkpoints" / "keras", ours.fingerprint(dataset, "w", "keras")).save(saved)
    learned = learning.learn(ours, dataset, None, Devices(0, "keras", False), "keras")
    assert phases == ["fine_tune"], "the head is not trained again"
    assert learned.histories == {"head": [{"epoch": 1}, {"epoch": 2}], "fine_tune": [{"epoch": 1}]}
