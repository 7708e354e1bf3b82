import json
import logging
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cxr import result as results
from cxr.film import UnreadableImage
from cxr.labels import STATUSES
from cxr.reader import read_film
from cxr.reasons import UNREADABLE
from cxr.result import Answerer
from cxr.verdict import Limits
from inference_lambda.assessment import Source, assess

RASTER_NOISE = 5.0
"""Mean grey levels between a film and its 4-bit, tinted or lossy copy."""


def test_the_corpus_is_large_and_every_file_has_its_own_name(poison):
    assert len(poison.files) >= 150
    assert len({(file.group, file.name) for file in poison.files}) == len(poison.files)


def test_every_poison_file_gets_its_expected_answer(poison):
    wrong = []
    for file in poison.files:
        verdict = assess(file.data, poison.engine, _lenient(poison.limits)).verdict
        code = verdict.reasons[0].code if verdict.reasons else ""
        if (verdict.status, code) != (file.status, file.code):
            wrong.append(f"{file.name}: expected {file.status} {file.code}, got {verdict.status} {code}")
    assert not wrong, "\n".join(wrong)


def _lenient(limits):
    """Every readable grey film is ok, so that the table speaks of reading alone."""
    return replace(limits, ood_limit=99.0, quantile_normal=0.5, quantile_pneumonia=0.5, low_confidence=0.5)


def test_sound_but_unusual_files_show_the_same_film(poison):
    plain = read_film(next(file.data for file in poison.files if file.name == "plain.png")).pixels.astype(int)
    wrong = []
    for file in poison.files:
        if file.judged:
            film = read_film(file.data)
            difference = np.abs(film.pixels - plain).mean()
            if difference > RASTER_NOISE or (film.width, film.height) != (200, 160):
                wrong.append(f"{file.name}: {film.width}x{film.height}, {difference:.1f} levels off")
    assert not wrong, "\n".join(wrong)


def test_no_sentence_repeats_what_a_header_says(poison):
    for file in poison.files:
        try:
            read_film(file.data)
        except UnreadableImage as error:
            assert error.code in UNREADABLE
            assert not [secret for secret in poison.secrets if secret in error.sentence]


def test_reading_says_nothing_to_logs_or_warnings(poison, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        for file in poison.files:
            assess(file.data, poison.engine, poison.limits)
    assert "PIL" not in caplog.text and "pydicom" not in caplog.text
    said = caplog.text + "".join(capfd.readouterr()) + "".join(str(warning.message) for warning in warned)
    assert not [secret for secret in poison.secrets if secret in said]
    assert not warned


def test_every_field_of_the_result_is_explained(poison):
    schema = json.loads((Path(__file__).parents[2] / "cxr" / "result.schema.json").read_text())
    text = poison.docs.read_text()
    fields = []
    for name, kind in schema["properties"].items():
        inner = kind.get("properties", {})
        nested = inner if name in ("image", "model", "ood", "heatmap") else {}
        fields += [f"`{name}.{field}`" for field in nested] or [f"`{name}`"]
    assert not [field for field in fields if field not in text]


def test_the_tables_in_the_docs_are_current(poison):
    text = poison.docs.read_text()
    assert text == poison.rendered(text, poison.files), "run: python -m tests.poison.poison_corpus --docs"


@pytest.fixture(scope="module")
def sound(poison) -> list[bytes]:
    return [file.data for file in poison.files if file.judged]


@settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_mutation_gets_one_of_the_four_answers(sound, poison, data):
    mutant = poison.mutated(data.draw(st.sampled_from(sound)), data.draw(st.randoms()), sound)
    verdict = assess(mutant, poison.engine, poison.limits).verdict
    assert verdict.status in STATUSES
    assert (verdict.label is None) == (verdict.status == "unreadable")


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=400), st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", bytes(128) + b"DICM"]))
def test_arbitrary_bytes_are_unreadable(data, magic):
    with pytest.raises(UnreadableImage):
        read_film(magic + data)


@pytest.mark.heavy
def test_the_largest_films_and_a_short_fuzz_stay_below_512_mb(poison):
    command = [sys.executable, "-m", "tests.poison.fuzz", "--seconds", "5", "--seed", "7", "--big"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    said = json.loads(done.stdout)
    assert done.returncode == 0 and said["broken"] == []
    assert said["finished"] and said["files"] > len(poison.files)


def test_a_result_of_every_poison_file_fits_the_schema(poison, tiny_bundle):
    schema = json.loads((Path(__file__).parents[2] / "cxr" / "result.schema.json").read_text())
    validator = jsonschema.Draft202012Validator(schema)
    limits = Limits.from_bundle(tiny_bundle)
    for file in poison.files:
        assessed = assess(file.data, poison.engine, limits)
        document = assessed.result(Source("uploads", file.name), Answerer("1", tiny_bundle.model_sha256), limits)
        validator.validate(json.loads(results.to_bytes(document)))
        assert not [secret for secret in poison.secrets if secret in json.dumps(document)]
