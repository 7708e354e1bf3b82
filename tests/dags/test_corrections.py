"""A reader's corrections become the next version of the dataset, or nothing is written at all."""

from __future__ import annotations

import hashlib
import io
import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import numpy as np
import pytest
from cxr_pipeline import dataset
from cxr_pipeline.corrected_version import Version, film_name, make_version, with_new_paths
from cxr_pipeline.corrections import Correction, CorrectionsRefused, read
from cxr_pipeline.dataset_version import next_version, previous_version
from cxr_pipeline.objects import listing
from cxr_pipeline.settings import Settings

from cxr.dataset import judge
from cxr.patients import patient_of


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "header"),
        (b"film,label\nx,NORMAL\n", "header"),
        (b"w/Doe-Jane.jpeg,NORMAL\n", "header key,label"),
        (b"key;label\nw/Doe-Jane.jpeg;NORMAL\n", "header key,label, with commas; it has 1"),
        (b"key,label\n", "names no film"),
        (b"key,label\nx.jpeg,MAYBE\n", "line 2: the label is none of"),
        (b"key,label\nNORMAL,Doe-Jane\n", "line 2: the label is none of"),
        (b"key,label\nDoe, Jane.jpeg,NORMAL\n", "line 2: it has more cells than the header"),
        (b"key,label\n,NORMAL\n", "line 2: there is no key"),
        (b"key,label\nx,NORMAL\nx,PNEUMONIA\n", "line 3: PNEUMONIA here and NORMAL in line 2"),
        (b"key,label\n\n\nx,NORMAL\ny,WHAT\n", "line 5: the label"),
        ("key,label\nDoe-Jäne,NORMAL\n".encode("latin-1"), "byte 15 is no UTF-8; save the file as CSV UTF-8"),
        ("key,label\nDoe-Jane,NORMAL\n".encode("utf-16"), "no UTF-8"),
        (b"key,label\n" + b"Doe" * 50_000 + b",NORMAL\n", "field larger than"),
    ],
)
def test_bad_corrections_are_refused_by_line_and_no_cell_is_quoted(content: bytes, why: str) -> None:
    with pytest.raises(CorrectionsRefused, match=why) as refused:
        read(content)
    assert "doe" not in str(refused.value).lower() + repr(refused.value.__cause__).lower()


def test_labels_are_read_in_any_case_and_a_spreadsheet_s_mark_is_dropped() -> None:
    assert read("\ufeffkey,label\nw/ä.jpeg, pneumonia\n".encode()) == [Correction("w/ä.jpeg", "PNEUMONIA", 2)]


def test_a_key_is_taken_as_it_is_and_known_by_the_line_where_it_stands() -> None:
    text = 'key,label\r\n x.jpeg ,NORMAL\r\n\r\n"a,b\r\nc.jpeg",NORMAL\r\n#,PNEUMONIA'
    assert [(one.key, one.line) for one in read(text.encode())] == [(" x.jpeg ", 2), ("a,b\r\nc.jpeg", 5), ("#", 6)]


def test_versions_are_counted() -> None:
    assert next_version("datasets/x/") == "datasets/x-v2/"
    assert next_version("datasets/x-v9/") == "datasets/x-v10/"
    assert [previous_version(f"datasets/x{v}/") for v in ("", "-v2", "-v3")] == [None, "datasets/x/", "datasets/x-v2/"]


def test_a_film_keeps_the_name_by_which_its_patient_is_known() -> None:
    for key, patient in (
        ("ward 1/person12_virus_3.jpeg", "person12"), ("IM-0115-0001.jpeg", "IM-0115"),
        ("x/BACTERIA-1008087-0001" + "z" * 900 + ".jpeg", "BACTERIA-1008087"),
    ):  # fmt: skip
        assert patient_of(film_name(key)) == patient == patient_of(key)


def test_two_uploads_are_two_films_however_many_there_are() -> None:
    """The digest has 128 bits: with 32, two of 77,000 uploads of one name would be one film, as likely as not."""
    name = film_name("a/x.jpeg")
    assert re.fullmatch(r"x-[0-9a-f]{32}\.jpeg", name) and name != film_name("b/x.jpeg")


@pytest.mark.parametrize(
    "key",
    [
        "a/IM0001", "CR.1.2.840.113619.2.55", "x.PNG", ".hidden.jpeg", "...", "scan.jpg.bak", "scan.tmp", "Thumbs.db",
        "patients.csv", "complete.json", "é" * 500, "x." + "y" * 400, "x" * 1000 + ".jpeg", "a b/c?d#e.dcm", "__MACOSX",
    ],
)  # fmt: skip
def test_every_upload_gets_a_name_that_is_a_film_s_and_that_a_disk_takes(key: str) -> None:
    name = film_name(key)
    assert judge(f"train/NORMAL/{name}").kind == "film"
    assert len(name.encode()) <= 255


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
def test_corrections_may_lie_at_an_address_with_any_characters(hospital: Hospital) -> None:
    from correct_labels import _content

    s3, bucket = hospital.s3, hospital.names.uploads_bucket
    s3.put_object(Bucket=bucket, Key="ward #3/what?.csv", Body=b"key,label\n")
    assert _content(s3, f"s3://{bucket}/ward #3/what?.csv\n") == b"key,label\n"
    assert _content(s3, "label,key\nNORMAL,x ") == b"label,key\nNORMAL,x "
    for missing in (f"s3://{bucket}/Doe-Jane.csv", "s3://"):
        with pytest.raises(CorrectionsRefused, match="there is no object at the s3:// address") as refused:
            _content(s3, missing)
        assert "Doe" not in str(refused.value)


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
    hospital.upload("new.jpeg", b"a film")
    made = hospital.correct({"again.jpeg": "PNEUMONIA", "new.jpeg": "NORMAL"})
    assert (made.decision.test_lines, made.added) == ((2,), {"NORMAL": 1, "PNEUMONIA": 0})
    assert made.decision.left_out() == "; left out, being test films: line 2"


@pytest.mark.heavy
def test_a_result_tells_the_digest_of_the_upload_that_it_answers_and_of_no_later_one(hospital: Hospital) -> None:
    hospital.dataset()
    film = FILMS["test/NORMAL/1.jpeg"]
    digest = hashlib.sha256(film).hexdigest()
    hospital.upload("answered.jpeg", film[::-1], status="ok", image={"sha256": digest})
    hospital.upload("replaced.jpeg", film.upper(), status="ok", image={"sha256": digest, "etag": "of the first one"})
    made = hospital.correct({"answered.jpeg": "NORMAL", "replaced.jpeg": "NORMAL"})
    assert (made.decision.test_lines, made.added["NORMAL"]) == ((2,), 1)


@pytest.mark.heavy
def test_a_film_corrected_again_leaves_the_class_where_it_was(hospital: Hospital) -> None:
    hospital.dataset()
    hospital.upload("w/person7_virus_1.jpeg", b"a film")
    name = film_name("w/person7_virus_1.jpeg")
    assert hospital.correct({"w/person7_virus_1.jpeg": "NORMAL"}).decision.moved == {}
    made = hospital.correct({"w/person7_virus_1.jpeg": "PNEUMONIA"}, V2)
    assert (len(made.decision.moved), made.copied, made.added) == (1, 12, {"NORMAL": 0, "PNEUMONIA": 1})
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
    assert (len(made.decision.moved), made.decision.known_lines) == (1, (3,))
    assert {"train/NORMAL/1.jpeg", "train/NORMAL/2.jpeg"} & set(hospital.films(V2)) == {"train/NORMAL/1.jpeg"}


@pytest.mark.heavy
def test_a_moved_film_keeps_the_patient_that_the_list_gives_it(hospital: Hospital) -> None:
    rows = ["file,patient,ward", "train/NORMAL/0.jpeg,ann,1", "train/NORMAL/2.jpeg,ben,2", "test/NORMAL/2.jpeg,cy,3"]
    hospital.dataset({**FILMS, "patients.csv": "\n".join(rows).encode("utf-8-sig")})
    hospital.upload("a.jpeg", FILMS["train/NORMAL/2.jpeg"])
    hospital.correct({"a.jpeg": "PNEUMONIA"})
    rows[2] = f"train/PNEUMONIA/{film_name('a.jpeg')},ben,2"
    assert hospital.films(V2)["patients.csv"].decode().splitlines() == rows
    assert with_new_paths("\n".join(rows).encode(), {"train/NORMAL/0.jpeg": None}).decode().splitlines() == [
        rows[0],
        *rows[2:],
    ]


def test_a_film_that_is_normal_after_all_loses_its_subtype() -> None:
    rows = ["file,subtype", "train/PNEUMONIA/0.jpeg,virus", "train/PNEUMONIA/1.jpeg,bacteria"]
    moved: dict[str, str | None] = {"train/PNEUMONIA/0.jpeg": "train/NORMAL/a.jpeg"}
    assert with_new_paths("\n".join(rows).encode(), moved, "NORMAL").decode().splitlines() == [rows[0], rows[2]]


@pytest.mark.heavy
def test_an_unreadable_upload_is_refused_by_its_line_and_nothing_is_written(hospital: Hospital) -> None:
    hospital.dataset()
    hospital.upload("good.jpeg", b"a film", status="uncertain")
    hospital.upload("torn.jpeg", b"half a fi", status="unreadable")
    hospital.upload("empty.jpeg", b"")
    with pytest.raises(
        CorrectionsRefused, match=r"unreadable.*: the films of line 3, 4;.*take the lines out, or upload"
    ):
        hospital.correct({"good.jpeg": "NORMAL", "torn.jpeg": "NORMAL", "empty.jpeg": "NORMAL"})
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
def test_what_would_change_nothing_says_so_and_writes_nothing(hospital: Hospital) -> None:
    hospital.dataset()
    for key, film in (("a.jpeg", "test/NORMAL/1.jpeg"), ("b.jpeg", "train/NORMAL/0.jpeg"), ("c.jpeg", "new")):
        hospital.upload(key, FILMS.get(film, b"a film"))
    with pytest.raises(CorrectionsRefused, match=r"change nothing; .* test films: line 2; .* already: line 3"):
        hospital.correct({"a.jpeg": "NORMAL", "b.jpeg": "NORMAL"})
    assert hospital.films(V2) == {}
    hospital.upload("twin.jpeg", b"a film")
    made = hospital.correct({"c.jpeg": "NORMAL", "twin.jpeg": "NORMAL"})
    assert (made.added["NORMAL"], made.decision.known_lines) == (1, (3,))
    with pytest.raises(CorrectionsRefused, match=r"change nothing; .* already: line 2"):
        hospital.correct({"c.jpeg": "NORMAL"}, V2)


@pytest.mark.heavy
def test_no_copy_carries_metadata_or_tags_that_may_name_a_patient(hospital: Hospital) -> None:
    hospital.dataset()
    for bucket, key in (
        (hospital.names.uploads_bucket, "a.jpeg"),
        (hospital.names.datasets_bucket, f"{BASE}train/NORMAL/9.jpeg"),
    ):
        hospital.s3.put_object(
            Bucket=bucket, Key=key, Body=key.encode(), Metadata={"patient": "Doe"}, Tagging="patient=Doe"
        )
    hospital.correct({"a.jpeg": "NORMAL"})
    for path in (f"train/NORMAL/{film_name('a.jpeg')}", "train/NORMAL/9.jpeg"):
        place = {"Bucket": hospital.names.datasets_bucket, "Key": V2 + path}
        assert hospital.s3.head_object(**place)["Metadata"] == {}
        assert hospital.s3.get_object_tagging(**place)["TagSet"] == []


@pytest.mark.heavy
def test_a_version_whose_keys_s3_would_refuse_is_refused_before_anything_is_written(hospital: Hospital) -> None:
    longest = f"train/NORMAL/{'d/' * 480}{'x' * 200}"[: 1024 - len(BASE)]
    hospital.dataset({**FILMS, longest: b"deep"})
    hospital.upload("a.jpeg", b"a film")
    hospital.upload("k" * 1024, b"another film")
    with pytest.raises(
        CorrectionsRefused, match=r"1 films would have keys of more than 1024 bytes below datasets/x-v2/"
    ):
        hospital.correct({"a.jpeg": "NORMAL"})
    hospital.s3.delete_object(Bucket=hospital.names.datasets_bucket, Key=BASE + longest)
    assert hospital.correct({"k" * 1024: "NORMAL"}).added["NORMAL"] == 1
    with pytest.raises(CorrectionsRefused, match="not in the uploads bucket: the keys of line 2"):
        hospital.correct({"k" * 1025: "NORMAL"}, V2)


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
