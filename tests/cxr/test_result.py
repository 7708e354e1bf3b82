"""A result says what it answers and by what; whoever reads one takes it as input like any other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from cxr import result as results
from cxr.reasons import reason
from cxr.result import Answerer, Image, Mark, Measured, ResultError, Row
from cxr.verdict import Limits, judge, unreadable

SCHEMA = json.loads(Path(results.__file__).with_name("result.schema.json").read_text())
LIMITS = Limits(0.5, 0.6, 0.6, 0.05, 30.0)
MODEL = Answerer("7", "b" * 64, "arn:aws:sagemaker:us-east-1:123456789012:model-package/cxr/7")
IMAGE = Image("uploads", "ward 3/ä.png", "v1", "etag", "a" * 64, 1000, "PNG", 300, 200)


def document(**changes: Any) -> dict[str, Any]:
    heat = {"bucket": "results", "key": "heatmaps/x", "grid": "/w=="}
    measured = Measured({"distance": 12.3456, "limit": 30.0}, {"read": 1.23}, heat)
    return {**results.build(IMAGE, MODEL, judge(0.93, 12.3, 0.0, LIMITS), measured), **changes}


@pytest.mark.parametrize("verdict", [judge(0.93, 12.3, 0.0, LIMITS), unreadable("damaged", reason("damaged").sentence)])
def test_every_document_fits_the_schema(verdict: Any) -> None:
    earlier = Mark("v1", "etag", "c" * 64, 2, "uncertain", "NORMAL", 0.4)
    built = results.build(IMAGE, MODEL, verdict, Measured(), earlier)
    jsonschema.validate(json.loads(results.to_bytes(built)), SCHEMA)
    assert built["supersedes"] == {"model_sha256": "c" * 64, "status": "uncertain", "label": "NORMAL"}


@pytest.mark.parametrize("changes", [{}, {"label": None, "probability": None, "status": "unreadable"}])
def test_the_metadata_of_a_result_say_what_it_answers(changes: dict[str, Any]) -> None:
    mark = results.mark(document(**changes), serial=3)
    said = mark.as_metadata()
    assert said["upload-version"] == "v1" and said["serial"] == "3" and all(isinstance(v, str) for v in said.values())
    assert Mark.of(said) == mark


@pytest.mark.parametrize("metadata", [{}, {"serial": "many"}, {"upload-version": "v1"}])
def test_metadata_of_another_form_are_no_mark(metadata: dict[str, str]) -> None:
    assert Mark.of(metadata) is None
    assert Mark.of({**results.mark(document(), 3).as_metadata(), "serial": "many"}) is None


def test_a_row_holds_what_a_reader_of_the_worklist_needs() -> None:
    row = Row.of("ward 3/ä.png", document())
    assert (row.status, row.label, row.priority, row.probability) == ("ok", "PNEUMONIA", "urgent", 0.93)
    assert (row.ood_distance, row.heatmap, row.grid, row.model_version) == (12.346, "heatmaps/x", "/w==", "7")
    assert set(results.COLUMNS) < set(Row.__dataclass_fields__)
    nothing = document(ood=None, heatmap=None, reasons=[{"code": "damaged", "sentence": "Send it again."}])
    assert Row.of("k", nothing).reasons == ("damaged: Send it again.",)


def test_a_result_without_a_picture_or_without_a_grid_is_a_row_as_well() -> None:
    unpictured = Row.of("k", document(heatmap={"bucket": None, "key": None, "grid": "/w=="}))
    older = Row.of("k", document(heatmap={"bucket": "results", "key": "heatmaps/x"}))
    assert (unpictured.heatmap, unpictured.grid) == (None, "/w==")
    assert (older.heatmap, older.grid) == ("heatmaps/x", None)


@pytest.mark.parametrize(
    "changes",
    [
        {"schema_version": 2},
        {"status": '"><script>alert(1)</script>'},
        {"priority": "=1+1"},
        {"label": "SICK"},
        {"label": ["NORMAL"]},
        {"probability": "0.9"},
        {"probability": 1.5},
        {"probability": True},
        {"ood": {"distance": -1}},
        {"ood": []},
        {"reasons": None},
        {"reasons": ["damaged"]},
        {"reasons": [{"code": "damaged"}]},
        {"heatmap": {"key": 7}},
        {"heatmap": {"grid": [255]}},
        {"model": {"version": 7, "sha256": "b"}},
        {"classified_at": None},
    ],
)
def test_a_result_of_another_form_gives_no_row(changes: dict[str, Any]) -> None:
    with pytest.raises(ResultError):
        Row.of("k", document(**changes))
    with pytest.raises(ResultError):
        Row.of("k", [])
