"""A figure that leaves its limit is named; too few films say nothing."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cxr_pipeline.oversight import Limits, figures, histogram, psi

from cxr.result import Row

LIMITS = Limits(10, 0.25, 1.0, 0.5, 0.05, 0.02, 0.95)
REFERENCE = {
    "probability_histogram": {"edges": [n / 10 for n in range(11)], "counts": [50, 0, 0, 0, 0, 0, 0, 0, 0, 50]},
    "ood_distance": {"mean": 10.0, "std": 2.0},
}


def answers(n: int, probability: float = 0.95, distance: float = 10.0, status: Any = "ok") -> Iterator[Row]:
    for number in range(n):
        chance = probability if number % 2 else 1 - probability
        label: Any = None if status == "unreadable" else "PNEUMONIA" if chance >= 0.5 else "NORMAL"
        value = None if status == "unreadable" else chance
        yield Row(
            f"k{number}", status, label, value, value, 0.5, "review", distance, (), None, None, "1", "sha", "2026"
        )


def breached(found: list[Any]) -> list[str]:
    return [figure.name for figure in found if figure.breached]


def test_films_like_the_reference_keep_every_limit() -> None:
    counts, found = figures(answers(40), REFERENCE, "sha", LIMITS)
    assert counts["films"] == 40
    assert breached(found) == []
    assert all(figure.value is not None for figure in found)


@pytest.mark.parametrize(
    ("films", "name"),
    [
        (answers(40, probability=0.55), "PSI of the probability"),
        (answers(40, distance=13.0), "drift of the mean OOD distance (in deviations)"),
        (answers(40, status="uncertain"), "abstention rate"),
    ],
)
def test_each_limit_is_kept_by_itself(films: Iterator[Row], name: str) -> None:
    assert breached(figures(films, REFERENCE, "sha", LIMITS)[1]) == [name]


def test_the_runbook_has_a_section_for_every_figure_and_for_no_other(repo: Path) -> None:
    text = (repo / "docs/runbook.md").read_text().split("## Oversight figures")[1].split("\n## ")[0]
    names = [figure.name.partition(" (")[0] for figure in figures(answers(40), REFERENCE, "sha", LIMITS)[1]]
    assert re.findall(r"^### (.+)$", text, re.MULTILINE) == names


def test_unreadable_files_breach_their_own_limit() -> None:
    mixed = [*answers(40), *(a for a in answers(5, status="unreadable"))]
    assert breached(figures(mixed, REFERENCE, "sha", LIMITS)[1]) == ["unreadable share"]


def test_too_few_films_give_no_alarm() -> None:
    _, found = figures(answers(9, probability=0.55, distance=99.0), REFERENCE, "sha", LIMITS)
    assert [figure.value for figure in found] == [None] * 5


def test_answers_of_another_model_are_not_compared_with_this_one_s_reference() -> None:
    _, found = figures(answers(40, probability=0.55, distance=99.0), REFERENCE, "another", LIMITS)
    assert breached(found) == []


def test_no_model_no_reference_no_failure() -> None:
    assert breached(figures(answers(40), None, "", LIMITS)[1]) == []


def test_psi_is_zero_for_the_same_shape_and_finite_for_an_empty_bin() -> None:
    assert psi([10, 30], [10, 30]) == 0
    assert 1 < psi([10, 0], [0, 10]) < 100


def test_psi_stays_below_its_limit_where_only_chance_parts_two_samples() -> None:
    chances, rng = [0.42, 0.04, 0.01, 0.01, 0.01, 0.01, 0.01, 0.03, 0.06, 0.4], random.Random(0)

    def sample(n: int) -> list[int]:
        bins = rng.choices(range(10), chances, k=n)
        return [bins.count(number) for number in range(10)]

    indices = [psi(sample(400), sample(100)) for _ in range(500)]
    assert sum(index > LIMITS.max_psi for index in indices) < 0.05 * len(indices)


def test_the_last_bin_holds_its_upper_edge() -> None:
    assert histogram([0.0, 0.5, 1.0], [0.0, 0.5, 1.0]) == [1, 2]
