"""Stressed films."""

import numpy as np
import pytest

from training_job.stress import KINDS, copies, stressed


@pytest.fixture(scope="module")
def film() -> np.ndarray:
    rng = np.random.default_rng(0)
    ramp = np.linspace(30, 220, 64)
    return np.clip(0.5 * ramp[None, :] + 0.5 * ramp[:, None] + rng.normal(0, 4, (64, 64)), 0, 255).astype(np.uint8)


def test_a_variant_is_fixed_by_its_seed_alone(film):
    first = stressed(film, (0, 5))
    np.testing.assert_array_equal(first, stressed(film.copy(), (0, 5)))
    assert (stressed(film, (1, 5)) != first).any() and (stressed(film, (0, 6)) != first).any()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__.strip("_"))
def test_each_kind_moves_the_film_and_leaves_it_a_film(film, kind):
    for seed in range(20):
        moved = kind(film, np.random.default_rng(seed))
        assert moved.dtype == np.uint8 and moved.shape == film.shape
        assert (moved != film).mean() > 0.05
        seen = moved.astype(float)[8:-8, 8:-8]
        assert np.corrcoef(seen.ravel(), film.astype(float)[8:-8, 8:-8].ravel())[0, 1] > 0.7


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__.strip("_"))
def test_a_flat_film_is_no_error(kind):
    for grey in (0, 128, 255):
        moved = kind(np.full((64, 64), grey, np.uint8), np.random.default_rng(0))
        assert moved.shape == (64, 64) and moved.dtype == np.uint8


def test_copies_come_one_after_the_other_and_never_change_the_films_they_are_of(film):
    films = np.stack([film, film[::-1], film.T])
    before = films.copy()
    digests = [f"{row:064x}" for row in (0xA << 208, 0xB << 208, 0xC << 208)]
    made = copies(films, digests, 2)
    assert made.shape == (6, *films.shape[1:])
    np.testing.assert_array_equal(films, before)
    np.testing.assert_array_equal(made[5], copies(films[2:], digests[2:], 2)[1])
    assert (made[:3] != made[3:]).any(axis=(1, 2)).all()
