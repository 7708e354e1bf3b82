"""The worklist shows the urgent first, is one file, and lets nothing that came from outside become markup or run."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import re
import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cxr_pipeline.answers import Answers
from cxr_pipeline.oversight import Figure
from cxr_pipeline.worklist import HERE, PNG, Extent, Heading, policy, write_csv, write_html

from cxr.grid import encode, png
from cxr.result import Row

FIGURES = [Figure("abstention rate", 0.25, "at most 0.5", False, "look"), Figure("PSI", None, "x", False, "y")]


GRID = encode(bytes(range(196)))


def answer(key: str, priority: Any, probability: float | None, status: Any = "ok", heatmap: str | None = None) -> Row:
    reasons = ("low_confidence: <b>The model</b> is not sure.",)
    return Row(
        key, status, "PNEUMONIA", probability, probability, 0.4, priority, 1.0, reasons, heatmap, None, "3", "s",
        "2026-11-22T10:00:00Z",
    )  # fmt: skip


@pytest.fixture
def answers(tmp_path: Path) -> Iterator[Answers]:
    with Answers(tmp_path / "answers.sqlite") as made:
        made.add([
            answer("routine.png", "routine", 0.1),
            answer("review.png", "review", None, "unreadable"),
            answer("<script>alert(1)</script>.png", "urgent", 0.8, heatmap="h/1.png"),
            answer("=cmd()", "urgent", 0.99, "uncertain"),
        ])  # fmt: skip
        yield made


def page(films: Any, rows: int = 100, picture: bytes = PNG + b"pixels") -> str:
    out = io.BytesIO()
    write_html(films, FIGURES, lambda key: picture, out, Heading("T", "S"), Extent(rows, 10))
    return out.getvalue().decode()


def test_urgent_comes_first_and_within_a_priority_the_likeliest(answers: Answers) -> None:
    assert [a.key for a in answers] == ["=cmd()", "<script>alert(1)</script>.png", "review.png", "routine.png"]


def test_the_page_escapes_what_came_from_outside(answers: Answers) -> None:
    html = page(answers)
    assert "<script>alert" not in html
    assert "&lt;script&gt;alert(1)" in html
    assert "<b>The model</b>" not in html


def test_a_film_without_a_picture_shows_the_grid_of_its_result(tmp_path: Path) -> None:
    with Answers(tmp_path / "grids.sqlite") as made:
        made.add([
            replace(answer("a.png", "routine", 0.3), grid=GRID),
            replace(answer("b.png", "routine", 0.2), grid="no grid"),
            answer("c.png", "routine", 0.1),
        ])  # fmt: skip
        html = page(made)
    assert f'alt="Heat map of a.png" src="data:image/png;base64,{base64.b64encode(png(GRID)).decode()}"' in html
    assert html.count("no heat map") == 2


def test_the_page_loads_nothing(answers: Answers) -> None:
    html = page(answers)
    assert not re.findall(r'(?:src|href)="(?!data:)', html)
    assert "data:image/png;base64," in html
    assert "data:image" not in page(answers, picture=b"<svg onload=alert(1)>")


def test_the_policy_knows_the_one_style_and_the_one_script_by_their_hashes(answers: Answers) -> None:
    html = page(answers)
    (said,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]+)"', html)
    assert said.replace("&#39;", "'") == policy(*((HERE / f"worklist.{kind}").read_text() for kind in ("css", "js")))
    assert "unsafe" not in said and said.startswith("default-src &#39;none&#39;")
    for tag in ("style", "script"):
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        assert f"sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}" in said
    assert not re.findall(r"""\s(?:style|on\w+)=""", html)


def test_the_page_has_a_filter_for_every_status_with_its_count(answers: Answers) -> None:
    found = dict(re.findall(r'data-filter="(\w+)".*?<b>(\d+)</b>', page(answers)))
    assert found == {"all": "4", "ok": "2", "uncertain": "1", "out_of_distribution": "0", "unreadable": "1"}


def test_a_long_worklist_says_how_many_films_only_the_csv_has(answers: Answers) -> None:
    html = page(answers, rows=3)
    assert html.count("<tr tabindex") == 3
    assert "The 1 films of lowest urgency are in worklist.csv only." in html


def test_the_csv_has_every_film_and_no_formula(answers: Answers) -> None:
    out = io.BytesIO()
    write_csv(answers, out)
    rows = list(csv.DictReader(io.StringIO(out.getvalue().decode())))
    assert [row["key"] for row in rows][:2] == ["'=cmd()", "<script>alert(1)</script>.png"]
    assert len(rows) == 4


def test_a_text_that_is_no_unicode_is_shown_as_far_as_it_goes(tmp_path: Path) -> None:
    with Answers(tmp_path / "a.sqlite") as made:
        made.add([replace(answer("a", "urgent", 0.5), model_version="torn \ud800 text")])
        assert "torn ? text" in page(made)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Headless Chromium."""
    driver, chromium = shutil.which("chromedriver"), shutil.which("chromium") or shutil.which("google-chrome")
    if not driver or not chromium:
        pytest.skip("no chromium and chromedriver: apt-get install chromium chromium-driver")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.add_argument("--window-size=1300,900")
    window = webdriver.Chrome(options=options, service=webdriver.ChromeService(executable_path=driver))
    yield window
    window.quit()


@pytest.fixture
def listener() -> Iterator[tuple[str, list[str]]]:
    """(address, paths asked for) of a web server that a hostile page would call."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()

        do_POST = do_GET

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()


@pytest.mark.heavy
def test_a_hostile_result_runs_nothing_and_loads_nothing(
    browser: Any, listener: tuple[str, list[str]], tmp_path: Path, repo: Path
) -> None:
    """Every field of a row is hostile in every way at once, beyond what a result may hold."""
    address, asked = listener
    attack = (
        f"\"'><script>document.title='owned';fetch('{address}/script')</script><img src='{address}/img' "
        f"onerror=\"document.title='owned'\"><svg onload=\"fetch('{address}/svg')\"><link rel=stylesheet "
        f"href='{address}/css'><style>@import '{address}/import';</style><iframe src='{address}/frame'></iframe>"
        f"<base href='{address}/'><meta http-equiv=refresh content='0;url={address}/refresh'>"
        f"<form action='{address}/form'><button autofocus>x</button></form> onmouseover=fetch('{address}/over') "
        "{{ 7 * 7 }} {% raw %} <!-- ]]>"
    )
    hostile: Any = Row(attack, attack, attack, 0.5, 0.5, 0.5, attack, 1.0, (attack,), "h", attack, attack, "s", attack)  # type: ignore[arg-type]
    figure = Figure(attack, 0.5, attack, True, attack)
    file = tmp_path / "worklist.html"
    with file.open("wb") as out:
        write_html(
            [hostile, answer("ward/a.png", "urgent", 0.9, heatmap="h")], [figure],
            lambda key: PNG + attack.encode(), out, Heading("Worklist", attack), Extent(10, 10),
        )  # fmt: skip
    browser.get(file.as_uri())
    rows = browser.find_elements("css selector", "tbody tr")
    assert browser.title == "Worklist"
    assert len(rows) == 2 and attack.strip() in rows[0].find_element("css selector", ".film b").get_attribute(
        "textContent"
    )
    browser.find_element("css selector", "input").send_keys("ward")  # the page's own script does run
    assert [row.is_displayed() for row in rows] == [False, True]
    assert browser.find_element("css selector", ".warning").value_of_css_property("border-left-style") == "solid"
    injected = (
        "const s = document.createElement('script'); s.textContent = 'document.title = 1'; document.body.append(s);"
    )
    browser.execute_script(injected)  # even markup that got in could not run
    browser.execute_script(f"const i = new Image(); i.src = '{address}/late'; document.body.append(i);")
    assert browser.title == "Worklist"
    assert asked == []
