"""How a job ends is part of its contract."""

from __future__ import annotations

import errno
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from training_job.container import BadChannel, Container, explain
from training_job.devices import Devices, NoGpu
from training_job.hyperparameters import Hyperparameters

COMMAND = [sys.executable, "-m", "training_job", "train"]


def test_a_bad_hyperparameter_fails_before_any_data_is_read(tmp_path: Path, job_base, job_environment) -> None:
    """The dataset channel is missing as well: the hyperparameter must be named first."""
    base = job_base(tmp_path, None, epochs="many")
    done = subprocess.run(COMMAND, env=job_environment(base), capture_output=True, text=True, timeout=300)
    assert done.returncode == 1, done.stdout + done.stderr
    text = (base / "output" / "failure").read_text()
    assert "epochs='many'" in text and "from 1 to 500" in text and "dataset" not in text


def test_a_missing_channel_is_named_with_its_remedy(tmp_path: Path) -> None:
    container = Container(tmp_path)
    with pytest.raises(BadChannel, match="channel named dataset"):
        container.dataset()
    with pytest.raises(BadChannel, match=r"is missing: give one VGG16 file.*weights=random"):
        container.weights()
    (tmp_path / "input" / "data" / "weights").mkdir(parents=True)
    with pytest.raises(BadChannel, match=r"holds 0 \.h5 files"):
        container.weights()


def test_a_required_gpu_that_is_absent_fails_fast() -> None:
    with pytest.raises(NoGpu, match="require_gpu=true but TensorFlow sees no GPU: choose a GPU instance"):
        Devices.find(Hyperparameters(require_gpu=True))


def test_int8_features_only_where_int8_may_be_served() -> None:
    assert Devices(0, "auto", False).feature_engine(int8_can_serve=True) == "int8"
    assert Devices(0, "auto", False).feature_engine(int8_can_serve=False) == "keras"
    assert Devices(1, "auto", True).feature_engine(int8_can_serve=True) == "keras"
    assert Devices(1, "int8", True).feature_engine(int8_can_serve=True) == "int8"
    assert Devices(1, "int8", True).feature_engine(int8_can_serve=False) == "keras"


def test_a_full_disk_and_a_missing_permission_say_where_and_what_to_do() -> None:
    full = explain(OSError(errno.ENOSPC, "No space left on device", "/opt/ml/model/model.keras"))
    assert "/opt/ml/model/model.keras" in full and "VolumeSizeInGB" in full
    denied = explain(PermissionError(errno.EACCES, "Permission denied", "/opt/ml/model"))
    assert "/opt/ml/model" in denied and "let the job's user write" in denied


def test_the_failure_file_keeps_to_what_sagemaker_shows(tmp_path: Path) -> None:
    Container(tmp_path).fail("x" * 5000 + "the end")
    text = (tmp_path / "output" / "failure").read_text()
    assert len(text) == 1024 and text.endswith("the end")


def test_a_folder_that_cannot_be_written_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "output").write_text("a file where a folder should be")
    Container(tmp_path).fail("why")
    assert "output/failure could not be written" in capsys.readouterr().out


@pytest.mark.heavy
def test_sigterm_saves_and_exits_zero(tmp_path: Path, tiny_dataset: Path, job_base, job_environment) -> None:
    base = job_base(
        tmp_path, tiny_dataset, weights="random", epochs="500", patience="500", augment_copies="0", dense_units="16"
    )
    process = subprocess.Popen(
        COMMAND, env=job_environment(base), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    lines, deadline = [], time.monotonic() + 300
    for line in process.stdout:
        lines.append(line)
        if line.startswith("epoch=2 "):
            process.send_signal(signal.SIGTERM)
            break
        assert time.monotonic() < deadline, "".join(lines)
    rest = process.communicate(timeout=120)[0]
    assert process.returncode == 0, "".join(lines) + rest
    assert "stopped; what was reached is in" in rest
    assert (base / "checkpoints" / "keras" / "state.npz").is_file()
    assert not (base / "model" / "bundle.json").exists() and not (base / "output" / "failure").exists()
