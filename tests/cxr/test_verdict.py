from dataclasses import replace

import pytest

from cxr.labels import STATUSES
from cxr.reasons import JUDGED, SENTENCES, UNREADABLE, reason
from cxr.verdict import SATURATION_LIMIT, Limits, judge, unreadable

LIMITS = Limits(threshold=0.4, quantile_normal=0.5, quantile_pneumonia=0.5, alpha=0.05, ood_limit=30.0)
CASES = [
    # probability, distance, saturation, changed limits -> status, label, priority, codes
    (0.93, 10, 0, {}, "ok", "PNEUMONIA", "urgent", []),
    (0.07, 10, 0, {}, "ok", "NORMAL", "routine", []),
    (0.69, 10, 0, {}, "uncertain", "PNEUMONIA", "urgent", ["low_confidence"]),
    (0.31, 10, 0, {}, "uncertain", "NORMAL", "review", ["low_confidence"]),
    (0.30, 10, 0, {}, "ok", "NORMAL", "routine", []),
    (0.70, 10, 0, {}, "ok", "PNEUMONIA", "urgent", []),
    (0.45, 10, 0, {}, "uncertain", "PNEUMONIA", "urgent", ["conformal_conflict", "low_confidence"]),
    (
        0.40,
        10,
        0,
        {"low_confidence": 0.5},
        "uncertain",
        "PNEUMONIA",
        "urgent",
        ["conformal_conflict", "low_confidence"],
    ),
    (0.90, 10, 0, {"quantile_normal": 0.95}, "uncertain", "PNEUMONIA", "urgent", ["conformal_both"]),
    (0.90, 10, 0, {"quantile_normal": None}, "uncertain", "PNEUMONIA", "urgent", ["conformal_both"]),
    (0.80, 10, 0, {"quantile_pneumonia": 0.1}, "uncertain", "PNEUMONIA", "urgent", ["conformal_none"]),
    (0.93, 30, 0, {}, "ok", "PNEUMONIA", "urgent", []),
    (0.93, 30.1, 0, {}, "out_of_distribution", "PNEUMONIA", "review", ["ood_distance"]),
    (0.93, float("nan"), 0, {}, "out_of_distribution", "PNEUMONIA", "review", ["ood_distance"]),
    (0.93, float("inf"), 0, {}, "out_of_distribution", "PNEUMONIA", "review", ["ood_distance"]),
    (0.07, 10, 0.2, {}, "out_of_distribution", "NORMAL", "review", ["not_grayscale"]),
    (0.07, 99, 0.2, {}, "out_of_distribution", "NORMAL", "review", ["not_grayscale", "ood_distance"]),
    (0.07, 10, SATURATION_LIMIT, {}, "ok", "NORMAL", "routine", []),
    (0.50, 99, 0, {}, "out_of_distribution", "PNEUMONIA", "review", ["ood_distance"]),
    (float("nan"), 10, 0, {}, "uncertain", None, "review", ["model_output"]),
    (1.01, 10, 0, {}, "uncertain", None, "review", ["model_output"]),
]


@pytest.mark.parametrize(
    ("probability", "distance", "saturation", "changes", "status", "label", "priority", "codes"), CASES
)
def test_every_row_of_the_table_gets_its_answer(
    probability, distance, saturation, changes, status, label, priority, codes
):
    verdict = judge(probability, distance, saturation, replace(LIMITS, **changes))
    assert (verdict.status, verdict.label, verdict.priority) == (status, label, priority)
    assert [why.code for why in verdict.reasons] == codes


def test_invalid_is_true_exactly_when_the_status_is_not_ok():
    for probability, distance, saturation, changes, *_ in CASES:
        verdict = judge(probability, distance, saturation, replace(LIMITS, **changes))
        assert verdict.invalid == (verdict.status != "ok") == bool(verdict.reasons)
        assert verdict.status in STATUSES


def test_confidence_is_the_probability_of_the_label():
    assert judge(0.93, 1, 0, LIMITS).confidence == pytest.approx(0.93)
    assert judge(0.07, 1, 0, LIMITS).confidence == pytest.approx(0.93)


def test_an_ok_verdict_names_its_label_as_the_only_plausible_one():
    for percent in range(101):
        verdict = judge(percent / 100, 1, 0, LIMITS)
        if verdict.status == "ok":
            assert verdict.conformal_set == (verdict.label,)
            assert verdict.confidence >= 0.70


def test_an_unreadable_file_never_gets_a_label():
    verdict = unreadable("empty_file", "No bytes.")
    assert (verdict.status, verdict.invalid, verdict.priority) == ("unreadable", True, "review")
    assert verdict.label is verdict.probability is verdict.confidence is verdict.threshold is None


def test_a_sentence_is_filled_with_numbers_only():
    assert set(SENTENCES) == set(UNREADABLE) | set(JUDGED)
    assert "below 70%" in reason("low_confidence", confidence=0.6, limit=0.7).sentence
    with pytest.raises(KeyError):
        reason("low_confidence", confidence=0.6)
