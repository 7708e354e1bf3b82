"""The loop of inference_lambda.answer, with other actors stepping in between any two S3 calls."""

import itertools

import pytest
from botocore.exceptions import ClientError, ReadTimeoutError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inference_lambda.handler import Function
from inference_lambda.store import Conflict, Store


class MeddledStore(Store):
    """Runs an action once, just before the n-th S3 call."""

    def __init__(self, client):
        super().__init__(client)
        self.actions = {}
        self.calls = []

    def _call(self, operation, **arguments):
        number = len(self.calls)
        self.calls.append((operation, arguments["Key"]))
        if action := self.actions.pop(number, None):
            action()
        return super()._call(operation, **arguments)


BEFORE = {"head": 0, "get": 1, "heatmap": 2, "put": 3}
"""S3 calls of one attempt of a warm function."""


@pytest.fixture
def ready(account):
    account.promote()
    return account


def warm(account, events):
    """A function that has its model in memory, on a store whose calls are counted from now on."""
    store = MeddledStore(account.s3)
    function = Function(account.config, store)
    function.handle(events.direct("nothing-there"), events.context())
    store.calls.clear()
    return function, store


def test_duplicate_event_writes_one_result(ready, events, tiny):
    ready.upload("a", tiny.grey_film(170))
    function, other = ready.function(), ready.function()
    for instance in (function, other, function):
        instance.handle(events.queue(events.s3("a"), events.s3("a")), events.context())
    assert ready.versions("a") == 1


@pytest.mark.parametrize("before", BEFORE)
def test_an_upload_overwritten_midway_gets_the_answer_of_its_new_version(ready, events, tiny, before):
    ready.upload("a", tiny.grey_film(170))
    function, store = warm(ready, events)
    store.actions[BEFORE[before]] = lambda: ready.upload("a", tiny.grey_film(90))
    function.handle(events.direct("a"), events.context())
    ready.function().handle(events.direct("a"), events.context())
    assert ready.result("a")["label"] == "NORMAL"


def test_a_slow_answer_about_an_old_version_loses_to_a_fast_one_about_the_new(ready, events, tiny):
    ready.upload("a", tiny.grey_film(170))
    function, store = warm(ready, events)

    def overtake():
        ready.upload("a", tiny.grey_film(90))
        ready.function().handle(events.direct("a"), events.context())

    store.actions[BEFORE["put"]] = overtake
    answer = function.handle(events.direct("a"), events.context())
    assert answer["skipped"] == ["a"]
    assert ready.result("a")["label"] == "NORMAL" and ready.versions("a") == 1


def test_events_out_of_order_leave_the_newest_answer(ready, events, tiny):
    ready.upload("a", tiny.grey_film(170))
    newest = ready.upload("a", tiny.grey_film(90))
    function = ready.function()
    for _ in range(3):
        function.handle(events.queue(events.s3("a")), events.context())
    assert ready.result("a")["image"]["version_id"] == newest and ready.versions("a") == 1


def test_an_identical_file_uploaded_again_is_answered_for_its_new_version(ready, events, tiny):
    function = ready.function()
    for _ in range(2):
        version = ready.upload("a", tiny.grey_film(170))
        function.handle(events.direct("a"), events.context())
    assert ready.result("a")["image"]["version_id"] == version and ready.versions("a") == 2


@pytest.mark.parametrize("before", ["get", "heatmap", "put"])
def test_an_upload_deleted_midway_never_fails_the_record(ready, events, tiny, before):
    ready.upload("a", tiny.grey_film(170))
    function, store = warm(ready, events)
    store.actions[BEFORE[before]] = lambda: ready.s3.delete_object(Bucket="uploads", Key="a")
    assert function.handle(events.queue(events.s3("a")), events.context()) == {"batchItemFailures": []}


def test_a_result_deleted_midway_is_written_again(ready, events, tiny):
    ready.upload("a", tiny.grey_film(170))
    ready.function().handle(events.direct("a"), events.context())
    ready.upload("a", tiny.grey_film(90))
    function, store = warm(ready, events)
    store.actions[BEFORE["put"]] = lambda: ready.s3.delete_object(Bucket="results", Key="results/a.json")
    assert function.handle(events.direct("a"), events.context())["done"] == ["a"]
    assert ready.result("a")["label"] == "NORMAL"


def test_a_new_model_supersedes_the_old_answer(ready, events, tiny):
    ready.upload("a", tiny.grey_film(170))
    ready.function().handle(events.direct("a"), events.context())
    first = ready.result("a")
    newer = ready.promote(slope=-12.0)
    ready.function().handle(events.direct("a"), events.context())
    second = ready.result("a")
    assert second["model"]["sha256"] == newer and second["label"] == "NORMAL"
    assert second["supersedes"] == {
        "model_sha256": first["model"]["sha256"],
        "status": first["status"],
        "label": "PNEUMONIA",
    }
    assert ready.result_metadata("a")["serial"] == "2"


def test_another_version_of_the_upload_supersedes_nothing(ready, events, tiny):
    function = ready.function()
    for level in (170, 90):
        ready.upload("a", tiny.grey_film(level))
        function.handle(events.direct("a"), events.context())
    assert ready.result("a")["supersedes"] is None


def test_a_stale_warm_function_never_overwrites_a_newer_models_answer(ready, events, tiny):
    stale, _ = warm(ready, events)
    newer = ready.promote(slope=-12.0)
    ready.upload("a", tiny.grey_film(170))
    ready.function().handle(events.direct("a"), events.context())
    assert stale.handle(events.direct("a"), events.context())["skipped"] == ["a"]
    assert ready.result("a")["model"]["sha256"] == newer and ready.versions("a") == 1


def test_a_stale_warm_function_catches_up_before_it_answers_a_new_version(ready, events, tiny):
    stale, _ = warm(ready, events)
    newer = ready.promote(slope=-12.0)
    ready.upload("a", tiny.grey_film(170))
    ready.function().handle(events.direct("a"), events.context())
    ready.upload("a", tiny.grey_film(90))
    assert stale.handle(events.direct("a"), events.context())["done"] == ["a"]
    assert ready.result("a")["model"]["sha256"] == newer


@pytest.mark.parametrize("before", BEFORE)
def test_a_promotion_midway_never_leaves_the_older_answer_over_the_newer(ready, events, tiny, before):
    ready.upload("a", tiny.grey_film(170))
    function, store = warm(ready, events)

    def promoted_and_answered():
        ready.promote(slope=-12.0)
        ready.function().handle(events.direct("a"), events.context())

    store.actions[BEFORE[before]] = promoted_and_answered
    function.handle(events.direct("a"), events.context())
    assert ready.result_metadata("a")["serial"] == "2"


def test_a_rollback_wins_over_the_withdrawn_model(ready, events, tiny):
    function = ready.function()
    first = dict(ready.pointer["bundle"])
    ready.promote(slope=-12.0)
    ready.upload("a", tiny.grey_film(170))
    function.handle(events.direct("a"), events.context())
    ready.point(3, first)
    ready.function().handle(events.direct("a"), events.context())
    assert ready.result("a")["label"] == "PNEUMONIA" and ready.result_metadata("a")["serial"] == "3"


def test_messages_come_back_while_no_model_is_promoted(ready, events, tiny, monkeypatch):
    ready.upload("a", tiny.grey_film(170))
    function, _ = warm(ready, events)
    ready.s3.delete_object(Bucket="models", Key="models/current.json")
    monkeypatch.setattr(function.models, "_due", float("-inf"))
    batch = events.queue(events.s3("a"))
    assert function.handle(batch, events.context()) == {"batchItemFailures": [{"itemIdentifier": "message-0"}]}
    assert ready.versions("a") == 0
    ready.promote(slope=-12.0)
    monkeypatch.setattr(function.models, "_due", float("-inf"))
    assert function.handle(batch, events.context()) == {"batchItemFailures": []}
    assert ready.result("a")["label"] == "NORMAL"


def test_a_model_that_cannot_be_loaded_leaves_newer_answers_alone(ready, events, tiny):
    """Fallback to the previous model must not undo what the current model answered."""
    ready.promote(slope=-12.0)
    ready.upload("a", tiny.grey_film(170))
    ready.function().handle(events.direct("a"), events.context())
    ready.s3.put_object(Bucket="models", Key="models/job-2/model.tflite", Body=b"corrupt")
    fallback = ready.function()
    assert fallback.handle(events.direct("a"), events.context())["skipped"] == ["a"]
    ready.upload("a", tiny.grey_film(90))
    assert fallback.handle(events.direct("a"), events.context())["unfinished"]
    assert ready.versions("a") == 1


def test_races_are_bounded(ready, events, tiny, monkeypatch):
    ready.upload("a", tiny.grey_film(170))
    function, _ = warm(ready, events)
    tries = []

    def always_lost(*arguments, **named):
        tries.append(1)
        raise Conflict

    monkeypatch.setattr(Store, "put_over", always_lost)
    answer = function.handle(events.queue(events.s3("a")), events.context())
    assert answer == {"batchItemFailures": [{"itemIdentifier": "message-0"}]}
    assert len(tries) == 8


def test_time_running_out_between_races_hands_the_record_back(ready, events, tiny, monkeypatch):
    ready.upload("a", tiny.grey_film(170))
    function, _ = warm(ready, events)
    monkeypatch.setattr(Store, "put_over", lambda *a, **n: (_ for _ in ()).throw(Conflict))
    answer = function.handle(events.direct("a"), events.context(120_000, 100_000, 90_000, 1_000))
    assert answer["unfinished"] == [{"bucket": "uploads", "key": "a"}]


@pytest.mark.parametrize("slow", BEFORE)
def test_after_a_slow_call_no_other_is_made_and_the_rest_is_handed_back(ready, events, tiny, slow):
    for key in "ab":
        ready.upload(key, tiny.grey_film(170))
    function, store = warm(ready, events)
    context = events.context()
    store.actions[BEFORE[slow]] = lambda: context.remaining.append(context.remaining.pop() - 101_000)
    answer = function.handle(events.queue(events.s3("a"), events.s3("b")), context)
    left = ["message-1"] if slow == "put" else ["message-0", "message-1"]
    assert [item["itemIdentifier"] for item in answer["batchItemFailures"]] == left
    assert len(store.calls) == BEFORE[slow] + 1
    assert function.handle(events.direct("a", "b"), events.context())["unfinished"] == []


FAULTS = {
    "throttled": ClientError({"Error": {"Code": "SlowDown", "Message": "person7.jpeg"}}, "GetObject"),
    "internal": ClientError({"Error": {"Code": "InternalError", "Message": "person7.jpeg"}}, "GetObject"),
    "forbidden": ClientError({"Error": {"Code": "AccessDenied", "Message": "person7.jpeg"}}, "GetObject"),
    "timeout": ReadTimeoutError(endpoint_url="https://uploads/person7.jpeg"),
    "bug": KeyError("person7.jpeg"),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("before", BEFORE)
def test_a_transient_fault_is_retried_and_never_becomes_a_verdict(ready, events, tiny, fault, before):
    ready.upload("a", tiny.grey_film(170))
    ready.upload("b", tiny.grey_film(170))
    function, store = warm(ready, events)

    def fail():
        raise FAULTS[fault]

    store.actions[BEFORE[before]] = fail
    batch = events.queue(events.s3("a"), events.s3("b"))
    answer = function.handle(batch, events.context())
    assert answer == {"batchItemFailures": [{"itemIdentifier": "message-0"}]}
    assert ready.versions("a") == 0 and ready.versions("b") == 1
    assert function.handle(batch, events.context()) == {"batchItemFailures": []}
    assert ready.result("a")["status"] == "ok"


def test_an_object_over_the_limit_is_not_downloaded(ready, events, tiny, monkeypatch):
    monkeypatch.setattr("inference_lambda.answer.MAX_BYTES", 1000)
    ready.upload("a", tiny.grey_film(170))
    ready.function().handle(events.direct("a"), events.context())
    result = ready.result("a")
    assert [why["code"] for why in result["reasons"]] == ["file_too_large"]
    assert result["image"]["sha256"] is None and result["image"]["bytes"] > 1000


def test_an_unversioned_bucket_is_told_apart_by_etag(ready, events, tiny):
    ready.s3.create_bucket(Bucket="plain")
    config = type(ready.config)("plain", "results", "models", scratch=ready.config.scratch)
    function = Function(config, Store(ready.s3))
    for level, label in ((170, "PNEUMONIA"), (90, "NORMAL"), (90, "NORMAL")):
        ready.s3.put_object(Bucket="plain", Key="a", Body=tiny.grey_film(level))
        function.handle(events.direct("a", bucket="plain"), events.context())
        assert ready.result("a")["label"] == label
    assert ready.versions("a") == 2 and ready.result("a")["image"]["version_id"] == "null"


def test_a_result_of_unknown_origin_is_replaced(ready, events, tiny):
    ready.upload("a", tiny.grey_film(170))
    ready.s3.put_object(Bucket="results", Key="results/a.json", Body=b"{}", Metadata={"serial": "many"})
    assert ready.function().handle(events.direct("a"), events.context())["done"] == ["a"]
    assert ready.result("a")["supersedes"] is None


def test_a_key_too_long_for_a_heat_map_is_still_answered(ready, events, tiny):
    key = "k" * 1000
    ready.upload(key, tiny.grey_film(170))
    assert ready.function().handle(events.direct(key), events.context())["done"] == [key]
    place = ready.result(key)["heatmap"]
    assert (place["bucket"], place["key"]) == (None, None) and place["grid"]


ACTORS = ["overwrite", "promote", "other function", "delete result", "delete upload", "older function"]
STEPS = st.lists(st.tuples(st.integers(0, 14), st.sampled_from(ACTORS)), max_size=8)


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=STEPS)
def test_whatever_happens_between_two_calls_the_last_answer_is_current(fake_account, tiny, events, steps):
    """S3 sends an event after every upload, so some function runs once more after the last step."""
    account = fake_account()
    account.promote()
    account.upload("a", tiny.grey_film(170))
    function, store = warm(account, events)
    older, _ = warm(account, events)
    levels = itertools.cycle([60, 170, 90, 190])
    actions = {
        "overwrite": lambda: account.upload("a", tiny.grey_film(next(levels))),
        "promote": lambda: account.promote(slope=-12.0 if account.pointer["serial"] % 2 else 12.0),
        "other function": lambda: account.function().handle(events.direct("a"), events.context()),
        "older function": lambda: older.handle(events.direct("a"), events.context()),
        "delete result": lambda: account.s3.delete_object(Bucket="results", Key="results/a.json"),
        "delete upload": lambda: account.s3.delete_object(Bucket="uploads", Key="a"),
    }
    store.actions = {at: actions[name] for at, name in steps}
    function.handle(events.direct("a"), events.context())
    store.actions.clear()
    last = older if len(steps) % 2 else function
    answer = last.handle(events.direct("a"), events.context())

    assert not answer["unfinished"] and not answer["failed"]
    current = account.s3.current.get(("uploads", "a"))
    if current is not None:
        standing = account.s3.current["results", "results/a.json"]
        assert standing.metadata["upload-version"] == current.version_id
    if "delete result" not in {name for _, name in steps}:
        written = account.s3.history.get(("results", "results/a.json"), [])
        serials = [int(version.metadata["serial"]) for version in written]
        uploads = [int(version.metadata["upload-version"][1:]) for version in written]
        assert serials == sorted(serials) and uploads == sorted(uploads)


def test_the_fake_s3_decides_conditions_as_moto_does(account, fake_account):
    def outcome(client, operation, **arguments):
        try:
            getattr(client, operation)(Bucket="uploads", Key="k", **arguments)
            return "done"
        except ClientError as error:
            return error.response["Error"]["Code"]

    tags = []
    for client in (account.s3, fake_account().s3):
        tag = '"5d41402abc4b2a76b9719d911017c592"'
        tags.append(
            [
                outcome(client, "get_object"),
                outcome(client, "head_object"),
                outcome(client, "put_object", Body=b"hello", IfMatch=tag),
                outcome(client, "put_object", Body=b"hello", IfNoneMatch="*"),
                outcome(client, "put_object", Body=b"hello", IfNoneMatch="*"),
                outcome(client, "put_object", Body=b"other", IfMatch='"0"'),
                outcome(client, "get_object", IfNoneMatch=tag),
                outcome(client, "put_object", Body=b"other", IfMatch=tag),
                outcome(client, "get_object", IfNoneMatch=tag),
                outcome(client, "delete_object"),
                outcome(client, "head_object"),
            ]
        )
    assert tags[0] == tags[1]
