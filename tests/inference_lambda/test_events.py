"""What events ask for, in each form that AWS documents; fixtures are its own examples with our names."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference_lambda.events import (
    MAX_KEY_BYTES,
    MAX_OBJECTS,
    UnknownEvent,
    Upload,
    direct_request,
    is_direct,
    is_queue_batch,
    uploads_of,
    uploads_of_message,
)

NAMES = ("Records", "objects", "s3", "bucket", "object", "key", "name", "Event", "source", "detail", "Sns", "Message")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(NAMES), inner),
    max_leaves=12,
)


@given(JSON)
def test_any_json_is_understood_or_refused(content):
    try:
        uploads = uploads_of_message(json.dumps(content))
    except UnknownEvent:
        return
    assert all(isinstance(upload, Upload) and upload.key for upload in uploads)


@given(JSON)
def test_any_direct_event_is_understood_or_refused(content):
    try:
        request = direct_request({"objects": content})
    except UnknownEvent:
        return
    assert all(upload.bucket and upload.key for upload in request.uploads)


def test_the_three_kinds_of_event_are_told_apart():
    message, notified = {"messageId": "1", "body": ""}, {"s3": {}}
    assert is_queue_batch({"Records": [message]}) and not is_queue_batch({"Records": [message, notified]})
    assert not is_queue_batch({"Records": []}) and not is_queue_batch([message])
    assert is_direct({"objects": []}) and is_direct({"manifest": ""}) and not is_direct({"Records": [message]})


@pytest.mark.parametrize("body", ["", "no json", "[]", "null", '"x"', "[" * 100_000, "{}", '{"Records": {}}', None])
def test_a_body_of_unknown_form_is_refused(body):
    with pytest.raises(UnknownEvent):
        uploads_of_message(body)


def test_the_event_time_is_kept_for_the_latency():
    record = {"eventTime": "2026-01-01T00:00:00Z", "s3": {"bucket": {"name": "b"}, "object": {"key": "a%2Fb+c"}}}
    assert uploads_of({"Records": [record]}) == (Upload("b", "a/b c", "2026-01-01T00:00:00Z"),)


def test_an_object_named_twice_is_read_once():
    item = {"bucket": "b", "key": "k"}
    assert uploads_of({"objects": [item, item]}) == (Upload("b", "k"),)


def test_limits_of_s3_and_of_a_manifest_hold():
    with pytest.raises(UnknownEvent, match="1024 bytes"):
        uploads_of({"objects": [{"bucket": "b", "key": "k" * (MAX_KEY_BYTES + 1)}]})
    with pytest.raises(UnknownEvent, match="10000"):
        uploads_of({"objects": [{"bucket": "b", "key": "k"}] * (MAX_OBJECTS + 1)})


def test_a_refusal_never_quotes_the_event():
    for content in ({"objects": [{"bucket": "", "key": "person7"}]}, {"person7": 1}, {"objects": ["person7"]}):
        with pytest.raises(UnknownEvent) as refused:
            uploads_of(content)
        assert "person7" not in str(refused.value)


def test_a_manifest_address_is_split_at_the_first_slash():
    assert direct_request({"manifest": "s3://b/manifests/x/1.json"}).manifest == ("b", "manifests/x/1.json")


EVENTS = Path(__file__).parent / "events"
UPLOAD = ("uploads", "ward 3/ä+1.jpeg")


def event(name):
    return json.loads((EVENTS / f"{name}.json").read_text())


def by_sns(message):
    return event("sns") | {"Message": json.dumps(message)}


def to_lambda_by_sns(message):
    wrapped = event("sns_to_lambda")
    wrapped["Records"][0]["Sns"]["Message"] = json.dumps(message)
    return wrapped


CARRIED = [
    *(event("s3"), by_sns(event("s3")), to_lambda_by_sns(event("s3"))),
    *(event("eventbridge"), by_sns(event("eventbridge")), to_lambda_by_sns(event("eventbridge"))),
]


@pytest.mark.parametrize("carried", CARRIED)
def test_events_of_s3_are_understood_in_every_envelope(carried):
    (upload,) = uploads_of_message(json.dumps(carried))
    assert (upload.bucket, upload.key) == UPLOAD and upload.uploaded_at.startswith("2026-01-02T03:04:05")
    assert not is_queue_batch(carried) and not is_direct(carried)


def test_the_test_event_of_s3_asks_for_nothing_in_an_envelope_too():
    assert uploads_of(by_sns({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "uploads"})) == ()


def test_an_envelope_without_an_event_of_s3_is_refused():
    nested = event("s3")
    for _ in range(4):
        nested = by_sns(nested)
    confirmation = event("sns") | {"Type": "SubscriptionConfirmation", "Message": "You have chosen to subscribe"}
    for content in (
        nested, confirmation, by_sns({}), event("sns"), event("sns") | {"Message": None}, to_lambda_by_sns(["x"]),
        event("eventbridge") | {"source": "aws.ec2"}, event("eventbridge") | {"detail": {"bucket": {"name": "b"}}},
    ):  # fmt: skip
        with pytest.raises(UnknownEvent):
            uploads_of(content)
