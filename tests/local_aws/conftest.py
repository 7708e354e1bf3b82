"""A local AWS for each module of tests, with a tiny Lambda and a tiny training command in the place of the images.

One for each, not one for all: moto's state is global in a process, and other folders of tests start their own.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from local_aws.server import ACCOUNT, LocalAWS

HANDLER = """
import json, os, sys, time

def handler(event, context):
    print("saw", json.dumps(event)[:200])
    if "Records" in event:
        bodies = {r["messageId"]: r["body"] for r in event["Records"]}
        if any(body == "boom" for body in bodies.values()):
            raise RuntimeError("boom")
        open(os.environ["SEEN"], "a").writelines(json.dumps([os.getpid(), list(bodies.values())]) + chr(10))
        return {"batchItemFailures": [{"itemIdentifier": i} for i, body in bodies.items() if body.startswith("bad")]}
    do = event.get("do")
    if do == "raise":
        raise ValueError("no such film")
    if do == "exit":
        os._exit(3)
    if do in ("nap", "sleep"):
        time.sleep(1 if do == "nap" else 30)
    return {"pid": os.getpid(), "colour": os.environ.get("COLOUR"), "left": context.get_remaining_time_in_millis(),
            "memory": context.memory_limit_in_mb, "scratch": os.environ["CXR_SCRATCH"],
            "endpoint": os.environ["AWS_ENDPOINT_URL"]}
"""

TRAINER = """
import json, os, pathlib, signal, sys, time

base = pathlib.Path(os.environ["SAGEMAKER_BASE_DIR"])
hp = json.loads((base / "input/config/hyperparameters.json").read_text())
print("arguments", sys.argv[1:])
checkpoint = base / "checkpoints/epoch.txt"
first = int(checkpoint.read_text()) + 1 if checkpoint.exists() else 1
print("films", sorted(p.relative_to(base).as_posix() for p in (base / "input/data").rglob("*") if p.is_file()))

def stop(*_):
    (base / "model/weights.bin").write_text("stopped early")
    print("saved on SIGTERM")
    sys.exit(0)

signal.signal(signal.SIGTERM, stop)
for epoch in range(first, first + int(hp.get("epochs", "1"))):
    print(f"epoch={epoch} tune:auroc=0.{epoch}5", flush=True)
    checkpoint.write_text(str(epoch))
    time.sleep(float(hp.get("seconds", "0")))
if hp.get("fail"):
    (base / "output/failure").write_text("ValueError: no NORMAL films")
    sys.exit(1)
(base / "model/weights.bin").write_text("weights")
(base / "model/sub").mkdir()
(base / "model/sub/bundle.json").write_text("{}")
(base / "output/data/report.html").write_text("<html>")
"""


@pytest.fixture(scope="session")
def code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("code")
    (folder / "tiny_handler.py").write_text(HANDLER)
    (folder / "broken_handler.py").write_text("raise ImportError('no engine')")
    (folder / "trainer.py").write_text(TRAINER)
    return folder


@pytest.fixture(scope="module")
def local_aws(code: Path) -> Iterator[LocalAWS]:
    images = {
        "inference": [sys.executable, "-m", "awslambdaric", "tiny_handler.handler"],
        "broken": [sys.executable, "-m", "awslambdaric", "broken_handler.handler"],
        "training": [sys.executable, str(code / "trainer.py"), "train"],
    }
    with LocalAWS(images=images, cwd=code) as aws:
        yield aws


@pytest.fixture
def unique() -> str:
    """A name that no other test uses."""
    return f"t{uuid4().hex[:10]}"


@pytest.fixture(scope="module")
def role(local_aws: LocalAWS) -> str:
    made = local_aws.client("iam").create_role(RoleName="anything", AssumeRolePolicyDocument="{}")
    return made["Role"]["Arn"]


@pytest.fixture
def make_function(local_aws: LocalAWS, role: str, unique: str, tmp_path: Path) -> Callable[..., str]:
    """Creates a function from a local image and returns its name; `seen` names the file of delivered bodies."""

    def make(image: str = "inference", **settings: Any) -> str:
        variables = {"COLOUR": "grey", "SEEN": str(tmp_path / "seen.jsonl"), **settings.pop("variables", {})}
        local_aws.client("lambda").create_function(
            FunctionName=unique,
            PackageType="Image",
            Code={"ImageUri": f"{ACCOUNT}.dkr.ecr.us-east-1.amazonaws.com/cxr-{image}:1"},
            Role=role,
            Environment={"Variables": variables},
            **{"Timeout": 5, **settings},
        )
        return unique

    return make


@pytest.fixture
def hurried() -> Iterator[None]:
    """Switch threads as often as the interpreter can: races that need luck otherwise happen at once."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.fixture
def seen(tmp_path: Path) -> Callable[[], list[str]]:
    """Every message body that the tiny handler was given so far, in order."""

    def read() -> list[str]:
        file = tmp_path / "seen.jsonl"
        lines = file.read_text().splitlines() if file.exists() else []
        return [body for line in lines for body in json.loads(line)[1]]

    return read


@pytest.fixture(scope="session")
def eventually() -> Callable[..., Any]:
    """`eventually(condition, timeout=15)`: the first truthy value of `condition`, or its last one."""

    def wait(condition: Callable[[], Any], timeout: float = 15.0) -> Any:
        deadline = time.monotonic() + timeout
        while not (value := condition()) and time.monotonic() < deadline:
            time.sleep(0.05)
        return value

    return wait
