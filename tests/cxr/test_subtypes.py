"""Bacterial or viral."""

from __future__ import annotations

from pathlib import Path

import pytest

from cxr.film_list import BadFilmList
from cxr.subtypes import read_subtypes, subtype_of


@pytest.mark.parametrize(
    ("file", "subtype"),
    [
        ("train/PNEUMONIA/person1_bacteria_1.jpeg", "bacteria"),
        ("train/PNEUMONIA/person1234_virus_2.jpeg", "virus"),
        ("train/PNEUMONIA/BACTERIA-1008087-0001.jpeg", "bacteria"),
        ("VIRUS-69980-0002.JPEG", "virus"),
        ("train/NORMAL/IM-0115-0001.jpeg", None),
        ("train/PNEUMONIA/person1_viruslike_1.jpeg", None),
        ("virus/film.png", None),
    ],
)
def test_the_subtype_is_read_from_the_file_name(file: str, subtype: str | None) -> None:
    assert subtype_of(file) == subtype


def test_a_list_of_subtypes_names_films_of_pneumonia_and_one_of_two_words(tmp_path: Path) -> None:
    path = tmp_path / "subtypes.csv"
    films, ill = {"a", "b", "n"}, {"a", "b"}
    path.write_text("file,subtype\na,virus\nb,bacteria\n")
    assert read_subtypes(path, films, ill) == {"a": "virus", "b": "bacteria"}
    for rows, why in (
        ("a,fungus", "1 of its rows give another subtype than bacteria and virus"),
        ("n,virus", "1 of its rows name NORMAL films"),
        ("a,virus\na,bacteria", "line 3: an earlier line gives its file another subtype"),
        ("c,virus", "1 of its rows name no film"),
    ):
        path.write_text(f"file,subtype\n{rows}\n")
        with pytest.raises(BadFilmList, match=why):
            read_subtypes(path, films, ill)
