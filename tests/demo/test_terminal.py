"""What the demo prints: few lines, and every key, name and error as the text that it is."""

from __future__ import annotations

import io
from typing import Any

import pytest

from local_aws.demo.answers import Answers, Upload
from local_aws.demo.retraining import follow
from local_aws.demo.steps import Steps
from local_aws.terminal import Terminal

HOSTILE = "ward[red]/[/]\x1b[2J\x9b31m\u202e:smile:[link=http://x]film.jpeg"
SHOWN = r"ward[red]/[/]\x1b[2J\x9b31m\u202e:smile:[link=http://x]film.jpeg"


class Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


def result(**more: Any) -> dict[str, Any]:
    return {"status": "ok", "probability": 0.5, "label": "NORMAL", "priority": "routine", "reasons": [], **more}


def test_a_line_is_printed_as_text() -> None:
    out = io.StringIO()
    Terminal(out).say(HOSTILE)
    assert out.getvalue() == SHOWN + "\n"


def test_a_key_in_the_table_is_text() -> None:
    out = io.StringIO()
    uploads = [Upload(HOSTILE, "v1", "NORMAL"), Upload("none", "v1", "NORMAL")]
    Terminal(out).print(Answers(uploads, {HOSTILE: result()}).table())
    assert SHOWN in out.getvalue() and "\x1b" not in out.getvalue()
    assert "no result" in out.getvalue()


@pytest.mark.parametrize("verbose", [False, True])
def test_details_go_to_the_log_and_to_the_terminal_where_asked(verbose: bool) -> None:
    out, log = io.StringIO(), io.StringIO()
    steps = Steps(2, Terminal(out), log, verbose)
    with steps.step("first") as step:
        step.say(HOSTILE)
        step.say(HOSTILE)
    assert out.getvalue().splitlines()[-1] == log.getvalue().splitlines()[-1] == "[1/2] first: 0 s"
    assert log.getvalue().count(SHOWN) == 1
    assert out.getvalue().count(SHOWN) == verbose


def test_a_live_bar_shows_a_hostile_line_as_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    out = Tty()
    steps = Steps(1, Terminal(out), io.StringIO())
    with steps.step("a [title]") as step:
        step.total(3)
        step.advance()
        step.say(HOSTILE)
        step.bar.refresh()
    assert r"ward[red]/" in out.getvalue() and "[title]" in out.getvalue()
    assert "\x1b[2J" not in out.getvalue()


def test_a_failed_step_is_named_and_its_error_goes_on() -> None:
    out = io.StringIO()
    with pytest.raises(ValueError, match="no film"), Steps(1, Terminal(out), io.StringIO()).step("upload"):
        raise ValueError("no film")
    assert "[1/1] upload: failed after 0 s" in out.getvalue()


def test_of_airflow_s_log_a_person_sees_the_job_the_headlines_and_the_errors() -> None:
    stamp = "2026-11-22T17:12:08.000000Z"
    assert follow("headline: model 1 serves\n") == "model 1 serves"
    assert follow(f"{stamp} [info     ] epoch=1 [cxr_pipeline.training.TrainingOperator] loc=a.py:1") == "epoch=1"
    assert follow(f"{stamp} [error    ] Task failed [airflow.task] loc=b.py:2") == "Task failed"
    assert follow(f"{stamp} [info     ] polling [airflow.jobs] loc=c.py:3") is None
    assert follow("Traceback") is None
