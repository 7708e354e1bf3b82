"""A person with a browser: the DAG list, the form of `retrain`, the worklist. Screenshots go to build/screens/."""

from __future__ import annotations

import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from local_aws.airflow.api import Api

pytestmark = [pytest.mark.heavy, pytest.mark.browser]
START_SECONDS, RUN_SECONDS = 240, 420
FILMS = 80  # enough for every class and patient group of the split


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
    options.add_argument("--window-size=1500,1100")
    window = webdriver.Chrome(options=options, service=webdriver.ChromeService(executable_path=driver))
    yield window
    window.quit()


class Airflow:
    """`make airflow` in a folder of its own."""

    def __init__(self, home: Path, repo: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url, self._log = f"http://127.0.0.1:{self.port}", home / "terminal.log"
        command = [sys.executable, "-m", "local_aws", "airflow", "--port", str(self.port), "--home", str(home)]
        with self._log.open("w") as out:
            self.process = subprocess.Popen([*command, "--films", str(FILMS)], cwd=repo, stdout=out, stderr=out)

    def said(self) -> str:
        return self._log.read_text()

    def wait_for(self, words: str, seconds: float) -> str:
        deadline = time.monotonic() + seconds
        while words not in self.said():
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < deadline, f"{words!r} not said within {seconds} s:\n{self.said()}"
            time.sleep(1)
        return next(line for line in self.said().splitlines() if words in line)


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory, repo: Path, browser: Any) -> Iterator[Airflow]:
    started = Airflow(tmp_path_factory.mktemp("home"), repo)
    try:
        started.wait_for("Airflow is at", START_SECONDS)
        yield started
    finally:
        started.process.send_signal(signal.SIGINT)
        try:
            started.process.wait(60)
        except subprocess.TimeoutExpired:
            started.process.kill()


@pytest.fixture
def shot(repo: Path, browser: Any) -> Callable[[str], None]:
    folder = repo / "build" / "screens"
    folder.mkdir(parents=True, exist_ok=True)
    return lambda name: browser.save_screenshot(str(folder / f"{name}.png"))


def until(browser: Any, true: Callable[[], Any], seconds: float = 60) -> Any:
    """Return what ``true`` returns, once it is true; elements that React replaces meanwhile are looked up again."""
    from selenium.common.exceptions import WebDriverException

    deadline = time.monotonic() + seconds
    while True:
        try:
            if found := true():
                return found
        except WebDriverException:
            pass
        assert time.monotonic() < deadline, browser.page_source[-3000:]
        time.sleep(0.5)


def click(browser: Any, path: str) -> None:
    def clicked() -> bool:
        browser.find_element("xpath", path).click()
        return True

    until(browser, clicked)


def test_an_operator_retrains_by_the_form_and_reads_the_worklist(
    airflow: Airflow, browser: Any, shot: Callable[[str], None]
) -> None:
    browser.get(f"{airflow.url}/dags")
    names = ("retrain", "classify_backlog", "report", "correct_labels")
    until(browser, lambda: all(name in browser.page_source for name in names))
    shot("1-dags")

    airflow.wait_for("serves (serial 1)", RUN_SECONDS)
    browser.get(f"{airflow.url}/dags/retrain")
    click(browser, "//button[@aria-label='Trigger Dag']")
    click(browser, "//button[normalize-space()='4 Quality gate']")
    until(browser, lambda: browser.find_element("name", "element_min_sensitivity").is_displayed())
    time.sleep(1)  # the section slides open
    shot("2-form")
    button = "//div[@role='dialog']//button[normalize-space()='Trigger' and not(@disabled)]"
    api = Api(airflow.port)
    before = {run["dag_run_id"] for run in api.runs("retrain")}
    click(browser, button)
    (started,) = until(browser, lambda: [r for r in api.runs("retrain") if r["dag_run_id"] not in before])
    assert started["conf"]["dataset"] is None
    shot("3-run")
    states = lambda: {r["dag_run_id"]: r["state"] for r in api.runs("retrain")}  # noqa: E731
    until(browser, lambda: states()[started["dag_run_id"]] in ("success", "failed"), RUN_SECONDS)
    assert states()[started["dag_run_id"]] == "success"
    browser.get(f"{airflow.url}/dags/retrain/runs/{started['dag_run_id']}")
    until(browser, lambda: "smoke_test" in browser.page_source)
    shot("4-retrain")

    airflow.wait_for("worklist written", RUN_SECONDS)
    browser.get(re.findall(r"file://\S+", airflow.said())[-1])
    rows = browser.find_elements("css selector", "tbody tr")
    assert rows
    shot("5-worklist")
    click(browser, "//button[@data-filter='unreadable']")
    shown = [row for row in rows if row.is_displayed()]
    assert [row.get_attribute("data-status") for row in shown] == ["unreadable"]
    shot("6-unreadable")
