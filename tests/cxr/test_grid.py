"""The grid of a result is a small square of levels, and nothing else passes for one."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from cxr import overlay
from cxr.grid import COLOURS, MOST, GridError, decode, encode, png


@pytest.mark.parametrize("side", [1, 7, MOST])
def test_a_grid_comes_back_as_it_was(side: int) -> None:
    levels = bytes(number % 256 for number in range(side * side))
    assert decode(encode(levels)) == levels


@pytest.mark.parametrize("cells", [0, 2, 195, 15 * 15])
def test_what_is_no_square_of_at_most_fourteen_is_refused(cells: int) -> None:
    with pytest.raises(GridError, match=f"has {cells} cells, expected a square of 1 to 14 a side"):
        encode(bytes(cells))
    with pytest.raises(GridError):
        decode(base64.b64encode(bytes(cells)).decode())


@pytest.mark.parametrize("text", ["<script>", "AAA", "ä", "A A="])
def test_what_is_no_base64_is_refused_without_being_quoted(text: str) -> None:
    with pytest.raises(GridError) as caught:
        png(text)
    assert text not in str(caught.value)


def test_the_picture_of_a_grid_has_a_pixel_a_cell_in_the_colours_of_the_overlay() -> None:
    picture = Image.open(io.BytesIO(png(encode(bytes(range(196))))))
    assert picture.size == (14, 14)
    pixels = np.asarray(picture.convert("RGB")).reshape(-1, 3)
    assert pixels.tobytes() == COLOURS[: 196 * 3]


def test_the_colours_grow_brighter_all_the_way() -> None:
    brightness = np.frombuffer(COLOURS, np.uint8).reshape(256, 3).sum(1, dtype=int)
    assert len(COLOURS) == 768 and (np.diff(brightness) >= -1).all()


@pytest.mark.parametrize(("side", "kept"), [(4, 4), (7, 7), (14, 14), (20, 14)])
def test_a_map_becomes_levels_relative_to_its_maximum(side: int, kept: int) -> None:
    heat = np.full((side, side), 0.5, np.float32)
    heat[: side // 2] = 1.0
    levels = overlay.levels(heat)
    assert levels.shape == (kept, kept) and levels.dtype == np.uint8
    assert levels[0, 0] == 255 and levels[-1, 0] == 128
    assert np.array_equal(levels, overlay.levels(heat * 1e6))


def test_the_picture_is_drawn_from_the_levels() -> None:
    film, heat = np.full((224, 224), 100, np.uint8), np.random.default_rng(0).random((20, 20)).astype(np.float32)
    assert overlay.overlay(film, heat).tobytes() == overlay.overlay(film, overlay.levels(heat) / 255).tobytes()
