"""What was missed is found and accounted for, against S3 alone."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest
from cxr_pipeline import backlog
from cxr_pipeline.backlog import Again, Part
from cxr_pipeline.ledger import LONGEST
from cxr_pipeline.manifests import MOST, size_for
from cxr_pipeline.outcome import AirflowFailException
from cxr_pipeline.settings import Settings

pytestmark = pytest.mark.heavy
NUMBER = count(1)
PARAMS = {
    "mode": "direct", "rescore": "none", "since": None, "prefix": None, "older_than_minutes": -1, "manifest_size": 2,
    "function_timeout_seconds": 0,
}  # fmt: skip
NEW, OLD = "n" * 64, "o" * 64


class Ward:
    """Uploads and results of a test's own, which no function answers."""

    def __init__(self, aws: Any) -> None:
        number = next(NUMBER)
        buckets = {f"{kind}_bucket": f"backlog-{kind}-{number}" for kind in ("uploads", "results", "models")}
        self.s3, self.names = aws.client("s3"), replace(Settings(**aws.settings), **buckets)
        for bucket in buckets.values():
            self.s3.create_bucket(Bucket=bucket)

    def upload(self, *keys: str) -> None:
        for key in keys:
            self.s3.put_object(Bucket=self.names.uploads_bucket, Key=key, Body=b"film")

    def answer(self, key: str, label: str = "NORMAL", sha256: str = NEW, **more: Any) -> None:
        result = {
            "schema_version": 1, "status": "ok", "label": label, "probability": 0.1, "confidence": 0.9,
            "threshold": 0.5, "priority": "routine", "ood": None, "reasons": [], "heatmap": None,
            "model": {"version": "1", "sha256": sha256}, "classified_at": "2026-11-22T00:00:00Z", **more,
        }  # fmt: skip
        self.put(f"results/{key}.json", json.dumps(result).encode())

    def put(self, key: str, body: bytes) -> None:
        self.s3.put_object(Bucket=self.names.results_bucket, Key=key, Body=body)

    def find(self, wanted: Again | None = None, **params: Any) -> list[Part]:
        return backlog.find(self.s3, self.names, {**PARAMS, **params}, "run", wanted)

    def account(self, parts: list[Part], **params: Any) -> Any:
        return backlog.account(self.s3, self.names, {**PARAMS, **params}, "run", parts)

    def films(self, parts: list[Part]) -> list[str]:
        read = lambda part: json.loads(self.text(part["manifest"]))["objects"]  # noqa: E731
        return [film["key"] for part in parts for film in read(part)]

    def text(self, key: str) -> str:
        return self.s3.get_object(Bucket=self.names.results_bucket, Key=key)["Body"].read().decode()

    def manifests(self) -> int:
        return self.s3.list_objects_v2(Bucket=self.names.results_bucket, Prefix="manifests/")["KeyCount"]


@pytest.fixture
def ward(aws: Any) -> Ward:
    return Ward(aws)


def test_every_upload_without_an_answer_is_in_one_manifest(ward: Ward) -> None:
    ward.upload(*(f"w/{n}.png" for n in range(5)))
    ward.answer("w/3.png")
    parts = ward.find()
    assert len(parts) == 2
    assert ward.films(parts) == ["w/0.png", "w/1.png", "w/2.png", "w/4.png"]
    assert ward.find(older_than_minutes=12) == []
    assert ward.find(prefix="elsewhere/") == []


def test_manifests_grow_before_they_outnumber_what_airflow_maps() -> None:
    assert size_for(5000, 1) * MOST >= 5000 > (size_for(5000, 1) - 1) * MOST
    assert size_for(10, 300) == 300


def test_the_manifests_of_a_run_are_deleted_when_it_has_accounted_for_its_films(ward: Ward) -> None:
    ward.upload("a.png", "b.png", "c.png")
    parts = ward.find()
    assert ward.manifests() == 2
    for key in ("a.png", "b.png", "c.png"):
        ward.answer(key)
    assert ward.account(parts)["changed"] == 0
    assert ward.manifests() == 0
    with pytest.raises(AirflowFailException, match="accounted for already"):
        ward.account(parts)


def test_unanswered_films_fail_the_run_and_their_manifests_go_too(
    ward: Ward, capsys: pytest.CaptureFixture[str]
) -> None:
    ward.upload("Doe-Jane.png", "b.png")
    parts = ward.find()
    ward.answer("b.png")
    with pytest.raises(AirflowFailException, match="1 films have no answer"):
        ward.account(parts)
    assert ward.manifests() == 0
    assert ward.films(ward.find()) == ["Doe-Jane.png"]  # the next run asks again
    assert "Doe" not in capsys.readouterr().out


def test_a_film_deleted_meanwhile_is_missed_by_nobody(ward: Ward) -> None:
    ward.upload("a.png")
    parts = ward.find()
    ward.s3.delete_object(Bucket=ward.names.uploads_bucket, Key="a.png")
    assert ward.account(parts)["changed"] == 0


def test_a_key_too_long_for_its_result_is_listed_and_stops_nothing(
    ward: Ward, capsys: pytest.CaptureFixture[str]
) -> None:
    long = "=Doe/" + "x" * (LONGEST - 4)
    ward.upload(long, "a.png")
    parts = ward.find()
    assert ward.films(parts) == ["a.png"]
    ward.answer("a.png")
    ward.account(parts)
    assert ward.find() == []
    report = list(csv.DictReader(io.StringIO(ward.text("reports/run/unanswerable.csv"))))
    assert report == [{"key": f"'{long}"}]
    said = capsys.readouterr().out
    assert "1 uploads cannot be answered" in said and "Doe" not in said


def test_what_another_model_changed_is_reported(ward: Ward) -> None:
    ward.upload("same.png", "changed.png", "x\r=1+1.png")
    soon = datetime.now(UTC) + timedelta(minutes=1)
    for key in ("same.png", "changed.png", "x\r=1+1.png"):
        ward.answer(key, sha256=OLD)
    parts = ward.find(Again(NEW, soon, None))
    assert len(ward.films(parts)) == 3
    for key, label in (("same.png", "NORMAL"), ("changed.png", "PNEUMONIA"), ("x\r=1+1.png", "PNEUMONIA")):
        ward.answer(key, label, supersedes={"model_sha256": OLD, "status": "ok", "label": "NORMAL"})
    done = ward.account(parts)
    assert (done["changed"], done["transitions"]) == (2, {"ok NORMAL -> ok PNEUMONIA": 2})
    rows = list(csv.DictReader(io.StringIO(ward.text(done["report"]))))
    assert sorted(row["key"] for row in rows) == ["changed.png", "x\ufffd=1+1.png"]


def test_films_that_the_new_model_never_reached_fail_the_run(ward: Ward) -> None:
    ward.upload("a.png", "b.png")
    for key in ("a.png", "b.png"):
        ward.answer(key, sha256=OLD)
    parts = ward.find(Again(NEW, datetime.now(UTC) + timedelta(minutes=1), None))
    later = [{**part, "started": (datetime.now(UTC) + timedelta(minutes=1)).isoformat()} for part in parts]
    with pytest.raises(AirflowFailException, match="2 films still have another model's answer"):
        ward.account(later)  # type: ignore[arg-type]


def test_results_of_another_form_are_counted_and_left_out(ward: Ward, capsys: pytest.CaptureFixture[str]) -> None:
    ward.upload("a.png", "b.png", "c.png")
    parts = ward.find()
    ward.put("results/a.png.json", b"[" * 100_000)
    ward.answer("b.png", label="<script>")
    ward.answer("c.png", supersedes={"status": "Doe", "label": "Jane", "model_sha256": OLD})
    assert ward.account(parts)["changed"] == 0
    said = capsys.readouterr().out
    assert "1 results are left out of the report: the result's label is none of" in said and "Doe" not in said


def test_rescoring_needs_a_model_and_since_a_date(ward: Ward) -> None:
    assert backlog.again(ward.s3, ward.names.models_bucket, PARAMS) is None
    with pytest.raises(AirflowFailException, match="no date is given"):
        backlog.again(ward.s3, ward.names.models_bucket, {**PARAMS, "rescore": "since"})
    with pytest.raises(AirflowFailException, match="no model serves"):
        backlog.again(ward.s3, ward.names.models_bucket, {**PARAMS, "rescore": "all"})
