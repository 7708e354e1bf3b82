"""Alarms that deliver: each reaches the topic, watches a metric that exists, and has its section in the runbook."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path

import pytest

from infra import template

ROOT = Path(template.FOLDER).parent
OF_SQS = {
    "ApproximateNumberOfMessagesVisible", "ApproximateNumberOfMessagesNotVisible", "ApproximateAgeOfOldestMessage",
    "NumberOfMessagesSent", "NumberOfMessagesDeleted",
}  # fmt: skip
OF_LAMBDA = {"Invocations", "Errors", "Throttles", "Duration", "ConcurrentExecutions"}


@pytest.fixture(scope="module")
def alarms(stacks):
    return {a["AlarmName"].removeprefix("cxr-"): a for a in stacks.of_type("AWS::CloudWatch::Alarm").values()}


def metrics(alarm):
    """(namespace, name, dimensions) of every metric that an alarm looks at."""
    if "MetricName" in alarm:
        yield alarm["Namespace"], alarm["MetricName"], {d["Name"]: d["Value"] for d in alarm["Dimensions"]}
    for entry in alarm.get("Metrics", []):
        if "MetricStat" in entry:
            metric = entry["MetricStat"]["Metric"]
            yield metric["Namespace"], metric["MetricName"], {d["Name"]: d["Value"] for d in metric["Dimensions"]}


def exists(stacks, namespace, name, dimensions):
    if namespace == "AWS/SQS":
        queues = {q["QueueName"] for q in stacks.of_type("AWS::SQS::Queue").values()}
        return name in OF_SQS and list(dimensions) == ["QueueName"] and dimensions["QueueName"] in queues
    ours = dimensions == {"FunctionName": "cxr-classify"}
    return ours and (name in OF_LAMBDA if namespace == "AWS/Lambda" else namespace == "cxr" and name in written())


def written():
    """Metrics that the function writes: counts and latencies of one batch."""
    from inference_lambda.handler import Tally
    from inference_lambda.log import NAMESPACE

    assert NAMESPACE == "cxr"
    source = (ROOT / "inference_lambda/handler.py").read_text()
    of_the_model = set(re.findall(r'"(Model\w+)": troubles', source))
    return set(Tally().counts) | set(Tally().latencies) | of_the_model


def test_the_alarms_that_the_operators_rely_on_are_there(alarms):
    assert set(alarms) == {
        "uploads-dead-letter", "backlog-dead-letter", "uploads-age", "backlog-age", "function-errors",
        "function-throttles", "unreadable-share", "no-results", "model-refused",
    }  # fmt: skip


def test_every_alarm_reports_trouble_and_its_end_and_stays_quiet_without_data(alarms, stacks):
    topic = stacks.base.arn("AlarmTopic")
    for name, alarm in alarms.items():
        assert (alarm["AlarmActions"], alarm["OKActions"]) == ([topic], [topic]), name
        assert alarm["TreatMissingData"] == "notBreaching", name
        assert f"docs/runbook.md, {name}." in alarm["AlarmDescription"], name


def test_every_metric_of_an_alarm_exists(alarms, stacks):
    for name, alarm in alarms.items():
        found = list(metrics(alarm))
        assert found, name
        for metric in found:
            assert exists(stacks, *metric), (name, metric)


def test_every_metric_of_the_dashboard_exists(stacks):
    body = json.loads(stacks.of_type("AWS::CloudWatch::Dashboard")["Dashboard"]["DashboardBody"])
    shown = [m for widget in body["widgets"] for m in widget["properties"]["metrics"]]
    assert len(shown) >= 15
    for namespace, name, dimension, value, *_ in shown:
        assert exists(stacks, namespace, name, {dimension: value}), (namespace, name, value)


def test_the_runbook_has_a_section_for_every_alarm_and_for_no_other(alarms):
    text = (ROOT / "docs/runbook.md").read_text()
    sections = dict(re.findall(r"^### `([a-z-]+)`\n(.*?)(?=^##|\Z)", text, re.MULTILINE | re.DOTALL))
    assert set(sections) == set(alarms)
    for name, section in sections.items():
        assert all(f"**{step}**" in section for step in ("Symptom", "Look", "Do")), name


def value_of(alarm, points):
    """What an alarm compares with its threshold at one moment, or None where its formula has no value.

    CloudWatch's IF, AND, FILL, comparisons and arithmetic. `points` are the metrics' values; None is a period without a
    point, and a formula over one has no value unless the formula fills it.
    """
    formulas = {m["Id"]: m["Expression"] for m in alarm["Metrics"] if "Expression" in m}
    (result,) = [m["Id"] for m in alarm["Metrics"] if m.get("ReturnData")]
    known = dict(points)
    for name in sorted(formulas, key=lambda name: name == result):
        formula = re.sub(r"FILL\((\w+), (\d+)\)", lambda m: m[2] if known[m[1]] is None else m[1], formulas[name])
        missing = any(known[used] is None for used in re.findall(r"\b[a-z]\w*", formula))
        formula = formula.replace("IF(", "_if(").replace(" AND ", " and ")
        language = {"_if": lambda test, yes, no: yes if test else no, "__builtins__": {}}
        known[name] = None if missing else eval(formula, language, known)
    return known[result]


def inputs(alarm):
    return [m["Id"] for m in alarm["Metrics"] if "MetricStat" in m]


@pytest.mark.parametrize(
    ("sent", "waiting", "working", "answered", "alarmed"),
    [
        (0, 0, 0, 0, 0),
        (5, 0, 0, 5, 0),
        (5, 2, 3, 1, 0),
        (5, 0, 0, 0, 1),
        (0, 3, 0, 0, 1),
        (0, 0, 4, 0, 1),
        (5, 0, 0, None, 1),
        (None, 3, None, None, 1),
        (None, None, 4, None, 1),
        (None, 3, None, 2, 0),
        (None, None, None, None, 0),
    ],
)
def test_silence_while_films_wait_is_an_alarm_and_idleness_is_none(alarms, sent, waiting, working, answered, alarmed):
    now = {"sent": sent, "waiting": waiting, "working": working, "answered": answered}
    assert value_of(alarms["no-results"], now) == alarmed


@pytest.mark.parametrize(
    ("ok", "unreadable", "alarmed"), [(0, 9, False), (0, 10, True), (90, 10, False), (70, 30, True), (0, 0, False)]
)
def test_the_share_of_unreadable_films_needs_ten_films(alarms, ok, unreadable, alarmed):
    alarm = alarms["unreadable-share"]
    share = value_of(alarm, {"ok": ok, "uncertain": 0, "ood": 0, "unreadable": unreadable})
    assert (share > float(alarm["Threshold"])) is alarmed


@pytest.mark.parametrize(("refused", "fallback"), [(1, 0), (0, 1), (1, None), (None, 1)])
def test_one_refused_model_is_an_alarm(alarms, refused, fallback):
    alarm = alarms["model-refused"]
    assert value_of(alarm, {"refused": refused, "fallback": fallback}) > float(alarm["Threshold"])


def test_a_metric_without_a_point_counts_as_nothing_in_every_formula(alarms):
    """Otherwise what is missing, which may be the very trouble, would keep the alarm quiet."""
    for name, alarm in alarms.items():
        if "MetricName" not in alarm:
            for points in itertools.product((None, 0, 20), repeat=len(inputs(alarm))):
                some = dict(zip(inputs(alarm), points, strict=True))
                filled = {metric: point or 0 for metric, point in some.items()}
                assert value_of(alarm, some) == value_of(alarm, filled) is not None, (name, some)


def test_no_description_of_an_alarm_tells_a_number_that_is_a_setting(alarms):
    numbers = r"\d|\b(?:two|three|four|five|six|seven|eight|nine|ten|twenty)\b"
    assert [name for name, alarm in alarms.items() if re.search(numbers, alarm["AlarmDescription"])] == []
