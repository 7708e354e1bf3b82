"""`classify_backlog` and `report` on films that the real Lambda has answered."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from cxr_pipeline import backlog, submission
from cxr_pipeline.settings import Settings

from cxr.pointer import KEY

pytestmark = pytest.mark.heavy
FILMS = {"ward 1/a+b.jpeg": "NORMAL", "ward 1/ä.jpeg": "PNEUMONIA", "w/c.jpeg": "PNEUMONIA", "w/c.jpeg.bak": "NORMAL"}
FAST = {"older_than_minutes": 0, "check_interval": 1, "settle_seconds": 0}


@pytest.fixture(scope="module")
def films(aws: Any, trained: Any) -> dict[str, bytes]:
    """The content of FILMS and of a file that is no film."""
    from local_aws.synthetic import film

    rng = np.random.default_rng(3)
    made = {}
    for key, label in FILMS.items():
        body = io.BytesIO()
        film(label, rng).save(body, "JPEG")
        made[key] = body.getvalue()
    return {**made, "w/broken.png": b"no film"}


@pytest.fixture(scope="module", autouse=True)
def answered(aws: Any, films: dict[str, bytes], trained: Any, serve_variant: Callable[..., Any]) -> Iterator[None]:
    """A model serves, and the live path has answered every film."""
    for bucket, prefix in (("models_bucket", KEY), ("uploads_bucket", ""), ("results_bucket", "")):
        aws.empty(bucket, prefix)
    serve_variant(trained)
    for key, body in films.items():
        aws.put("uploads_bucket", key, body)
    deadline = time.monotonic() + 60
    while results(aws) != set(films):
        assert time.monotonic() < deadline, "the live path did not answer in time"
        time.sleep(0.2)
    yield
    for bucket, prefix in (("models_bucket", KEY), ("uploads_bucket", ""), ("results_bucket", "")):
        aws.empty(bucket, prefix)


def results(aws: Any) -> set[str]:
    listed = aws.client("s3").list_objects_v2(Bucket=aws.settings["results_bucket"], Prefix="results/")
    return {o["Key"].removeprefix("results/").removesuffix(".json") for o in listed.get("Contents", ())}


def read(aws: Any) -> dict[str, Any]:
    return {key: aws.read("results_bucket", f"results/{key}.json") for key in FILMS}


def test_nothing_unanswered_costs_nothing(aws: Any, run: Callable[..., Any]) -> None:
    done = run("classify_backlog", FAST)
    assert (done.state, done.tasks["submit"], done.tasks["account"]) == ("success", "skipped", "skipped")


def test_uploads_that_the_live_path_missed_are_answered_by_the_queue(
    aws: Any, run: Callable[..., Any], films: dict[str, bytes]
) -> None:
    for key in ("ward 1/ä.jpeg", "w/c.jpeg", "w/broken.png"):
        aws.empty("results_bucket", f"results/{key}.json")
    done = run("classify_backlog", {**FAST, "manifest_size": 2}, logical_date=None)
    assert done.state == "success"
    assert len(done.returned["find"]) == 2
    assert results(aws) == set(films)
    assert aws.read("results_bucket", "results/w/broken.png.json")["status"] == "unreadable"
    assert aws.client("s3").list_objects_v2(Bucket=aws.settings["results_bucket"], Prefix="manifests/")["KeyCount"] == 0
    assert not [key for key in films if key in done.log]


def test_another_model_answers_again_by_calls_and_its_changes_are_reported(
    aws: Any, trained: Any, serve_variant: Callable[..., Any]
) -> None:
    before = read(aws)
    labels = {result["label"] for result in before.values()}
    serve_variant(trained, threshold=1e-6 if "NORMAL" in labels else 1 - 1e-6, another_file=True)
    s3, names = aws.client("s3"), Settings(**aws.settings)
    params = {
        "mode": "direct", "rescore": "all", "since": None, "prefix": None, "older_than_minutes": 0,
        "function_timeout_seconds": 120, "manifest_size": 300,
    }  # fmt: skip
    wanted = backlog.again(s3, names.models_bucket, params)
    (part,) = backlog.find(s3, names, params, "direct", wanted)
    uri = f"s3://{names.results_bucket}/{part['manifest']}"
    counts = submission.invoke(aws.client("lambda"), names.function_name, uri, part["expect_sha256"])
    assert counts == {"done": len(FILMS) + 1, "skipped": 0, "failed": 0}
    report = backlog.account(s3, names, params, "direct", [part])["report"]
    after = read(aws)
    assert all(after[key]["supersedes"]["label"] == before[key]["label"] for key in FILMS)
    changed = {
        key
        for key in FILMS
        if (after[key]["status"], after[key]["label"]) != (before[key]["status"], before[key]["label"])
    }
    assert changed
    assert {row["key"] for row in csv.DictReader(io.StringIO(aws.text("results_bucket", report)))} == changed


def test_the_report_shows_every_film_and_raises_the_alarm(
    aws: Any, run: Callable[..., Any], films: dict[str, bytes]
) -> None:
    aws.put("results_bucket", "results/hostile.png.json", json.dumps({"schema_version": 1, "status": "<b>"}).encode())
    sqs = aws.client("sqs")
    inbox = sqs.create_queue(QueueName="reader")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=inbox, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    aws.client("sns").subscribe(TopicArn=aws.settings["alarm_topic_arn"], Protocol="sqs", Endpoint=arn)
    done = run("report", {"days": 0, "min_films": 1}, logical_date=None)
    assert (done.state, done.tasks["alarm"]) == ("success", "success")
    assert any(line.startswith("1 results are left out: the result's") for line in done.headlines)
    page = aws.text("results_bucket", "reports/latest/worklist.html")
    assert page.count("<tr tabindex") == len(films)
    assert "ward 1/ä.jpeg" in page
    assert page.count("data:image/png") == len(FILMS)
    rows = list(csv.DictReader(io.StringIO(aws.text("results_bucket", "reports/latest/worklist.csv"))))
    assert {row["key"] for row in rows} == set(films)
    figures = aws.read("results_bucket", f"{done.returned['write']['folder']}oversight.json")
    assert figures["films"] == len(films)
    message = sqs.receive_message(QueueUrl=inbox)["Messages"][0]
    assert "unreadable share" in json.loads(message["Body"])["Message"]
    assert not [key for key in films if key in done.log]


def test_few_films_raise_no_alarm(aws: Any, run: Callable[..., Any]) -> None:
    from cxr_pipeline.outcome import AirflowSkipException
    from report import alarm

    with pytest.raises(AirflowSkipException):
        alarm.function({"breached": [], "folder": "reports/run/", "films": 0})
