"""What the code asks of AWS is what its roles may do, and all that they may do: the calls are recorded, not believed.

The function, every task of the DAGs and the operator's commands run against moto; each call is noted with the role that
made it and with all that it needs there (AWS also asks for the key of an encrypted object, for the image of a model).
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import importlib
import io
import json
import tarfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import botocore.session
import pytest
from botocore import xform_name
from botocore.client import BaseClient
from botocore.exceptions import ClientError
from moto import mock_aws

from cxr.bundle import Bundle
from infra import operate
from infra.config import Config
from infra.errors import Fault
from infra.settings import airflow_settings
from tests.inference_lambda import tiny_model

pytestmark = pytest.mark.heavy
ROOT = Path(__file__).resolve().parents[2]
ACCOUNT, REGION = "123456789012", "eu-central-1"
HERE = f"{REGION}:{ACCOUNT}"
KEY = f"arn:aws:kms:{HERE}:key/<Key>"
Need = tuple[str, str]  # action, ARN

# What a call to S3 needs: actions on the object, on the bucket, on the key.
OF_S3 = {
    "GetObject": (["GetObject"], [], ["Decrypt"]),
    "HeadObject": (["GetObject"], [], ["Decrypt"]),
    "PutObject": (["PutObject"], [], ["GenerateDataKey"]),
    "CopyObject": (["PutObject"], [], ["Decrypt", "GenerateDataKey"]),
    "DeleteObject": (["DeleteObject"], [], []),
    "DeleteObjects": (["DeleteObject"], [], []),
    "HeadBucket": ([], ["ListBucket"], []),
    "ListObjectsV2": ([], ["ListBucket"], []),
    "ListObjectVersions": ([], ["ListBucketVersions"], []),
}
TRANSFERS = {"upload_file": "PutObject", "upload_fileobj": "PutObject", "download_fileobj": "GetObject"}
# What a request has to say about itself for a condition of the policy.
SAID = {
    "iam:PassRole": {"iam__PassedToService": "sagemaker.amazonaws.com"},
    "kms:CreateGrant": {"kms__GrantIsForAWSResource": "true"},
    "sagemaker:AddTags": {"sagemaker__TaggingAction": "CreateTrainingJob"},
}


def said_by(requests: dict[str, dict[str, Any]]) -> dict[str, dict[str, str]]:
    """The same of requests as they were made."""
    job = requests["CreateTrainingJob"]
    tags = {tag["Key"]: tag["Value"] for tag in job["Tags"]}
    approvals = [requests[name]["ModelApprovalStatus"] for name in ("CreateModelPackage", "UpdateModelPackage")]
    return {
        "sagemaker:CreateTrainingJob": {
            **{f"aws__RequestTag/{key}": value for key, value in tags.items()},
            "sagemaker__InstanceTypes": job["ResourceConfig"]["InstanceType"],
            "sagemaker__MaxRuntimeInSeconds": str(job["StoppingCondition"]["MaxRuntimeInSeconds"]),
            "sagemaker__NetworkIsolation": str(job["EnableNetworkIsolation"]).lower(),
        },
        "sagemaker:StopTrainingJob": {f"aws__ResourceTag/{key}": value for key, value in tags.items()},
        "sagemaker:CreateModelPackage": {"sagemaker__ModelApprovalStatus": approvals[0]},
        "sagemaker:UpdateModelPackage": {"sagemaker__ModelApprovalStatus": approvals[1]},
    }


def needs(service: str, operation: str, asked: dict[str, Any], answered: dict[str, Any]) -> Iterator[Need]:
    """Yield (action, ARN) of everything that AWS checks for one call."""
    match service, operation:
        case "s3", _:
            yield from needs_of_s3(operation, asked)
        case "sagemaker", _:
            yield from needs_of_sagemaker(operation, asked, answered)
        case "logs", "DescribeLogStreams":
            yield "logs:DescribeLogStreams", f"arn:aws:logs:{HERE}:log-group:{asked['logGroupName']}:log-stream:"
        case "logs", "GetLogEvents":
            stream = f"{asked['logGroupName']}:log-stream:{asked['logStreamName']}"
            yield "logs:GetLogEvents", f"arn:aws:logs:{HERE}:log-group:{stream}"
        case "lambda", "Invoke":
            yield "lambda:InvokeFunction", f"arn:aws:lambda:{HERE}:function:{asked['FunctionName']}"
        case "sqs", "SendMessageBatch" | "GetQueueAttributes":
            name = operation.removesuffix("Batch")
            yield f"sqs:{name}", f"arn:aws:sqs:{HERE}:{asked['QueueUrl'].rpartition('/')[2]}"
            if name == "SendMessage":
                yield from (("kms:Decrypt", KEY), ("kms:GenerateDataKey", KEY))
        case "sns", "Publish":
            yield from (("sns:Publish", asked["TopicArn"]), ("kms:Decrypt", KEY), ("kms:GenerateDataKey", KEY))
        case "sts", "AssumeRole":
            yield "sts:AssumeRole", asked["RoleArn"]
        case "sts", "GetCallerIdentity":
            pass
        case _:
            raise AssertionError(f"what does {service}:{operation} need?")


def needs_of_s3(operation: str, asked: dict[str, Any]) -> Iterator[Need]:
    of_object, of_bucket, of_key = OF_S3[operation]
    bucket = f"arn:aws:s3:::{asked['Bucket']}"
    version = "Version" if "VersionId" in asked else ""
    keys = [one["Key"] for one in asked["Delete"]["Objects"]] if operation == "DeleteObjects" else [asked.get("Key")]
    yield from ((f"s3:{action}{version}", f"{bucket}/{key}") for action in of_object for key in keys)
    yield from ((f"s3:{action}", bucket) for action in of_bucket)
    yield from ((f"kms:{action}", KEY) for action in of_key)
    if operation == "CopyObject":
        yield "s3:GetObject", f"arn:aws:s3:::{asked['CopySource']['Bucket']}/{asked['CopySource']['Key']}"


def needs_of_sagemaker(operation: str, asked: dict[str, Any], answered: dict[str, Any]) -> Iterator[Need]:
    package = answered.get("ModelPackageArn") or asked.get("ModelPackageArn") or asked.get("ModelPackageName")
    if operation == "ListModelPackages":
        package = f"arn:aws:sagemaker:{HERE}:model-package/{asked['ModelPackageGroupName']}/*"
    job = f"arn:aws:sagemaker:{HERE}:training-job/{asked.get('TrainingJobName')}"
    yield f"sagemaker:{operation}", package or job
    if operation == "CreateTrainingJob":
        yield "sagemaker:AddTags", job
        yield "iam:PassRole", asked["RoleArn"]
        yield from ((f"kms:{a}", asked["ResourceConfig"]["VolumeKmsKeyId"]) for a in ("CreateGrant", "DescribeKey"))
    if operation == "CreateModelPackage":
        (container,) = asked["InferenceSpecification"]["Containers"]
        repository = container["Image"].partition("/")[2].partition("@")[0].partition(":")[0]
        yield from (
            (f"ecr:{a}", f"arn:aws:ecr:{HERE}:repository/{repository}") for a in ("BatchGetImage", "DescribeImages")
        )
        yield "s3:GetObject", container["ModelDataUrl"].replace("s3://", "arn:aws:s3:::")


BYSTANDER = "bystander"


def bystander(service: str) -> Any:
    """A client that furnishes the scene."""
    return boto3.client(service, region_name=REGION, aws_access_key_id=BYSTANDER, aws_secret_access_key=BYSTANDER)


class Recorder:
    """Notes every call to AWS but a bystander's, as the role that makes it.

    `answers` gives the answer to an operation that moto does not do.
    """

    def __init__(self, role: str, **answers: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        self.role, self._answers = role, answers
        self.needed: defaultdict[str, set[Need]] = defaultdict(set)
        self.called: set[tuple[str, str]] = set()
        self.requests: dict[str, dict[str, Any]] = {}
        self._promoting: set[str] = set()
        self._original = BaseClient._make_api_call

    def call(self, client: BaseClient, operation: str, asked: dict[str, Any]) -> Any:
        caller = client._request_signer._credentials.access_key
        if caller == BYSTANDER:
            return self._original(client, operation, asked)
        service = client.meta.service_model.service_name
        needed = self.needed["PromoteRole" if caller in self._promoting else self.role]
        answered: dict[str, Any] = {}
        try:
            answer = self._answers.get(operation)
            answered = answer(asked) if answer else self._original(client, operation, dict(asked))
        except ClientError as error:
            if error.response["Error"]["Code"] in ("NoSuchKey", "404"):  # without this right S3 would answer 403
                needed.add(("s3:ListBucket", f"arn:aws:s3:::{asked['Bucket']}"))
            raise
        finally:
            self.called.add((service, operation))
            self.requests[operation] = asked
            needed.update(needs(service, operation, asked, answered))
        if operation == "AssumeRole":
            self._promoting.add(answered["Credentials"]["AccessKeyId"])
        return answered


@contextlib.contextmanager
def recording(recorder: Recorder) -> Iterator[Recorder]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BaseClient, "_make_api_call", lambda *call: recorder.call(*call))
        yield recorder


def refused(iam, role, needed, said=SAID):
    return [(action, arn) for action, arn in sorted(needed) if not iam.may(role, action, arn, **said.get(action, {}))]


def bucket_names(stacks):
    return {name: bucket["BucketName"] for name, bucket in stacks.of_type("AWS::S3::Bucket").items()}


def made_buckets(stacks):
    """A bystander's S3 client; all buckets are there and keep versions."""
    s3 = bystander("s3")
    for name in bucket_names(stacks).values():
        s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
        s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    return s3


# ---------------------------------------------------------------- the function


@pytest.fixture(scope="module")
def of_the_function(stacks, tmp_path_factory, request):
    """What the function needs for uploads that are new, known, overwritten and gone, and while no model serves."""
    from cxr.bundle import sha256_of
    from inference_lambda.config import Config as FunctionConfig
    from inference_lambda.handler import Function
    from inference_lambda.store import Store

    names = bucket_names(stacks)
    uploads, results, models = names["UploadsBucket"], names["ResultsBucket"], names["ModelsBucket"]
    with mock_aws():
        s3 = made_buckets(stacks)
        files = tiny_model.bundle_files(Path(request.config.cache.mkdir("tiny_model")), 12.0, "job")
        versions = {
            f: s3.put_object(Bucket=models, Key=f"models/job/{f}", Body=d)["VersionId"] for f, d in files.items()
        }
        bundle = {"bucket": models, "key": "models/job/bundle.json", "version_id": versions["bundle.json"],
                  "sha256": sha256_of(files["bundle.json"])}  # fmt: skip
        pointer = {"schema_version": 1, "serial": 1, "version": "1", "bundle": bundle, "previous": None,
                   "model_package_arn": "arn:aws:sagemaker:x:123456789012:model-package/cxr/1"}  # fmt: skip
        s3.put_object(Bucket=models, Key="models/current.json", Body=json.dumps(pointer))
        manifest = {"objects": [{"bucket": uploads, "key": "a.jpeg"}]}
        s3.put_object(Bucket=results, Key="manifests/run/part-00000.json", Body=json.dumps(manifest))
        context = SimpleNamespace(aws_request_id="1", get_remaining_time_in_millis=lambda: 120_000)

        def function():
            config = FunctionConfig(
                uploads,
                results,
                models,
                scratch=tmp_path_factory.mktemp("scratch"),
                function_name="cxr-classify",
                heatmaps="all",
            )
            return Function(config, Store(boto3.client("s3", region_name=REGION)))

        with recording(Recorder("FunctionRole")) as recorder:
            serving, film = function(), tiny_model.grey_film(120)
            for body in (film, film, tiny_model.grey_film(90), b"no film"):
                s3.put_object(Bucket=uploads, Key="a.jpeg", Body=body)
                serving.handle({"objects": [{"bucket": uploads, "key": "a.jpeg"}]}, context)
            serving.handle({"objects": [{"bucket": uploads, "key": "gone.jpeg"}]}, context)
            serving.handle({"manifest": f"s3://{results}/manifests/run/part-00000.json"}, context)
            s3.delete_object(Bucket=models, Key="models/current.json")
            with contextlib.suppress(Exception):
                function().handle({"objects": [{"bucket": uploads, "key": "a.jpeg"}]}, context)
    return recorder


def test_every_call_that_the_function_makes_is_allowed_to_it(of_the_function, iam, stacks):
    assert of_the_function.called == {("s3", "GetObject"), ("s3", "HeadObject"), ("s3", "PutObject")}
    assert refused(iam, stacks.role("FunctionRole"), of_the_function.needed["FunctionRole"]) == []


def test_the_function_is_allowed_nothing_else_but_what_lambda_does_for_it(of_the_function, iam, stacks):
    idle = iam.idle(stacks.role("FunctionRole"), of_the_function.needed["FunctionRole"])
    assert {action.partition(":")[0] for action, _ in idle} == {"sqs", "logs"}, idle


# ---------------------------------------------------------------- the DAGs and the operator

JOB_LOG = "/aws/sagemaker/TrainingJobs"
FILMS = ("train/NORMAL/a.jpeg", "train/PNEUMONIA/b.jpeg", "test/NORMAL/c.jpeg", "test/PNEUMONIA/d.jpeg")
METRICS = {
    "test": {"auroc": 1, "ece": 0, "at_threshold": {"sensitivity": 1, "specificity": 1}},
    "parity": {"auroc_drop": 0, "label_flips": 0, "status_flips": 0},
}
RUN = SimpleNamespace(run_id="run", run_after=datetime(2026, 11, 22, tzinfo=UTC), start_date=datetime.now(UTC))

QUANTILE = {"NORMAL": 0.5, "PNEUMONIA": 0.5}


def archive() -> tuple[bytes, str]:
    """model.tar.gz as a training job leaves it, and the sha256 of its model."""
    files = {name: name.encode() for name in ("model.keras", "model.tflite", "golden.npz")}
    files["metrics.json"] = json.dumps(METRICS).encode()
    files["predictions.csv"] = (
        b"file,label,probability\ntest/NORMAL/c.jpeg,NORMAL,0.1\ntest/PNEUMONIA/d.jpeg,PNEUMONIA,0.9"
    )
    entries: dict[str, dict[str, Any]] = {
        n: {"bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()} for n, body in files.items()
    }
    manifest = Bundle(
        name="job", created_at="2026-11-22T00:00:00Z", files=entries, head="gap", precision="int8", temperature=1.0,
        weights={"source": "channel", "label": "w"}, threshold=0.5, conformal={"alpha": 0.05, "quantile": QUANTILE},
        ood={"limit": 1.0}, metrics={}, dataset={"digest": "d"}, code_version="1", versions={}, seed=0,
    )  # fmt: skip
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, body in (files | {"bundle.json": manifest.to_json()}).items():
            member = tarfile.TarInfo(name)
            member.size = len(body)
            tar.addfile(member, io.BytesIO(body))
    return packed.getvalue(), entries["model.tflite"]["sha256"]


class Answering:
    """Stands for the function: writes a result and a heat map for each film that it is called with."""

    def __init__(self, s3: BaseClient, results: str, model_sha256: str) -> None:
        self._s3, self._results, self._model = s3, results, {"version": "1", "sha256": model_sha256}

    def __call__(self, asked: dict[str, Any]) -> dict[str, Any]:
        payload = json.loads(asked["Payload"])
        if "manifest" in payload:
            key = payload["manifest"].partition(f"{self._results}/")[2]
            payload = json.loads(self._s3.get_object(Bucket=self._results, Key=key)["Body"].read())
        for item in payload["objects"]:
            self.answer(item["key"])
        answered = {"done": payload["objects"], "skipped": [], "unfinished": [], "failed": []}
        return {"Payload": io.BytesIO(json.dumps(answered).encode())}

    def answer(self, key: str) -> None:
        result = {
            "schema_version": 1, "status": "ok", "label": "NORMAL",
            "probability": 0.9 if key.endswith("/3") else 0.1, "confidence": 0.9,
            "threshold": 0.5, "priority": "routine", "ood": None, "reasons": [], "model": self._model,
            "supersedes": None, "heatmap": {"key": f"heatmaps/{key}/a.png"}, "classified_at": "2026-11-22T00:00:00Z",
            "image": {"etag": "e", "sha256": "s"},
        }  # fmt: skip
        self._s3.put_object(Bucket=self._results, Key=f"results/{key}.json", Body=json.dumps(result))
        self._s3.put_object(Bucket=self._results, Key=f"heatmaps/{key}/a.png", Body=b"png")


def chosen(form, **params):
    return {name: param.value for name, param in form.items()} | params


@pytest.fixture(scope="module")
def of_the_dags(stacks):
    """What every task of every DAG, and the operator's commands that move the pointer, need."""
    outputs = {**stacks.base.outputs, **stacks.service.outputs}
    settings = airflow_settings(outputs)
    with pytest.MonkeyPatch.context() as patch, mock_aws():
        patch.setenv("AIRFLOW_VAR_CXR", json.dumps(settings))
        patch.setenv("AWS_DEFAULT_REGION", REGION)
        patch.setenv("AWS_REGION", REGION)
        patch.syspath_prepend(str(ROOT / "dags"))
        s3, sagemaker = made_buckets(stacks), bystander("sagemaker")
        packed, model_sha256 = archive()
        function = Answering(s3, settings["results_bucket"], model_sha256)
        furnish(s3, sagemaker, settings)
        with recording(Recorder("AirflowRole", Invoke=function, StopTrainingJob=lambda asked: {})) as recorder:
            retrain(patch, settings, s3, packed)
            sagemaker.update_model_package(
                ModelPackageArn=recorder.requests["UpdateModelPackage"]["ModelPackageArn"],
                ModelApprovalStatus="Approved",  # the smoke test has refused it; moto forgets what an update leaves out
                CustomerMetadataProperties=recorder.requests["CreateModelPackage"]["CustomerMetadataProperties"],
            )
            by_hand(recorder, outputs)
            classify_backlog(patch)
            report(patch)
            correct_labels(patch)
    return recorder


def furnish(s3, sagemaker, settings):
    """Everything that the DAGs find: films, weights, an upload, queue, topic, registry group, the jobs' log."""
    for film in FILMS:
        s3.put_object(Bucket=settings["datasets_bucket"], Key=f"datasets/chest_xray/{film}", Body=film.encode())
    s3.put_object(Bucket=settings["datasets_bucket"], Key="weights/vgg16/vgg16.weights.h5", Body=b"w")
    s3.put_object(Bucket=settings["uploads_bucket"], Key="ward/a.jpeg", Body=b"film")
    sagemaker.create_model_package_group(ModelPackageGroupName=settings["model_package_group"])
    bystander("sqs").create_queue(QueueName="cxr-backlog")
    bystander("sns").create_topic(Name="cxr-alarms")
    bystander("logs").create_log_group(logGroupName=JOB_LOG)


def context_of(patch, dag, params):
    ti = SimpleNamespace(get_task_states=lambda **_: {"run": {"smoke_test": "failed"}})
    context = {"params": params, "dag_run": RUN, "run_id": "run", "dag": SimpleNamespace(dag_id="dag"), "ti": ti}
    patch.setattr(dag, "get_current_context", lambda: context)
    return context


def retrain(patch, settings, s3, packed):
    dag = importlib.import_module("retrain")
    outcome, approval = (
        importlib.import_module("cxr_pipeline.outcome"),
        importlib.import_module("cxr_pipeline.approval"),
    )
    params = chosen(dag.FORM, min_films=1, weights="channel", instance_type="ml.m5.large", min_auroc=0)
    context = context_of(patch, dag, params)
    planned = dag.plan.function()
    job = planned["request"]["TrainingJobName"]
    output = f"training/{job}/output/model.tar.gz"
    s3.put_object(Bucket=settings["models_bucket"], Key=output, Body=packed)
    bystander("logs").create_log_stream(logGroupName=JOB_LOG, logStreamName=f"{job}/algo-1")
    task = dag.TrainingOperator(task_id="train", config=planned["request"], check_interval=1)
    trained = task.execute({})
    task.execute_complete({}, {"job_name": trained["job"]})
    task.on_kill()
    model = dag.register.function(planned, trained)
    judged = dag.judge.function(model)
    dag.compare.function(model)
    approval.ApprovalSensor(task_id="approve", package_arn=model["package_arn"], pending_since=judged).poke(context)
    promotion = dag.promote.function(model, "")
    with pytest.raises(outcome.AirflowSkipException):
        dag.compare.function(model)
    dag.plan.function()
    dag.smoke_test.function(model)
    dag.roll_back.function(model, promotion)


def by_hand(recorder, outputs):
    """The operator promotes and rolls back; what that person may do is no matter of the stacks."""
    session, config = boto3.Session(region_name=REGION), Config(region=REGION)
    recorder.role = "Operator"
    operate.promote(session, config, outputs, "1", "why")
    with pytest.raises(Fault, match="replaced no model"):
        operate.roll_back(session, config, outputs, "why")
    recorder.role = "AirflowRole"


def classify_backlog(patch):
    dag = importlib.import_module("classify_backlog")
    params = chosen(dag.FORM, older_than_minutes=-1, settle_seconds=0)
    context = context_of(patch, dag, params)
    (part,) = dag.find.function()
    dag.submit.function(part)
    dag.DrainSensor(task_id="drain").poke(context)
    params["mode"] = "direct"
    dag.submit.function(part)
    dag.account.function([part])


def report(patch):
    dag = importlib.import_module("report")
    context_of(patch, dag, chosen(dag.FORM))
    written = dag.write.function()
    assert written["films"] == 1
    dag.alarm.function(written | {"breached": ["a figure"]})


def correct_labels(patch):
    dag = importlib.import_module("correct_labels")
    context_of(patch, dag, chosen(dag.FORM, corrections="key,label\nward/a.jpeg,NORMAL\n"))
    dag.new_version.function()


def operations() -> dict[str, tuple[str, str]]:
    """Method name of a boto3 client -> (service, operation), for the services that the DAGs use."""
    session, found = botocore.session.get_session(), {}
    for service in ("s3", "sagemaker", "sqs", "sns", "lambda", "logs", "sts"):
        for operation in session.get_service_model(service).operation_names:
            found[xform_name(operation)] = (service, operation)
    return found | {method: ("s3", operation) for method, operation in TRANSFERS.items()}


def named_in(folder: Path) -> dict[tuple[str, str], str]:
    """(service, operation) -> a file that names it."""
    known, found = operations(), {}
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            name = node.func.attr
            if name == "get_paginator" and node.args and isinstance(node.args[0], ast.Constant):
                name = str(node.args[0].value)
            if name in known:
                found[known[name]] = path.name
    return found


def test_no_call_in_the_dags_escapes_the_record(of_the_dags):
    named = named_in(ROOT / "dags")
    assert len(named) >= 15
    assert {call: file for call, file in named.items() if call not in of_the_dags.called} == {}


@pytest.mark.parametrize("role", ["AirflowRole", "PromoteRole"])
def test_every_call_in_a_dag_is_allowed_to_the_role_that_makes_it(of_the_dags, iam, stacks, role):
    said = SAID | said_by(of_the_dags.requests)
    assert refused(iam, stacks.role(role), of_the_dags.needed[role], said) == []


# A large upload that breaks off is taken away again; none does here.
AFTER_A_FAILURE = {"s3:AbortMultipartUpload"}


@pytest.mark.parametrize("role", ["AirflowRole", "PromoteRole"])
def test_neither_airflow_nor_the_promote_role_is_allowed_what_nobody_asks_for(of_the_dags, iam, stacks, role):
    idle = iam.idle(stacks.role(role), of_the_dags.needed[role])
    assert [grant for grant in idle if grant[0] not in AFTER_A_FAILURE] == []


def test_the_output_of_a_training_job_is_written_under_our_key(of_the_dags, iam, stacks):
    """S3 refuses it otherwise: where the request names no key, SageMaker takes AWS's own."""
    request = of_the_dags.requests["CreateTrainingJob"]
    output = request["OutputDataConfig"]["S3OutputPath"] + f"{request['TrainingJobName']}/output/model.tar.gz"
    named = {
        "s3__x-amz-server-side-encryption": "aws:kms",
        "s3__x-amz-server-side-encryption-aws-kms-key-id": request["OutputDataConfig"]["KmsKeyId"],
    }
    place = output.replace("s3://", "arn:aws:s3:::")
    assert iam.may(stacks.role("TrainingRole"), "s3:PutObject", place, **named)
