import json
import re
from pathlib import Path

import jsonschema
import pytest

from cxr.bundle import SIDES, Bundle, BundleError, input_of, read_bundle, sha256_of
from cxr.verdict import Limits

SCHEMA = json.loads((Path(__file__).parents[2] / "cxr" / "bundle.schema.json").read_text())


@pytest.fixture
def document(tiny) -> dict:
    return json.loads(tiny.manifest({"model.tflite": b"model", "golden.npz": b"golden"}).to_json())


BROKEN = {
    "a limit beyond a float": {"ood": {"limit": 10**400}},
    "a threshold beyond a float": {"threshold": 10**400},
    "a temperature beyond a float": {"temperature": 10**400},
    "nan threshold": {"threshold": float("nan")},
    "infinite ood limit": {"ood": {"limit": float("inf")}},
    "threshold above one": {"threshold": 1.5},
    "threshold as text": {"threshold": "0.5"},
    "threshold true": {"threshold": True},
    "no quantile": {"conformal": {"alpha": 0.05, "quantile": {"NORMAL": 0.5}}},
    "negative quantile": {"conformal": {"alpha": 0.05, "quantile": {"NORMAL": -0.5, "PNEUMONIA": 0.5}}},
    "alpha zero": {"conformal": {"alpha": 0, "quantile": {"NORMAL": 0.5, "PNEUMONIA": 0.5}}},
    "classes swapped": {"classes": ["PNEUMONIA", "NORMAL"]},
    "other input": {"input": {"shape": [1, 299, 299, 3]}},
    "side of 65": {"input": input_of(65)},
    "side of 336": {"input": input_of(336)},
    "side of 48": {"input": input_of(48)},
    "oblong film": {"input": {**input_of(224), "shape": [1, 224, 112, 1]}},
    "side as text": {"input": {**input_of(224), "shape": [1, "224", "224", 1]}},
    "shape as a number": {"input": {**input_of(224), "shape": 224}},
    "shape of booleans": {"input": {**input_of(224), "shape": [True, 224, 224, True]}},
    "schema version true": {"schema_version": True},
    "other range": {"input": {**input_of(224), "range": [0, 1]}},
    "future schema": {"schema_version": 2},
    "no model": {"files": {"golden.npz": {"sha256": "0" * 64, "bytes": 1}}},
    "path in a file name": {
        "files": {"model.tflite": {"sha256": "0" * 64, "bytes": 1}, "../x": {"sha256": "0" * 64, "bytes": 1}}
    },
    "short digest": {"files": {"model.tflite": {"sha256": "abc", "bytes": 1}}},
    "unknown head": {"head": "transformer"},
    "ood as a number": {"ood": 33.0},
    "temperature zero": {"temperature": 0},
    "low confidence below a half": {"low_confidence": 0.3},
}


@pytest.mark.parametrize("changes", BROKEN.values(), ids=BROKEN)
def test_an_inconsistent_bundle_is_refused(document, changes):
    with pytest.raises(BundleError):
        Bundle.from_json(json.dumps({**document, **changes}))


@pytest.mark.parametrize("changes", [v for k, v in BROKEN.items() if not re.search("nan|infinite|beyond", k)])
def test_the_schema_refuses_what_the_code_refuses(document, changes):
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**document, **changes}, SCHEMA)


def test_every_allowed_side_is_in_code_and_schema(document):
    for side in SIDES:
        changed = {**document, "input": input_of(side)}
        jsonschema.validate(changed, SCHEMA)
        assert Bundle.from_json(json.dumps(changed)).side == side
    assert SCHEMA["properties"]["input"]["properties"]["shape"]["enum"] == [input_of(side)["shape"] for side in SIDES]


def test_a_bundle_of_a_writer_that_knew_one_side_takes_224_px(document):
    assert document["input"]["shape"] == [1, 224, 224, 1]
    assert Bundle.from_json(json.dumps({**document, "input": None})).side == 224


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"null",
        b"{",
        b"{}",
        b"\xff\xfe",
        b" " * (2 << 20),
        b"[" * 100_000,
        b'{"seed": ' + b"9" * 5000 + b"}",
    ],
)
def test_bytes_that_are_no_bundle_are_refused(text):
    with pytest.raises(BundleError):
        Bundle.from_json(text)


@pytest.mark.parametrize("place", ["metrics", "seed", "conformal", "files"])
@pytest.mark.parametrize(
    "text", ["1e400", '"\\ud800"', "-" + "9" * 4000, *("[" * n + "]" * n for n in (500, 900, 950, 1000, 50_000))]
)
def test_hostile_values_end_in_one_refusal_wherever_they_stand(document, place, text):
    for value in (text, f'{{"x": {text}}}'):
        raw = json.dumps({**document, place: "HERE"}).replace('"HERE"', value)
        try:
            Bundle.from_json(raw).to_json()
        except BundleError:
            continue
        assert text[0] == "-", "an integer of any size may stand among the metrics"


HOSTILE = {
    "deep list": b'{"metrics": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "deep object": b'{"a":' * 100_000,
    "list of 33 levels": b"[" * 33 + b"]" * 33,
    "huge number of digits": b'{"seed": ' + b"9" * 5_000 + b"}",
    "infinite exponent": b'{"threshold": 1e999}',
    "half a character": b'{"name": "\\ud800"}',
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_manifest_ends_in_one_refusal(text):
    with pytest.raises(BundleError):
        Bundle.from_json(text)


HUGE = {
    "seed": {"seed": 10**4000},
    "temperature": {"temperature": 10**400},
    "threshold": {"threshold": 10**400},
    "alpha": {"conformal": {"alpha": -(10**400), "quantile": {"NORMAL": 0.5, "PNEUMONIA": 0.5}}},
    "limit": {"ood": {"limit": 10**400}},
    "side": {"input": {"shape": [1, 10**400, 10**400, 1]}},
    "size": {"files": {"model.tflite": {"sha256": "0" * 64, "bytes": 10**400}}},
    "version": {"schema_version": 10**400},
    "nest in a field": {"metrics": json.loads("[" * 40 + "]" * 40)},
    "half a character": {"name": "\ud800"},
}


@pytest.mark.parametrize("changes", HUGE.values(), ids=HUGE)
def test_numbers_and_nests_that_no_machine_holds_are_refused(document, changes):
    with pytest.raises(BundleError):
        Bundle.from_json(json.dumps({**document, **changes}))


def test_a_missing_field_is_named(document):
    del document["threshold"]
    with pytest.raises(BundleError, match="threshold"):
        Bundle.from_json(json.dumps(document))


def test_the_bundle_survives_json_and_fits_its_schema(document):
    bundle = Bundle.from_json(json.dumps(document))
    jsonschema.validate(json.loads(bundle.to_json()), SCHEMA)
    assert Bundle.from_json(bundle.to_json()) == bundle
    assert bundle.to_json() == Bundle.from_json(bundle.to_json()).to_json()
    assert bundle.to_json().endswith(b"}\n")


def test_fields_of_a_newer_writer_are_ignored(document):
    assert Bundle.from_json(json.dumps({**document, "added_later": 1})).threshold == 0.5


def test_limits_come_from_the_bundle(document):
    document["conformal"]["quantile"]["NORMAL"] = None
    limits = Limits.from_bundle(Bundle.from_json(json.dumps(document)))
    assert (limits.threshold, limits.quantile_normal, limits.quantile_pneumonia) == (0.5, None, 0.6)
    assert (limits.alpha, limits.ood_limit, limits.low_confidence) == (0.05, 10.0, 0.70)


@pytest.fixture
def unpacked(tiny, tmp_path) -> Path:
    files = {"model.tflite": b"model", "golden.npz": b"golden"}
    for name, data in {**files, "bundle.json": tiny.manifest(files).to_json()}.items():
        (tmp_path / name).write_bytes(data)
    return tmp_path


def test_an_intact_folder_is_read(unpacked):
    assert read_bundle(unpacked, ("model.tflite", "golden.npz")).model_sha256 == sha256_of(b"model")


@pytest.mark.parametrize("data", [b"mode1", b"model and more", b""])
def test_a_changed_file_is_refused(unpacked, data):
    (unpacked / "model.tflite").write_bytes(data)
    with pytest.raises(BundleError, match=r"model\.tflite"):
        read_bundle(unpacked, ("model.tflite",))


def test_a_missing_file_is_refused(unpacked):
    (unpacked / "golden.npz").unlink()
    with pytest.raises(BundleError, match=r"golden\.npz"):
        read_bundle(unpacked, ("golden.npz",))
    with pytest.raises(BundleError, match=r"report\.html"):
        read_bundle(unpacked, ("report.html",))


def test_a_folder_without_manifest_is_refused(tmp_path):
    with pytest.raises(BundleError, match=r"bundle\.json"):
        read_bundle(tmp_path)


def test_a_file_and_its_bytes_have_the_same_digest(tmp_path):
    (tmp_path / "x").write_bytes(b"abc" * 700_000)
    assert sha256_of(tmp_path / "x") == sha256_of(b"abc" * 700_000)
