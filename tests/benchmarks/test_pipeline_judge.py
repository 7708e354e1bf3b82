"""The pipeline benchmark's judge sees what went wrong, and its faults leave a record that explains dead letters."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from PIL import Image

from benchmarks.audit import Audit, Result, Version, audit, goes_back, keys_of
from benchmarks.faults import FaultProxy, Journal, explain
from benchmarks.load import File, Files, Put, with_comment
from local_aws.server import LocalAWS
from local_aws.services.event_source import Delivery


def judged(
    uploads: list[tuple[str, str, float]],
    results: list[tuple[str, str, int, float]],
    dead: tuple[str, ...] = (),
    kind: str = "film",
    status: str = "ok",
) -> Audit:
    """Audit of (key, version, stored) uploads and (key, upload version, serial, stored) results, oldest first."""
    stored = [Version(*upload) for upload in reversed(uploads)]
    written = [Result(key, when, version, serial, "m", status) for key, version, serial, when in reversed(results)]
    last = {key: version for key, version, _, _ in results}
    documents = {
        key: {"image": {"sha256": f"sha of {version}", "version_id": version}, "status": status, "label": None}
        for key, version in last.items()
    }
    puts = [Put(key, version, f"sha of {version}", kind, 0.0) for key, version, _ in uploads]
    return audit(stored, written, documents, puts, dead)


def test_an_answered_upload_is_neither_lost_nor_wrong() -> None:
    found = judged([("a", "v1", 10.0), ("b", "w1", 11.0)], [("a", "v1", 1, 12.5), ("b", "w1", 1, 13.0)])
    assert found.summary() == {
        "uploads": 2,
        "upload_versions": 2,
        "result_versions": 2,
        "lost": 0,
        "wrong_version": 0,
        "wrong_bytes": 0,
        "dishonest": 0,
        "status_counts": {"ok": 2},
        "by_serial": {"1": 2},
        "latency_s": {"p50": 2.25, "p95": 2.475, "p99": 2.495, "max": 2.5},
        "uploads_per_second": 0.67,
    }


def test_an_upload_without_result_is_lost_unless_it_is_a_dead_letter() -> None:
    assert judged([("a", "v1", 1.0)], []).lost == ["a"]
    assert judged([("a", "v1", 1.0)], [], dead=("a",)).lost == []


def test_a_result_of_an_overwritten_version_is_wrong() -> None:
    overwritten = [("a", "v1", 1.0), ("a", "v2", 2.0)]
    assert judged(overwritten, [("a", "v1", 1, 3.0)]).wrong_version == ["a"]
    assert judged(overwritten, [("a", "v1", 1, 1.5), ("a", "v2", 1, 3.0)]).wrong_version == []


@pytest.mark.parametrize(
    ("steps", "back"),
    [
        ([("v1", 1), ("v2", 1), ("v2", 2)], False),
        ([("v2", 1), ("v1", 1)], True),
        ([("v1", 2), ("v1", 1)], True),
        ([("v1", 2), ("v2", 1)], True),
        ([("v9", 1)], False),
    ],
)
def test_results_must_not_go_back(steps: list[tuple[str, int]], back: bool) -> None:
    written = [Result("a", float(n), version, serial, "m", "ok") for n, (version, serial) in enumerate(steps)]
    assert goes_back(written, ["v1", "v2"]) is back


def test_a_broken_file_that_gets_another_status_is_dishonest() -> None:
    assert judged([("a", "v1", 1.0)], [("a", "v1", 1, 2.0)], kind="broken").dishonest == ["a"]
    assert judged([("a", "v1", 1.0)], [("a", "v1", 1, 2.0)], kind="broken", status="unreadable").dishonest == []
    assert judged([("a", "v1", 1.0)], [("a", "v1", 1, 2.0)], status="unreadable").dishonest == ["a"]


def delivery(error: str | None, failed: bool, at: float) -> Delivery:
    return Delivery("uploads", ("m1", "m2"), ("{}", "{}"), at, at + 2, error, frozenset({"m1"} if failed else ()))


def test_a_dead_letter_is_explained_by_what_was_injected_during_its_deliveries() -> None:
    killed = '{"errorType": "Runtime.ExitError"}'
    journal = Journal(kills=[11.0], unsound=[(30.0, 40.0)])
    journal.deliveries += [delivery(killed, True, 10.0), delivery(None, True, 20.0), delivery(None, True, 35.0)]
    body = json.dumps({"Records": [{"s3": {"object": {"key": "a+b%2B.jpeg"}}}]})
    assert explain([("m1", body)], journal, busy=[21.0]) == [
        {
            "uploads": ["a b+.jpeg"],
            "deliveries": 3,
            "causes": {"process killed": 1, "503 from S3": 1, "no sound model": 1},
            "explained": True,
        }
    ]


@pytest.mark.parametrize("error", [None, '{"errorType": "Runtime.ExitError"}', '{"errorType": "ValueError"}'])
def test_a_failure_that_nothing_injected_explains_stays_unexplained(error: str | None) -> None:
    journal = Journal(kills=[100.0])
    journal.deliveries.append(delivery(error, True, 10.0))
    assert explain([("m1", "{}")], journal, busy=[50.0])[0]["explained"] is False
    assert explain([("never delivered", "{}")], journal, busy=[])[0]["explained"] is False


def test_messages_of_both_queues_name_their_uploads() -> None:
    event = {"Records": [{"s3": {"object": {"key": "in/%C3%BC.jpeg"}}}]}
    assert keys_of(json.dumps(event)) == ["in/ü.jpeg"]
    assert keys_of(json.dumps({"objects": [{"bucket": "b", "key": "x"}, {"bucket": "b", "key": "y"}]})) == ["x", "y"]


def test_every_upload_is_another_file_with_the_same_picture(tmp_path: Path) -> None:
    files = Files(seed=1, distinct=2)
    made: list[File] = [files.make(f"{n}", n) for n in range(100)]
    assert len({file.data for file in made}) == 100
    assert {file.kind for file in made} == {"film", "photograph", "broken"}
    path = tmp_path / "film.jpeg"
    path.write_bytes(with_comment(files._films[0], 7))
    plain = tmp_path / "plain.jpeg"
    plain.write_bytes(files._films[0])
    assert Image.open(path).tobytes() == Image.open(plain).tobytes()


@pytest.fixture(scope="module")
def local_aws() -> Iterator[LocalAWS]:
    with LocalAWS() as aws:
        yield aws


Proxied = Callable[[str, float], tuple[Any, FaultProxy]]


@pytest.fixture
def proxied(local_aws: LocalAWS, tmp_path: Path) -> Iterator[Proxied]:
    """Makes a bucket and an S3 client behind a proxy that fails a share of its calls."""
    with ExitStack() as opened:

        def make(bucket: str, share: float) -> tuple[Any, FaultProxy]:
            local_aws.client("s3").create_bucket(Bucket=bucket)
            port = int(local_aws.endpoint.rsplit(":", 1)[1])
            proxy = opened.enter_context(FaultProxy(port, share, seed=3, log=tmp_path / "failures.jsonl"))
            config = Config(retries={"mode": "standard", "total_max_attempts": 1})
            return local_aws.client("s3", endpoint_url=proxy.endpoint, config=config), proxy

        yield make


def test_a_proxy_without_faults_changes_nothing(proxied: Proxied) -> None:
    s3, _ = proxied("calm", 0.0)
    s3.put_object(Bucket="calm", Key="ä b", Body=b"x" * 300_000, Metadata={"serial": "1"})
    head = s3.head_object(Bucket="calm", Key="ä b")
    assert (head["Metadata"], head["ContentLength"]) == ({"serial": "1"}, 300_000)
    assert s3.get_object(Bucket="calm", Key="ä b")["Body"].read() == b"x" * 300_000
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: s3.put_object(Bucket="calm", Key=f"n/{n}", Body=b"%d" % n), range(40)))
    assert s3.get_object(Bucket="calm", Key="n/39")["Body"].read() == b"39"
    with pytest.raises(ClientError, match="404"):
        s3.head_object(Bucket="calm", Key="nothing")


def test_half_of_the_failed_calls_took_effect_and_all_are_written_down(proxied: Proxied, local_aws: LocalAWS) -> None:
    s3, proxy = proxied("busy", 1.0)
    for number in range(12):
        with pytest.raises(ClientError, match="SlowDown"):
            s3.put_object(Bucket="busy", Key=f"{number:02d}", Body=b"x")
    effects = [failure["effect"] for failure in proxy.failures()]
    listed = local_aws.client("s3").list_objects_v2(Bucket="busy").get("Contents", [])
    assert len(effects) == 12 and set(effects) == {"before", "after"}
    assert [entry["Key"] for entry in listed] == [f"{n:02d}" for n, effect in enumerate(effects) if effect == "after"]
