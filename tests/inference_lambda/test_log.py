import json
import re

import pytest

from inference_lambda.handler import Tally
from inference_lambda.log import FIELDS, error_name, log, metrics

SECRETS = ("person7", "DOE", "JANE", "MRN-4711", "secret-folder", "geheim")


@pytest.fixture
def lines(account, events, tiny, capfd, caplog):
    """Everything that a run with every kind of record writes to stdout, stderr and the logging module."""
    import logging

    caplog.set_level(logging.DEBUG, logger="inference_lambda")
    account.promote()
    function = account.function()
    keys = {
        "secret-folder/person7 DOE^JANE.jpeg": tiny.grey_film(170),
        "secret-folder/person7 geheim.dcm": bytes(128) + b"DICM" + b"MRN-4711 DOE^JANE" * 20,
        "person7.png": b"\x89PNG\r\n\x1a\nDOE^JANE",
        "person7-folder/": b"",
    }
    for key, data in keys.items():
        account.upload(key, data)
    function.handle(events.direct(*keys, "person7-missing.jpeg"), events.context())
    function.handle(events.queue(events.direct(*keys), "person7", {"person7": 1}), events.context())
    function.handle(events.queue(events.direct("person7", bucket="secret-folder")), events.context())
    account.s3.put_object(Bucket="models", Key="models/current.json", Body=b"person7")
    function.models.refresh()
    broken = account.function()
    broken.handle(events.queue(events.direct(*keys)), events.context())
    with pytest.raises(Exception) as raised:
        function.handle({"manifest": "s3://results/person7.json"}, events.context())
    streams = capfd.readouterr()
    return (streams.out + streams.err + caplog.text + str(raised.value)).splitlines()


def test_no_line_holds_a_file_name_a_key_or_a_tag(lines):
    assert len(lines) > 15
    assert not [line for line in lines for secret in SECRETS if secret in line]


def test_every_line_of_the_function_is_json_with_known_fields(lines):
    said = [json.loads(line) for line in lines if line.startswith("{")]
    assert {entry["event"] for entry in said if "event" in entry} >= {"started", "answered", "skipped", "no_answer"}
    for entry in said:
        if "_aws" not in entry:
            assert set(entry) <= FIELDS | {"level", "event"}


def test_every_batch_leaves_one_line_of_metrics(account, events, tiny, capfd):
    account.promote()
    account.upload("a", tiny.grey_film(170))
    account.upload("b", b"broken")
    function = account.function()
    capfd.readouterr()
    function.handle(events.queue(events.s3("a"), events.s3("b"), events.s3("c")), events.context())
    said = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    (entry,) = [entry for entry in said if "_aws" in entry]
    assert (entry["Ok"], entry["Unreadable"], entry["Skipped"], entry["Failed"]) == (1, 1, 1, 0)
    directive = entry["_aws"]["CloudWatchMetrics"][0]
    assert directive["Namespace"] == "cxr" and directive["Dimensions"] == [["FunctionName"]]
    assert entry["FunctionName"] == "cxr-classify"
    assert {metric["Name"] for metric in directive["Metrics"]} <= set(entry)
    assert len(entry["Duration"]) == len(entry["UploadToResult"]) == 2


def test_a_metric_array_never_exceeds_what_cloudwatch_accepts(capsys):
    metrics({"Ok": 200}, {"Duration": [1.0] * 200}, "f")
    assert len(json.loads(capsys.readouterr().out)["Duration"]) == 100


def test_an_unlisted_field_cannot_be_logged():
    with pytest.raises(TypeError, match="key"):
        log("info", "answered", key="person7.jpeg")


def test_an_error_is_named_without_its_message():
    from botocore.exceptions import ClientError

    error = ClientError({"Error": {"Code": "SlowDown", "Message": "person7.jpeg"}}, "GetObject")
    assert error_name(error) == "ClientError(SlowDown)"
    assert error_name(FileNotFoundError("person7.jpeg")) == "FileNotFoundError"
    assert re.fullmatch(r"[A-Za-z]+", error_name(ValueError("person7")))


def test_the_docs_name_every_event_and_metric(repo):
    sources = "".join(path.read_text() for path in (repo / "inference_lambda").glob("*.py"))
    events = set(re.findall(r'log\(\s*"(?:info|warning|error)",\s*"(\w+)"', sources))
    metrics_named = {*Tally().counts, *Tally().latencies, "ModelRefused", "ModelFallback"}
    text = (repo / "docs" / "results.md").read_text()
    assert len(events) >= 8
    assert not [name for name in events | metrics_named if f"`{name}`" not in text]
