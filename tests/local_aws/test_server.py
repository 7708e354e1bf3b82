"""The local AWS starts or says why not, and leaves nothing behind, however it ends."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from moto.awslambda.models import LambdaFunction

from local_aws.patches import Patches, UnsupportedMoto
from local_aws.server import LocalAWS, PortTaken, _Server

BUSY = """
import json, os, sys, time
from pathlib import Path
from local_aws.server import ACCOUNT, LocalAWS

code = Path(sys.argv[1])
images = {"inference": [sys.executable, "-m", "awslambdaric", "tiny_handler.handler"],
          "training": [sys.executable, str(code / "parent.py"), "train"]}
with LocalAWS(images=images, cwd=code) as aws:
    role = aws.client("iam").create_role(RoleName="r", AssumeRolePolicyDocument="{}")["Role"]["Arn"]
    uri = f"{ACCOUNT}.dkr.ecr.us-east-1.amazonaws.com/cxr-"
    aws.client("lambda").create_function(FunctionName="f", PackageType="Image", Role=role, Timeout=20,
                                         Code={"ImageUri": uri + "inference"})
    aws.client("lambda").invoke(FunctionName="f", Payload=b"{}")
    aws.client("s3").create_bucket(Bucket="films")
    aws.client("sagemaker").create_training_job(
        TrainingJobName="j", RoleArn=role, OutputDataConfig={"S3OutputPath": "s3://films/out"},
        AlgorithmSpecification={"TrainingImage": uri + "training", "TrainingInputMode": "File"},
        ResourceConfig={"InstanceType": "ml.g5.xlarge", "InstanceCount": 1, "VolumeSizeInGB": 30},
        StoppingCondition={"MaxRuntimeInSeconds": 600})
    while not (code / "grandchild").exists():
        time.sleep(0.05)
    pids = [pid for found in aws.processes().values() for pid in found]
    pids += [int((code / "grandchild").read_text()), aws._children._cleanup.pid]
    print(json.dumps(pids), flush=True)
    time.sleep(60)
"""
PARENT = """
import pathlib, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
partial = pathlib.Path(__file__).with_name("grandchild.part")
partial.write_text(str(child.pid))
partial.rename(partial.with_name("grandchild"))
time.sleep(600)
"""


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("how", ["SIGTERM", "SIGINT", "SIGKILL"])
def test_no_process_survives(how: str, tmp_path: Path, repo: Path, code: Path, eventually: Callable[..., Any]) -> None:
    (tmp_path / "tiny_handler.py").write_text((code / "tiny_handler.py").read_text())
    (tmp_path / "parent.py").write_text(PARENT)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    owner = subprocess.Popen(
        [sys.executable, "-c", BUSY, str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(repo), "TMPDIR": str(temporary)},
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background job ignores it
    )
    assert owner.stdout
    pids = [int(number) for number in re.findall(r"\d+", owner.stdout.readline())]
    assert len(pids) == 4, "a warm function, a training job, its own child and the cleanup"
    assert all(map(alive, pids))
    owner.send_signal(getattr(signal, how))
    owner.wait(timeout=60)
    assert eventually(lambda: not any(map(alive, pids)), timeout=5), [pid for pid in pids if alive(pid)]
    assert eventually(lambda: not list(temporary.iterdir()), timeout=5), "the films in the temporary folder outlived it"


def test_no_poller_is_left_when_a_function_was_still_working(tmp_path: Path) -> None:
    images = {"inference": [sys.executable, "-m", "awslambdaric", "slow_handler.handler"]}
    (tmp_path / "slow_handler.py").write_text("import time\ndef handler(event, context): time.sleep(60)\n")
    with LocalAWS(images=images, cwd=tmp_path) as aws:
        role = aws.client("iam").create_role(RoleName="r", AssumeRolePolicyDocument="{}")["Role"]["Arn"]
        uri = "123456789012.dkr.ecr.us-east-1.amazonaws.com/cxr-inference:1"
        aws.client("lambda").create_function(
            FunctionName="f", PackageType="Image", Role=role, Timeout=100, Code={"ImageUri": uri}
        )
        aws.client("sqs").create_queue(QueueName="q", Attributes={"VisibilityTimeout": "200"})
        aws.client("lambda").create_event_source_mapping(
            EventSourceArn="arn:aws:sqs:us-east-1:123456789012:q", FunctionName="f"
        )
        queue = aws.client("sqs").get_queue_url(QueueName="q")["QueueUrl"]
        aws.client("sqs").send_message(QueueUrl=queue, MessageBody="film")
        while not aws.processes().get("f"):
            time.sleep(0.05)
    assert not any(thread.is_alive() for thread in aws._sources._threads)


def test_a_taken_port_is_an_error_at_once() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(PortTaken, match=f"port {port} on 127.0.0.1 is taken"):
            _Server(port)


def test_only_loopback_is_served(local_aws: LocalAWS) -> None:
    assert local_aws.endpoint.startswith("http://127.0.0.1:")


def test_a_second_local_aws_in_a_process_is_refused(local_aws: LocalAWS) -> None:
    with pytest.raises(RuntimeError, match="runs in this process already"), LocalAWS():
        pass


def test_a_place_that_moved_in_moto_stops_the_start_with_its_name() -> None:
    with pytest.raises(UnsupportedMoto, match=r"LambdaFunction\.invoke takes .* expected \(self event\) in moto"):
        Patches().replace(LambdaFunction, "invoke", lambda original: original, "self event")
    with pytest.raises(UnsupportedMoto, match=r"LambdaFunction\.gone is gone"):
        Patches().replace(LambdaFunction, "gone", lambda original: original)


def test_patches_are_put_back_in_order() -> None:
    class Service:
        def act(self) -> str:
            return "moto"

    patches = Patches()
    patches.replace(Service, "act", lambda original: lambda self: original(self) + " and ours", "self")
    patches.add(Service, "extra", lambda self: "new")
    assert Service().act() == "moto and ours"
    patches.undo()
    assert Service().act() == "moto" and not hasattr(Service, "extra")


def test_an_action_that_nothing_implements_is_named_in_the_error(local_aws: LocalAWS) -> None:
    client = local_aws.client("sagemaker")
    with pytest.raises(client.exceptions.ClientError, match="create_workforce action has not been implemented"):
        client.create_workforce(WorkforceName="nobody")


def test_up_prints_how_to_reach_it_and_ends_on_a_signal(repo: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "local_aws", "up"], cwd=repo, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout
    lines = [process.stdout.readline() for _ in range(8)]
    assert re.match(r"local AWS at http://127\.0\.0\.1:\d+ ", lines[0])
    assert any(line.startswith("export AWS_ENDPOINT_URL=http://127.0.0.1:") for line in lines)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=20) == 0
    assert "stopped" in process.stdout.read()
