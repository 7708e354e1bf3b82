"""Lambda functions run in real, warm processes and fail as they fail on AWS."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from local_aws.server import LocalAWS


def invoke(aws: LocalAWS, name: str, **event: Any) -> tuple[Any, str | None, str]:
    answer = aws.client("lambda").invoke(FunctionName=name, Payload=json.dumps(event), LogType="Tail")
    tail = answer.get("LogResult", "")
    return json.loads(answer["Payload"].read()), answer.get("FunctionError"), tail


def log_lines(aws: LocalAWS, name: str) -> list[str]:
    events = aws.client("logs").filter_log_events(logGroupName=f"/aws/lambda/{name}")["events"]
    return [event["message"] for event in events]


def test_a_function_stays_warm_and_sees_its_configuration(local_aws, make_function: Callable[..., str]) -> None:
    name = make_function(MemorySize=1769, Timeout=7)
    first, error, tail = invoke(local_aws, name)
    second, _, _ = invoke(local_aws, name)
    assert error is None and tail
    assert first["pid"] == second["pid"] == local_aws.processes()[name][0]
    assert first["colour"] == "grey" and first["memory"] == "1769"
    assert 5000 < first["left"] <= 7000
    assert first["endpoint"] == local_aws.endpoint


def test_each_invocation_is_logged_between_start_and_report(local_aws, make_function) -> None:
    name = make_function()
    invoke(local_aws, name, film=1)
    lines = log_lines(local_aws, name)
    assert lines[0].startswith("START RequestId: ")
    assert any(line.startswith('saw {"film": 1}') for line in lines)
    assert lines[-2].startswith("END RequestId: ")
    assert lines[-1].startswith("REPORT RequestId: ") and "Init Duration" in lines[-1]


def test_an_error_in_the_handler_is_unhandled_and_keeps_the_process_warm(local_aws, make_function) -> None:
    name = make_function()
    before, _, _ = invoke(local_aws, name)
    payload, error, _ = invoke(local_aws, name, do="raise")
    after, _, _ = invoke(local_aws, name)
    assert error == "Unhandled"
    assert (payload["errorType"], payload["errorMessage"]) == ("ValueError", "no such film")
    assert before["pid"] == after["pid"]


def test_a_crash_costs_one_invocation_and_the_process(local_aws, make_function) -> None:
    name = make_function()
    before, _, _ = invoke(local_aws, name)
    payload, error, _ = invoke(local_aws, name, do="exit")
    after, _, _ = invoke(local_aws, name)
    assert error == "Unhandled" and payload["errorType"] == "Runtime.ExitError"
    assert payload["errorMessage"].endswith("Runtime exited with error: exit status 3")
    assert before["pid"] != after["pid"]


def test_a_timeout_kills_the_process(local_aws, make_function) -> None:
    name = make_function(Timeout=1)
    payload, error, _ = invoke(local_aws, name, do="sleep")
    assert error == "Unhandled" and payload["errorType"] == "Sandbox.Timedout"
    assert payload["errorMessage"].endswith("Task timed out after 1.00 seconds")
    assert local_aws.processes()[name] == []


def test_a_process_killed_from_outside_is_replaced(local_aws, make_function) -> None:
    name = make_function()
    before, _, _ = invoke(local_aws, name)
    os.kill(before["pid"], signal.SIGKILL)
    answers = [invoke(local_aws, name) for _ in range(2)]
    after, error, _ = answers[-1]
    assert error is None and after["pid"] != before["pid"]


def test_a_failed_import_is_reported_with_its_reason(local_aws, make_function) -> None:
    name = make_function("broken")
    payload, error, _ = invoke(local_aws, name)
    assert error == "Unhandled"
    assert payload["errorType"] == "Runtime.ImportModuleError" and "no engine" in payload["errorMessage"]


def test_an_image_without_a_command_says_which_are_known(local_aws, make_function) -> None:
    name = make_function("unheard")
    payload, error, _ = invoke(local_aws, name)
    assert error == "Unhandled"
    assert "cxr-unheard" in payload["errorMessage"] and "known: broken, inference, training" in payload["errorMessage"]


def test_a_changed_configuration_reaches_the_next_invocation(local_aws, make_function) -> None:
    name = make_function()
    before, _, _ = invoke(local_aws, name)
    local_aws.client("lambda").update_function_configuration(
        FunctionName=name, Environment={"Variables": {"COLOUR": "blue"}}
    )
    after, _, _ = invoke(local_aws, name)
    assert (before["colour"], after["colour"]) == ("grey", "blue")
    assert local_aws.processes()[name] == [after["pid"]]


def test_two_sandboxes_share_no_scratch_folder(local_aws, make_function) -> None:
    name = make_function()
    with ThreadPoolExecutor(2) as callers:
        answers = list(callers.map(lambda _: invoke(local_aws, name, do="nap")[0], range(2)))
    assert answers[0]["pid"] != answers[1]["pid"]
    assert answers[0]["scratch"] != answers[1]["scratch"]
