"""Normal, bacterial, viral."""

import numpy as np
import pytest

from training_job import kinds


def test_a_list_goes_before_the_name_and_a_normal_film_has_no_subtype():
    files = ["NORMAL/a.png", "PNEUMONIA/person1_virus_1.jpeg", "PNEUMONIA/person2_virus_1.jpeg", "PNEUMONIA/b.png"]
    found = kinds.of_films(files, np.array([0, 1, 1, 1]), {"PNEUMONIA/person2_virus_1.jpeg": "bacteria"})
    assert [(*kinds.KINDS, "unknown")[kind] for kind in found] == ["normal", "virus", "bacteria", "unknown"]


def test_an_unknown_kind_counts_half_as_either():
    table = kinds.targets(np.array([0, 1, 2, kinds.UNKNOWN]))
    np.testing.assert_array_equal(table, [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0.5, 0.5]])


def test_a_class_four_times_as_rare_weighs_twice_as_much():
    weights = kinds.weights(np.repeat([0, 1, 2], [10, 40, 40]))
    assert weights.mean() == pytest.approx(1) and weights[0] == pytest.approx(2 * weights[-1])


def test_a_class_without_a_film_is_no_error():
    assert np.isfinite(kinds.weights(np.full(5, kinds.UNKNOWN))).all()


def test_the_logit_is_the_log_odds_of_either_pneumonia():
    scores = np.random.default_rng(0).normal(0, 3, (50, 3))
    odds = np.exp(scores)
    np.testing.assert_allclose(kinds.logit(scores), np.log((odds[:, 1] + odds[:, 2]) / odds[:, 0]))
    assert np.isfinite(kinds.logit(np.array([[900.0, -900.0, 0.0], [-900.0, 900.0, 900.0]]))).all()
