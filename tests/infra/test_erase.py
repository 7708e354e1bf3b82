"""A patient is erased from every place where a film, its name or its picture lies, and from nobody else's."""

from __future__ import annotations

import hashlib
import html
import importlib
import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import boto3
import pytest
from moto import mock_aws

from cxr import result as results
from cxr import spreadsheet
from cxr.pointer import Move, PointerStore, Release
from infra.erase import Eraser, read_keys
from infra.errors import Fault
from infra.traces import Films, is_copy, path_in_dataset, spellings
from infra.versions import versions

KEY, OTHER = 'ward 3/Müller "Jane" & <co>.png', "ward 3/other.png"
FILM, OTHERS = b"the film of the patient", b"the film of another one"
SHA = hashlib.sha256(FILM).hexdigest()
NAMES = ("uploads", "results", "datasets", "models")
COPY = f"train/NORMAL/Müller-{hashlib.sha256(KEY.encode()).hexdigest()[:32]}.png"


def packed(**files: bytes) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name.replace("_", "."))
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


class House:
    """The four buckets and two dead-letter queues of a project, in moto."""

    def __init__(self) -> None:
        self.s3 = boto3.client("s3", region_name="us-east-1")
        self.sqs = boto3.client("sqs", region_name="us-east-1")
        for name in NAMES:
            self.s3.create_bucket(Bucket=name)
            self.s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
        self.outputs = {f"{name.capitalize()}Bucket": name for name in NAMES} | {
            f"{name}DeadLetterQueueUrl": self.sqs.create_queue(QueueName=name)["QueueUrl"]
            for name in ("Uploads", "Backlog")
        }
        self.said: list[str] = []

    def put(self, bucket: str, key: str, body: bytes | str) -> None:
        self.s3.put_object(Bucket=bucket, Key=key, Body=body)

    def holds(self, bucket: str) -> set[str]:
        return {version.key for version in versions(self.s3, bucket)}

    def erase(self, *keys: str, dry_run: bool = False) -> str:
        self.said.clear()
        Eraser(self.s3, self.sqs, self.outputs, self.said.append).erase(list(keys), dry_run)
        return "\n".join(self.said)


@pytest.fixture
def house() -> Iterator[House]:
    with mock_aws():
        yield House()


def answer(house: House, key: str, film: bytes) -> None:
    """An upload, its result and its pictures, each overwritten once and then deleted."""
    digest = hashlib.sha256(film).hexdigest()
    document = {"image": {"bytes": len(film), "sha256": digest}}
    places = {
        "uploads": (key,),
        "results": (results.key_of(key), results.heatmap_key(key, digest, "b" * 64),
                    f"dicom/{key}/{digest[:16]}-{'b' * 16}.sr.dcm"),
    }  # fmt: skip
    for bucket, objects in places.items():
        for name in objects:
            body = film if bucket == "uploads" else json.dumps(document)
            house.put(bucket, name, body)
            house.put(bucket, name, body)
            house.s3.delete_object(Bucket=bucket, Key=name)


def furnish(house: House) -> dict[str, set[str]]:
    """Everything that one patient and another left behind; returns what is to stay, by bucket."""
    answer(house, KEY, FILM)
    answer(house, OTHER, OTHERS)
    kept = {name: house.holds(name) for name in NAMES}
    kept["uploads"] = {OTHER}
    kept["results"] = {key for key in kept["results"] if OTHER in key}
    nobodys = {
        "datasets": {"datasets/x/train/NORMAL/a.png": OTHERS, "datasets/x-v2/complete.json": b"{}",
                     "weights/vgg16.h5": b"w", "datasets/x-v2/train/NORMAL/a.png": OTHERS},
        "results": {"reports/older/worklist.html": b"<td>other.png</td>", "manifests/older/1.json": b'{"objects": []}'},
        "models": {"models/clean/predictions.csv": b"test/NORMAL/c.png,0.1", "models/clean/model.tflite": b"m",
                   "training/clean/output/model.tar.gz": packed(metrics_json=b"{}"),
                   "training/fingerprints/ab.json": b"{}"},
    }  # fmt: skip
    patients: dict[str, dict[str, bytes | str]] = {
        "datasets": {f"datasets/x-v2/{COPY}": FILM, f"datasets/x-v3/{COPY}": FILM,
                     "datasets/x-v3/train/NORMAL/same bytes.png": FILM},
        "results": {"reports/now/worklist.html": f"<td>{html.escape(KEY)}</td><img src='data:,'>",
                    "reports/now/worklist.csv": "key,priority\n", "reports/latest/oversight.json": "{}",
                    "reports/latest/worklist.csv": 'key\n"{}"\n'.format(KEY.replace('"', '""')),
                    "manifests/now/1.json": json.dumps({"objects": [{"bucket": "uploads", "key": KEY}]})},
        "models": {"models/job/predictions.csv": f"{COPY},NORMAL", "models/job/golden.npz": b"pixels",
                   "models/job/model.tflite": b"m", "training/job/checkpoints/head.json": b"{}",
                   "training/job/output/model.tar.gz": packed(golden_npz=b"x", report_html=COPY.encode())},
    }  # fmt: skip
    for places in (nobodys, patients):
        for bucket, objects in places.items():
            for key, body in objects.items():
                house.put(bucket, key, body)
    house.put("datasets", "datasets/x-v3/patients.csv", f"file,patient\n{COPY},p1\ntrain/NORMAL/a.png,p2\n")
    house.put("datasets", "datasets/x-v3/subtypes.csv", f"file,subtype\n{COPY},virus\ntrain/PNEUMONIA/b.png,virus\n")
    for bucket, objects in nobodys.items():
        kept[bucket] |= set(objects)
    kept["datasets"] |= {"datasets/x-v3/patients.csv", "datasets/x-v3/subtypes.csv"}
    return kept


def test_one_command_erases_a_patient_from_everywhere_and_nobody_else(house: House) -> None:
    kept = furnish(house)
    letter = json.dumps({"Records": [{"s3": {"bucket": {"name": "uploads"}, "object": {"key": quote_plus(KEY)}}}]})
    for body in (letter, letter.replace("Jane", "John")):
        house.sqs.send_message(QueueUrl=house.outputs["UploadsDeadLetterQueueUrl"], MessageBody=body)
    part = house.s3.create_multipart_upload(Bucket="uploads", Key=KEY)
    house.s3.upload_part(Bucket="uploads", Key=KEY, UploadId=part["UploadId"], PartNumber=1, Body=FILM)
    said = house.erase(KEY)
    assert "Proved" in said and "run `retrain`" in said and "dead letters: 1 erased" in said
    assert {name: house.holds(name) for name in NAMES} == kept
    assert not house.s3.list_multipart_uploads(Bucket="uploads").get("Uploads")
    for name, row in (("patients", b"file,patient\ntrain/NORMAL/a.png,p2\n"),
                      ("subtypes", b"file,subtype\ntrain/PNEUMONIA/b.png,virus\n")):  # fmt: skip
        assert house.s3.get_object(Bucket="datasets", Key=f"datasets/x-v3/{name}.csv")["Body"].read() == row
    everything = [v.read(house.s3, name).read() for name in NAMES for v in versions(house.s3, name) if v.size]
    assert not [body for body in everything if FILM in body or any(way in body for way in spellings(KEY))]
    assert "nothing found" in house.erase(KEY), "a second run finds nothing to do"


def test_it_says_how_much_it_found_where_and_no_name(house: House) -> None:
    furnish(house)
    said = house.erase(KEY)
    assert said.startswith("1 keys, 1 films by their bytes")
    assert "  uploads: 1 objects (1 delete markers, 2 versions) erased" in said
    for place, number in (("results", 1), ("heat maps", 1), ("DICOM answers", 1), ("films in datasets", 3),
                          ("reports", 4), ("manifests", 1), ("models", 3), ("training output", 2)):  # fmt: skip
        assert f"  {place}: {number} objects" in said, place
    assert not [word for word in ("ward", "Müller", "Jane", "png", "job", SHA[:8]) if word in said]


def test_a_dry_run_says_the_same_and_deletes_nothing(house: House) -> None:
    furnish(house)
    before = {name: list(versions(house.s3, name)) for name in NAMES}
    assert "uploads: 1 objects (1 delete markers, 2 versions) found" in house.erase(KEY, dry_run=True)
    assert {name: list(versions(house.s3, name)) for name in NAMES} == before


def test_a_film_whose_upload_is_gone_for_ever_is_known_by_its_result(house: House) -> None:
    house.put("results", results.key_of(KEY), json.dumps({"image": {"bytes": len(FILM), "sha256": SHA}}))
    house.put("datasets", "datasets/x/train/NORMAL/renamed.png", FILM)
    house.erase(KEY)
    assert house.holds("datasets") == set() == house.holds("results")


def test_a_key_that_begins_like_another_and_a_folder_of_its_name_are_not_touched(house: House) -> None:
    for key in ("a", "a.png", "a/b"):
        answer(house, key, f"film {key}".encode())
    house.put("results", "reports/now/worklist.html", "<td>a/b</td><td>aa</td><td>a.png</td>")
    house.erase("a")
    assert house.holds("uploads") == {"a.png", "a/b"} and "reports/now/worklist.html" in house.holds("results")
    assert {key.split("/", 1)[1] for key in house.holds("results") if key.startswith("heatmaps/")} == {
        f"{key}/{hashlib.sha256(f'film {key}'.encode()).hexdigest()[:16]}-{'b' * 16}.png" for key in ("a.png", "a/b")
    }


@pytest.mark.parametrize("content", [b"not json", b"[]", b'{"image": null}', b'{"image": {"bytes": "x"}}'])
def test_a_result_of_another_form_is_erased_by_its_key(house: House, content: bytes) -> None:
    house.put("results", results.key_of(KEY), content)
    house.erase(KEY)
    assert house.holds("results") == set()


def test_the_model_that_answers_stays_and_the_remedy_is_told(house: House) -> None:
    furnish(house)
    store = PointerStore(house.s3, "models")
    store.promote(Release("1", "models", "models/job/bundle.json", None, "0" * 64, None), None, Move("me", "why"))
    with pytest.raises(Fault, match="Retrain without it"):
        house.erase(KEY)
    assert {"models/job/model.tflite", "training/job/output/model.tar.gz"} <= house.holds("models")
    assert KEY not in house.holds("uploads"), "all else is gone"


def test_what_is_written_meanwhile_is_told(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    furnish(house)
    monkeypatch.setattr(Eraser, "_abort_unfinished", lambda *_: house.put("results", results.key_of(KEY), b"{}"))
    with pytest.raises(Fault, match="written meanwhile"):
        house.erase(KEY)


def test_a_list_of_patients_that_is_no_csv_stops_the_command(house: House) -> None:
    house.put("datasets", f"datasets/x/{COPY}", FILM)
    house.put("datasets", "datasets/x/patients.csv", COPY.encode() + b"\xff")
    with pytest.raises(Fault, match=r"A list of films .* in the datasets bucket is no CSV"):
        house.erase(KEY)


def test_an_archive_that_cannot_be_searched_stops_the_command(house: House) -> None:
    house.put("models", "training/job/output/model.tar.gz", b"no archive")
    with pytest.raises(Fault, match="cannot be searched"):
        house.erase(KEY)


@pytest.mark.heavy
@pytest.mark.parametrize("key", [KEY, "a", "ward/CR.1.2.840.113619", "ä" * 400 + ".dcm", ".hidden.jpeg"])
def test_copies_of_an_upload_are_known_by_the_name_that_correct_labels_gives(
    key: str, monkeypatch: pytest.MonkeyPatch, repo: Path
) -> None:
    """Also where neither the upload nor its result is left to tell the bytes."""
    monkeypatch.syspath_prepend(str(repo / "dags"))
    name = importlib.import_module("cxr_pipeline.corrected_version").film_name(key)
    assert is_copy(f"datasets/x-v2/train/NORMAL/{name}", (OTHER, key))
    assert not is_copy(f"datasets/x-v2/train/NORMAL/{name}", (OTHER,))


def test_a_path_in_a_dataset_begins_with_its_split() -> None:
    assert path_in_dataset("datasets/a/b-v2/train/NORMAL/x.png") == "train/NORMAL/x.png"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"\n\n", "names no key"),
        (b"a\ns3://uploads/b\n", "line 2 is no key"),
        (b"x" * 1025, "line 1"),
        (b"\xff", "UTF-8"),
    ],
)
def test_a_file_that_holds_no_keys_is_refused(tmp_path: Any, content: bytes, says: str) -> None:
    (tmp_path / "keys").write_bytes(content)
    with pytest.raises(Fault, match=says):
        read_keys(tmp_path / "keys")
    with pytest.raises(Fault, match="cannot be read"):
        read_keys(tmp_path / "none")


def test_keys_are_taken_as_they_are_but_for_the_line_s_end(tmp_path: Any) -> None:
    (tmp_path / "keys").write_bytes("﻿ a b .png\r\n\nÄ.png\n a b .png".encode())
    assert read_keys(tmp_path / "keys") == [" a b .png", "Ä.png"]


@pytest.mark.parametrize(
    "key", ['ward/Doe "J".png', "=Doe.png", "ward;=Doe.png", "Doe\r=1.png", "<Doe>&'.png", "\uff1dDoe.png"]
)
def test_a_key_is_known_as_the_reports_write_it(key):
    out = io.BytesIO()
    spreadsheet.write(["key"], [[key]], out)
    assert Films((key,)).pattern().search(out.getvalue().splitlines()[1])
