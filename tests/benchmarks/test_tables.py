"""Documents show what was measured: a table that differs from its result file is an error."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.record import ROOT, table
from benchmarks.tables import documents, filled, known_tables, markdown, measured

MACHINE = {"cpu": "Some CPU", "cores": 2, "simd": ["avx2"]}


def test_every_table_in_the_documents_is_the_committed_result() -> None:
    tables = known_tables()
    paths = documents()
    assert {ROOT / name for name in ("README.md", "SECURITY.md", "docs/costs.md")} <= set(paths)
    stale = [path.name for path in paths if filled(path.read_text(), tables) != path.read_text()]
    assert not stale, f"run `python -m benchmarks.tables`: {stale}"


def test_a_changed_figure_makes_the_document_stale(tmp_path: Path) -> None:
    result = {
        "machine": MACHINE,
        "measured_at": "2026-11-22T00:00:00",
        "tables": {"speed": table("what | ms", [["decode", 8.0]])},
    }
    (tmp_path / "speed.json").write_text(json.dumps(result))
    text = "before\n<!-- table: speed -->\n<!-- /table -->\nafter"
    first = filled(text, measured(tmp_path))
    assert "| decode | 8.0 |" in first
    result["tables"]["speed"]["rows"][0][1] = 9.0  # type: ignore[index]
    (tmp_path / "speed.json").write_text(json.dumps(result))
    assert filled(first, measured(tmp_path)) != first


def test_a_table_without_a_result_is_refused() -> None:
    with pytest.raises(ValueError, match="no result holds the table 'nowhere'"):
        filled("<!-- table: nowhere -->\n<!-- /table -->", {"speed": ""})


def test_a_measured_table_names_the_machine_and_a_calculated_one_does_not() -> None:
    origins = {name: text.splitlines()[-1] for name, text in known_tables().items()}
    assert "Measured on AMD EPYC, 2 cores, avx2; 2026-" in origins["pipeline"]
    assert origins["cost_idle"] == "<sub>List prices. Calculated, not run on AWS.</sub>"


def test_numbers_are_aligned_to_the_right() -> None:
    assert "| --- | ---: |" in markdown(table("what | ms", [["a", 1.5]]), "")


def test_a_name_that_two_results_claim_is_refused(tmp_path: Path) -> None:
    result = {"machine": MACHINE, "measured_at": "2026-11-22", "tables": {"speed": table("ms", [[1]])}}
    for name in ("a", "b"):
        (tmp_path / f"{name}.json").write_text(json.dumps(result))
    with pytest.raises(ValueError, match=r"b\.json: the table 'speed' exists in another result already"):
        measured(tmp_path)
