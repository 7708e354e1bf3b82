"""Golden films are asked for and compared; what is said of them names their rows, never their names."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from itertools import count
from typing import Any

import pytest
from botocore.exceptions import ClientError
from cxr_pipeline import smoke
from cxr_pipeline.settings import Settings
from cxr_pipeline.smoke import PREFIX, SmokeFailed, SmokeTest, choose

PREDICTIONS = "file,label,probability\n" + "".join(
    f"test/{label}/Doe-Jane-{n}.jpeg,{label},{n / 20}\n" for label in ("NORMAL", "PNEUMONIA") for n in range(10)
)


def test_films_of_both_classes_are_chosen_from_the_whole_range() -> None:
    chosen = choose(PREDICTIONS.encode(), 4)
    assert [(film.row, film.probability) for film in chosen] == [(2, 0.0), (7, 0.25), (12, 0.0), (17, 0.25)]
    assert choose(b"file,label,probability\na,NORMAL,\n", 4) == []


@pytest.fixture
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smoke, "PAUSE_SECONDS", 0)


numbers = count()


@pytest.fixture
def trial(aws: Any, no_pause: None) -> Callable[..., SmokeTest]:
    """A smoke test whose function is ``answer``: it takes the payload and a writer of results."""
    s3, number = aws.client("s3"), next(numbers)
    buckets = {f"{kind}_bucket": f"smoke-{kind}-{number}" for kind in ("datasets", "uploads", "results", "models")}
    for bucket in buckets.values():
        s3.create_bucket(Bucket=bucket)
    names = Settings(**{**aws.settings, **buckets})
    s3.put_object(Bucket=names.models_bucket, Key="models/j/predictions.csv", Body=PREDICTIONS.encode())
    for line in PREDICTIONS.splitlines()[1:]:
        key = f"datasets/x/{line.split(',')[0]}"
        s3.put_object(Bucket=names.datasets_bucket, Key=key, Body=b"film", Metadata={"patient": "Jane Doe"})

    def write(key: str, probability: float | None, sha256: str = "new", status: str = "ok") -> None:
        assert s3.head_object(Bucket=names.uploads_bucket, Key=key)["Metadata"] == {}
        result = {"probability": probability, "status": status, "model": {"sha256": sha256}}
        s3.put_object(Bucket=names.results_bucket, Key=f"results/{key}.json", Body=json.dumps(result).encode())

    def make(answer: Callable[[dict[str, Any], Callable[..., None]], Any]) -> SmokeTest:
        class Function:
            def invoke(self, *, Payload: bytes, **_: Any) -> dict[str, Any]:
                said = answer(json.loads(Payload), write)
                error = {"FunctionError": "Unhandled"} if "errorType" in said else {}
                return {"Payload": io.BytesIO(json.dumps(said).encode()), **error}

        bundle = {"bucket": names.models_bucket, "key": "models/j/bundle.json", "version_id": None, "sha256": "s"}
        model: Any = {"bundle": bundle, "job": "j", "dataset": "datasets/x/", "model_sha256": "new", "version": "1"}
        return SmokeTest(s3, Function(), names, model, f"{PREFIX}run/")

    return make


def done(payload: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"done": [o["key"] for o in payload["objects"]], "skipped": [], "unfinished": [], "failed": [], **more}


def expected(key: str) -> float:
    return float(PREDICTIONS.splitlines()[int(key.rpartition("/")[2]) - 1].split(",")[2])


@pytest.mark.heavy
def test_films_that_are_answered_as_trained_pass_and_are_cleared_away(trial: Any) -> None:
    def answer(payload: dict[str, Any], write: Callable[..., None]) -> Any:
        assert payload["expect_sha256"] == "new"
        for item in payload["objects"]:
            write(item["key"], expected(item["key"]) + 0.001)
        return done(payload)

    test = trial(answer)
    assert test.run(4, 0.01) == pytest.approx(0.001)
    for bucket in (test.names.uploads_bucket, test.names.results_bucket):
        assert test.s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


@pytest.mark.heavy
def test_films_that_differ_are_named_by_their_rows(trial: Any) -> None:
    wrong: Any = iter([{"probability": 0.9}, {"probability": 0.25, "sha256": "old" * 8}, {"probability": None}])

    def answer(payload: dict[str, Any], write: Callable[..., None]) -> Any:
        for item in payload["objects"]:
            write(item["key"], **next(wrong, {"probability": expected(item["key"])}))
        return done(payload)

    with pytest.raises(
        SmokeFailed, match=r"3 of 4 golden films .*row 2: 0\.9000 instead.*row 7: answered by model old"
    ) as said:
        trial(answer).run(4, 0.01)
    assert "Doe" not in str(said.value)


@pytest.mark.heavy
def test_what_is_left_unfinished_is_asked_for_again_and_not_for_ever(trial: Any) -> None:
    asked = []

    def answer(payload: dict[str, Any], write: Callable[..., None]) -> Any:
        asked.append(len(payload["objects"]))
        return done(payload, unfinished=payload["objects"][:1])

    with pytest.raises(SmokeFailed, match="1 golden films are unfinished after 5 calls"):
        trial(answer).run(4, 0.01)
    assert asked == [4, 1, 1, 1, 1]


@pytest.mark.heavy
def test_throttled_calls_are_made_again_and_refused_ones_are_not(trial: Any) -> None:
    def failing(status: int) -> Callable[..., Any]:
        def answer(payload: dict[str, Any], write: Callable[..., None]) -> Any:
            raise ClientError({"ResponseMetadata": {"HTTPStatusCode": status}, "Error": {"Code": "X"}}, "Invoke")  # type: ignore[typeddict-item]

        return answer

    with pytest.raises(SmokeFailed, match="the last call failed"):
        trial(failing(429)).run(4, 0.01)
    with pytest.raises(ClientError):
        trial(failing(403)).run(4, 0.01)


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"errorType": "WrongModel", "errorMessage": "another model answers"}, "the function failed: WrongModel"),
        ({"failed": [{"key": "_smoke/run/Doe-Jane"}], "unfinished": []}, "could not classify 1 of 4 golden films"),
    ],
)
def test_a_function_that_fails_says_so_without_a_key(said: dict[str, Any], why: str, trial: Any) -> None:
    with pytest.raises(SmokeFailed, match=why) as failed:
        trial(lambda payload, write: said).run(4, 0.01)
    assert "Doe" not in str(failed.value)
