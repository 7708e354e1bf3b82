"""A data set reaches S3 in Kaggle's layout, or the file that prevents it is named."""

from __future__ import annotations

import contextlib
import io
import os
import re
import zipfile

import boto3
import pytest
from moto import mock_aws

from infra import dataset
from infra.dataset import Target, open_dataset, upload
from infra.source import DatasetError

SESSION = boto3.Session(region_name="us-east-1")  # one: it reads the services' models once
FILMS = {
    f"{split}/{label}/{label[0]}-{n:04}.jpeg": f"{split}{label}{n}".encode()
    for split, each in (("train", 40), ("test", 12))
    for label, of in (("NORMAL", 1), ("PNEUMONIA", 3))
    for n in range(each * of // 4)
}


LISTS = {"patients.csv": b"file,patient\n", "subtypes.csv": b"file,subtype\n"}


def folder(root, files=FILMS):
    for path, content in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
    return root


def archive(path, files=FILMS, method=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", method) as packed:
        for name, content in files.items():
            packed.writestr(name, content)
    return path


def paths(source):
    with open_dataset(source) as found:
        return {film.path: film.read() for film in found.films}


@pytest.fixture
def s3():
    with mock_aws():
        client = SESSION.client("s3")
        client.create_bucket(Bucket="datasets")
        yield client


def stored(s3):
    return {found["Key"] for found in s3.list_objects_v2(Bucket="datasets").get("Contents", [])}


@pytest.mark.parametrize("above", ["", "chest_xray/", "chest_xray/chest_xray/", "my films/", "archive/chest_xray/"])
def test_a_folder_and_a_zip_give_the_same_films_at_any_depth_that_kaggle_uses(tmp_path, above):
    files = {above + path: content for path, content in FILMS.items()}
    assert paths(folder(tmp_path / "f", files)) == FILMS
    assert paths(archive(tmp_path / "a.zip", files)) == FILMS


def test_kaggles_own_archive_with_everything_twice_gives_each_film_once(tmp_path):
    twice = {
        above + path: content for above in ("chest_xray/", "chest_xray/chest_xray/") for path, content in FILMS.items()
    }
    junk = {
        "chest_xray/__MACOSX/._train": b"x",
        "chest_xray/train/.DS_Store": b"x",
        "chest_xray/train/NORMAL/Thumbs.db": b"x",
        "chest_xray/train/NORMAL/._N-0001.jpeg": b"x",
        "chest_xray/val/NORMAL/N-9.jpeg": b"x",
    }
    with open_dataset(archive(tmp_path / "a.zip", twice | junk)) as found:
        assert {film.path for film in found.films} == set(FILMS)
        assert found.ignored == 1


def test_the_films_arrive_below_the_name_with_their_counts_and_type(tmp_path, s3):
    steps = []
    with open_dataset(folder(tmp_path, FILMS | LISTS)) as found:
        counts = upload(found, Target(s3, "datasets", "demo"), lambda done, total: steps.append((done, total)))
    assert counts == {"train": {"NORMAL": 10, "PNEUMONIA": 30}, "test": {"NORMAL": 3, "PNEUMONIA": 9}}
    assert stored(s3) == {f"datasets/demo/{path}" for path in (*FILMS, *LISTS)}
    assert steps == [(n, len(FILMS) + 2) for n in range(1, len(FILMS) + 3)]
    assert (
        s3.head_object(Bucket="datasets", Key="datasets/demo/train/NORMAL/N-0001.jpeg")["ContentType"] == "image/jpeg"
    )


def test_the_patient_list_names_only_films_that_are_uploaded(tmp_path):
    rows = [f"{path},p{n}" for n, path in enumerate(FILMS)] + ["val/NORMAL/N-9.jpeg,p0", "train/NORMAL/unknown.jpeg,p1"]
    listed = "\n".join(["file,patient", *rows]).encode()
    subtypes = b"file,subtype\ntrain/PNEUMONIA/P-0001.jpeg,virus\nval/PNEUMONIA/P-9.jpeg,virus\n"
    more = {"patients.csv": listed, "subtypes.csv": subtypes, "complete.json": b"{}", "val/NORMAL/N-9.jpeg": b"x"}
    with open_dataset(folder(tmp_path, FILMS | more)) as found:
        whole, limited = found.lists[0].read().decode(), found.limited(8)
        assert found.lists[1].read() == b"file,subtype\ntrain/PNEUMONIA/P-0001.jpeg,virus\n"
        few = limited.lists[0].read().decode()
    assert "val/" not in whole and all(path in whole for path in FILMS)
    assert {row.split(",")[0] for row in few.splitlines()[1:]} == {
        *(film.path for film in limited.films),
        "train/NORMAL/unknown.jpeg",  # for the training job to refuse
    }


def test_films_of_an_earlier_set_are_not_trained_on_by_accident(tmp_path, s3):
    s3.put_object(Bucket="datasets", Key="datasets/demo/train/NORMAL/old.jpeg", Body=b"x")
    with open_dataset(folder(tmp_path)) as found:
        with pytest.raises(DatasetError, match=r"already holds 1 other files.*old\.jpeg.*--replace"):
            upload(found, Target(s3, "datasets", "demo"))
        upload(found, Target(s3, "datasets", "demo", replace=True))
    assert stored(s3) == {f"datasets/demo/{path}" for path in FILMS}


def test_uploading_twice_changes_nothing(tmp_path, s3):
    for _ in range(2):
        with open_dataset(folder(tmp_path)) as found:
            upload(found, Target(s3, "datasets", "demo"))
    assert stored(s3) == {f"datasets/demo/{path}" for path in FILMS}


@pytest.mark.parametrize("limit", [8, 9, 20, 40, 1000])
def test_the_limit_is_an_upper_bound_keeps_both_classes_and_is_repeatable(tmp_path, limit):
    with open_dataset(folder(tmp_path)) as found:
        chosen = found.limited(limit)
        assert chosen == found.limited(limit)
    counts = chosen.counts()
    assert sum(counts["train"].values()) <= limit
    assert sum(counts["test"].values()) <= limit // 4
    assert all(n >= 1 for labels in counts.values() for n in labels.values())
    if limit == 20:
        assert counts["train"] == {"NORMAL": 5, "PNEUMONIA": 15}
    if limit == 1000:
        assert sum(map(sum, (labels.values() for labels in counts.values()))) == len(FILMS)


@pytest.mark.parametrize("limit", [-5, 0, 7])
def test_a_limit_without_room_for_both_classes_is_refused(tmp_path, limit):
    with open_dataset(folder(tmp_path)) as found, pytest.raises(DatasetError, match=f"a limit of {limit} is below 8"):
        found.limited(limit)


@pytest.mark.parametrize(
    ("extra", "says"),
    [
        ({"train/Normal/a.jpeg": b"x"}, r"Normal/a\.jpeg lies in a folder that must be called NORMAL"),
        ({"Train/NORMAL/a.jpeg": b"x"}, r"Train/NORMAL/a\.jpeg lies in a folder that must be called train"),
        ({"train/COVID/a.jpeg": b"x"}, r"train/COVID/a\.jpeg lies outside"),
        ({"train/NORMAL/PNEUMONIA/a.jpeg": b"x"}, r"PNEUMONIA/a\.jpeg lies in a class within a class"),
        ({"train/NORMAL/notes.txt": b"x"}, r"notes\.txt is neither \.jpeg"),
        ({"train/NORMAL/zero.jpeg": b""}, r"zero\.jpeg is empty"),
    ],
)
def test_what_does_not_belong_is_named_with_its_remedy(tmp_path, extra, says):
    with pytest.raises(DatasetError, match=says):
        paths(folder(tmp_path / "f", FILMS | extra))
    with pytest.raises(DatasetError, match=says):
        paths(archive(tmp_path / "a.zip", FILMS | extra))


def test_a_class_without_films_is_named(tmp_path):
    only = {path: content for path, content in FILMS.items() if not path.startswith("test/NORMAL")}
    with pytest.raises(DatasetError, match="no film in test/NORMAL"):
        paths(folder(tmp_path, only))


def test_two_different_films_of_one_name_are_refused(tmp_path):
    files = {"chest_xray/" + path: content for path, content in FILMS.items()}
    files["chest_xray/chest_xray/train/NORMAL/N-0001.jpeg"] = b"another"
    with pytest.raises(DatasetError, match="exists twice with different content"):
        paths(folder(tmp_path, files))


@pytest.mark.parametrize("name", ["../evil.jpeg", "/etc/evil.jpeg", "train\\NORMAL\\evil.jpeg"])
def test_a_member_that_points_outside_the_archive_is_refused(tmp_path, name):
    with pytest.raises(DatasetError, match="points outside the archive"):
        paths(archive(tmp_path / "a.zip", FILMS | {name: b"x"}))


def test_a_decompression_bomb_is_refused_before_it_is_read(tmp_path):
    bomb = FILMS | {"train/NORMAL/bomb.jpeg": bytes(8 * 2**20)}
    with pytest.raises(DatasetError, match="decompression bomb"):
        paths(archive(tmp_path / "a.zip", bomb, zipfile.ZIP_DEFLATED))


def test_a_link_is_refused_in_an_archive_and_out_of_a_folder(tmp_path):
    packed = tmp_path / "a.zip"
    archive(packed)
    with zipfile.ZipFile(packed, "a") as more:
        link = zipfile.ZipInfo("train/NORMAL/link.jpeg")
        link.external_attr = 0o120777 << 16
        more.writestr(link, "/etc/passwd")
    with pytest.raises(DatasetError, match="symbolic link"):
        paths(packed)
    secret = tmp_path / "secret.jpeg"
    secret.write_bytes(b"x")
    os.symlink(secret, folder(tmp_path / "f") / "train/NORMAL/link.jpeg")
    with pytest.raises(DatasetError, match="link to a file outside"):
        paths(tmp_path / "f")


def test_a_damaged_member_is_named(tmp_path):
    packed = archive(tmp_path / "a.zip")
    damaged = packed.read_bytes().replace(b"trainNORMAL3", b"trainNORMAL?", 1)
    packed.write_bytes(damaged)
    with pytest.raises(DatasetError, match=r"N-0003\.jpeg' is damaged"):
        paths(packed)


def test_what_is_no_dataset_is_refused(tmp_path):
    with pytest.raises(DatasetError, match="no such folder or zip file"):
        paths(tmp_path / "none")
    (tmp_path / "a.tar.gz").write_bytes(b"\x1f\x8b not a zip")
    with pytest.raises(DatasetError, match="neither a folder nor a zip file"):
        paths(tmp_path / "a.tar.gz")


def test_a_film_beyond_the_size_limit_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(dataset, "MAX_FILE_BYTES", 10)
    with pytest.raises(DatasetError, match="bytes, above 10"):
        paths(folder(tmp_path, FILMS | {"train/NORMAL/big.jpeg": bytes(11)}))


def test_a_failed_put_stops_the_upload(tmp_path, s3):
    with open_dataset(folder(tmp_path)) as found, pytest.raises(Exception, match="NoSuchBucket"):
        upload(found, Target(s3, "absent", "demo"))


def test_kaggle_is_asked_for_by_name_and_a_failed_download_says_what_else_to_do(tmp_path, monkeypatch):
    import kagglehub

    monkeypatch.setattr(kagglehub, "dataset_download", lambda name: str(folder(tmp_path)))
    assert paths("kaggle") == FILMS

    def unreachable(name):
        raise OSError("no route")

    monkeypatch.setattr(kagglehub, "dataset_download", unreachable)
    with pytest.raises(DatasetError, match="download it in a browser"):
        paths("kaggle")


def test_films_of_a_zip_can_be_read_from_many_threads(tmp_path, s3):
    with open_dataset(archive(tmp_path / "a.zip", method=zipfile.ZIP_DEFLATED)) as found:
        upload(found, Target(s3, "datasets", "demo"), threads=16)
    body = s3.get_object(Bucket="datasets", Key="datasets/demo/train/PNEUMONIA/P-0007.jpeg")["Body"].read()
    assert io.BytesIO(body).getvalue() == FILMS["train/PNEUMONIA/P-0007.jpeg"]


def test_a_name_is_refused_as_the_form_of_retrain_would_refuse_it(repo):
    form = (repo / "dags/cxr_pipeline/retrain_form.py").read_text()
    assert re.search(r'"dataset": Param\(\s*None, type=\[[^]]*\], pattern=PREFIX_OR_NONE', form)
    assert dataset.prefix("ward 3/2026") == "datasets/ward 3/2026/"
    for name in ("", "/", "a//b", "/a", "a/"):
        with pytest.raises(DatasetError, match="cannot name a dataset"):
            dataset.prefix(name)


def test_a_name_that_no_training_accepts_is_not_uploaded(s3, tmp_path):
    with open_dataset(folder(tmp_path)) as found, pytest.raises(DatasetError, match="cannot name a dataset"):
        upload(found, Target(s3, "datasets", "a//b"))
    assert stored(s3) == set()


def broken(path, change):
    """An archive of the films after `change` of its bytes."""
    raw = archive(path, method=zipfile.ZIP_DEFLATED).read_bytes()
    path.write_bytes(change(bytearray(raw)))
    return path


def at(raw, signature, offset, *values):
    start = raw.index(signature) + offset
    raw[start : start + len(values)] = bytes(values)
    return raw


CENTRAL, LOCAL, END = b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06"
BROKEN_ARCHIVES = {
    "cut off": lambda raw: raw[: len(raw) // 2],
    "empty file": lambda raw: b"",
    "directory points nowhere": lambda raw: at(raw, END, 16, 255, 255, 255, 127),
    "directory longer than the file": lambda raw: at(raw, END, 12, 255, 255, 255, 127),
    "needs a future version": lambda raw: at(raw, CENTRAL, 6, 255, 0),
    "name that is no UTF-8": lambda raw: at(at(raw, CENTRAL, 8, 0, 8), CENTRAL, 46, 255, 254),
    "unknown compression": lambda raw: at(at(raw, CENTRAL, 10, 77, 0), LOCAL, 8, 77, 0),
    "bzip2 that is none": lambda raw: at(at(raw, CENTRAL, 10, 12, 0), LOCAL, 8, 12, 0),
    "lzma that is none": lambda raw: at(at(raw, CENTRAL, 10, 14, 0), LOCAL, 8, 14, 0),
    "garbage in a member": lambda raw: at(raw, LOCAL, 30 + raw[26], *b"\xff" * 8),
    "local header gone": lambda raw: at(raw, LOCAL, 0, 0, 0, 0, 0),
    "other name in the local header": lambda raw: at(raw, LOCAL, 30, *b"other"),
    "offset behind the end": lambda raw: at(raw, CENTRAL, 42, 255, 255, 255, 127),
    "larger than it is": lambda raw: at(raw, CENTRAL, 24, 255, 255, 0, 0),
}


@pytest.mark.parametrize("change", BROKEN_ARCHIVES.values(), ids=BROKEN_ARCHIVES)
def test_every_broken_archive_ends_in_one_refusal_that_names_it(tmp_path, change):
    with pytest.raises(DatasetError, match=r"a\.zip"):
        paths(broken(tmp_path / "a.zip", change))


@pytest.mark.parametrize("seed", range(40))
def test_an_archive_with_any_bytes_changed_is_read_or_refused(tmp_path, seed):
    import random

    chance = random.Random(seed)
    few = dict(list(FILMS.items())[::4])

    def change(raw):
        for _ in range(chance.randint(1, 12)):
            raw[chance.randrange(len(raw))] = chance.randrange(256)
        return raw

    packed = archive(tmp_path / "a.zip", few, zipfile.ZIP_DEFLATED)
    packed.write_bytes(change(bytearray(packed.read_bytes())))
    with contextlib.suppress(DatasetError):
        paths(packed)


def test_a_list_of_patients_beyond_its_limit_is_refused_before_it_is_read(tmp_path):
    """636 KB of zip made 1.15 GiB of memory."""
    rows = b"".join(b"train/NORMAL/N-%04d.jpeg,%d\n" % (n, n * 7919) for n in range(800_000))
    packed = archive(tmp_path / "a.zip", FILMS | {"patients.csv": rows}, zipfile.ZIP_DEFLATED)
    with pytest.raises(DatasetError, match=r"patients\.csv has .* bytes, above 16,777,216; it is no list of films"):
        paths(packed)


@pytest.mark.parametrize("content", [b"\xff\xfe", b"file,patient\n" + b"x" * 200_000 + b",p\n"])
def test_a_list_of_patients_that_is_no_csv_is_refused(tmp_path, content):
    with pytest.raises(DatasetError, match=r"patients\.csv is no CSV in UTF-8"):
        paths(folder(tmp_path, FILMS | {"patients.csv": content}))


def test_two_different_lists_of_patients_are_refused(tmp_path):
    above = {"chest_xray/" + path: content for path, content in FILMS.items()}
    lists = {"chest_xray/patients.csv": b"file,patient\n", "chest_xray/chest_xray/patients.csv": b"file,patient\na,b\n"}
    with pytest.raises(DatasetError, match=r"patients\.csv exists twice with different content"):
        paths(folder(tmp_path, above | lists))


def test_whatever_is_no_plain_file_of_the_folder_is_named(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "film.jpeg").write_bytes(b"x")
    makers = {
        "link to a folder": lambda at: os.symlink(tmp_path / "elsewhere", at.with_suffix("")),
        "link to nothing": lambda at: os.symlink("nowhere.jpeg", at),
        "no plain file": os.mkfifo,
    }
    for number, (says, make) in enumerate(makers.items()):
        root = folder(tmp_path / f"f{number}")
        make(root / "train/NORMAL/odd.jpeg")
        with pytest.raises(DatasetError, match=says):
            paths(root)
    root = folder(tmp_path / "circle")
    for here, there in (("a", "b"), ("b", "a")):
        os.symlink(root / f"train/NORMAL/{there}.jpeg", root / f"train/NORMAL/{here}.jpeg")
    with pytest.raises(DatasetError, match=r"a\.jpeg is a link to nothing"):
        paths(root)
    os.mkfifo(tmp_path / "pipe.zip")
    with pytest.raises(DatasetError, match="neither a folder nor a zip file"):
        paths(tmp_path / "pipe.zip")


def test_a_member_that_is_a_device_is_refused(tmp_path):
    packed = archive(tmp_path / "a.zip")
    with zipfile.ZipFile(packed, "a") as more:
        device = zipfile.ZipInfo("train/NORMAL/device.jpeg")
        device.external_attr = 0o020666 << 16
        more.writestr(device, b"x")
    with pytest.raises(DatasetError, match="is no plain file"):
        paths(packed)


@pytest.mark.parametrize(("name", "says"), [("x" * 250 + ".jpeg", "S3 takes 1024"), ("\udcff.jpeg", "is not UTF-8")])
def test_a_name_that_s3_would_refuse_is_refused_before_the_first_film_is_put(tmp_path, s3, name, says):
    deep = "/".join(["y" * 200] * 4) if "x" in name else "y"
    root = folder(tmp_path, FILMS | {f"train/NORMAL/{deep}/{name}": b"x"})
    with open_dataset(root) as found, pytest.raises(DatasetError, match=says):
        upload(found, Target(s3, "datasets", "demo"))
    assert stored(s3) == set()
