"""How a job ends is part of its contract."""

from __future__ import annotations

import errno
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from cxr.bundle import BundleError
from cxr.hyperparameters import BadHyperparameter, Hyperparameters
from training_job import files
from training_job.__main__ import main
from training_job.container import BadChannel, Container, explain
from training_job.context import Context
from training_job.devices import Devices, NoGpu
from training_job.job import run
from training_job.stop import Stop

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


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], list[str]]:
    """gpus(n): let TensorFlow see n GPUs; returns what is then asked of it."""
    import tensorflow as tf

    def seen(count: int) -> list[str]:
        asked: list[str] = []
        monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["gpu"] * count)
        monkeypatch.setattr(
            tf.config.experimental, "enable_tensor_float_32_execution", lambda on: asked.append(f"TF32 {on}")
        )
        monkeypatch.setattr(tf.config.experimental, "enable_op_determinism", lambda: asked.append("deterministic"))
        return asked

    return seen


def test_a_required_gpu_that_is_absent_fails_before_any_data_is_read(
    tmp_path: Path, gpus: Callable[[int], list[str]]
) -> None:
    """There is no dataset channel: to look for it would be another error."""
    gpus(0)
    with pytest.raises(NoGpu, match="require_gpu=true but TensorFlow sees no GPU: choose a GPU instance"):
        run(Context(Container(tmp_path), Hyperparameters(require_gpu=True)))


def test_on_a_gpu_float32_means_float32_and_kernels_are_deterministic(gpus: Callable[[int], list[str]]) -> None:
    asked = gpus(1)
    assert Devices.find(Hyperparameters()) == Devices(1, "auto", True)
    assert asked == ["TF32 False", "deterministic"]


def test_mixed_precision_is_for_gpus_and_never_for_features_that_float16_would_lose(
    gpus: Callable[[int], list[str]],
) -> None:
    gpus(1)
    assert not Devices.find(Hyperparameters(head="flatten")).mixed
    assert not Devices.find(Hyperparameters(mixed_precision="false")).mixed
    gpus(0)
    assert not Devices.find(Hyperparameters()).mixed and Devices.find(Hyperparameters(mixed_precision="true")).mixed


def test_int8_features_only_where_int8_may_be_served() -> None:
    assert Devices(0, "auto", False).feature_engine(None) == "int8"
    assert Devices(0, "auto", False).feature_engine("a reason") == "keras"
    assert Devices(1, "auto", True).feature_engine(None) == "keras"
    assert Devices(1, "int8", True).feature_engine(None) == "int8"
    assert Devices(1, "int8", True).feature_engine("a reason") == "keras"


@pytest.mark.parametrize(
    ("content", "why"),
    [("{bad", r"hyperparameters.json is not JSON \(.*give an object"), ("[1]", "holds list instead of an object")],
)
def test_a_broken_hyperparameter_file_is_named(tmp_path: Path, content: str, why: str) -> None:
    path = tmp_path / "input" / "config" / "hyperparameters.json"
    path.parent.mkdir(parents=True)
    path.write_text(content)
    with pytest.raises(BadHyperparameter, match=why):
        Container(tmp_path).hyperparameters()


@pytest.mark.parametrize("folder", ["model", "output", "checkpoints", "cache"])
def test_a_folder_that_cannot_be_written_stops_the_job_before_any_data_is_read(
    tmp_path: Path, folder: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file lies where the folder should be: root may write where it has no permission. There is no dataset either."""
    (tmp_path / folder).write_text("")
    monkeypatch.setenv("SAGEMAKER_BASE_DIR", str(tmp_path))
    monkeypatch.setattr(Stop, "install", lambda stop: stop)
    assert main([]) == 1
    assert f"File exists: '{tmp_path / folder}'" in capsys.readouterr().out


def test_the_probe_of_the_folders_leaves_nothing(tmp_path: Path) -> None:
    Container(tmp_path).probe()
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_full_disk_and_a_missing_permission_say_where_and_what_to_do() -> None:
    full = explain(OSError(errno.ENOSPC, "No space left on device", "/opt/ml/model/model.keras"))
    assert "/opt/ml/model/model.keras" in full and "VolumeSizeInGB" in full
    for number in (errno.EACCES, errno.EROFS):
        denied = explain(OSError(number, "no", "/opt/ml/model"))
        assert "/opt/ml/model" in denied and "let the job's user write" in denied


def test_a_disk_that_fills_up_while_a_file_is_written_is_named_by_that_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system's own error has no file name: it has one only where a file is opened."""

    def full(path: Path, content: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError) as refusal:
        files.write(tmp_path / "model" / "model.tflite", b"x")
    assert explain(refusal.value).startswith(
        f"disk full at {tmp_path / 'model' / 'model.tflite'}: raise VolumeSizeInGB"
    )


def test_the_failure_file_keeps_what_sagemaker_shows_of_a_long_reason(tmp_path: Path) -> None:
    """The cause and the remedy stand first, names of files follow."""
    Container(tmp_path).fail("the cause; the remedy: " + "x" * 5000)
    text = (tmp_path / "output" / "failure").read_text()
    assert len(text) == 1024 and text.startswith("the cause; the remedy: x") and text.endswith("...")


def test_what_an_earlier_run_left_as_failure_is_forgotten(tmp_path: Path) -> None:
    Container(tmp_path).fail("yesterday")
    Container(tmp_path).forget_failure()
    Container(tmp_path).forget_failure()
    assert not (tmp_path / "output" / "failure").exists()


def test_a_broken_champion_is_found_before_any_film_is_read(tmp_path: Path) -> None:
    """There is no dataset channel either."""
    (tmp_path / "input" / "data" / "champion").mkdir(parents=True)
    with pytest.raises(BundleError, match=r"bundle\.json"):
        run(Context(Container(tmp_path), Hyperparameters(weights="random")))


def test_a_folder_that_cannot_be_written_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "output").write_text("a file where a folder should be")
    Container(tmp_path).fail("why")
    assert "output/failure could not be written" in capsys.readouterr().out


@pytest.mark.heavy
def test_sigterm_saves_and_exits_zero(tmp_path: Path, tiny_dataset: Path, job_base, job_environment) -> None:
    small = {"side": "64", "augment_copies": "0", "dense_units": "16"}
    base = job_base(tmp_path, tiny_dataset, weights="random", epochs="500", patience="500", **small)
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
    assert "stopped; the last whole epoch, if one was reached, is in" in rest
    assert (base / "checkpoints" / "keras" / "state.npz").is_file()
    assert not (base / "model" / "bundle.json").exists() and not (base / "output" / "failure").exists()
    reached = Counter(line.split()[0] for line in "".join([*lines, rest]).splitlines() if line.startswith("epoch="))
    again = subprocess.Popen(
        COMMAND, env=job_environment(base), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert again.stdout is not None
    for line in again.stdout:
        lines.append(line)
        if line.startswith("epoch="):
            again.send_signal(signal.SIGTERM)
            break
    again.communicate(timeout=120)
    assert again.returncode == 0, "".join(lines)
    assert f"resumed head after epoch {len(reached)} of 500\n" in lines
    assert lines[-1].startswith(f"epoch={len(reached) + 1} ")
