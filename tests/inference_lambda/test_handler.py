import json
from dataclasses import replace
from urllib.parse import quote_plus

import pytest

from cxr.bundle import sha256_of
from cxr.grid import decode
from inference_lambda.answer import WrongModel
from inference_lambda.config import Config
from inference_lambda.events import UnknownEvent
from inference_lambda.handler import Fault, Unanswered

TIME_FOR_ONE = (120_000, *[90_000] * 6, 15_000)
"""ms left at each look: at the start, and at the six of one upload."""


@pytest.fixture
def ready(account):
    account.promote()
    return account


def test_an_upload_gets_a_result_that_fits_the_schema(ready, events, tiny):
    film = tiny.grey_film(170)
    version = ready.upload("a.jpeg", film)
    answer = ready.function().handle(events.queue(events.s3("a.jpeg")), events.context())
    result = ready.result("a.jpeg")
    assert answer == {"batchItemFailures": []}
    assert (result["status"], result["label"], result["priority"]) == ("ok", "PNEUMONIA", "urgent")
    assert result["probability"] == pytest.approx(tiny.expected_probability(170), abs=0.01)
    assert result["image"]["sha256"] == sha256_of(film) and result["image"]["version_id"] == version
    assert (result["image"]["width"], result["image"]["height"], result["image"]["format"]) == (300, 260, "JPEG")
    assert result["model"]["version"] == "1" and result["supersedes"] is None


def test_the_metadata_say_which_upload_and_which_model(ready, events, tiny):
    version = ready.upload("a.jpeg", tiny.grey_film(170))
    ready.function().handle(events.queue(events.s3("a.jpeg")), events.context())
    result, said = ready.result("a.jpeg"), ready.result_metadata("a.jpeg")
    assert said == {
        "upload-version": version,
        "upload-etag": ready.s3.head_object(Bucket="uploads", Key="a.jpeg")["ETag"].strip('"'),
        "model-sha256": result["model"]["sha256"],
        "serial": "1",
        "status": "ok",
        "label": "PNEUMONIA",
        "probability": str(result["probability"]),
    }


def test_the_heat_map_is_a_png_without_metadata(ready, events, tiny):
    ready.upload("a.jpeg", tiny.grey_film(170))
    ready.function().handle(events.queue(events.s3("a.jpeg")), events.context())
    result = ready.result("a.jpeg")
    place = result["heatmap"]
    prefix = f"heatmaps/a.jpeg/{result['image']['sha256'][:16]}-{result['model']['sha256'][:16]}"
    png = ready.s3.get_object(Bucket=place["bucket"], Key=place["key"])
    assert place["key"] == f"{prefix}.png" and png["ContentType"] == "image/png"
    assert not [chunk for chunk in (b"tEXt", b"iTXt", b"zTXt", b"eXIf", b"tIME") if chunk in png["Body"].read()]


@pytest.mark.parametrize(
    ("heatmaps", "level", "drawn"),
    [("all", 170, True), ("all", 80, True), ("positive", 170, True), ("positive", 80, False), ("none", 170, False)],
)
def test_the_setting_says_which_films_get_a_picture_and_every_result_has_the_grid(
    ready, events, tiny, heatmaps, level, drawn
):
    ready.config = replace(ready.config, heatmaps=heatmaps)
    ready.upload("a.jpeg", tiny.grey_film(level))
    ready.function().handle(events.queue(events.s3("a.jpeg")), events.context())
    result = ready.result("a.jpeg")
    listed = ready.s3.list_objects_v2(Bucket="results", Prefix="heatmaps/").get("Contents", [])
    assert [entry["Key"] for entry in listed] == ([result["heatmap"]["key"]] if drawn else [])
    assert (result["heatmap"]["bucket"] == "results") is drawn
    assert len(decode(result["heatmap"]["grid"])) == 14 * 14


def test_an_unknown_setting_of_heat_maps_stops_the_function_with_its_name():
    buckets = {f"CXR_{name}_BUCKET": "b" for name in ("UPLOADS", "RESULTS", "MODELS")}
    assert Config.from_environment(buckets).heatmaps == "positive"
    with pytest.raises(ValueError, match="CXR_HEATMAPS is 'some', expected one of all, positive, none"):
        Config.from_environment({**buckets, "CXR_HEATMAPS": "some"})


def test_a_broken_file_gets_an_unreadable_result_and_is_acknowledged(ready, events):
    ready.upload("broken.jpeg", b"this is no image")
    answer = ready.function().handle(events.queue(events.s3("broken.jpeg")), events.context())
    result = ready.result("broken.jpeg")
    assert answer == {"batchItemFailures": []}
    assert (result["status"], result["label"], result["heatmap"]) == ("unreadable", None, None)
    assert ready.result_metadata("broken.jpeg")["label"] == "none"


def test_one_bad_message_never_fails_its_neighbours(ready, events, tiny):
    for key in ("a.jpeg", "b.jpeg"):
        ready.upload(key, tiny.grey_film(120))
    batch = events.queue(
        events.s3("a.jpeg"), "no json", {"hello": 1}, events.s3("x", bucket="other"), events.s3("b.jpeg")
    )
    answer = ready.function().handle(batch, events.context())
    assert [item["itemIdentifier"] for item in answer["batchItemFailures"]] == ["message-1", "message-2", "message-3"]
    assert ready.result("a.jpeg") and ready.result("b.jpeg")


@pytest.mark.parametrize(
    "key",
    ["with space.jpeg", "a+b.jpeg", "größe/日本.jpeg", "100%.jpeg", "deep/er/x=y&z.png", "quote'\".jpeg", "x%2By.jpeg"],
)
def test_keys_are_decoded_as_s3_encodes_them(ready, events, tiny, key):
    ready.upload(key, tiny.grey_film(120))
    answer = ready.function().handle(events.queue(events.s3(quote_plus(key))), events.context())
    assert answer == {"batchItemFailures": []}
    assert ready.result(key)["image"]["key"] == key


def test_a_test_event_is_acknowledged(ready, events):
    test_event = {"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "uploads"}
    assert ready.function().handle(events.queue(test_event), events.context()) == {"batchItemFailures": []}


def test_a_folder_marker_is_acknowledged_without_result(ready, events):
    ready.upload("folder/", b"")
    assert ready.function().handle(events.queue(events.s3("folder/")), events.context()) == {"batchItemFailures": []}
    assert ready.versions("folder/") == 0


def test_a_zero_byte_file_is_unreadable(ready, events):
    ready.upload("empty.jpeg", b"")
    ready.function().handle(events.queue(events.s3("empty.jpeg")), events.context())
    assert [why["code"] for why in ready.result("empty.jpeg")["reasons"]] == ["empty_file"]


def test_an_upload_deleted_meanwhile_is_acknowledged(ready, events, tiny):
    ready.upload("a.jpeg", tiny.grey_film(120))
    ready.s3.delete_object(Bucket="uploads", Key="a.jpeg")
    answer = ready.function().handle(events.queue(events.s3("a.jpeg", "never-there.jpeg")), events.context())
    assert answer == {"batchItemFailures": []}
    assert ready.versions("a.jpeg") == 0


def test_several_records_in_one_message_are_all_answered(ready, events, tiny):
    for key in ("a.jpeg", "b.jpeg"):
        ready.upload(key, tiny.grey_film(120))
    ready.function().handle(events.queue(events.s3("a.jpeg", "b.jpeg", "a.jpeg")), events.context())
    assert ready.versions("a.jpeg") == ready.versions("b.jpeg") == 1


def test_a_backlog_message_lists_objects(ready, events, tiny):
    ready.upload("a+b c.jpeg", tiny.grey_film(120))
    answer = ready.function().handle(events.queue(events.direct("a+b c.jpeg")), events.context())
    assert answer == {"batchItemFailures": []} and ready.result("a+b c.jpeg")


def test_a_direct_call_says_what_became_of_each_upload(ready, events, tiny):
    ready.upload("a.jpeg", tiny.grey_film(120))
    ready.upload("b.jpeg", tiny.grey_film(120))
    function = ready.function()
    function.handle(events.direct("b.jpeg"), events.context())
    event = events.direct("a.jpeg", "b.jpeg", "gone.jpeg")
    event["objects"].append({"bucket": "other", "key": "x"})
    assert function.handle(event, events.context()) == {
        "done": ["a.jpeg"],
        "skipped": ["b.jpeg", "gone.jpeg"],
        "unfinished": [],
        "failed": [{"bucket": "other", "key": "x"}],
    }


def test_a_key_whose_results_key_is_too_long_has_failed_and_is_never_acknowledged(ready, events, tiny, capfd):
    fits, too_long = "k" * 1011, "k" * 1012
    for key in (fits, too_long):
        ready.upload(key, tiny.grey_film(120))
    function = ready.function()
    named = {"bucket": "uploads", "key": too_long}
    answer = function.handle(events.direct(fits, too_long), events.context())
    assert (answer["done"], answer["unfinished"], answer["failed"]) == ([fits], [], [named])
    assert '"Failed":1' in capfd.readouterr().out
    batch = events.queue(events.s3(too_long), events.s3(fits))
    assert function.handle(batch, events.context()) == {"batchItemFailures": [{"itemIdentifier": "message-0"}]}
    assert '"Failed":1' in (said := capfd.readouterr().out) and "1025 bytes, the limit is 1024" in said
    assert too_long not in said


def test_a_manifest_names_the_uploads(ready, events, tiny):
    ready.upload("a.jpeg", tiny.grey_film(120))
    ready.s3.put_object(Bucket="results", Key="manifests/1.json", Body=json.dumps(events.direct("a.jpeg")))
    answer = ready.function().handle({"manifest": "s3://results/manifests/1.json"}, events.context())
    assert answer["done"] == ["a.jpeg"]


@pytest.mark.parametrize(
    "manifest",
    [
        "s3://results/none.json",
        "s3://uploads/x.json",
        "results/x.json",
        "s3://results",
        None,
        7,
        "s3://results/bad",
        "s3://results/deep",
    ],
)
def test_a_manifest_that_cannot_be_used_is_an_error(ready, events, manifest):
    ready.s3.put_object(Bucket="results", Key="bad", Body=b"no json")
    ready.s3.put_object(Bucket="results", Key="deep", Body=b'{"objects": ' * 100_000)
    with pytest.raises(UnknownEvent):
        ready.function().handle({"manifest": manifest}, events.context())


def test_a_plain_s3_event_is_answered(ready, events, tiny):
    ready.upload("a.jpeg", tiny.grey_film(120))
    assert ready.function().handle(events.s3("a.jpeg"), events.context())["done"] == ["a.jpeg"]


def test_a_plain_s3_event_that_is_not_answered_is_raised_without_the_key(ready, events):
    with pytest.raises(Unanswered) as raised:
        ready.function().handle(events.s3("person7.jpeg", bucket="other"), events.context())
    assert "person7" not in str(raised.value)


@pytest.mark.parametrize(
    "event", [{}, {"Records": []}, {"Records": [{}]}, [], None, "text", {"objects": "a"}, {"objects": [1]}]
)
def test_an_event_of_unknown_form_is_an_error(ready, events, event):
    with pytest.raises(UnknownEvent):
        ready.function().handle(event, events.context())


def test_records_without_time_left_are_handed_back(ready, events, tiny):
    for key in "abc":
        ready.upload(key, tiny.grey_film(120))
    batch = events.queue(*(events.s3(key) for key in "abc"))
    answer = ready.function().handle(batch, events.context(*TIME_FOR_ONE))
    assert [item["itemIdentifier"] for item in answer["batchItemFailures"]] == ["message-1", "message-2"]
    assert [ready.versions(key) for key in "abc"] == [1, 0, 0]


def test_a_direct_call_without_time_left_lists_what_is_unfinished(ready, events, tiny):
    ready.upload("a", tiny.grey_film(120))
    answer = ready.function().handle(events.direct("a", "b"), events.context(*TIME_FOR_ONE))
    assert answer["done"] == ["a"] and answer["unfinished"] == [{"bucket": "uploads", "key": "b"}]


def test_a_function_with_a_short_timeout_still_works(ready, events, tiny):
    ready.upload("a", tiny.grey_film(120))
    assert ready.function().handle(events.direct("a"), events.context(10_000, 9_000))["done"] == ["a"]


def test_the_expected_model_answers_even_if_an_older_one_is_warm(ready, events, tiny):
    function = ready.function()
    ready.upload("a.jpeg", tiny.grey_film(170))
    function.handle(events.direct("a.jpeg"), events.context())
    newer = ready.promote(slope=-12.0)
    answer = function.handle(events.direct("a.jpeg", expect_sha256=newer), events.context())
    assert answer["done"] == ["a.jpeg"] and ready.result("a.jpeg")["model"]["sha256"] == newer


def test_another_model_than_the_expected_one_is_an_error(ready, events, tiny):
    ready.upload("a.jpeg", tiny.grey_film(170))
    with pytest.raises(WrongModel):
        ready.function().handle(events.direct("a.jpeg", expect_sha256="0" * 64), events.context())
    assert ready.versions("a.jpeg") == 0


def test_an_unforeseen_error_leaves_by_its_type_alone(ready, events, monkeypatch):
    from botocore.exceptions import ClientError

    refused = ClientError({"Error": {"Code": "AccessDenied", "Message": "person7.json is forbidden"}}, "GetObject")

    def forbidden(*_, **__):
        raise refused

    function = ready.function()
    monkeypatch.setattr(function.store, "get", forbidden)
    with pytest.raises(Fault, match=r"^ClientError\(AccessDenied\)$") as raised:
        function.handle({"manifest": "s3://results/person7.json"}, events.context())
    assert raised.value.__cause__ is None and raised.value.__suppress_context__


def test_a_context_of_none_is_accepted(ready, events, tiny):
    ready.upload("a", tiny.grey_film(120))
    assert ready.function().handle(events.direct("a"), None)["done"] == ["a"]
