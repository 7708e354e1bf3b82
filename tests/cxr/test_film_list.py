"""Lists beside the films."""

from __future__ import annotations

from pathlib import Path

import pytest

from cxr.film_list import BadFilmList, read_film_list


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("name,id\na,b\n", "columns file and patient"),
        ("file,patient\nx.jpeg,\n", "line 2"),
        ("file,patient\nx.jpeg,1\nx.jpeg,2\n", "line 3: an earlier line gives its file another patient; keep one"),
        (
            "file,patient\nx.jpeg,1\ntrain\\y.jpeg,2\n",
            r"1 of its rows name no film.* forward slashes.*: line 3$",
        ),
    ],
)
def test_a_bad_patient_list_is_refused_with_its_line(tmp_path: Path, text: str, why: str) -> None:
    path = tmp_path / "patients.csv"
    path.write_text(text)
    with pytest.raises(BadFilmList, match=why):
        read_film_list(path, "patient", {"x.jpeg"})


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16"])
def test_a_patient_list_in_another_encoding_says_how_to_save_it(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "patients.csv"
    path.write_text("file,patient\nMüller.jpeg,1\n", encoding=encoding)
    with pytest.raises(BadFilmList, match=r"patients\.csv is not UTF-8 .*save it as CSV UTF-8"):
        read_film_list(path, "patient", {"Müller.jpeg"})


def test_a_patient_list_without_a_row_would_check_nothing(tmp_path: Path) -> None:
    (tmp_path / "patients.csv").write_text("file,patient\n")
    with pytest.raises(BadFilmList, match="a header and no row"):
        read_film_list(tmp_path / "patients.csv", "patient", {"x.jpeg"})


def test_ten_of_many_rows_that_name_no_film_are_named_and_the_rest_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "patients.csv"
    path.write_text("file,patient\n" + "".join(f"C:/films/{n}.jpeg,{n}\n" for n in range(25)))
    with pytest.raises(BadFilmList, match=r"25 of its rows name no film.* as train/NORMAL/\S+,") as refusal:
        read_film_list(path, "patient", {"train/NORMAL/1.jpeg"})
    assert str(refusal.value).count("line ") == 10 and str(refusal.value).endswith(" and 15 more")
    assert "C:/films/" not in str(refusal.value), "a file's name may be a patient's"
