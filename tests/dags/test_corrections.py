"""A reader's corrections become the next version of the dataset, or nothing is written at all."""

from __future__ import annotations

import hashlib
import io
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import numpy as np
import pytest
from cxr_pipeline import dataset
from cxr_pipeline.corrections import (
    Correction,
    CorrectionsRefused,
    Version,
    film_name,
    make_version,
    read,
)
from cxr_pipeline.dataset_version import next_version, previous_version
from cxr_pipeline.objects import listing
from cxr_pipeline.settings import Settings


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "header"),
        (b"film,label\nx,NORMAL\n", "header"),
        (b"key,label\n", "names no film"),
        (b"key,label\nx.jpeg,MAYBE\n", "line 2: the label is MAYBE"),
        (b"key,label\n,NORMAL\n", "line 2: there is no key"),
        (b"key,label\nx,NORMAL\nx,PNEUMONIA\n", "line 3: PNEUMONIA here and NORMAL in line 2"),
    ],
)
def test_bad_corrections_are_refused_by_line(content: bytes, why: str) -> None:
    with pytest.raises(CorrectionsRefused, match=why):
        read(content)


def test_labels_are_read_in_any_case_and_a_spreadsheet_s_mark_is_dropped() -> None:
    assert read("\ufeffkey,label\nw/ä.jpeg, pneumonia\n".encode()) == [Correction("w/ä.jpeg", "PNEUMONIA", 2)]


def test_versions_are_counted() -> None:
    assert next_version("datasets/x/") == "datasets/x-v2/"
    assert next_version("datasets/x-v9/") == "datasets/x-v10/"
    assert [previous_version(f"datasets/x{v}/") for v in ("", "-v2", "-v3")] == [None, "datasets/x/", "datasets/x-v2/"]


def test_a_film_keeps_the_name_by_which_its_patient_is_known() -> None:
    assert film_name("ward 1/person12_virus_3.jpeg").startswith("person12_virus_3-")
    assert film_name("a/x.jpeg") != film_name("b/x.jpeg")
    assert "." not in film_name("a/IM0001")


def drawn_film(seed: int) -> bytes:
    """A film that a model can read, whichever serves while the test runs."""
    from local_aws.synthetic import film

    body = io.BytesIO()
    film("NORMAL", np.random.default_rng(seed)).save(body, "JPEG")
    return body.getvalue()


@pytest.mark.heavy
def test_corrections_become_the_next_version_of_the_dataset(
    aws: Any, run: Callable[..., Any], small: dict[str, Any]
) -> None:
    aws.put("uploads_bucket", "w/c.jpeg", drawn_film(1))
    done = run("correct_labels", {"dataset": small["dataset"], "corrections": "key,label\nw/c.jpeg,normal\n"})
    assert done.state == "success"
    s3, bucket = aws.client("s3"), aws.settings["datasets_bucket"]
    found = dataset.read_listing("datasets/small-v2/", listing(s3, bucket, "datasets/small-v2/"))
    assert found.counts["train"] == {"NORMAL": 11, "PNEUMONIA": 10}
    assert found.counts["test"] == {"NORMAL": 4, "PNEUMONIA": 4}
    assert dataset.current(s3, bucket) == "datasets/small-v2/"


@pytest.mark.heavy
def test_a_corrected_test_film_does_not_leak_into_the_training(
    aws: Any, run: Callable[..., Any], small: dict[str, Any]
) -> None:
    aws.put("datasets_bucket", "datasets/leak/test/NORMAL/1.jpeg", drawn_film(2))
    aws.put("uploads_bucket", "again.jpeg", drawn_film(2))
    done = run("correct_labels", {"dataset": "datasets/leak/", "corrections": "key,label\nagain.jpeg,NORMAL\n"})
    assert done.returned["new_version"]["test_lines"] == [2]
    assert done.returned["new_version"]["added"] == {"NORMAL": 0, "PNEUMONIA": 0}


@pytest.mark.heavy
def test_the_headline_says_how_many_films_left_the_other_class(
    aws: Any, run: Callable[..., Any], small: dict[str, Any]
) -> None:
    aws.put("datasets_bucket", "datasets/moved/test/NORMAL/1.jpeg", drawn_film(3))
    aws.put("datasets_bucket", "datasets/moved/train/NORMAL/1.jpeg", drawn_film(4))
    aws.put("uploads_bucket", "moved.jpeg", drawn_film(4))
    done = run("correct_labels", {"dataset": "datasets/moved/", "corrections": "key,label\nmoved.jpeg,PNEUMONIA\n"})
    assert (done.state, done.returned["new_version"]["moved"]) == ("success", 1)
    assert any("moved out of the other class: 1" in line for line in done.headlines)


@pytest.mark.heavy
def test_a_film_that_does_not_exist_stops_the_new_version(
    aws: Any, run: Callable[..., Any], small: dict[str, Any]
) -> None:
    aws.put("datasets_bucket", "datasets/gap/test/NORMAL/1.jpeg", b"a test film")
    done = run("correct_labels", {"dataset": "datasets/gap/", "corrections": "key,label\nmissing.jpeg,NORMAL\n"})
    assert done.state == "failed"
    assert any("not in the uploads bucket: the keys of line 2" in line for line in done.headlines)
    assert not any("missing.jpeg" in line for line in done.headlines)
    assert not list(listing(aws.client("s3"), aws.settings["datasets_bucket"], "datasets/gap-v2/"))


BASE, V2, V3 = "datasets/x/", "datasets/x-v2/", "datasets/x-v3/"
FILMS = {
    f"{split}/{label}/{i}.jpeg": f"{split} {label} {i}".encode()
    for split in ("train", "test")
    for label in ("NORMAL", "PNEUMONIA")
    for i in range(3)
}


@dataclass(frozen=True)
class Hospital:
    """Buckets whose uploads no function answers, so that each result here is the test's own."""

    s3: Any
    names: Settings

    def dataset(self, films: dict[str, bytes] = FILMS) -> None:
        for path, body in films.items():
            self.s3.put_object(Bucket=self.names.datasets_bucket, Key=BASE + path, Body=body)

    def upload(self, key: str, body: bytes, **result: Any) -> str:
        """Upload a film, and write a result that says so if it is given a status; return its ETag."""
        etag = self.s3.put_object(Bucket=self.names.uploads_bucket, Key=key, Body=body)["ETag"].strip('"')
        if result:
            image = {"etag": etag, "sha256": hashlib.sha256(body).hexdigest(), **result.pop("image", {})}
            text = json.dumps({"image": image, **result}).encode()
            self.s3.put_object(Bucket=self.names.results_bucket, Key=f"results/{key}.json", Body=text)
        return str(etag)

    def films(self, prefix: str) -> dict[str, bytes]:
        bucket = self.names.datasets_bucket
        return {
            item["Key"].removeprefix(prefix): self.s3.get_object(Bucket=bucket, Key=item["Key"])["Body"].read()
            for item in listing(self.s3, bucket, prefix)
        }

    def correct(self, labels: dict[str, str], base: str = BASE) -> Version:
        given = [Correction(key, label, line) for line, (key, label) in enumerate(labels.items(), start=2)]
        return make_version(self.s3, self.names, base, given)

    def interrupt(self, labels: dict[str, str], copies: int, base: str = BASE) -> None:
        """Correct, but let the worker die after some copies."""
        done = count()

        def die(**_: Any) -> None:
            if next(done) >= copies:
                raise ConnectionAbortedError("the worker died")

        events = self.s3.meta.events
        events.register("before-call.s3.CopyObject", die)
        try:
            with pytest.raises(ConnectionAbortedError):
                self.correct(labels, base)
        finally:
            events.unregister("before-call.s3.CopyObject", die)


numbers = count()


@pytest.fixture
def hospital(aws: Any) -> Hospital:
    s3, number = aws.client("s3"), next(numbers)
    buckets = {f"{kind}_bucket": f"corrected-{kind}-{number}" for kind in ("datasets", "uploads", "results")}
    for bucket in buckets.values():
        s3.create_bucket(Bucket=bucket)
    return Hospital(s3, replace(Settings(**aws.settings), **buckets))


@pytest.mark.heavy
@pytest.mark.parametrize("result", [{}, {"status": "ok"}], ids=["no result", "result"])
def test_a_test_film_is_known_by_its_content_where_the_etags_differ(hospital: Hospital, result: dict[str, str]) -> None:
    hospital.dataset()
    film, there = (
        FILMS["test/NORMAL/1.jpeg"],
        {"Bucket": hospital.names.datasets_bucket, "Key": f"{BASE}test/NORMAL/1.jpeg"},
    )
    upload_id = hospital.s3.create_multipart_upload(**there)["UploadId"]
    part = hospital.s3.upload_part(**there, UploadId=upload_id, PartNumber=1, Body=film)["ETag"]
    stored = hospital.s3.complete_multipart_upload(
        **there, UploadId=upload_id, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part}]}
    )
    assert stored["ETag"].strip('"') != hospital.upload("again.jpeg", film, **result)
    made = hospital.correct({"again.jpeg": "PNEUMONIA"})
    assert (made.test_lines, made.added) == ((2,), {"NORMAL": 0, "PNEUMONIA": 0})


@pytest.mark.heavy
def test_a_result_tells_the_digest_of_the_upload_that_it_answers_and_of_no_later_one(hospital: Hospital) -> None:
    hospital.dataset()
    film = FILMS["test/NORMAL/1.jpeg"]
    digest = hashlib.sha256(film).hexdigest()
    hospital.upload("answered.jpeg", film[::-1], status="ok", image={"sha256": digest})
    hospital.upload("replaced.jpeg", film.upper(), status="ok", image={"sha256": digest, "etag": "of the first one"})
    made = hospital.correct({"answered.jpeg": "NORMAL", "replaced.jpeg": "NORMAL"})
    assert (made.test_lines, made.added["NORMAL"]) == ((2,), 1)


@pytest.mark.heavy
def test_a_film_corrected_again_leaves_the_class_where_it_was(hospital: Hospital) -> None:
    hospital.dataset()
    hospital.upload("w/person7_virus_1.jpeg", b"a film")
    name = film_name("w/person7_virus_1.jpeg")
    assert hospital.correct({"w/person7_virus_1.jpeg": "NORMAL"}).moved == 0
    made = hospital.correct({"w/person7_virus_1.jpeg": "PNEUMONIA"}, V2)
    assert (made.moved, made.copied, made.added) == (1, 12, {"NORMAL": 0, "PNEUMONIA": 1})
    assert f"train/NORMAL/{name}" in hospital.films(V2)
    films = hospital.films(V3)
    assert films.pop("complete.json")
    assert films == {**FILMS, f"train/PNEUMONIA/{name}": b"a film"}


@pytest.mark.heavy
def test_an_upload_that_is_a_train_film_of_the_other_class_takes_its_place(hospital: Hospital) -> None:
    hospital.dataset()
    hospital.upload("a.jpeg", FILMS["train/NORMAL/2.jpeg"], status="ok")
    hospital.upload("b.jpeg", FILMS["train/NORMAL/1.jpeg"], status="ok")
    made = hospital.correct({"a.jpeg": "PNEUMONIA", "b.jpeg": "NORMAL"})
    assert made.moved == 1
    assert {"train/NORMAL/1.jpeg", "train/NORMAL/2.jpeg"} & set(hospital.films(V2)) == {"train/NORMAL/1.jpeg"}


@pytest.mark.heavy
def test_a_moved_film_keeps_the_patient_that_the_list_gives_it(hospital: Hospital) -> None:
    rows = ["file,patient,ward", "train/NORMAL/0.jpeg,ann,1", "train/NORMAL/2.jpeg,ben,2", "test/NORMAL/2.jpeg,cy,3"]
    hospital.dataset({**FILMS, "patients.csv": "\n".join(rows).encode("utf-8-sig")})
    hospital.upload("a.jpeg", FILMS["train/NORMAL/2.jpeg"])
    hospital.correct({"a.jpeg": "PNEUMONIA"})
    rows[2] = f"train/PNEUMONIA/{film_name('a.jpeg')},ben,2"
    assert hospital.films(V2)["patients.csv"].decode().splitlines() == rows


@pytest.mark.heavy
def test_an_unreadable_upload_is_refused_by_its_line_and_nothing_is_written(hospital: Hospital) -> None:
    hospital.dataset()
    hospital.upload("good.jpeg", b"a film", status="uncertain")
    hospital.upload("torn.jpeg", b"half a fi", status="unreadable")
    with pytest.raises(CorrectionsRefused, match=r"unreadable.*: the films of line \d;.*take the lines out, or upload"):
        hospital.correct({"good.jpeg": "NORMAL", "torn.jpeg": "NORMAL"})
    assert hospital.films(V2) == {}


@pytest.mark.heavy
def test_one_film_with_two_labels_is_refused_with_both_lines(hospital: Hospital) -> None:
    hospital.dataset()
    for key in ("a.jpeg", "b.jpeg"):
        hospital.upload(key, b"a film")
    with pytest.raises(CorrectionsRefused, match=r"line 2 \(NORMAL\) and line 3 \(PNEUMONIA\) name the same film"):
        hospital.correct({"a.jpeg": "NORMAL", "b.jpeg": "PNEUMONIA"})
    assert hospital.films(V2) == {}


@pytest.mark.heavy
def test_an_interrupted_version_is_completed_by_the_same_corrections_and_marked_last(hospital: Hospital) -> None:
    hospital.dataset()
    hospital.upload("a.jpeg", b"a film")
    hospital.upload("b.jpeg", b"b film")
    hospital.correct({"a.jpeg": "NORMAL"})
    hospital.interrupt({"b.jpeg": "NORMAL"}, copies=5, base=V2)
    half = hospital.films(V3)
    assert len(half) == 5 and "complete.json" not in half
    made = hospital.correct({"b.jpeg": "NORMAL"}, V2)
    assert (made.there, made.copied) == (5, 13)
    whole = hospital.films(V3)
    assert json.loads(whole.pop("complete.json"))["base"] == V2
    assert whole == {
        **FILMS,
        f"train/NORMAL/{film_name('a.jpeg')}": b"a film",
        f"train/NORMAL/{film_name('b.jpeg')}": b"b film",
    }
    with pytest.raises(CorrectionsRefused, match="exists already"):
        hospital.correct({"b.jpeg": "NORMAL"}, V2)


@pytest.mark.heavy
def test_what_was_copied_of_an_older_film_is_copied_again(hospital: Hospital) -> None:
    hospital.dataset()
    hospital.upload("a.jpeg", b"a film")
    hospital.interrupt({"a.jpeg": "NORMAL"}, copies=12)
    time.sleep(1.0)  # S3 tells the second
    hospital.dataset({"train/NORMAL/1.jpeg": b"TRAIN NORMAL 1"})
    assert hospital.correct({"a.jpeg": "NORMAL"}).copied == 12
    assert hospital.films(V2)["train/NORMAL/1.jpeg"] == b"TRAIN NORMAL 1"


@pytest.mark.heavy
def test_an_interrupted_version_is_not_mixed_with_other_corrections(hospital: Hospital) -> None:
    hospital.dataset()
    hospital.upload("a.jpeg", b"a film")
    hospital.upload("b.jpeg", FILMS["train/NORMAL/0.jpeg"])
    hospital.interrupt({"a.jpeg": "NORMAL"}, copies=12)
    with pytest.raises(
        CorrectionsRefused,
        match=r"x-v2/ holds \d objects that these corrections do not make: a run.*Run those again",
    ):
        hospital.correct({"b.jpeg": "PNEUMONIA"})


@pytest.mark.heavy
def test_an_interrupted_version_is_no_base(hospital: Hospital) -> None:
    hospital.dataset()
    hospital.upload("a.jpeg", b"a film")
    hospital.interrupt({"a.jpeg": "NORMAL"}, copies=12)
    with pytest.raises(CorrectionsRefused, match=r"x-v2/ lacks complete\.json.*corrections on datasets/x/ again"):
        hospital.correct({"a.jpeg": "NORMAL"}, V2)
    assert hospital.films(V3) == {}
