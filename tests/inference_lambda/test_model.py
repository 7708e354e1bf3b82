import io
import json
import shutil

import numpy as np
import pytest
from botocore.exceptions import ClientError

from inference_lambda.model import REFRESH_SECONDS, RETRY_SECONDS, ModelSource, ModelUnavailable
from inference_lambda.store import Store


class CountingStore(Store):
    """Remembers which keys were read and can fail."""

    def __init__(self, client):
        super().__init__(client)
        self.reads = []
        self.fault = None

    def _call(self, operation, **arguments):
        self.reads.append(arguments["Key"])
        if self.fault:
            raise self.fault
        return super()._call(operation, **arguments)

    def models_read(self):
        return sum(key.endswith("model.tflite") for key in self.reads)


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def account(fake_account):
    return fake_account()


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def source(account, clock):
    store = CountingStore(account.s3)
    return ModelSource(store, "models", "models/current.json", account.config.scratch, 1, clock)


def corrupt(account, name, body=b"corrupt"):
    account.s3.put_object(Bucket="models", Key=name, Body=body)


def test_a_model_is_loaded_once_and_the_pointer_read_once_a_minute(account, source, clock):
    account.promote()
    first = source.current()
    for _ in range(20):
        assert source.current() is first
    assert source._store.reads.count("models/current.json") == 1
    clock.now += REFRESH_SECONDS
    assert source.current() is first
    assert source._store.reads.count("models/current.json") == 2 and source._store.models_read() == 1


def test_a_promotion_is_seen_within_a_minute(account, source, clock):
    first = account.promote()
    assert source.current().sha256 == first
    second = account.promote(slope=-12.0)
    assert source.current().sha256 == first
    clock.now += REFRESH_SECONDS
    model = source.current()
    assert (model.sha256, model.serial, model.version) == (second, 2, "2")


def test_a_forced_refresh_sees_a_promotion_at_once(account, source):
    account.promote()
    source.current()
    second = account.promote(slope=-12.0)
    assert source.refresh().sha256 == second


def test_the_same_model_under_new_limits_is_not_downloaded_again(account, source):
    account.promote()
    source.current()
    account.promote(threshold=0.3)
    model = source.refresh()
    assert model.limits.threshold == 0.3 and model.serial == 2 and source._store.models_read() == 1


BROKEN = {
    "model bytes": ("models/job-2/model.tflite", b"corrupt"),
    "model bytes of the right length": ("models/job-2/model.tflite", None),
    "golden bytes": ("models/job-2/golden.npz", b"corrupt"),
    "manifest": ("models/job-2/bundle.json", b"{}"),
    "pointer": ("models/current.json", b"{}"),
    "pointer text": ("models/current.json", b"\xff\xfe"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_what_cannot_be_verified_never_replaces_the_old_model(account, source, what):
    first = account.promote()
    source.current()
    account.promote(slope=-12.0)
    key, body = BROKEN[what]
    if body is None:
        good = account.s3.current["models", key].body
        body = good[:-1] + bytes([good[-1] ^ 1])
    corrupt(account, key, body)
    assert source.refresh().sha256 == first
    assert source.troubles.refused == 1


def test_a_model_that_fails_its_golden_films_is_refused(account, source, tiny):
    first = account.promote()
    source.current()
    files = tiny.bundle_files(account.cache, slope=-12.0, name="job-2")
    files["golden.npz"] = tiny.golden(slope=12.0)
    files["bundle.json"] = tiny.manifest({name: files[name] for name in ("model.tflite", "golden.npz")}).to_json()
    publish(account, files)
    assert source.refresh().sha256 == first and source.troubles.refused == 1


@pytest.mark.parametrize("changes", [{"threshold": float("nan")}, {"ood": {"limit": -1}}, {"classes": ["A", "B"]}])
def test_a_manifest_with_impossible_limits_is_refused(account, source, tiny, changes):
    first = account.promote()
    source.current()
    files = tiny.bundle_files(account.cache, slope=-12.0, name="job-2")
    files["bundle.json"] = json.dumps({**json.loads(files["bundle.json"]), **changes}).encode()
    publish(account, files)
    assert source.refresh().sha256 == first


def publish(account, files):
    from cxr.bundle import sha256_of

    for name, data in files.items():
        account.s3.put_object(Bucket="models", Key=f"models/job-2/{name}", Body=data)
    place = {"bucket": "models", "key": "models/job-2/bundle.json", "version_id": None}
    account.point(2, {**place, "sha256": sha256_of(files["bundle.json"])})


def test_a_bundle_outside_the_models_bucket_is_refused(account, source):
    first = account.promote()
    source.current()
    account.point(2, {**account.pointer["bundle"], "bucket": "uploads"})
    assert source.refresh().sha256 == first and source.troubles.refused == 1


def test_a_cold_start_without_a_usable_model_serves_the_previous_one(account, source, clock, capsys):
    first = account.promote()
    good = account.promote(slope=-12.0)
    intact = account.s3.current["models", "models/job-2/model.tflite"].body
    corrupt(account, "models/job-2/model.tflite")
    model = source.current()
    assert (model.sha256, model.serial) == (first, 1)
    assert source.troubles.fallback == 1 and "model_fallback" in capsys.readouterr().out
    corrupt(account, "models/job-2/model.tflite", intact)
    clock.now += REFRESH_SECONDS
    assert source.current().sha256 == good


def test_without_any_usable_model_nothing_is_answered(account, source, clock):
    with pytest.raises(ModelUnavailable):
        source.current()
    account.promote()
    clock.now += RETRY_SECONDS
    assert source.current().serial == 1


def test_a_refused_model_is_not_downloaded_for_every_upload(account, source, clock):
    account.promote()
    account.promote(slope=-12.0)
    corrupt(account, "models/job-2/model.tflite")
    source.current()
    reads = source._store.models_read()
    for _ in range(20):
        source.refresh()
    assert source._store.models_read() == reads
    clock.now += RETRY_SECONDS
    source.refresh()
    assert source._store.models_read() == reads + 1


def test_an_unreachable_pointer_keeps_the_model_and_raises_no_alarm(account, source, clock):
    first = account.promote()
    source.current()
    source._store.fault = ClientError({"Error": {"Code": "SlowDown"}}, "GetObject")
    clock.now += REFRESH_SECONDS
    assert source.current().sha256 == first and source.troubles.refused == 0


def test_a_cold_start_tries_again_at_once_after_a_transient_fault(account, source):
    account.promote()
    source._store.fault = ClientError({"Error": {"Code": "SlowDown"}}, "GetObject")
    with pytest.raises(ModelUnavailable):
        source.current()
    source._store.fault = None
    assert source.current().serial == 1


def forbidden(account, source):
    source._store.fault = ClientError({"Error": {"Code": "AccessDenied", "Message": "person7"}}, "GetObject")


def full_disk(account, source):
    shutil.rmtree(account.config.scratch)
    account.config.scratch.write_bytes(b"a file where a folder must be made")


def golden_of_another_form(account, source):
    files = source_files(account)
    stream = io.BytesIO()
    np.savez(stream, films=np.zeros(3))
    files["golden.npz"] = stream.getvalue()
    republish(account, files)


def golden_that_is_no_archive(account, source):
    files = source_files(account)
    files["golden.npz"] = b"PK corrupt"
    republish(account, files)


def source_files(account):
    return account.tiny.bundle_files(account.cache, slope=-12.0, name="job-2")


def republish(account, files):
    contents = {name: files[name] for name in ("model.tflite", "golden.npz")}
    publish(account, {**contents, "bundle.json": account.tiny.manifest(contents).to_json()})


@pytest.mark.parametrize("spoil", [forbidden, full_disk, golden_of_another_form, golden_that_is_no_archive])
def test_whatever_keeps_a_promoted_model_away_but_s3s_passing_trouble_is_a_refusal(account, source, spoil, capsys):
    first = account.promote()
    source.current()
    account.promote(slope=-12.0)
    spoil(account, source)
    assert source.refresh().sha256 == first
    said = capsys.readouterr().out
    assert source.troubles.refused == 1 and "model_refused" in said and "person7" not in said
    source.refresh()
    assert source.troubles.refused == 1, "it is looked at again only after a while"


def test_a_model_withdrawn_with_its_pointer_answers_nothing_more(account, source, clock, capsys):
    first = account.promote()
    source.current()
    account.s3.delete_object(Bucket="models", Key="models/current.json")
    clock.now += REFRESH_SECONDS
    for _ in range(3):
        with pytest.raises(ModelUnavailable):
            source.current()
    assert source.troubles.refused == 1 and "model_withdrawn" in capsys.readouterr().out
    account.point(2, account.pointer["bundle"])
    clock.now += RETRY_SECONDS
    assert source.current().sha256 == first and source.current().serial == 2


def test_scratch_holds_one_model_at_most(account, source):
    for slope in (12.0, -12.0, 12.0, -12.0):
        account.promote(slope=slope)
        source.refresh()
    files = [file for file in account.config.scratch.rglob("*") if file.is_file()]
    assert [file.name for file in files] == ["model.tflite"]


def test_a_refused_model_leaves_nothing_in_scratch(account, source, tiny):
    files = tiny.bundle_files(account.cache, name="job-2")
    files["golden.npz"] = tiny.golden(slope=-12.0)
    files["bundle.json"] = tiny.manifest({name: files[name] for name in ("model.tflite", "golden.npz")}).to_json()
    account.pointer = None
    publish(account, files)
    with pytest.raises(ModelUnavailable):
        source.current()
    assert not [file for file in account.config.scratch.rglob("*") if file.is_file()]


def test_the_old_model_still_answers_after_its_file_is_gone(account, source, tiny):
    account.promote()
    old = source.current().engine
    account.promote(slope=-12.0)
    source.refresh()
    answer = old.run(np.full((224, 224), 170, np.uint8)).probability
    assert answer == pytest.approx(tiny.expected_probability(170), abs=1e-3)
