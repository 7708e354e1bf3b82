"""The templates as data: one claim for each rule of the AwsSolutions, HIPAA and checkov packs that applies.

A resource that does not follow a rule must be waived, with a reason, in its template's Metadata; a waiver that waives
nothing is an error.
"""

from __future__ import annotations

import json
import re

import pytest
from cfnlint.api import lint_file

from infra import template
from infra.config import Config


def encrypted_with_our_key(bucket, stacks):
    (rule,) = bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    wanted = {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": stacks.base.arn("Key")}
    return rule["ServerSideEncryptionByDefault"] == wanted and rule.get("BucketKeyEnabled") is True


# Rules that may be waived: the type of resource that they speak of, and whether one follows.
RULES = {
    "AwsSolutions-S1": ("AWS::S3::Bucket", lambda bucket, _: "LoggingConfiguration" in bucket),
    "HIPAA.Security-S3DefaultEncryptionKMS": ("AWS::S3::Bucket", encrypted_with_our_key),
    "HIPAA.Security-S3BucketReplicationEnabled": ("AWS::S3::Bucket", lambda bucket, _: "Replication" in str(bucket)),
    "HIPAA.Security-LambdaInsideVPC": ("AWS::Lambda::Function", lambda function, _: "VpcConfig" in function),
    "HIPAA.Security-LambdaDLQ": ("AWS::Lambda::Function", lambda function, _: "DeadLetterConfig" in function),
    "HIPAA.Security-IAMNoInlinePolicy": ("AWS::IAM::Role", lambda role, _: not role.get("Policies")),
    "AwsSolutions-IAM5": ("AWS::IAM::Role", lambda role, _: "*" not in json.dumps(role["Policies"])),
}


def offenders(rule, stacks):
    """Names of the resources that do not follow a rule."""
    kind, follows = RULES[rule]
    return {name for name, properties in stacks.of_type(kind).items() if not follows(properties, stacks)}


def waivers(rule=None):
    both = [w for path in (template.BASE, template.SERVICE) for w in template.load(path)["Metadata"]["Waivers"]]
    return [w for w in both if rule in (None, w["Rule"])]


@pytest.mark.parametrize("rule", RULES)
def test_whatever_does_not_follow_a_rule_is_waived_and_nothing_else_is(stacks, rule):
    assert offenders(rule, stacks) == {name for w in waivers(rule) for name in w["Resources"]}


def test_every_waiver_is_of_a_rule_that_is_tested_and_has_a_reason():
    assert {w["Rule"] for w in waivers()} <= set(RULES)
    assert all(len(w["Reason"].split()) > 8 for w in waivers())


def statements(policy):
    return policy["PolicyDocument"]["Statement"]


def refuses_plain_http(policy, action):
    return any(
        s["Effect"] == "Deny" and s["Principal"] == "*" and s["Action"] == action
        and s["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
        for s in statements(policy)
    )  # fmt: skip


@pytest.fixture(scope="module")
def buckets(stacks):
    return stacks.of_type("AWS::S3::Bucket")


@pytest.fixture(scope="module")
def queues(stacks):
    return stacks.of_type("AWS::SQS::Queue")


@pytest.fixture(scope="module")
def function(stacks):
    return stacks.of_type("AWS::Lambda::Function")["Function"]


# ---------------------------------------------------------------- buckets


def test_no_bucket_can_be_public(buckets):
    """AwsSolutions-S2, checkov CKV_AWS_53 to 56."""
    for name, bucket in buckets.items():
        doors = ("BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls", "RestrictPublicBuckets")
        shut = bucket["PublicAccessBlockConfiguration"]
        assert set(shut) == set(doors) and all(shut[door] is True for door in doors), (name, shut)
        assert bucket["OwnershipControls"] == {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]}, name


def test_every_bucket_keeps_versions(buckets):
    """HIPAA.Security-S3BucketVersioningEnabled, CKV_AWS_21."""
    assert [n for n, b in buckets.items() if b["VersioningConfiguration"] != {"Status": "Enabled"}] == []


def test_every_bucket_is_encrypted(buckets):
    """CKV_AWS_19; with which key: HIPAA.Security-S3DefaultEncryptionKMS above."""
    assert all("BucketEncryption" in bucket for bucket in buckets.values())


def test_the_access_logs_of_two_buckets_do_not_mix(buckets):
    """CKV_AWS_18; that there are any: AwsSolutions-S1 above."""
    prefixes = [b["LoggingConfiguration"]["LogFilePrefix"] for b in buckets.values() if "LoggingConfiguration" in b]
    assert len(prefixes) == len(set(prefixes)) == 4


def test_every_bucket_refuses_plain_http(buckets, stacks):
    """AwsSolutions-S10, HIPAA.Security-S3BucketSSLRequestsOnly."""
    guarded = {p["Bucket"] for p in stacks.of_type("AWS::S3::BucketPolicy").values() if refuses_plain_http(p, "s3:*")}
    assert guarded == {bucket["BucketName"] for bucket in buckets.values()}


def test_a_bucket_outlives_its_stack(stacks):
    """Neither deletion nor replacement takes films, models or the key along; a failed creation leaves nothing."""
    kept = ("AWS::S3::Bucket", "AWS::KMS::Key", "AWS::ECR::Repository", "AWS::SageMaker::ModelPackageGroup")
    kept += ("AWS::Logs::LogGroup",)
    for name, resource in stacks.base.resources.items():
        policies = (resource.get("DeletionPolicy"), resource.get("UpdateReplacePolicy"))
        assert policies == (("RetainExceptOnCreate", "Retain") if resource["Type"] in kept else (None, None)), name


def rules(bucket):
    return {rule["Id"]: rule for rule in bucket["LifecycleConfiguration"]["Rules"]}


def test_films_and_results_expire_when_the_configuration_says_so(render_with):
    stacks = render_with(uploads_expiration_days=30, results_expiration_days=90)
    uploads = rules(stacks.of_type("AWS::S3::Bucket")["UploadsBucket"])
    results = rules(stacks.of_type("AWS::S3::Bucket")["ResultsBucket"])
    assert (uploads["uploads-expire"]["Status"], uploads["uploads-expire"]["ExpirationInDays"]) == ("Enabled", "30")
    for kind in ("results", "heatmaps", "reports"):
        rule = results[f"{kind}-expire"]
        assert (rule["Status"], rule["Prefix"], rule["ExpirationInDays"]) == ("Enabled", f"{kind}/", "90")


def test_zero_days_keep_films_and_results(render_with):
    stacks = render_with(uploads_expiration_days=0, results_expiration_days=0)
    buckets = stacks.of_type("AWS::S3::Bucket")
    assert rules(buckets["UploadsBucket"])["uploads-expire"]["Status"] == "Disabled"
    results = rules(buckets["ResultsBucket"])
    assert {results[f"{kind}-expire"]["Status"] for kind in ("results", "heatmaps", "reports")} == {"Disabled"}


def test_smoke_test_films_and_unfinished_uploads_do_not_pile_up(buckets):
    assert rules(buckets["UploadsBucket"])["smoke-test-films-go"]["Prefix"] == "_smoke/"
    for name, bucket in buckets.items():
        assert any("AbortIncompleteMultipartUpload" in rule for rule in rules(bucket).values()), name


def test_versions_of_models_and_of_the_pointer_are_never_deleted(buckets):
    for rule in rules(buckets["ModelsBucket"]).values():
        assert not {"ExpirationInDays", "NoncurrentVersionExpiration"} & set(rule)


def test_every_upload_is_announced_to_the_uploads_queue_and_no_result_is(buckets, stacks):
    """A notification on results would make a loop."""
    announced = {n: b["NotificationConfiguration"] for n, b in buckets.items() if "NotificationConfiguration" in b}
    queue = stacks.base.arn("UploadsQueue")
    assert announced == {"UploadsBucket": {"QueueConfigurations": [{"Event": "s3:ObjectCreated:*", "Queue": queue}]}}


def test_a_bucket_is_made_after_the_policies_that_let_it_announce_and_log(stacks):
    """S3 tests its right to send when the notification is set."""
    buckets = {n: r for n, r in stacks.base.resources.items() if r["Type"] == "AWS::S3::Bucket"}
    after = {name: resource.get("DependsOn") for name, resource in buckets.items()}
    logged = "AccessLogsBucketPolicy"
    assert after == {
        "AccessLogsBucket": None,
        "DatasetsBucket": logged,
        "UploadsBucket": ["UploadsQueuePolicy", logged],
        "ResultsBucket": logged,
        "ModelsBucket": logged,
    }


# ---------------------------------------------------------------- queues and topic


def test_every_queue_is_encrypted_with_the_project_s_key(queues, stacks):
    """AwsSolutions-SQS2, CKV_AWS_27."""
    assert {queue["KmsMasterKeyId"] for queue in queues.values()} == {stacks.base.arn("Key")}


def test_every_queue_has_a_dead_letter_queue_that_takes_letters_from_it_alone(queues, stacks):
    """AwsSolutions-SQS3."""
    for name in ("UploadsQueue", "BacklogQueue"):
        dead = name.replace("Queue", "DeadLetterQueue")
        assert queues[name]["RedrivePolicy"]["deadLetterTargetArn"] == stacks.base.arn(dead)
        allowed = queues[dead]["RedriveAllowPolicy"]
        assert allowed == {"redrivePermission": "byQueue", "sourceQueueArns": [stacks.base.arn(name)]}
    assert {n for n, q in queues.items() if "RedrivePolicy" in q} == {"UploadsQueue", "BacklogQueue"}
    assert len(queues) == 4


def test_every_queue_refuses_plain_http_and_no_policy_lets_everybody_in(queues, stacks):
    """AwsSolutions-SQS4, cfn-guard sqs_queuepolicy_no_wildcard_principal."""
    policies = stacks.of_type("AWS::SQS::QueuePolicy")
    guarded = [url for p in policies.values() if refuses_plain_http(p, "sqs:*") for url in p["Queues"]]
    assert len(guarded) == len(set(guarded)) == len(queues)
    for policy in policies.values():
        assert not [s for s in statements(policy) if s["Effect"] == "Allow" and s["Principal"] == "*"]


def test_a_message_stays_invisible_six_times_as_long_as_the_function_may_run(queues, function):
    for name, queue in queues.items():
        assert int(queue["VisibilityTimeout"]) >= 6 * int(function["Timeout"]), name


def test_a_message_is_tried_five_times(queues):
    assert {int(q["RedrivePolicy"]["maxReceiveCount"]) for q in queues.values() if "RedrivePolicy" in q} == {5}


def test_a_message_outlives_all_its_tries_and_a_dead_letter_outlives_the_message(queues):
    for name in ("UploadsQueue", "BacklogQueue"):
        queue = queues[name]
        tried = int(queue["RedrivePolicy"]["maxReceiveCount"]) * int(queue["VisibilityTimeout"])
        dead = queues[name.replace("Queue", "DeadLetterQueue")]["MessageRetentionPeriod"]
        assert tried < queue["MessageRetentionPeriod"] < dead == 14 * 24 * 3600, name


def test_the_topic_is_encrypted_and_refuses_plain_http(stacks):
    """HIPAA.Security-SNSEncryptedKMS, AwsSolutions-SNS3."""
    assert stacks.of_type("AWS::SNS::Topic")["AlarmTopic"]["KmsMasterKeyId"] == stacks.base.arn("Key")
    assert refuses_plain_http(stacks.of_type("AWS::SNS::TopicPolicy")["AlarmTopicPolicy"], "sns:Publish")


def test_an_address_is_subscribed_only_if_there_is_one(render_with):
    without = render_with().of_type("AWS::SNS::Topic")["AlarmTopic"]
    assert "Subscription" not in without
    with_one = render_with(alarm_email="duty@example.org").of_type("AWS::SNS::Topic")["AlarmTopic"]
    assert with_one["Subscription"] == [{"Protocol": "email", "Endpoint": "duty@example.org"}]


def test_the_key_rotates_and_can_be_saved_for_a_month(stacks):
    """AwsSolutions-KMS5."""
    key = stacks.of_type("AWS::KMS::Key")["Key"]
    assert key["EnableKeyRotation"] is True
    assert key["PendingWindowInDays"] == 30


# ---------------------------------------------------------------- the function


def test_the_function_s_concurrency_is_reserved_for_all_that_calls_it(stacks, function):
    """HIPAA.Security-LambdaConcurrency, CKV_AWS_115. Less, and messages are throttled into the dead-letter queue."""
    sources = stacks.of_type("AWS::Lambda::EventSourceMapping").values()
    mapped = sum(int(source["ScalingConfig"]["MaximumConcurrency"]) for source in sources)
    assert int(function["ReservedConcurrentExecutions"]) >= mapped + Config().direct_concurrency
    assert Config().direct_concurrency > 0


def test_every_source_reports_single_failures_and_is_capped(stacks):
    sources = stacks.of_type("AWS::Lambda::EventSourceMapping")
    fed_by = {name: s["EventSourceArn"] for name, s in sources.items()}
    assert fed_by == {
        "UploadsEventSource": stacks.base.arn("UploadsQueue"),
        "BacklogEventSource": stacks.base.arn("BacklogQueue"),
    }
    for name, source in sources.items():
        assert source["FunctionResponseTypes"] == ["ReportBatchItemFailures"], name
        assert int(source["ScalingConfig"]["MaximumConcurrency"]) >= 2, name
        assert int(source["BatchSize"]) <= 10, name


def test_the_function_is_the_container_with_its_environment_encrypted(stacks, function):
    """CKV_AWS_173. x86: arm64 Lambda hides the CPU's features and LiteRT then drops its fast kernels."""
    assert function["PackageType"] == "Image"
    assert function["Architectures"] == ["x86_64"]
    assert function["KmsKeyArn"] == stacks.base.arn("Key")
    assert function["Role"] == stacks.role("FunctionRole")


def test_the_function_s_environment_is_what_its_code_reads(stacks, function):
    from inference_lambda.config import Config as FunctionConfig

    read = FunctionConfig.from_environment(function["Environment"]["Variables"])
    names = {n: b["BucketName"] for n, b in stacks.of_type("AWS::S3::Bucket").items()}
    assert (read.uploads_bucket, read.results_bucket, read.models_bucket) == (
        names["UploadsBucket"], names["ResultsBucket"], names["ModelsBucket"])  # fmt: skip
    assert (read.pointer_key, read.heatmaps) == ("models/current.json", "positive")
    assert len(function["Environment"]["Variables"]) == 5


def test_the_log_is_encrypted_kept_for_a_time_and_the_one_that_the_function_writes(stacks, function):
    """HIPAA.Security-CloudWatchLogGroupEncrypted, CKV_AWS_158 and 338."""
    group = stacks.of_type("AWS::Logs::LogGroup")["FunctionLogGroup"]
    assert group["KmsKeyId"] == stacks.base.arn("Key")
    assert int(group["RetentionInDays"]) >= 365
    assert function["LoggingConfig"]["LogGroup"] == group["LogGroupName"] == f"/aws/lambda/{function['FunctionName']}"


def test_nobody_outside_may_call_the_function(stacks):
    """HIPAA.Security-LambdaFunctionPublicAccessProhibited."""
    assert stacks.of_type("AWS::Lambda::Permission") == {}


# ---------------------------------------------------------------- roles and repositories


def test_no_role_has_a_policy_that_somebody_else_maintains(stacks):
    """AwsSolutions-IAM4."""
    assert [n for n, r in stacks.of_type("AWS::IAM::Role").items() if r.get("ManagedPolicyArns")] == []


def test_images_are_scanned_encrypted_and_a_tag_never_moves(stacks):
    """CKV_AWS_163, 136 and 51."""
    for name, repository in stacks.of_type("AWS::ECR::Repository").items():
        assert repository["ImageScanningConfiguration"] == {"ScanOnPush": True}, name
        assert repository["EncryptionConfiguration"] == {"EncryptionType": "KMS", "KmsKey": stacks.base.arn("Key")}, (
            name
        )
        assert repository["ImageTagMutability"] == "IMMUTABLE", name


def test_an_image_with_a_tag_never_expires(stacks):
    """A stack pinned to an old image, a rollback and a model's record in the registry all name one."""
    for name, repository in stacks.of_type("AWS::ECR::Repository").items():
        policy = json.loads(repository["LifecyclePolicy"]["LifecyclePolicyText"])
        assert [rule["selection"]["tagStatus"] for rule in policy["rules"]] == ["untagged"], name


def test_lambda_alone_pulls_the_function_s_image_from_outside(stacks):
    """cfn-guard lambda_no_wildcard_principal."""
    repositories = stacks.of_type("AWS::ECR::Repository")
    (statement,) = repositories["InferenceRepository"]["RepositoryPolicyText"]["Statement"]
    assert statement["Principal"] == {"Service": "lambda.amazonaws.com"}
    assert statement["Condition"] == {
        "ArnLike": {"aws:SourceArn": "arn:aws:lambda:eu-central-1:123456789012:function:cxr-*"}
    }
    assert "RepositoryPolicyText" not in repositories["TrainingRepository"]


# ---------------------------------------------------------------- both templates


@pytest.mark.parametrize("path", [template.BASE, template.SERVICE], ids=lambda path: path.name)
def test_cfn_lint_finds_nothing(path):
    assert [str(match) for match in lint_file(path)] == []


def test_cloudformation_takes_the_templates_inline():
    """A body above 51,200 bytes would have to lie in S3 first."""
    assert max(path.stat().st_size for path in (template.BASE, template.SERVICE)) <= 51_200


def test_no_account_region_or_partition_is_written_down():
    for path in (template.BASE, template.SERVICE):
        text = path.read_text()
        assert not re.search(r"\b\d{12}\b|\b(us|eu|ap)-[a-z]+-\d\b|arn:aws", text), path


def test_the_service_stack_takes_from_the_base_stack_what_that_gives(stacks):
    base = template.load(template.BASE)["Outputs"]
    taken = set(template.load(template.SERVICE)["Parameters"]) & set(base)
    from infra.stacks import FROM_BASE

    assert taken - {"Project"} == set(FROM_BASE), "the configuration gives the project to both"


def test_the_outputs_are_those_that_the_other_parts_read(stacks):
    base = {"Project", "DatasetsBucket", "UploadsBucket", "ResultsBucket", "ModelsBucket"}
    base |= {"UploadsQueueUrl", "UploadsQueueArn", "UploadsDeadLetterQueueUrl"}
    base |= {"BacklogQueueUrl", "BacklogQueueArn", "BacklogDeadLetterQueueUrl"}
    base |= {"KeyArn", "TrainingRoleArn", "FunctionRoleArn", "PromoteRoleArn", "AirflowRoleArn"}
    base |= {"ModelPackageGroupName", "TrainingRepositoryUri", "InferenceRepositoryUri", "AlarmTopicArn"}
    assert set(stacks.base.outputs) == base
    assert {"FunctionName", "FunctionArn"} <= set(stacks.service.outputs)
    assert stacks.service.outputs["FunctionName"] == "cxr-classify"
    assert stacks.base.outputs["ModelPackageGroupName"] == "cxr-pneumonia"


def test_every_name_begins_with_the_project(render_with):
    for stack in (render_with(project="lung").base, render_with(project="lung").service):
        named = {name: stack.name(name) for name in stack.resources}
        given = {name: text for name, text in named.items() if not text.startswith("<")}
        assert given and all("lung-" in text or text == "alias/lung" for text in given.values()), given
