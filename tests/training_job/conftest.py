"""One tiny dataset and one trained bundle for all tests of the training job."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
FILMS = {"train": 14, "tune": 5, "calibrate": 5, "test": 5}
"""Films per class and bucket: enough for every code path, few enough for two cores."""
PROGRAM = "import sys\nfrom training_job.__main__ import main\nsys.exit(main(['train']))\n"


def patients_of_bucket(bucket: str, prefix: str, count: int) -> list[str]:
    """Patient ids `<prefix><n>` that fall into a bucket."""
    from cxr.patients import bucket_of

    numbers = (f"{prefix}{number:04d}" for number in range(1, 10_000))
    return [name for name in numbers if bucket_of(name) == bucket][:count]


def write_tiny_dataset(root: Path) -> None:
    from local_aws.synthetic import film

    rng = np.random.default_rng(3)
    for label, prefix, tail in (("NORMAL", "IM-", "-0001.jpeg"), ("PNEUMONIA", "person", "_virus_1.jpeg")):
        for bucket, count in FILMS.items():
            split = "test" if bucket == "test" else "train"
            folder = root / split / label
            folder.mkdir(parents=True, exist_ok=True)
            names = [f"{prefix}{n}" for n in range(90_001, 90_001 + count)]
            if split == "train":
                names = patients_of_bucket(bucket, prefix, count)
            for name in names:
                film(label, rng, (240, 200)).save(folder / f"{name}{tail}", quality=90)


def resident_mb() -> float:
    """Memory that this process holds now; 0 where the system has no /proc."""
    status = Path("/proc/self/statm")
    return int(status.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6 if status.exists() else 0.0


@pytest.fixture(autouse=True)
def forgotten_networks() -> Iterator[None]:
    """Lets go of a test's networks, which Keras keeps for as long as the process lives, where they are large."""
    before = resident_mb()
    yield
    if "keras" in sys.modules and resident_mb() > before + 50:
        sys.modules["keras"].backend.clear_session()
        gc.collect()


@pytest.fixture(scope="session")
def tiny_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tiny") / "dataset"
    write_tiny_dataset(root)
    return root


def make_base(base: Path, dataset: Path | None, **hyperparameters: str) -> Path:
    """A folder that stands for /opt/ml."""
    config = base / "input" / "config"
    config.mkdir(parents=True)
    (base / "input" / "data").mkdir()
    if dataset is not None:
        (base / "input" / "data" / "dataset").symlink_to(dataset)
    channels = {
        name.name: {"TrainingInputMode": "File", "S3DistributionType": "FullyReplicated", "RecordWrapperType": "None"}
        for name in (base / "input" / "data").iterdir()
    }
    (config / "hyperparameters.json").write_text(json.dumps(hyperparameters))
    (config / "inputdataconfig.json").write_text(json.dumps(channels))
    # A host name that resolves: the toolkit waits a quarter of an hour for the others.
    (config / "resourceconfig.json").write_text(
        json.dumps({"current_host": "localhost", "hosts": ["localhost"], "network_interface_name": "lo"})
    )
    return base


def environment(base: Path, **more: str) -> dict[str, str]:
    return {
        **os.environ,
        "SAGEMAKER_BASE_DIR": str(base),
        "PYTHONPATH": str(ROOT),
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "TRAINING_JOB_NAME": "tiny",
        **more,
    }


@pytest.fixture
def job_base() -> Callable[..., Path]:
    """make_base(folder, dataset or None, **hyperparameters) -> the folder."""
    return make_base


@pytest.fixture
def job_environment() -> Callable[..., dict[str, str]]:
    """environment(base) -> variables of a job's process."""
    return environment


@dataclass(frozen=True)
class Trained:
    base: Path
    log: str

    @property
    def model(self) -> Path:
        return self.base / "model"

    def json(self, name: str) -> dict:
        return json.loads((self.model / name).read_text())


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_dataset: Path) -> Trained:
    """A whole job of both phases through the real sagemaker-training toolkit, hyperparameters JSON-encoded as its
    clients do."""
    base = tmp_path_factory.mktemp("ml")
    program = base / "code"
    program.mkdir()
    (program / "job.py").write_text(PROGRAM)
    ours = {"weights": "random", "epochs": "6", "augment_copies": "1", "alpha": "0.2", "dense_units": "32", "seed": "1"}
    phases = {"fine_tune_blocks": "1", "fine_tune_epochs": "1"}
    platform = {
        "sagemaker_program": "job.py",
        "sagemaker_submit_directory": str(program),
        "sagemaker_region": "us-east-1",
    }
    encoded = {name: json.dumps(value) for name, value in {**ours, **phases, **platform}.items()}
    make_base(base, tiny_dataset, **encoded)
    toolkit = Path(sys.executable).with_name("train")
    if not toolkit.exists():
        pytest.skip("the sagemaker-training toolkit is for Linux alone")
    done = subprocess.run([str(toolkit)], env=environment(base), cwd=base, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return Trained(base, done.stdout + done.stderr)
