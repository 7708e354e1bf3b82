"""Only what is approved and still is what was registered is made the model that answers, by the pointer's one rule."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import boto3
import jsonschema
import pytest
from moto import mock_aws

from cxr import pointer
from cxr.pointer import Move, PointerStore
from infra import promotion
from infra.errors import Fault

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
    return promotion.promote(*aws, BUCKET, arn, Move("tester", reason)).as_json()


def roll_back(aws):
    return promotion.roll_back(aws[0], BUCKET, Move("tester", "worse")).as_json()


def read(aws):
    seen = PointerStore(aws[0], BUCKET).read()
    return seen and seen.pointer.as_json()


def test_the_first_promotion_has_serial_1_and_nothing_before_it(aws):
    document = promote(aws, register(aws, "first"))
    assert (document["serial"], document["version"], document["previous"]) == (1, "1", None)
    assert document["bundle"]["key"] == "models/first/bundle.json"
    assert document["bundle"]["version_id"]
    assert read(aws) == document


def test_every_document_that_is_written_fits_the_schema(aws):
    first = promote(aws, register(aws, "first"))
    second = promote(aws, register(aws, "second"))
    third = roll_back(aws)
    for document in (first, second, third):
        jsonschema.validate(document, SCHEMA)


def test_a_promotion_remembers_what_it_replaces_and_a_rollback_brings_it_back_under_a_new_serial(aws):
    first, second = (promote(aws, register(aws, job)) for job in ("first", "second"))
    assert second["serial"] == 2
    assert second["previous"] == {k: first[k] for k in ("serial", "version", "bundle", "model_package_arn")}
    third = roll_back(aws)
    assert (third["serial"], third["version"], third["bundle"]) == (3, "1", first["bundle"])


@pytest.mark.parametrize("status", ["PendingManualApproval", "Rejected"])
def test_only_an_approved_package_is_promoted(aws, status):
    with pytest.raises(Fault, match=f"is {status}"):
        promote(aws, register(aws, "first", status))
    assert read(aws) is None


def test_a_bundle_that_was_changed_after_its_registration_is_refused(aws):
    arn = register(aws, "first")
    aws[0].put_object(Bucket=BUCKET, Key="models/first/bundle.json", Body=b"changed")
    with pytest.raises(Fault, match="somebody changed it"):
        promote(aws, arn)


def test_a_missing_bundle_and_a_package_of_another_origin_are_named(aws):
    arn = register(aws, "first", training_job="gone")
    with pytest.raises(Fault, match=r"models/gone/bundle\.json.*does not exist"):
        promote(aws, arn)
    foreign = aws[1].create_model_package(ModelPackageGroupName=GROUP, ModelApprovalStatus="Approved")
    with pytest.raises(Fault, match="not registered by the `retrain` DAG"):
        promote(aws, foreign["ModelPackageArn"])
    with pytest.raises(Fault, match="not in the registry"):
        promote(aws, arn[:-1] + "99")


def test_the_model_that_answers_already_is_not_promoted_again(aws):
    arn = register(aws, "first")
    promote(aws, arn)
    with pytest.raises(Fault, match=r"answers already \(serial 1\)"):
        promote(aws, arn)


def test_whoever_loses_a_race_is_told_and_changes_nothing(aws, monkeypatch):
    promote(aws, register(aws, "first"))
    arns = {job: register(aws, job) for job in ("second", "third")}
    honest = PointerStore.read

    def slow(store):
        seen = honest(store)
        monkeypatch.setattr(PointerStore, "read", honest)
        promote(aws, arns["second"])
        return seen

    monkeypatch.setattr(PointerStore, "read", slow)
    with pytest.raises(Fault, match="moved by somebody else"):
        promote(aws, arns["third"])
    assert read(aws)["version"] == "2"


def test_without_a_model_before_it_there_is_nothing_to_roll_back_to(aws):
    with pytest.raises(Fault, match="no model answers"):
        roll_back(aws)
    promote(aws, register(aws, "first"))
    with pytest.raises(Fault, match="replaced no model"):
        roll_back(aws)


def test_a_rollback_names_no_model_to_fall_back_to_least_of_all_the_withdrawn_one(aws):
    for job in ("first", "second"):
        promote(aws, register(aws, job))
    assert roll_back(aws)["previous"] is None
    with pytest.raises(Fault, match="restored by a rollback"):
        roll_back(aws)


def test_the_serial_rises_even_after_the_pointer_was_deleted(aws):
    for job in ("first", "second"):
        promote(aws, register(aws, job))
    aws[0].delete_object(Bucket=BUCKET, Key=pointer.KEY)
    document = promote(aws, register(aws, "third"))
    assert (document["serial"], document["previous"]) == (3, None)
