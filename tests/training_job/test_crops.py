"""Random resized crops."""

import numpy as np
import pytest

from training_job.crops import Crops, cropped

STILL = Crops(area=1.0, ratio=1.0, turn=0.0, gamma=0.0, contrast=0.0, brightness=0.0, mirror=0.0)


@pytest.fixture(scope="module")
def film() -> np.ndarray:
    ramp = np.linspace(20, 230, 64)
    return (0.6 * ramp[None, :] + 0.4 * ramp[:, None]).astype(np.uint8)


def test_a_variant_is_fixed_by_its_seed_and_no_two_epochs_or_films_share_one(film):
    first = cropped(film, Crops(), (0, 3, 7))
    assert first.dtype == np.uint8 and first.shape == film.shape
    np.testing.assert_array_equal(first, cropped(film.copy(), Crops(), (0, 3, 7)))
    for other in ((1, 3, 7), (0, 4, 7), (0, 3, 8)):
        assert (cropped(film, Crops(), other) != first).mean() > 0.5


def test_ranges_without_width_leave_the_film_as_it_is(film):
    np.testing.assert_array_equal(cropped(film, STILL, (0, 0, 0)), film)


def test_a_crop_of_a_quarter_of_the_area_shows_half_of_the_width(film):
    quarter = Crops(area=0.25, ratio=1.0, turn=0.0, gamma=0.0, contrast=0.0, brightness=0.0, mirror=0.0)
    seen = [cropped(film, quarter, (0, 0, row)) for row in range(200)]
    spans = [int(one[0].max()) - int(one[0].min()) for one in seen]
    whole = int(film[0].max()) - int(film[0].min())
    assert 0.45 * whole < min(spans) < 0.6 * whole and max(spans) > 0.9 * whole


def test_about_half_of_the_variants_are_mirrored(film):
    turned = Crops(area=1.0, ratio=1.0, turn=0.0, gamma=0.0, contrast=0.0, brightness=0.0)
    mirrored = [(cropped(film, turned, (0, 0, row)) == film[:, ::-1]).all() for row in range(200)]
    assert 70 < sum(mirrored) < 130


def test_exposure_varies_on_both_sides_of_the_film_s_own(film):
    exposed = Crops(area=1.0, ratio=1.0, turn=0.0, mirror=0.0)
    means = np.array([cropped(film, exposed, (0, 0, row)).mean() for row in range(200)]) - film.mean()
    assert means.min() < -15 and means.max() > 15 and abs(means.mean()) < 5
