"""One picture shows a heat map, wherever it is shown."""

import io

import numpy as np
import pytest
from PIL import Image

from cxr.overlay import LONG_SIDE, overlay, pair, png


def film(level=100, side=224):
    return np.full((side, side), level, np.uint8)


def hot_spot(row, column, side=14):
    heat = np.zeros((side, side), np.float32)
    heat[row, column] = 3.0
    return heat


def test_the_overlay_has_the_films_own_aspect():
    assert overlay(film(), hot_spot(0, 0), (600, 400)).size == (LONG_SIDE, round(LONG_SIDE * 2 / 3))
    assert overlay(film(), hot_spot(0, 0), (300, 900)).size == (round(LONG_SIDE / 3), LONG_SIDE)


@pytest.mark.parametrize("side", [7, 14])
def test_the_hot_place_is_coloured_where_the_map_says(side):
    picture = np.asarray(overlay(film(), hot_spot(side - 1, 0, side))).astype(int)
    colour = (picture.max(2) - picture.min(2)).astype(float)
    row, column = np.unravel_index(colour.argmax(), colour.shape)
    assert row > LONG_SIDE * 0.8 and column < LONG_SIDE * 0.2
    assert colour[: LONG_SIDE // 2, LONG_SIDE // 2 :].max() == 0


@pytest.mark.parametrize("heat", [np.zeros((14, 14), np.float32), np.full((7, 7), np.nan, np.float32)])
def test_a_map_without_heat_shows_the_film_alone(heat):
    assert np.all(np.asarray(overlay(film(77), heat)) == 77)


def test_a_pair_shows_the_film_alone_beside_it():
    both = np.asarray(pair(film(77), hot_spot(13, 13), (300, 600)))
    alone, laid = np.split(both, 2, axis=1)
    assert np.all(alone == 77)
    assert np.array_equal(laid, np.asarray(overlay(film(77), hot_spot(13, 13), (300, 600))))


def test_the_scale_of_the_map_does_not_matter():
    small, large = hot_spot(3, 3), hot_spot(3, 3) * 1e6
    assert png(overlay(film(), small)) == png(overlay(film(), large))


def test_the_png_holds_pixels_and_nothing_else():
    data = png(overlay(film(), hot_spot(5, 5)))
    kinds, at = set(), 8
    while at < len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        kinds.add(data[at + 4 : at + 8])
        at += 12 + length
    assert kinds == {b"IHDR", b"IDAT", b"IEND"}
    assert Image.open(io.BytesIO(data)).mode == "RGB"
