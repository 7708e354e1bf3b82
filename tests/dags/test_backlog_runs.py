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
from cxr_pipeline import pointer, submission

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


@pytest.fixture(autouse=True)
def answered(aws: Any, films: dict[str, bytes], trained: Any, serve_variant: Callable[..., Any]) -> Iterator[None]:
    """A model serves, and the live path has answered every film."""
    for bucket, prefix in (("models_bucket", pointer.KEY), ("uploads_bucket", ""), ("results_bucket", "")):
        aws.empty(bucket, prefix)
    serve_variant(trained)
    for key, body in films.items():
        aws.put("uploads_bucket", key, body)
    wait_for(lambda: results(aws) == set(films))
    yield
    for bucket, prefix in (("models_bucket", pointer.KEY), ("uploads_bucket", ""), ("results_bucket", "")):
        aws.empty(bucket, prefix)


def wait_for(true: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "the live path did not answer in time"
        time.sleep(0.2)


def results(aws: Any) -> set[str]:
    listed = aws.client("s3").list_objects_v2(Bucket=aws.settings["results_bucket"], Prefix="results/")
    return {o["Key"].removeprefix("results/").removesuffix(".json") for o in listed.get("Contents", ())}


def forget(aws: Any, *keys: str) -> None:
    for key in keys:
        aws.empty("results_bucket", f"results/{key}.json")


@pytest.mark.parametrize("mode", ["queue", "direct"])
def test_uploads_that_the_live_path_missed_are_answered(
    mode: str, aws: Any, run: Callable[..., Any], films: dict[str, bytes]
) -> None:
    forget(aws, "ward 1/ä.jpeg", "w/c.jpeg", "w/broken.png")
    done = run("classify_backlog", {**FAST, "mode": mode, "manifest_size": 2}, logical_date=None)
    assert done.state == "success"
    assert len(done.returned["find"]) == 2
    assert results(aws) == set(films)
    assert aws.read("results_bucket", "results/w/broken.png.json")["status"] == "unreadable"


def test_nothing_unanswered_costs_nothing(aws: Any, run: Callable[..., Any]) -> None:
    done = run("classify_backlog", FAST)
    assert (done.state, done.tasks["submit"], done.tasks["account"]) == ("success", "skipped", "skipped")


def test_a_young_upload_is_left_to_the_live_queue(aws: Any, run: Callable[..., Any]) -> None:
    forget(aws, "w/c.jpeg")
    assert run("classify_backlog", {"check_interval": 1}).tasks["submit"] == "skipped"


def test_another_model_s_changes_are_reported(
    aws: Any, run: Callable[..., Any], trained: Any, serve_variant: Callable[..., Any]
) -> None:
    before = {key: aws.read("results_bucket", f"results/{key}.json") for key in FILMS}
    labels = {result["label"] for result in before.values()}
    serve_variant(trained, threshold=1e-6 if "NORMAL" in labels else 1 - 1e-6, another_file=True)
    done = run("classify_backlog", {**FAST, "mode": "direct", "rescore": "all"})
    assert done.state == "success"
    after = {key: aws.read("results_bucket", f"results/{key}.json") for key in FILMS}
    assert all(after[key]["supersedes"]["label"] == before[key]["label"] for key in FILMS)
    changed = {
        key
        for key in FILMS
        if (after[key]["status"], after[key]["label"]) != (before[key]["status"], before[key]["label"])
    }
    report = csv.DictReader(io.StringIO(aws.text("results_bucket", done.returned["account"]["report"])))
    assert changed
    assert {row["key"] for row in report} == changed


def test_films_that_the_new_model_never_reached_fail_the_run(
    aws: Any, run: Callable[..., Any], trained: Any, serve_variant: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    serve_variant(trained, another_file=True)
    counts = {"done": 0, "skipped": len(FILMS) + 1, "failed": 0}  # what a function says that refused the new model
    monkeypatch.setattr(submission, "invoke", lambda *_: counts)
    done = run("classify_backlog", {**FAST, "mode": "direct", "rescore": "all"})
    assert (done.state, done.tasks["account"]) == ("failed", "failed")
    assert any(f"{len(FILMS) + 1} films still have another model's answer" in line for line in done.headlines)


def test_rescoring_since_a_date_needs_the_date(aws: Any, run: Callable[..., Any]) -> None:
    assert run("classify_backlog", {**FAST, "rescore": "since"}).tasks["find"] == "failed"


def test_the_report_shows_every_film_and_raises_the_alarm(
    aws: Any, run: Callable[..., Any], films: dict[str, bytes]
) -> None:
    sqs = aws.client("sqs")
    inbox = sqs.create_queue(QueueName="reader")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=inbox, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    aws.client("sns").subscribe(TopicArn=aws.settings["alarm_topic_arn"], Protocol="sqs", Endpoint=arn)
    done = run("report", {"days": 0, "min_films": 1}, logical_date=None)
    assert (done.state, done.tasks["alarm"]) == ("success", "success")
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


def test_few_films_raise_no_alarm(aws: Any, run: Callable[..., Any]) -> None:
    assert run("report", {"days": 0, "min_films": 1000}).tasks["alarm"] == "skipped"
