"""No text from outside steers the terminal on which a command runs."""

from __future__ import annotations

import pytest

from infra.__main__ import main
from infra.terminal import plain

HOSTILE = "\x1b[2J\x1b]0;owned\x07 \x9b31m \u202egepj.1\u2066 \r\x08"


def test_what_is_not_printable_is_written_as_its_escape():
    assert plain(HOSTILE) == r"\x1b[2J\x1b]0;owned\x07 \x9b31m \u202egepj.1\u2066 \r\x08"
    assert plain("Größe\tfilm\n\udcff") == "Größe\tfilm\n" + r"\udcff"


@pytest.mark.parametrize("place", ["train/NORMAL/{}.txt", "train/{}/a.jpeg", "train/NORMAL/PNEUMONIA/{}.jpeg"])
def test_a_file_name_is_shown_without_its_control_characters(place, tmp_path, capsys):
    name = place.format(HOSTILE)
    (tmp_path / name).parent.mkdir(parents=True)
    (tmp_path / name).write_bytes(b"x")
    assert main(["upload-dataset", str(tmp_path), "--region", "us-east-1"]) == 1
    said = capsys.readouterr().err
    assert "x1b[2J" in said and said == plain(said)
