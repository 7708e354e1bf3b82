import json
from pathlib import Path

import jsonschema
import pytest

from inference_lambda.classify import main

SCHEMA = json.loads((Path(__file__).parents[2] / "cxr" / "result.schema.json").read_text())


@pytest.fixture
def bundle(tiny, model_cache, tmp_path):
    folder = tmp_path / "bundle"
    folder.mkdir()
    for name, data in tiny.bundle_files(model_cache).items():
        (folder / name).write_bytes(data)
    return folder


@pytest.fixture
def film(tiny, tmp_path):
    (tmp_path / "film.jpeg").write_bytes(tiny.grey_film(170))
    return tmp_path / "film.jpeg"


def run(capsys, *arguments):
    code = main([str(argument) for argument in arguments])
    streams = capsys.readouterr()
    return code, streams.out, streams.err


def test_a_film_gets_its_verdict_in_one_line(capsys, bundle, film):
    code, out, _ = run(capsys, film, "--bundle", bundle)
    assert code == 0 and out.startswith(f"{film}: PNEUMONIA 87") and "ok, urgent" in out


def test_json_is_the_documented_result(capsys, bundle, film):
    broken = film.with_name("broken.jpeg")
    broken.write_bytes(b"not an image")
    code, out, _ = run(capsys, film, broken, "--bundle", bundle, "--json")
    documents = [json.loads(line) for line in out.splitlines()]
    for document in documents:
        jsonschema.validate(document, SCHEMA)
    assert code == 0 and [document["status"] for document in documents] == ["ok", "unreadable"]


def test_a_bad_file_gets_a_clear_line_and_no_traceback(capsys, bundle, film):
    film.write_bytes(b"%PDF-1.7")
    code, out, _ = run(capsys, film, "--bundle", bundle)
    assert code == 0 and "unreadable" in out and "not a JPEG, PNG or DICOM" in out


def test_a_score_that_must_not_be_used_is_not_shown_as_a_label(capsys, bundle, film, tiny):
    film.write_bytes(tiny.grey_film(45))
    _, out, _ = run(capsys, film, "--bundle", bundle)
    assert "out_of_distribution" in out and "NORMAL" not in out


def test_a_missing_file_is_said_and_the_others_are_classified(capsys, bundle, film):
    code, out, err = run(capsys, film.with_name("none.jpeg"), film.parent, film, "--bundle", bundle)
    assert code == 1 and "none.jpeg: No such file" in err and "Is a directory" in err and "PNEUMONIA" in out


@pytest.mark.parametrize("broken", ["missing", "changed", "not a folder"])
def test_an_unusable_bundle_is_said(capsys, bundle, film, broken):
    if broken == "changed":
        (bundle / "model.tflite").write_bytes(b"x")
    where = {"missing": bundle / "none", "changed": bundle, "not a folder": film}[broken]
    code, out, err = run(capsys, film, "--bundle", where)
    assert code == 2 and not out and str(where) in err


def test_show_writes_a_picture_and_opens_it(capsys, bundle, film, monkeypatch):
    opened = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    code, _, err = run(capsys, film, "--bundle", bundle, "--show")
    assert code == 0 and opened[0].endswith("verdict.png") and Path(err.split()[-1]).stat().st_size > 1000
