"""Documents show what was measured: a table that differs from its result file is an error."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.tables import documents, filled, known_tables, markdown

MACHINE = {"cpu": "Some CPU", "cores": 2, "simd": ["avx2"]}


def test_every_table_in_the_documents_is_the_committed_result() -> None:
    tables = known_tables()
    stale = [path.name for path in documents() if filled(path.read_text(), tables) != path.read_text()]
    assert not stale, f"run `python -m benchmarks.tables`: {stale}"


def test_a_changed_figure_makes_the_document_stale(tmp_path: Path) -> None:
    result = {
        "machine": MACHINE,
        "measured_at": "2026-11-22T00:00:00",
        "tables": {"speed": {"columns": ["what", "ms"], "rows": [["decode", 8.0]]}},
    }
    (tmp_path / "speed.json").write_text(json.dumps(result))
    text = "before\n<!-- table: speed -->\n<!-- /table -->\nafter"
    first = filled(text, known_tables(tmp_path))
    assert "| decode | 8.0 |" in first
    result["tables"]["speed"]["rows"][0][1] = 9.0  # type: ignore[index]
    (tmp_path / "speed.json").write_text(json.dumps(result))
    assert filled(first, known_tables(tmp_path)) != first


def test_a_table_without_a_result_is_refused() -> None:
    with pytest.raises(ValueError, match="no committed result holds the table 'nowhere'"):
        filled("<!-- table: nowhere -->\n<!-- /table -->", {"speed": ""})


def test_a_table_names_the_machine_and_aligns_numbers() -> None:
    text = markdown({"columns": ["what", "ms"], "rows": [["a", 1.5]]}, MACHINE, "2026-11-22T00:00:00")
    assert "| --- | ---: |" in text
    assert "Some CPU, 2 cores, avx2; 2026-11-22" in text


@pytest.mark.parametrize(
    ("kind", "origin"),
    [("simulated", "Simulated, not run on AWS; 2026-11-22."), ("computed", "Computed on 2026-11-22.")],
)
def test_a_table_that_was_not_measured_names_no_machine(kind: str, origin: str) -> None:
    table = {"columns": ["what"], "rows": [["a"]], "kind": kind}
    text = markdown(table, MACHINE, "2026-11-22T00:00:00")
    assert f"<sub>{origin}</sub>" in text
    assert "Some CPU" not in text


def test_a_table_of_an_unknown_kind_is_refused() -> None:
    with pytest.raises(KeyError, match="guessed"):
        markdown({"columns": ["what"], "rows": [["a"]], "kind": "guessed"}, MACHINE, "2026-11-22T00:00:00")
