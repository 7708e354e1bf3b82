"""`python -m infra` from the first deployment to the last deletion, on the local AWS."""

from __future__ import annotations

import hashlib
import json
import threading

import boto3
import pytest
from botocore.exceptions import ClientError

from infra import destroy, operate, stacks, template
from infra.__main__ import main
from infra.config import Config
from infra.errors import Fault
from infra.stacks import StackError
from infra.stacks import outputs as standing_outputs
from local_aws.server import ACCOUNT, REGION, LocalAWS


@pytest.fixture(scope="module")
def aws():
    with LocalAWS() as local:
        yield local


@pytest.fixture(scope="module")
def session(aws):
    """One session for all commands: making clients is what costs them most."""
    return boto3.Session(region_name=REGION)


@pytest.fixture
def infra(aws, session, capsys, monkeypatch, tmp_path):
    """Runs one command; returns (exit status, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("infra.__main__.open_session", lambda config: session)

    def run(*arguments):
        status = main([*arguments, "--endpoint-url", aws.endpoint])
        return status, *capsys.readouterr()

    return run


@pytest.fixture
def outputs(aws, infra, session):
    config = Config(endpoint_url=aws.endpoint)
    try:
        return standing_outputs(session, config)
    except StackError:
        assert infra("deploy")[0] == 0
        return standing_outputs(session, config)


@pytest.fixture
def no_consumers(aws, outputs):
    """Nothing takes messages while a test looks at the queues: the pollers' last long poll has ended."""
    client = aws.client("lambda")
    mappings = client.list_event_source_mappings()["EventSourceMappings"]
    for mapping in mappings:
        client.delete_event_source_mapping(UUID=mapping["UUID"])
    polled = tuple(f"poll-{mapping['EventSourceArn'].rsplit(':', 1)[-1]}-" for mapping in mappings)
    for poller in threading.enumerate():
        if poller.name.startswith(polled):
            poller.join(timeout=30)
            assert not poller.is_alive(), poller.name


def register(aws, outputs, job, status="Approved"):
    body = json.dumps({"name": job}).encode()
    aws.client("s3").put_object(Bucket=outputs["ModelsBucket"], Key=f"models/{job}/bundle.json", Body=body)
    aws.client("sagemaker").create_model_package(
        ModelPackageGroupName=outputs["ModelPackageGroupName"],
        ModelApprovalStatus=status,
        CustomerMetadataProperties={"training_job": job, "bundle.sha256": hashlib.sha256(body).hexdigest()},
    )


def test_before_a_deployment_every_command_says_that_it_is_missing(infra):
    assert "cxr-base: absent" in infra("status")[1]
    for command in (["settings"], ["redrive", "uploads"], ["promote", "1", "--reason", "x"]):
        status, _, said = infra(*command)
        assert status == 1
        assert "There is no stack cxr-base in us-east-1; run `python -m infra deploy`" in said


def test_a_deployment_prints_its_outputs_and_the_airflow_settings(infra):
    status, said, _ = infra("deploy")
    assert status == 0
    assert "FunctionName                 cxr-classify" in said
    assert json.loads(infra("settings")[1])["function_name"] == "cxr-classify"


def test_promotion_rollback_and_status_tell_the_same_story(infra, aws, outputs):
    assert "model     none" in infra("status")[1]
    for job in ("first", "second"):
        register(aws, outputs, job)
    assert "Version 1 answers as serial 1." in infra("promote", "1", "--reason", "first light")[1]
    assert "Version 2 answers as serial 2; before it version 1" in infra("promote", "2", "--reason", "better")[1]
    assert "Version 1 answers as serial 3. Running" in infra("rollback", "--reason", "worse")[1]
    report = json.loads(infra("status", "--json")[1])
    assert (report["model"]["serial"], report["model"]["reason"]) == (3, "worse")
    assert "arn:aws:" in report["model"]["actor"]
    text = infra("status")[1]
    assert "version 1, serial 3" in text and "before: none" in text and "alarms    none" in text


def test_a_promotion_that_is_refused_says_why(infra, aws, outputs):
    register(aws, outputs, "third", status="PendingManualApproval")
    assert "is PendingManualApproval; approve it" in infra("promote", "3", "--reason", "x")[2]
    assert "is not in the registry" in infra("promote", "99", "--reason", "x")[2]


def test_dead_letters_go_back_to_their_queue_and_none_is_lost(infra, aws, outputs, no_consumers):
    sqs, bodies = aws.client("sqs"), {json.dumps({"n": n}) for n in range(23)}
    for body in bodies:
        sqs.send_message(QueueUrl=outputs["BacklogDeadLetterQueueUrl"], MessageBody=body)
    assert json.loads(infra("status", "--json")[1])["queues"]["backlog"]["dead"] == 23
    status, said, progress = infra("redrive", "backlog")
    assert (status, said) == (0, "23 dead letters are back in the backlog queue\n")
    assert "23/23 messages" in progress
    assert json.loads(infra("status", "--json")[1])["queues"]["backlog"] == {"waiting": 23, "in_flight": 0, "dead": 0}
    found = set()
    while messages := sqs.receive_message(
        QueueUrl=outputs["BacklogQueueUrl"], MaxNumberOfMessages=10, WaitTimeSeconds=0
    ).get("Messages"):
        found |= {message["Body"] for message in messages}
    assert found == bodies
    assert infra("redrive", "backlog")[1] == "There is no dead letter\n"


def test_a_move_that_sqs_gives_up_or_refuses_is_told_with_its_reason(aws, outputs, session, monkeypatch):
    config, sqs = Config(endpoint_url=aws.endpoint), aws.client("sqs")
    sqs.send_message(QueueUrl=outputs["UploadsDeadLetterQueueUrl"], MessageBody="film")
    states = [{"Status": "RUNNING"}, {"Status": "FAILED", "FailureReason": "AccessDenied"}]
    sqs.list_message_move_tasks = lambda **_: {
        "Results": [{"ApproximateNumberOfMessagesMoved": 1, "ApproximateNumberOfMessagesToMove": 2} | states.pop(0)]
    }
    monkeypatch.setattr(operate, "client", lambda *_: sqs)
    monkeypatch.setattr(operate, "MOVE_POLL_SECONDS", 0.0)
    with pytest.raises(Fault, match=r"cxr-uploads-dead is FAILED after 1 messages \(AccessDenied\)"):
        operate.redrive(session, config, outputs, "uploads")
    with pytest.raises(Fault, match="SQS does not move the dead letters"):
        operate.redrive(session, config, {"UploadsDeadLetterQueueUrl": outputs["UploadsQueueUrl"]}, "uploads")


def test_a_data_set_reaches_the_stacks_bucket(infra, aws, outputs, tmp_path):
    for group in ("train/NORMAL", "train/PNEUMONIA", "test/NORMAL", "test/PNEUMONIA"):
        (tmp_path / "films" / group).mkdir(parents=True)
        for n in range(15):
            (tmp_path / "films" / group / f"{n}.jpeg").write_bytes(b"film")
    status, said, _ = infra("upload-dataset", "films", "--name", "small", "--limit", "20")
    assert status == 0
    assert f"s3://{outputs['DatasetsBucket']}/datasets/small/: train" in said
    listed = aws.client("s3").list_objects_v2(Bucket=outputs["DatasetsBucket"], Prefix="datasets/small/")
    assert listed["KeyCount"] == 20 + 4


def test_nothing_is_deleted_without_being_asked(infra, monkeypatch):
    assert "pass --yes if that is meant" in infra("destroy")[2]
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("builtins.input", lambda question: "no")
    assert "Nothing was deleted" in infra("destroy", "--delete-data")[2]
    assert "cxr-service: CREATE_COMPLETE" in infra("status")[1] or "UPDATE_COMPLETE" in infra("status")[1]


def test_destroying_the_service_keeps_data_and_a_deployment_brings_it_back(infra, aws, outputs):
    aws.client("s3").put_object(Bucket=outputs["ResultsBucket"], Key="results/a.json", Body=b"{}")
    assert infra("destroy", "--yes")[0] == 0
    assert "cxr-service: absent" in infra("status")[1]
    assert infra("deploy")[0] == 0
    assert aws.client("s3").get_object(Bucket=outputs["ResultsBucket"], Key="results/a.json")["Body"].read() == b"{}"


def test_destroying_the_data_leaves_nothing(infra, aws, outputs, monkeypatch):
    s3 = aws.client("s3")
    for n in range(3):
        s3.put_object(Bucket=outputs["ResultsBucket"], Key="results/a.json", Body=str(n).encode())
    s3.delete_object(Bucket=outputs["ResultsBucket"], Key="results/a.json")
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("builtins.input", lambda question: "cxr")
    status, said, _ = infra("destroy", "--delete-data")
    assert status == 0 and "cancel-key-deletion" in said
    assert [b["Name"] for b in s3.list_buckets()["Buckets"]] == []
    assert aws.client("ecr").describe_repositories()["repositories"] == []
    assert aws.client("sqs").list_queues().get("QueueUrls", []) == []
    assert "cxr-base: absent" in infra("status")[1]
    assert infra("destroy", "--delete-data")[0] == 0, "a second run finds nothing to do"


@pytest.fixture
def retained(aws, infra, monkeypatch, tmp_path):
    """A base stack whose deletion leaves what it retains, as AWS does: moto knows only `Retain`."""
    path = tmp_path / "base.yaml"
    path.write_text(template.BASE.read_text().replace("RetainExceptOnCreate", "Retain"))
    monkeypatch.setattr(template, "BASE", path)
    assert infra("deploy", "--base", "--project", "kept")[0] == 0


def left_of(aws, project):
    """Names of everything of a project that a stack's deletion retains."""
    buckets = [b["Name"] for b in aws.client("s3").list_buckets()["Buckets"]]
    repositories = [r["repositoryName"] for r in aws.client("ecr").describe_repositories()["repositories"]]
    logs = [
        g["logGroupName"].removeprefix("/aws/lambda/") for g in aws.client("logs").describe_log_groups()["logGroups"]
    ]
    groups = aws.client("sagemaker").list_model_package_groups()["ModelPackageGroupSummaryList"]
    kms = aws.client("kms")
    keys = [kms.describe_key(KeyId=key["KeyId"])["KeyMetadata"] for key in kms.list_keys()["Keys"]]
    living = [key["Description"] for key in keys if key["KeyState"] != "PendingDeletion"]
    names = [*buckets, *repositories, *logs, *(g["ModelPackageGroupName"] for g in groups), *living]
    return sorted(name for name in names if name.startswith(project))


def meanwhile(monkeypatch, then):
    """`then` happens right after a stack was deleted."""
    delete = stacks.delete

    def delete_and_go_on(cloudformation, name):
        delete(cloudformation, name)
        then()

    monkeypatch.setattr(stacks, "delete", delete_and_go_on)


def test_a_deletion_of_the_data_that_was_interrupted_is_resumed(aws, infra, retained, monkeypatch):
    uploads = f"kept-uploads-{ACCOUNT}-{REGION}"
    destroying = ("destroy", "--delete-data", "--yes", "--project", "kept")

    def interrupt():
        aws.client("s3").put_object(Bucket=uploads, Key="late", Body=b"film")
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        meanwhile(patched, interrupt)
        assert infra(*destroying)[0] == 130
    assert "kept-base: absent" in infra("status", "--project", "kept")[1]
    kept = [r for r in template.load(template.BASE)["Resources"].values() if "DeletionPolicy" in r]
    assert len(left_of(aws, "kept")) == len(kept)
    assert infra(*destroying)[0] == 0
    assert left_of(aws, "kept") == []


def test_an_upload_between_emptying_and_deletion_goes_too(aws, infra, retained, monkeypatch):
    uploads = f"kept-uploads-{ACCOUNT}-{REGION}"
    meanwhile(monkeypatch, lambda: aws.client("s3").put_object(Bucket=uploads, Key="late", Body=b"film"))
    status, said, _ = infra("destroy", "--delete-data", "--yes", "--project", "kept")
    assert status == 0 and f"s3://{uploads}: 1 object versions deleted" in said
    assert left_of(aws, "kept") == []


def test_a_bucket_that_is_written_to_all_the_time_says_so():
    class S3:
        def __getattr__(self, name):
            return lambda **_: None

        def delete_bucket(self, Bucket):
            raise ClientError({"Error": {"Code": "BucketNotEmpty", "Message": "not empty"}}, "DeleteBucket")

        def get_paginator(self, name):
            return self

        def paginate(self, Bucket, Prefix):
            return []

    with pytest.raises(Fault, match=r"s3://kept was filled again 5 times.*stop whoever writes there"):
        destroy._remove_bucket(S3(), "kept", lambda line: None)


def test_a_key_that_nobody_may_describe_is_somebody_elses():
    class Kms:
        def get_paginator(self, name):
            return self

        def paginate(self):
            yield {"Keys": [{"KeyId": "ours"}, {"KeyId": "theirs"}, {"KeyId": "old"}]}

        def describe_key(self, KeyId):
            if KeyId == "theirs":
                raise ClientError({"Error": {"Code": "AccessDeniedException", "Message": "no"}}, "DescribeKey")
            state = "PendingDeletion" if KeyId == "old" else "Enabled"
            return {"KeyMetadata": {"Description": "films", "KeyState": state}}

    assert list(destroy._keys(Kms(), {"films"})) == ["ours"]


def test_after_everything_was_deleted_a_deployment_starts_anew(infra):
    assert infra("deploy")[0] == 0
