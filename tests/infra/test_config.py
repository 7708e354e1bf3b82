"""Every setting is checked before the first call, and a wrong one is named with its bounds."""

from __future__ import annotations

import dataclasses
import re
import tomllib

import pytest

from infra import template
from infra.config import LOG_RETENTION_DAYS, QUEUE_RETENTION, Config, ConfigError, as_toml, load, pascal


def test_the_printed_file_reads_back_as_the_defaults(tmp_path):
    file = tmp_path / "infra.toml"
    file.write_text(as_toml(Config()))
    assert load(file) == Config()


def test_any_text_survives_the_printed_file(tmp_path):
    file, config = tmp_path / "infra.toml", Config(profile='the "ward\\é"')
    file.write_text(as_toml(config))
    assert load(file) == config


def test_the_default_of_a_setting_is_told_beside_another_value():
    assert "Default: 1769.\nmemory_size = 3008\n" in as_toml(Config(memory_size=3008))


@pytest.mark.parametrize("end", ["@sha256:" + "a" * 64, ":local", ":5f3c9e0d1b2a4c6e"])
def test_an_image_is_named_by_digest_or_by_tag(end):
    image = f"123456789012.dkr.ecr.eu-central-1.amazonaws.com/cxr-inference{end}"
    assert Config(inference_image=image).inference_image == image


def test_every_setting_is_explained_in_the_printed_file():
    printed = as_toml(Config())
    for setting in dataclasses.fields(Config):
        assert re.search(rf"# {re.escape(setting.metadata['text'])}.* Default: .+\.\n{setting.name} = ", printed)
    assert set(tomllib.loads(printed)) == {setting.name for setting in dataclasses.fields(Config)}


@pytest.mark.parametrize(
    ("setting", "value", "says"),
    [
        ("project", "Hospital", "does not fit"),
        ("project", "a-name-far-too-long-for-a-bucket", "does not fit"),
        ("memory_size", 128, "outside 512 to 10240"),
        ("memory_size", "1769", "not a whole number"),
        ("memory_size", True, "not a whole number"),
        ("uploads_concurrency", 1, "outside 2 to 1000"),
        ("log_retention_days", 42, "none of 1, 3, 5"),
        ("alarm_email", "nobody", "does not fit"),
        ("operator_principal_arn", "arn:aws:iam::123456789012:root", "does not fit"),
        ("endpoint_url", "127.0.0.1:5000", "does not fit"),
        ("inference_image", "cxr-inference:1", "does not fit"),
        ("training_image", "registry.example/cxr-training", "does not fit"),
        ("training_image", "registry.example/cxr-training@sha256:abc", "does not fit"),
        ("visibility_timeout", 600, "below 720, six times function_timeout"),
        ("results_expiration_days", 30, "deletes results before their uploads"),
    ],
)
def test_a_wrong_setting_is_named_with_its_bound(setting, value, says):
    with pytest.raises(ConfigError, match=says) as caught:
        Config(**{setting: value})
    assert setting in str(caught.value)


def test_all_faults_are_told_at_once():
    with pytest.raises(ConfigError) as caught:
        Config(project="X", memory_size=1)
    assert "project" in str(caught.value) and "memory_size" in str(caught.value)


def test_an_unknown_setting_is_refused_by_name(tmp_path):
    file = tmp_path / "infra.toml"
    file.write_text("memorysize = 2048\n")
    with pytest.raises(ConfigError, match="no setting is called memorysize"):
        load(file)


def test_a_missing_or_broken_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match="no such file"):
        load(tmp_path / "none.toml")
    broken = tmp_path / "broken.toml"
    broken.write_text("memory_size = = 3")
    with pytest.raises(ConfigError, match="is not TOML"):
        load(broken)


def test_an_option_of_the_command_beats_the_file(tmp_path):
    file = tmp_path / "infra.toml"
    file.write_text('project = "lung"\nregion = "eu-west-1"\n')
    assert load(file, region="eu-central-1", profile=None) == Config(project="lung", region="eu-central-1")


def test_the_reserved_concurrency_covers_both_event_sources_and_the_direct_calls():
    config = Config(uploads_concurrency=7, backlog_concurrency=5, direct_concurrency=3)
    assert config.reserved_concurrency == 15
    assert config.parameters("service")["ReservedConcurrency"] == "15"


@pytest.mark.parametrize(("stack", "path"), [("base", template.BASE), ("service", template.SERVICE)])
def test_settings_and_template_parameters_agree(stack, path):
    declared = template.load(path)["Parameters"]
    given = Config().parameters(stack)
    assert set(given) <= set(declared)
    for setting in dataclasses.fields(Config):
        if setting.metadata["stack"] in (stack, "both"):
            parameter = declared[pascal(setting.name)]
            assert parameter["Default"] == setting.default, setting.name
            low, high = setting.metadata["between"] or (None, None)
            assert parameter.get("MinValue", low) == low, setting.name
            assert parameter.get("MaxValue", high) == high, setting.name
    if stack == "service":
        assert declared["ReservedConcurrency"]["Default"] == Config().reserved_concurrency
    else:
        assert tuple(declared["LogRetentionDays"]["AllowedValues"]) == LOG_RETENTION_DAYS


def test_deliveries_that_outlast_the_queue_are_refused(stacks):
    with pytest.raises(ConfigError, match=r"max_receive_count = 1000 deliveries.* instead of becoming a dead letter"):
        Config(max_receive_count=1000)
    queue = stacks.of_type("AWS::SQS::Queue")["UploadsQueue"]
    assert int(queue["MessageRetentionPeriod"]) == QUEUE_RETENTION
