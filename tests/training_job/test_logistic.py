"""Slope and offset, the prevalence they stand for, and the cut."""

import numpy as np
import pytest
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from training_job import logistic


def films(n: int = 4000, sick: float = 0.8, slope: float = 0.5, offset: float = -1.0, seed: int = 0):
    """Logits whose true log odds at equal classes are slope * logit + offset, one film a patient."""
    rng = np.random.default_rng(seed)
    labels = (rng.random(n) < sick).astype(int)
    true = rng.normal(2.0, 2.0, n) * np.where(labels == 1, 1.0, -1.0)
    return (true - offset) / slope, labels, [f"p{row}" for row in range(n)]


def test_the_line_is_that_of_a_balanced_logistic_regression():
    logits, labels, patients = films()
    line = logistic.fit(logits, labels, patients)
    reference = LogisticRegression(C=1e9, class_weight="balanced").fit(logits[:, None], labels)
    assert line.slope == pytest.approx(reference.coef_.item(), rel=0.02)
    assert line.offset == pytest.approx(reference.intercept_.item(), abs=0.05)


def test_the_share_of_pneumonia_among_the_films_does_not_move_the_line():
    many, few = (logistic.fit(*films(20_000, sick)) for sick in (0.9, 0.3))
    assert many.slope == pytest.approx(few.slope, rel=0.1) and many.offset == pytest.approx(few.offset, abs=0.15)


def test_a_network_whose_logits_hardly_move_and_lie_to_one_side_is_repaired():
    logits, labels, patients = films()
    squeezed = logits * 1e-3 - 7.0
    line = logistic.fit(squeezed, labels, patients)
    np.testing.assert_allclose(
        line.probability(squeezed), logistic.fit(logits, labels, patients).probability(logits), atol=1e-3
    )


def test_thirty_films_of_a_patient_weigh_as_much_as_one():
    logits, labels, patients = films(300)
    rows = np.concatenate([np.arange(300), np.full(29, 7)])
    repeated = logistic.fit(logits[rows], labels[rows], [patients[row] for row in rows])
    once = logistic.fit(logits, labels, patients)
    assert repeated.slope == pytest.approx(once.slope, rel=1e-3)
    assert repeated.offset == pytest.approx(once.offset, abs=1e-3)


def test_an_offset_alone_centres_what_lies_to_one_side():
    logits, labels, patients = films(3000, slope=1.0, offset=-2.0)
    line = logistic.fit_offset(logits, labels, patients)
    assert line.slope == 1.0 and line.offset == pytest.approx(-2.0, abs=0.15)
    assert logistic.fit_offset(logits[:1], labels[:1], patients[:1]) == logistic.Line(1.0, 0.0)


def test_a_line_after_a_line_is_one_line():
    first, second = logistic.Line(2.0, -1.0), logistic.Line(0.5, 3.0)
    there = second.after(first).probability(np.array([0.3]))
    assert there == pytest.approx(expit(0.5 * (2.0 * 0.3 - 1.0) + 3.0))


def test_each_class_has_half_of_the_votes_and_each_patient_of_it_the_same():
    labels = np.array([0, 1, 1, 1, 0, 1])
    weights = logistic.votes(["a", "b", "b", "c", "d", "a"], labels)
    np.testing.assert_allclose(weights, [1 / 4, 1 / 12, 1 / 12, 1 / 6, 1 / 4, 1 / 6])


def test_separated_films_give_a_steep_line_and_no_certainty():
    logits = np.concatenate([np.linspace(-9, -1, 50), np.linspace(1, 9, 50)])
    labels = np.repeat([0, 1], 50)
    found = logistic.fit(logits, labels, [f"p{row}" for row in range(100)]).probability(logits)
    assert 0.9 < found.max() < 0.9999999 and (np.diff(found) > 0).all()


def test_films_of_one_class_leave_the_logits_alone():
    assert logistic.fit(np.array([1.0, 2.0]), np.array([1, 1]), ["a", "b"]) == logistic.Line(1.0, 0.0)


def test_another_prevalence_moves_probability_and_cut_alike():
    logits, labels, patients = films(500)
    line = logistic.fit(logits, labels, patients)
    for prevalence in (0.05, 0.3, 0.9):
        there = line.at(prevalence).probability(logits)
        assert ((there >= logistic.moved(0.4, prevalence)) == (line.probability(logits) >= 0.4)).all()
    assert logistic.moved(0.5, 0.2) == pytest.approx(0.2)
    assert line.at(0.5) == line


def test_the_probability_is_right_at_the_prevalence_it_is_moved_to():
    line = logistic.fit(*films(20_000, 0.5))
    logits, labels, _ = films(50_000, 0.2, seed=1)
    there = line.at(0.2).probability(logits)
    near = (there > 0.15) & (there < 0.35)
    assert labels[near].mean() == pytest.approx(there[near].mean(), abs=0.02)


@pytest.mark.parametrize("prevalence", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_no_probability_stands_for_a_prevalence_of_nothing_or_all(prevalence):
    with pytest.raises(ValueError, match="prevalence"):
        logistic.Line(1.0, 0.0).at(prevalence)


def test_the_cut_is_one_half_and_lower_only_where_the_floor_asks_for_it():
    labels = np.array([0] * 10 + [1] * 10)
    patients = [f"p{row}" for row in range(20)]
    probabilities = np.concatenate([np.linspace(0.01, 0.4, 10), [0.3, 0.45, *np.linspace(0.6, 0.99, 8)]])
    assert logistic.threshold(probabilities, labels, patients, 0.8) == 0.5
    assert logistic.threshold(probabilities, labels, patients, 0.9) == 0.45
    assert logistic.threshold(probabilities, labels, patients, 1.0) == 0.3
    assert logistic.threshold(probabilities[:10], labels[:10], patients[:10], 0.95) == 0.5


def test_a_wide_plateau_moves_the_best_balanced_cut_and_not_one_half():
    logits, labels, patients = films(400, 0.8, slope=1.0, offset=0.0)
    drawn = list(logistic.out_of_bag(logits, labels, patients, 0.95, count=40))
    cuts = {rule: np.array([one[rule][0] for one in drawn]) for rule in drawn[0]}
    assert np.ptp(cuts["half"]) == 0
    assert np.ptp(cuts["best_balanced"]) > 0.1
    assert all(0.7 < one["half"][1] <= 1 for one in drawn)


def test_the_fitted_line_is_the_best_of_its_neighbours():
    logits, labels, patients = films(300)
    line, weights = logistic.fit(logits, labels, patients), logistic.votes(patients, labels)

    def loss(slope: float, offset: float) -> float:
        p = expit(slope * logits + offset)
        return float(-(weights @ np.log(np.where(labels == 1, p, 1 - p))))

    here = loss(line.slope, line.offset)
    for step in (0.9, 1.1):
        assert loss(line.slope * step, line.offset) > here - 1e-4
        assert loss(line.slope, line.offset + (step - 1)) > here - 1e-4


def test_the_sensitivity_floor_is_kept_to_the_film_not_to_the_last_bit():
    """93 of 100 is 0.93, whatever the sum of 93 hundredths is in binary: the cut may miss seven."""
    ill = np.concatenate([np.full(7, 0.2), np.full(93, 0.4)])
    cut = logistic.threshold(ill, np.ones(100, int), [f"p{row}" for row in range(100)], 0.93)
    assert cut == 0.4
