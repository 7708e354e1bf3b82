"""The pointer moves by compare-and-swap, its serial only rises, and what it names is what was registered."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import sys
import types
from pathlib import Path

import boto3
import jsonschema
import pytest
from moto import mock_aws

from infra import pointer
from infra.pointer import PointerFault

BUCKET, GROUP = "models", "cxr-pneumonia"
SESSION = boto3.Session(region_name="us-east-1")  # one: it reads the services' models once
SCHEMA = json.loads((Path(pointer.__file__).parent / "pointer.schema.json").read_text())


@pytest.fixture
def aws():
    with mock_aws():
        s3 = SESSION.client("s3")
        s3.create_bucket(Bucket=BUCKET)
        s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
        sagemaker = SESSION.client("sagemaker")
        sagemaker.create_model_package_group(ModelPackageGroupName=GROUP)
        yield s3, sagemaker


def register(aws, job, status="Approved", **metadata):
    s3, sagemaker = aws
    bundle = json.dumps({"name": job}).encode()
    s3.put_object(Bucket=BUCKET, Key=f"models/{job}/bundle.json", Body=bundle)
    properties = {"training_job": job, "bundle.sha256": hashlib.sha256(bundle).hexdigest()} | metadata
    return sagemaker.create_model_package(
        ModelPackageGroupName=GROUP, ModelApprovalStatus=status, CustomerMetadataProperties=properties
    )["ModelPackageArn"]


def promote(aws, arn, reason="better"):
    return pointer.promote(*aws, BUCKET, arn, actor="tester", reason=reason).document


def test_the_first_promotion_has_serial_1_and_nothing_before_it(aws):
    document = promote(aws, register(aws, "first"))
    assert (document["serial"], document["version"], document["previous"]) == (1, "1", None)
    assert document["bundle"]["key"] == "models/first/bundle.json"
    assert document["bundle"]["version_id"]
    assert pointer.read(aws[0], BUCKET).document == document


def test_every_document_that_is_written_fits_the_schema(aws):
    first = promote(aws, register(aws, "first"))
    second = promote(aws, register(aws, "second"))
    third = pointer.roll_back(aws[0], BUCKET, actor="tester", reason="worse").document
    for document in (first, second, third):
        jsonschema.validate(document, SCHEMA)


def test_a_promotion_remembers_what_it_replaces_and_a_rollback_brings_it_back_under_a_new_serial(aws):
    first, second = (promote(aws, register(aws, job)) for job in ("first", "second"))
    assert second["serial"] == 2
    assert second["previous"] == {k: first[k] for k in ("serial", "version", "bundle", "model_package_arn")}
    third = pointer.roll_back(aws[0], BUCKET, actor="tester", reason="worse").document
    assert (third["serial"], third["version"], third["bundle"]) == (3, "1", first["bundle"])
    assert third["previous"]["version"] == "2"


@pytest.mark.parametrize("status", ["PendingManualApproval", "Rejected"])
def test_only_an_approved_package_is_promoted(aws, status):
    with pytest.raises(PointerFault, match=f"is {status}"):
        promote(aws, register(aws, "first", status))
    assert pointer.read(aws[0], BUCKET) is None


def test_a_bundle_that_was_changed_after_its_registration_is_refused(aws):
    arn = register(aws, "first")
    aws[0].put_object(Bucket=BUCKET, Key="models/first/bundle.json", Body=b"changed")
    with pytest.raises(PointerFault, match="somebody changed it"):
        promote(aws, arn)


def test_a_missing_bundle_and_a_package_of_another_origin_are_named(aws):
    arn = register(aws, "first", training_job="gone")
    with pytest.raises(PointerFault, match=r"models/gone/bundle\.json.*does not exist"):
        promote(aws, arn)
    foreign = aws[1].create_model_package(ModelPackageGroupName=GROUP, ModelApprovalStatus="Approved")
    with pytest.raises(PointerFault, match="not registered by the `retrain` DAG"):
        promote(aws, foreign["ModelPackageArn"])
    with pytest.raises(PointerFault, match="not in the registry"):
        promote(aws, arn[:-1] + "99")


def test_the_model_that_answers_already_is_not_promoted_again(aws):
    arn = register(aws, "first")
    promote(aws, arn)
    with pytest.raises(PointerFault, match=r"answers already \(serial 1\)"):
        promote(aws, arn)


def test_whoever_loses_a_race_is_told_and_changes_nothing(aws, monkeypatch):
    promote(aws, register(aws, "first"))
    arns = {job: register(aws, job) for job in ("second", "third")}
    honest = pointer.read

    def slow(s3, bucket):
        seen = honest(s3, bucket)
        monkeypatch.setattr(pointer, "read", honest)
        promote(aws, arns["second"])
        return seen

    monkeypatch.setattr(pointer, "read", slow)
    with pytest.raises(PointerFault, match="moved by somebody else"):
        promote(aws, arns["third"])
    assert pointer.read(aws[0], BUCKET).document["version"] == "2"


def test_without_a_model_before_it_there_is_nothing_to_roll_back_to(aws):
    with pytest.raises(PointerFault, match="no model answers"):
        pointer.roll_back(aws[0], BUCKET, actor="tester", reason="x")
    promote(aws, register(aws, "first"))
    with pytest.raises(PointerFault, match="is the first model"):
        pointer.roll_back(aws[0], BUCKET, actor="tester", reason="x")


def test_the_serial_rises_even_after_the_pointer_was_deleted(aws):
    for job in ("first", "second"):
        promote(aws, register(aws, job))
    aws[0].delete_object(Bucket=BUCKET, Key=pointer.KEY)
    document = promote(aws, register(aws, "third"))
    assert (document["serial"], document["previous"]) == (3, None)


@pytest.fixture
def dags_pointer(monkeypatch):
    """dags/cxr_pipeline/pointer.py without Airflow, which only its sibling `clients` needs."""
    clients = types.ModuleType("cxr_pipeline.clients")
    clients.error_code = lambda error: error.response["Error"]["Code"]
    monkeypatch.setitem(sys.modules, "cxr_pipeline", types.ModuleType("pipeline"))
    monkeypatch.setitem(sys.modules, "cxr_pipeline.clients", clients)
    source = Path(pointer.__file__).parent.parent / "dags/cxr_pipeline/pointer.py"
    spec = importlib.util.spec_from_file_location("dags_pointer", source)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "dags_pointer", module)
    spec.loader.exec_module(module)
    return module


def test_what_the_dags_write_fits_the_schema_and_each_side_goes_on_where_the_other_stopped(aws, dags_pointer):
    s3, _ = aws
    first = promote(aws, register(aws, "first"))
    arn = register(aws, "second")
    bundle = first["bundle"] | {"key": "models/second/bundle.json"}
    by_dag = dags_pointer.promote(
        s3,
        BUCKET,
        dags_pointer.read(s3, BUCKET),
        bundle=bundle,
        package_arn=arn,
        version="2",
        actor="dag",
        reason="better",
    )
    jsonschema.validate(by_dag.document, SCHEMA)
    by_hand = pointer.roll_back(s3, BUCKET, actor="tester", reason="worse").document
    assert (by_hand["serial"], by_hand["version"]) == (3, "1")
    undone = dags_pointer.roll_back(s3, BUCKET, dags_pointer.read(s3, BUCKET), actor="dag", reason="smoke")
    jsonschema.validate(undone.document, SCHEMA)
    assert (undone.document["serial"], undone.document["version"]) == (4, "2")
