"""What the code calls is what its role may do: the calls are recorded or read off the source, not believed."""

from __future__ import annotations

import ast
import importlib.util
import json
import sys
from pathlib import Path
from urllib.parse import unquote

import boto3
import botocore.session
import pytest
from botocore import xform_name
from moto import mock_aws

ROOT = Path(__file__).resolve().parents[2]

# IAM's name where it differs from the operation's. One operation may need several actions.
S3_ACTIONS = {
    "HeadObject": ["GetObject"],
    "ListObjectsV2": ["ListBucket"],
    "ListObjectVersions": ["ListBucketVersions"],
    "CopyObject": ["GetObject", "PutObject"],
    "HeadBucket": ["ListBucket"],
}
TRANSFERS = {
    "upload_file": "PutObject",
    "upload_fileobj": "PutObject",
    "download_file": "GetObject",
    "download_fileobj": "GetObject",
}
OTHER_ACTIONS = {("lambda", "Invoke"): "InvokeFunction", ("sqs", "SendMessageBatch"): "SendMessage"}


def actions_of(service: str, operation: str, versioned: bool = False) -> list[str]:
    if service == "s3":
        names = S3_ACTIONS.get(operation, [operation])
        return [f"s3:{name}Version" if versioned and name == "GetObject" else f"s3:{name}" for name in names]
    return [f"{service}:{OTHER_ACTIONS.get((service, operation), operation)}"]


# ---------------------------------------------------------------- the function, recorded


@pytest.fixture(scope="module")
def tiny():
    path = ROOT / "tests/inference_lambda/tiny_model.py"
    spec = importlib.util.spec_from_file_location("tiny_model_for_infra", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["tiny_model_for_infra"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def recorded(stacks, tiny, tmp_path, request):
    """Every S3 call that the function makes for uploads that are new, known, overwritten and gone: (action, ARN)."""
    from cxr.bundle import sha256_of
    from inference_lambda.config import Config
    from inference_lambda.handler import Function
    from inference_lambda.store import Store

    names = {n: b["BucketName"] for n, b in stacks.of_type("AWS::S3::Bucket").items()}
    uploads, results, models = names["UploadsBucket"], names["ResultsBucket"], names["ModelsBucket"]
    with mock_aws():
        s3 = boto3.client("s3", region_name="us-east-1")
        for name in (uploads, results, models):
            s3.create_bucket(Bucket=name)
            s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
        files = tiny.bundle_files(Path(request.config.cache.mkdir("tiny_model")), 12.0, "job")
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

        calls: set[tuple[str, str]] = set()

        def note(model, params, **_):
            path = unquote(params["url_path"]).lstrip("/")
            query = params["query_string"] if isinstance(params["query_string"], dict) else {}
            target = params["context"].get("s3_redirect", {}).get("params", {})
            bucket, key = target.get("Bucket", path.partition("/")[0]), target.get("Key")
            for action in actions_of("s3", model.name, "versionId" in query or "VersionId" in target):
                calls.add((action, f"arn:aws:s3:::{bucket}" + (f"/{key}" if key else "")))

        s3.meta.events.register("before-call.s3", note)
        calls.clear()
        function = Function(Config(uploads, results, models, scratch=tmp_path, function_name="cxr-classify"), Store(s3))

        class Context:
            aws_request_id = "1"
            get_remaining_time_in_millis = staticmethod(lambda: 120_000)

        film = tiny.grey_film(120)
        quietly = boto3.client("s3", region_name="us-east-1")
        for body in (film, film, tiny.grey_film(90), b"no film"):
            quietly.put_object(Bucket=uploads, Key="a.jpeg", Body=body)
            function.handle({"objects": [{"bucket": uploads, "key": "a.jpeg"}]}, Context())
        function.handle({"objects": [{"bucket": uploads, "key": "gone.jpeg"}]}, Context())
        function.handle({"manifest": f"s3://{results}/manifests/run/part-00000.json"}, Context())
    return calls


def test_every_call_that_the_function_makes_is_allowed_to_it(recorded, iam, stacks):
    kinds = {action for action, _ in recorded}
    assert kinds == {"s3:GetObject", "s3:GetObjectVersion", "s3:PutObject"}
    assert len(recorded) >= 9
    refused = [(action, arn) for action, arn in recorded if not iam.may(stacks.role("FunctionRole"), action, arn)]
    assert refused == [], sorted(recorded)


# ---------------------------------------------------------------- the DAGs, read


def operations() -> dict[str, tuple[str, str]]:
    """Method name of a boto3 client -> (service, operation), for the services that the DAGs use."""
    session, found = botocore.session.get_session(), {}
    for service in ("s3", "sagemaker", "sqs", "sns", "lambda", "logs", "sts"):
        for operation in session.get_service_model(service).operation_names:
            found[xform_name(operation)] = (service, operation)
    return found | {method: ("s3", operation) for method, operation in TRANSFERS.items()}


def called_in(folder: Path) -> dict[str, set[str]]:
    """IAM action -> files that call it."""
    known, found = operations(), {}
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            name = node.func.attr
            if name == "get_paginator" and node.args and isinstance(node.args[0], ast.Constant):
                name = node.args[0].value
            if name in known:
                versioned = any(keyword.arg == "VersionId" for keyword in node.keywords)
                for action in actions_of(*known[name], versioned):
                    found.setdefault(action, set()).add(path.name)
    return found


def granted(stacks, *roles):
    properties = stacks.of_type("AWS::IAM::Role")
    for role in roles:
        for policy in properties[role]["Policies"]:
            for statement in policy["PolicyDocument"]["Statement"]:
                if statement["Effect"] == "Allow":
                    yield from statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]


def test_every_call_in_the_dags_is_granted_to_airflow_or_to_the_promote_role(stacks):
    called = called_in(ROOT / "dags")
    assert {"s3:PutObject", "sagemaker:CreateModelPackage", "lambda:InvokeFunction", "sqs:SendMessage"} <= set(called)
    missing = {a: files for a, files in called.items() if a not in set(granted(stacks, "AirflowRole", "PromoteRole"))}
    assert missing == {}


def test_airflow_is_granted_nothing_that_its_dags_do_not_call(stacks):
    needed_by_the_operator = {"sagemaker:CreateTrainingJob", "sagemaker:AddTags", "sagemaker:ListTrainingJobs"}
    beside_a_call = {
        "iam:PassRole",
        "kms:CreateGrant",
        "kms:Decrypt",
        "kms:DescribeKey",
        "kms:GenerateDataKey",
        "s3:AbortMultipartUpload",
    }
    looked_up_by_hooks = {"s3:GetBucketLocation", "sqs:GetQueueUrl", "lambda:GetFunctionConfiguration",
                          "sagemaker:DescribeModelPackageGroup"}  # fmt: skip
    unused = set(granted(stacks, "AirflowRole")) - set(called_in(ROOT / "dags"))
    assert unused <= needed_by_the_operator | beside_a_call | looked_up_by_hooks
