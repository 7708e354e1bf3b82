"""Who may do what, decided on the rendered policies: needed actions are allowed, everything else is not."""

from __future__ import annotations

import pytest

A, R = "123456789012", "eu-central-1"
PLACES = {
    "datasets": f"arn:aws:s3:::cxr-datasets-{A}-{R}",
    "uploads": f"arn:aws:s3:::cxr-uploads-{A}-{R}",
    "results": f"arn:aws:s3:::cxr-results-{A}-{R}",
    "models": f"arn:aws:s3:::cxr-models-{A}-{R}",
    "access-logs": f"arn:aws:s3:::cxr-access-logs-{A}-{R}",
    "key": f"arn:aws:kms:{R}:{A}:key/<Key>",
    "uploads-queue": f"arn:aws:sqs:{R}:{A}:cxr-uploads",
    "uploads-dead": f"arn:aws:sqs:{R}:{A}:cxr-uploads-dead",
    "backlog-queue": f"arn:aws:sqs:{R}:{A}:cxr-backlog",
    "backlog-dead": f"arn:aws:sqs:{R}:{A}:cxr-backlog-dead",
    "topic": f"arn:aws:sns:{R}:{A}:cxr-alarms",
    "function": f"arn:aws:lambda:{R}:{A}:function:cxr-classify",
    "other-function": f"arn:aws:lambda:{R}:{A}:function:payroll",
    "log": f"arn:aws:logs:{R}:{A}:log-group:/aws/lambda/cxr-classify:log-stream:2026/11/22/[$LATEST]ab",
    "other-log": f"arn:aws:logs:{R}:{A}:log-group:/aws/lambda/payroll:log-stream:x",
    "job-logs": f"arn:aws:logs:{R}:{A}:log-group:/aws/sagemaker/TrainingJobs:log-stream:",
    "job-log": f"arn:aws:logs:{R}:{A}:log-group:/aws/sagemaker/TrainingJobs:log-stream:cxr-20261122-120000-ab/algo-1",
    "other-job-log": f"arn:aws:logs:{R}:{A}:log-group:/aws/sagemaker/TrainingJobs:log-stream:payroll/algo-1",
    "training-image": f"arn:aws:ecr:{R}:{A}:repository/cxr-training",
    "inference-image": f"arn:aws:ecr:{R}:{A}:repository/cxr-inference",
    "job": f"arn:aws:sagemaker:{R}:{A}:training-job/cxr-20261122-120000-abc123-01234567",
    "other-job": f"arn:aws:sagemaker:{R}:{A}:training-job/payroll",
    "group": f"arn:aws:sagemaker:{R}:{A}:model-package-group/cxr-pneumonia",
    "package": f"arn:aws:sagemaker:{R}:{A}:model-package/cxr-pneumonia/7",
    "other-package": f"arn:aws:sagemaker:{R}:{A}:model-package/payroll/1",
    "training-role": f"arn:aws:iam::{A}:role/cxr-training-{R}",
    "function-role": f"arn:aws:iam::{A}:role/cxr-function-{R}",
    "promote-role": f"arn:aws:iam::{A}:role/cxr-promote-{R}",
    "airflow-role": f"arn:aws:iam::{A}:role/cxr-airflow-{R}",
    "admin-role": f"arn:aws:iam::{A}:role/Admin",
    "nothing": "*",
}

ALLOWED = {
    "FunctionRole": """
        s3:GetObject uploads/ward/person1.jpeg
        s3:GetObject models/models/current.json
        s3:GetObject models/models/job/model.tflite
        s3:GetObjectVersion models/models/job/bundle.json
        s3:GetObject results/results/ward/person1.jpeg.json
        s3:GetObject results/manifests/run/part-1.json
        s3:ListBucket uploads
        s3:ListBucket models
        s3:ListBucket results
        s3:PutObject results/results/ward/person1.jpeg.json
        s3:PutObject results/heatmaps/ward/person1.jpeg/a-b.png
        kms:Decrypt key
        kms:GenerateDataKey key
        sqs:ReceiveMessage uploads-queue
        sqs:DeleteMessage backlog-queue
        sqs:GetQueueAttributes backlog-queue
        logs:CreateLogStream log
        logs:PutLogEvents log
    """,
    "TrainingRole": """
        s3:GetObject datasets/datasets/chest_xray/train/NORMAL/a.jpeg
        s3:GetObject datasets/weights/vgg16/vgg16_notop.weights.h5
        s3:GetObject models/models/job/model.tflite
        s3:ListBucket datasets
        s3:ListBucket models
        s3:PutObject models/training/cxr-20261122-120000/output/model.tar.gz
        s3:PutObject models/training/cxr-20261122-120000/checkpoints/head.json
        s3:GetObject models/training/cxr-20261122-120000/checkpoints/head.json
        s3:DeleteObject models/training/cxr-20261122-120000/checkpoints/head.json
        kms:Decrypt key
        kms:DescribeKey key
        kms:Encrypt key
        kms:GenerateDataKey key
        ecr:BatchGetImage training-image
        ecr:GetDownloadUrlForLayer training-image
        ecr:GetAuthorizationToken nothing
        logs:CreateLogStream job-log
        logs:PutLogEvents job-log
    """,
    "PromoteRole": """
        s3:PutObject models/models/current.json
        s3:GetObject models/models/current.json
        s3:GetObjectVersion models/models/current.json
        s3:DeleteObject models/models/current.json
        s3:GetObject models/models/job/bundle.json
        s3:GetObject models/models/job/metrics.json
        s3:GetObject models/models/job/predictions.csv
        s3:ListBucket models
        s3:ListBucketVersions models
        sagemaker:DescribeModelPackage package
        kms:Decrypt key
        kms:GenerateDataKey key
    """,
    "AirflowRole": """
        sagemaker:DescribeTrainingJob job
        ecr:BatchGetImage inference-image
        ecr:DescribeImages inference-image
        sagemaker:DescribeModelPackage package
        sagemaker:ListModelPackages package
        logs:DescribeLogStreams job-logs
        logs:GetLogEvents job-log
        s3:ListBucket datasets
        s3:ListBucket uploads
        s3:ListBucket results
        s3:ListBucket models
        s3:GetObject datasets/datasets/chest_xray/train/NORMAL/a.jpeg
        s3:GetObject uploads/ward/person1.jpeg
        s3:GetObject results/results/ward/person1.jpeg.json
        s3:GetObject models/training/job/output/model.tar.gz
        s3:GetObject models/models/current.json
        s3:GetObjectVersion models/models/current.json
        s3:ListBucketVersions models
        s3:PutObject datasets/datasets/current.json
        s3:PutObject datasets/datasets/corrected/train/NORMAL/a.jpeg
        s3:PutObject models/models/job/bundle.json
        s3:PutObject models/training/fingerprints/abc.json
        s3:PutObject results/manifests/run/part-1.json
        s3:PutObject results/reports/2026-11-22/worklist.html
        s3:PutObject uploads/_smoke/run/a.jpeg
        s3:DeleteObject uploads/_smoke/run/a.jpeg
        s3:DeleteObject results/results/_smoke/run/a.jpeg.json
        s3:DeleteObject results/heatmaps/_smoke/run/a.jpeg/a-b.png
        s3:DeleteObject results/manifests/run/part-1.json
        sts:AssumeRole promote-role
        lambda:InvokeFunction function
        sqs:SendMessage backlog-queue
        sqs:GetQueueAttributes backlog-queue
        sns:Publish topic
        kms:Decrypt key
        kms:GenerateDataKey key
    """,
}

DENIED = {
    "FunctionRole": """
        s3:PutObject models/models/current.json
        s3:PutObject models/models/job/model.tflite
        s3:PutObject uploads/ward/person1.jpeg
        s3:DeleteObject uploads/ward/person1.jpeg
        s3:DeleteObject results/results/ward/person1.jpeg.json
        s3:PutObject results/reports/worklist.html
        s3:PutObject results/manifests/run/part-1.json
        s3:GetObject results/reports/worklist.html
        s3:GetObject datasets/datasets/chest_xray/train/NORMAL/a.jpeg
        s3:GetObject models/training/job/output/model.tar.gz
        s3:GetObjectVersion uploads/ward/person1.jpeg
        s3:ListBucket datasets
        s3:GetObject access-logs/uploads/x
        sqs:SendMessage uploads-queue
        sqs:ReceiveMessage uploads-dead
        sqs:PurgeQueue uploads-queue
        sns:Publish topic
        kms:CreateGrant key
        kms:ScheduleKeyDeletion key
        logs:PutLogEvents other-log
        lambda:InvokeFunction function
        sagemaker:DescribeModelPackage package
        sts:AssumeRole promote-role
        iam:PassRole training-role
    """,
    "TrainingRole": """
        s3:GetObject uploads/ward/person1.jpeg
        s3:ListBucket uploads
        s3:GetObject results/results/ward/person1.jpeg.json
        s3:ListBucket results
        s3:PutObject models/models/current.json
        s3:PutObject models/models/job/bundle.json
        s3:PutObject datasets/datasets/chest_xray/train/NORMAL/a.jpeg
        s3:DeleteObject datasets/datasets/chest_xray/train/NORMAL/a.jpeg
        s3:DeleteObject models/models/job/bundle.json
        s3:PutObject models/training/fingerprints/abc.json
        s3:DeleteObject models/training/fingerprints/abc.json
        s3:DeleteObject models/training/cxr-20261122-120000/output/model.tar.gz
        kms:CreateGrant key
        ecr:BatchGetImage inference-image
        ecr:PutImage training-image
        cloudwatch:PutMetricData nothing
        sagemaker:CreateTrainingJob job
        sagemaker:UpdateModelPackage package
        sqs:SendMessage backlog-queue
        sts:AssumeRole promote-role
        iam:PassRole training-role
    """,
    "PromoteRole": """
        s3:PutObject models/models/job/bundle.json
        s3:PutObject models/training/job/output/model.tar.gz
        s3:DeleteObjectVersion models/models/current.json
        s3:GetObjectVersion models/models/job/bundle.json
        s3:DeleteObject models/models/job/bundle.json
        s3:GetObject uploads/ward/person1.jpeg
        s3:GetObject results/results/ward/person1.jpeg.json
        s3:PutObject results/results/ward/person1.jpeg.json
        sagemaker:UpdateModelPackage package
        sagemaker:DescribeModelPackage other-package
        sagemaker:CreateTrainingJob job
        lambda:InvokeFunction function
        iam:PassRole training-role
    """,
    "AirflowRole": """
        s3:PutObject models/models/current.json
        s3:DeleteObject models/models/current.json
        s3:DeleteObject models/models/job/bundle.json
        s3:PutObject models/training/cxr-20261122-120000/output/model.tar.gz
        s3:GetObjectVersion models/models/job/bundle.json
        s3:PutObject uploads/ward/person1.jpeg
        s3:DeleteObject uploads/ward/person1.jpeg
        s3:PutObject results/results/ward/person1.jpeg.json
        s3:DeleteObject results/results/ward/person1.jpeg.json
        s3:PutObject datasets/weights/vgg16/vgg16_notop.weights.h5
        s3:DeleteBucket models
        s3:PutBucketPolicy models
        sqs:SendMessage uploads-queue
        sqs:GetQueueAttributes uploads-queue
        sqs:ReceiveMessage backlog-queue
        sqs:PurgeQueue backlog-queue
        sagemaker:CreateTrainingJob job
        sagemaker:StopTrainingJob job
        sagemaker:AddTags job
        sagemaker:UpdateModelPackage package
        sagemaker:CreateModelPackage other-package
        sagemaker:DeleteModelPackage package
        sagemaker:ListTrainingJobs nothing
        ecr:BatchGetImage training-image
        ecr:PutImage inference-image
        ecr:GetDownloadUrlForLayer inference-image
        logs:GetLogEvents other-job-log
        logs:GetLogEvents log
        lambda:InvokeFunction other-function
        lambda:UpdateFunctionCode function
        iam:PassRole training-role
        iam:PassRole function-role
        iam:CreateRole admin-role
        sts:AssumeRole training-role
        sts:AssumeRole admin-role
        kms:CreateGrant key
        kms:ScheduleKeyDeletion key
    """,
}


def arn(place: str) -> str:
    name, slash, key = place.partition("/")
    return PLACES[name] + slash + key


def rows(table):
    return [(role, *line.split()) for role, text in table.items() for line in text.strip().splitlines()]


@pytest.mark.parametrize(("role", "action", "place"), rows(ALLOWED))
def test_a_role_may_do_its_work(iam, stacks, role, action, place):
    assert iam.may(stacks.role(role), action, arn(place))


@pytest.mark.parametrize(("role", "action", "place"), rows(DENIED))
def test_a_role_may_not_do_more(iam, stacks, role, action, place):
    assert not iam.may(stacks.role(role), action, arn(place))


@pytest.mark.parametrize("role", ALLOWED)
def test_nothing_works_without_tls(iam, stacks, role):
    for _, action, place in [
        row for row in rows(ALLOWED) if row[0] == role and row[1].split(":")[0] in ("s3", "sqs", "sns")
    ]:
        assert not iam.may(stacks.role(role), action, arn(place), aws__SecureTransport="false"), (action, place)


@pytest.mark.parametrize("action", ["s3:PutObject", "s3:DeleteObject", "s3:DeleteObjectVersion"])
def test_not_even_an_administrator_moves_the_pointer(stacks, evaluator, action):
    iam = evaluator(stacks)
    admin = PLACES["admin-role"]
    iam._identity[admin] = [{"Effect": "Allow", "Action": "*", "Resource": "*"}]
    assert iam.may(admin, action, arn("models/models/job/bundle.json"))
    assert not iam.may(admin, action, arn("models/models/current.json"))


def test_the_training_role_is_passed_to_sagemaker_and_to_no_other_service(iam, stacks):
    airflow = stacks.role("AirflowRole")
    for service, allowed in (
        ("sagemaker.amazonaws.com", True),
        ("lambda.amazonaws.com", False),
        ("ec2.amazonaws.com", False),
    ):
        assert iam.may(airflow, "iam:PassRole", PLACES["training-role"], iam__PassedToService=service) is allowed
    assert not iam.may(airflow, "iam:PassRole", PLACES["training-role"]), "the request does not say to whom"


JOB = {
    "aws__RequestTag/project": "cxr",
    "sagemaker__InstanceTypes": "ml.g5.xlarge",
    "sagemaker__MaxRuntimeInSeconds": "3600",
    "sagemaker__NetworkIsolation": "false",
}


@pytest.mark.parametrize(
    ("settings", "changes", "allowed"),
    [
        ({}, {}, True),
        ({}, {"sagemaker__MaxRuntimeInSeconds": "432001"}, False),
        ({}, {"sagemaker__InstanceTypes": "ml.p5.48xlarge"}, False),
        ({}, {"sagemaker__InstanceTypes": "ml.g5.xlarge,ml.p5.48xlarge"}, False),
        ({"training_instances": "ml.p5.*"}, {"sagemaker__InstanceTypes": "ml.p5.48xlarge"}, True),
        ({}, {"aws__RequestTag/project": "payroll"}, False),
        ({"training_network": "isolated"}, {}, False),
        ({"training_network": "isolated"}, {"sagemaker__NetworkIsolation": "true"}, True),
    ],
)
def test_a_training_job_starts_within_bounds_only(render_with, evaluator, settings, changes, allowed):
    stacks = render_with(**settings)
    may = evaluator(stacks).may
    airflow, create = stacks.role("AirflowRole"), "sagemaker:CreateTrainingJob"
    assert may(airflow, create, PLACES["job"], **JOB | changes) is allowed
    assert not may(airflow, create, PLACES["other-job"], **JOB | changes)
    for name in ("aws__RequestTag/project", "sagemaker__InstanceTypes", "sagemaker__MaxRuntimeInSeconds"):
        assert not may(airflow, create, PLACES["job"], **{k: v for k, v in (JOB | changes).items() if k != name})


def test_two_projects_of_an_account_cannot_touch_each_other_s_jobs_and_logs(render_with, evaluator):
    """Not even where one's name begins as the other's."""
    jobs = {project: f"{project}-20261122-120000-abc123-01234567" for project in ("cxr", "cxr-b", "ward")}
    log = f"arn:aws:logs:{R}:{A}:log-group:/aws/sagemaker/TrainingJobs:log-stream:"
    for project in jobs:
        stacks = render_with(project=project)
        may, airflow, training = evaluator(stacks).may, stacks.role("AirflowRole"), stacks.role("TrainingRole")
        for owner, job in jobs.items():
            own, arn = owner == project, f"arn:aws:sagemaker:{R}:{A}:training-job/{job}"
            tag = {"aws__ResourceTag/project": owner}
            assert may(airflow, "sagemaker:StopTrainingJob", arn, **tag) is own
            assert may(airflow, "sagemaker:DescribeTrainingJob", arn, **tag) is own
            assert may(airflow, "sagemaker:CreateTrainingJob", arn, **JOB | {"aws__RequestTag/project": project}) is own
            assert may(airflow, "logs:GetLogEvents", f"{log}{job}/algo-1") is own
            assert may(training, "logs:PutLogEvents", f"{log}{job}/algo-1") is own
        assert not may(airflow, "sagemaker:AddTags", f"arn:aws:sagemaker:{R}:{A}:training-job/{jobs[project]}")


@pytest.mark.parametrize("action", ["sagemaker:CreateModelPackage", "sagemaker:UpdateModelPackage"])
def test_who_trains_cannot_approve_where_approval_is_manual(render_with, evaluator, action):
    for approval, status, allowed in (
        ("automatic", "Approved", True),
        ("manual", "Approved", False),
        ("manual", "Rejected", True),
        ("manual", "PendingManualApproval", True),
    ):
        stacks = render_with(model_approval=approval)
        said = {"sagemaker__ModelApprovalStatus": status}
        assert evaluator(stacks).may(stacks.role("AirflowRole"), action, PLACES["package"], **said) is allowed
        assert not evaluator(stacks).may(stacks.role("AirflowRole"), action, PLACES["package"]), "no status is said"


@pytest.mark.parametrize("role", ["TrainingRole", "AirflowRole"])
def test_the_key_is_lent_to_aws_resources_only(iam, stacks, role):
    key = PLACES["key"]
    assert iam.may(stacks.role(role), "kms:CreateGrant", key, kms__GrantIsForAWSResource="true")
    assert not iam.may(stacks.role(role), "kms:CreateGrant", key, kms__GrantIsForAWSResource="false")


def test_the_training_role_publishes_metrics_in_its_namespace_only(iam, stacks):
    training = stacks.role("TrainingRole")
    assert iam.may(training, "cloudwatch:PutMetricData", "*", cloudwatch__namespace="/aws/sagemaker/TrainingJobs")
    assert not iam.may(training, "cloudwatch:PutMetricData", "*", cloudwatch__namespace="payroll")


@pytest.mark.parametrize(
    ("service", "action", "place", "source", "allowed"),
    [
        ("s3.amazonaws.com", "sqs:SendMessage", "uploads-queue", PLACES["uploads"], True),
        ("s3.amazonaws.com", "sqs:SendMessage", "uploads-queue", "arn:aws:s3:::payroll", False),
        ("s3.amazonaws.com", "sqs:SendMessage", "backlog-queue", PLACES["uploads"], False),
        ("s3.amazonaws.com", "kms:GenerateDataKey", "key", PLACES["uploads"], True),
        ("s3.amazonaws.com", "kms:GenerateDataKey", "key", "arn:aws:s3:::payroll", False),
        ("cloudwatch.amazonaws.com", "sns:Publish", "topic", f"arn:aws:cloudwatch:{R}:{A}:alarm:cxr-uploads-age", True),
        (
            "cloudwatch.amazonaws.com",
            "kms:GenerateDataKey",
            "key",
            f"arn:aws:cloudwatch:{R}:{A}:alarm:cxr-uploads-age",
            True,
        ),
        ("cloudwatch.amazonaws.com", "sns:Publish", "topic", f"arn:aws:cloudwatch:{R}:{A}:alarm:payroll", False),
        ("logging.s3.amazonaws.com", "s3:PutObject", "access-logs/uploads/x", PLACES["uploads"], True),
        ("logging.s3.amazonaws.com", "s3:PutObject", "access-logs/uploads/x", "arn:aws:s3:::payroll", False),
        ("logging.s3.amazonaws.com", "s3:PutObject", "results/results/x.json", PLACES["uploads"], False),
    ],
)
def test_a_service_delivers_from_our_own_resources_only(iam, service, action, place, source, allowed):
    here = {"aws__SourceAccount": A, "aws__SourceArn": source}
    assert iam.may(service, action, arn(place), **here) is allowed
    assert not iam.may(service, action, arn(place), **here | {"aws__SourceAccount": "999999999999"})
    assert not iam.may(service, action, arn(place)), "no source named"


KIND, KEY_ID = "s3__x-amz-server-side-encryption", "s3__x-amz-server-side-encryption-aws-kms-key-id"
WRITERS_KEY = "s3__x-amz-server-side-encryption-customer-algorithm"
OURS, THEIRS = PLACES["key"], "arn:aws:kms:x:999999999999:key/theirs"


@pytest.mark.parametrize("bucket", ["datasets", "uploads", "results", "models"])
@pytest.mark.parametrize(
    ("named", "allowed"),
    [
        ({}, True),
        ({KIND: "aws:kms", KEY_ID: OURS}, True),
        ({KIND: "aws:kms", KEY_ID: THEIRS}, False),
        ({KIND: "aws:kms"}, False),
        ({KIND: "aws:kms:dsse"}, False),
        ({KIND: "AES256"}, False),
        ({WRITERS_KEY: "AES256"}, False),
    ],
)
def test_an_object_is_written_under_our_key_or_not_at_all(stacks, evaluator, bucket, named, allowed):
    iam = evaluator(stacks)
    writer = PLACES["admin-role"]
    iam._identity[writer] = [{"Effect": "Allow", "Action": "s3:PutObject", "Resource": "*"}]
    assert iam.may(writer, "s3:PutObject", arn(f"{bucket}/some/object"), **named) is allowed


def test_only_sagemaker_and_lambda_take_their_roles(iam):
    here = {"aws__SourceAccount": A}
    assert iam.may("sagemaker.amazonaws.com", "sts:AssumeRole", PLACES["training-role"], **here)
    assert not iam.may(
        "sagemaker.amazonaws.com", "sts:AssumeRole", PLACES["training-role"], aws__SourceAccount="999999999999"
    )
    assert iam.may("lambda.amazonaws.com", "sts:AssumeRole", PLACES["function-role"])
    assert not iam.may("lambda.amazonaws.com", "sts:AssumeRole", PLACES["promote-role"])
    assert not iam.may(PLACES["admin-role"], "sts:AssumeRole", PLACES["promote-role"])
    assert not iam.may(PLACES["function-role"], "sts:AssumeRole", PLACES["promote-role"])


def test_a_person_promotes_only_if_the_configuration_names_them(render_with, evaluator):
    operator = f"arn:aws:iam::{A}:role/radiology/lead"
    iam = evaluator(render_with(operator_principal_arn=operator))
    assert iam.may(operator, "sts:AssumeRole", PLACES["promote-role"])
    assert iam.may(PLACES["airflow-role"], "sts:AssumeRole", PLACES["promote-role"])
    assert not iam.may(PLACES["admin-role"], "sts:AssumeRole", PLACES["promote-role"])


WORKER = f"arn:aws:iam::{A}:role/airflow-worker"


def test_airflow_runs_as_the_identity_that_the_configuration_names_and_as_no_other(render_with, evaluator):
    iam = evaluator(render_with(airflow_principal_arn=WORKER))
    assert iam.may(WORKER, "sts:AssumeRole", PLACES["airflow-role"])
    iam._identity[PLACES["admin-role"]] = [{"Effect": "Allow", "Action": "*", "Resource": "*"}]
    assert not iam.may(PLACES["admin-role"], "sts:AssumeRole", PLACES["airflow-role"])


def test_where_none_is_named_airflow_is_who_may_assume_this_very_role_by_its_own_policy(stacks, evaluator):
    iam = evaluator(stacks)
    assert not iam.may(WORKER, "sts:AssumeRole", PLACES["airflow-role"])
    iam._identity[WORKER] = [{"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": PLACES["airflow-role"]}]
    assert iam.may(WORKER, "sts:AssumeRole", PLACES["airflow-role"])
    assert not iam.may(WORKER, "sts:AssumeRole", PLACES["promote-role"]), "its trust names the Airflow role alone"
    for service in ("airflow.amazonaws.com", "airflow-env.amazonaws.com", "lambda.amazonaws.com"):
        assert not iam.may(service, "sts:AssumeRole", PLACES["airflow-role"], aws__SourceAccount=A)


def test_no_role_of_the_stacks_becomes_airflow(iam, stacks):
    for role in ALLOWED:
        assert not iam.may(stacks.role(role), "sts:AssumeRole", PLACES["airflow-role"]), role


# ---------------------------------------------------------------- the evaluator itself


@pytest.mark.parametrize(
    ("condition", "context", "expected"),
    [
        ({"StringEquals": {"k": "a"}}, {"k": "a"}, True),
        ({"StringEquals": {"k": ["a", "b"]}}, {"k": "b"}, True),
        ({"StringEquals": {"k": "a"}}, {}, False),
        ({"StringNotEquals": {"k": "a"}}, {}, True),
        ({"StringNotEquals": {"k": "a"}}, {"k": "a"}, False),
        ({"StringNotEquals": {"k": ["a", "b"]}}, {"k": "c"}, True),
        ({"StringEqualsIfExists": {"k": "a"}}, {}, True),
        ({"ArnNotEquals": {"k": "arn:x"}}, {}, True),
        ({"ArnLike": {"k": "arn:*:x"}}, {"k": "arn:aws:x"}, True),
        ({"Bool": {"k": "false"}}, {"k": "true"}, False),
        ({"Bool": {"k": "false"}}, {}, False),
        ({"Null": {"k": "false"}}, {}, False),
        ({"Null": {"k": "true"}}, {}, True),
        ({"Null": {"k": "false"}, "StringNotEquals": {"k": "a"}}, {}, False),
    ],
)
def test_conditions_follow_awss_rules_for_missing_keys(holds, condition, context, expected):
    assert holds(condition, context) is expected
