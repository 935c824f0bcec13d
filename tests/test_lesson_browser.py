"""A lesson in a real browser: a student predicts, sees the answer, moves a slider, and it fits a telephone.

Needs chromium and its driver (Debian: `apt-get install chromium chromium-driver`) and selenium; skipped where one is missing.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("marimo", reason="lessons are marimo notebooks: pip install 'simnet-rx[lessons]'")
webdriver = pytest.importorskip("selenium.webdriver", reason="the browser is driven with selenium")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="no chromium and chromedriver on this machine")

FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
FIND = """
const all = (root, selector) => [...root.querySelectorAll('*')].reduce(
    (found, e) => e.shadowRoot ? found.concat(all(e.shadowRoot, selector)) : found, [...root.querySelectorAll(selector)]);
"""
"""marimo draws its controls inside shadow roots."""


@pytest.fixture
def address() -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "simnet", "lesson", "livelock", "--headless", "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            until(lambda: is_open(port), "the server listens")
            yield f"http://127.0.0.1:{port}/"
        finally:
            server.terminate()


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Any]:
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={tmp_path / 'profile'}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    try:
        yield driver
    finally:
        driver.quit()


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def until(condition: Callable[[], Any], what: str, seconds: float = 180) -> Any:
    """Wait until a condition holds; a first run compiles the mechanisms."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.1)
    return pytest.fail(f"not seen in {seconds} s: {what}")


def test_a_student_predicts_and_moves_a_slider(address: str, browser: Any, tmp_path: Path) -> None:
    def find(selector: str, text: str = "") -> Any:
        """The first element, also inside shadow roots, with this text."""
        script = FIND + "return all(document, arguments[0]).find(e => e.innerText.includes(arguments[1]))"
        return browser.execute_script(script, selector, text)

    def page() -> str:
        return str(browser.execute_script(FIND + "return all(document, 'span, h2').map(e => e.innerText).join('\\n')"))

    def size(width: int) -> None:
        metrics = {"width": width, "height": 1400, "deviceScaleFactor": 1, "mobile": width < 500}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        time.sleep(0.5)

    size(1280)
    browser.get(address)
    until(lambda: find("label", "next to nothing"), "the choices").click()
    assert "What happened" not in page()
    until(lambda: find("button", "That is my prediction"), "the button").click()
    until(lambda: "You predicted next to nothing" in page() and "Exercise" in page(), "the answer")
    assert "Offered 1 500 kpps" in page()

    handle = find("[role=slider]")
    handle.send_keys(webdriver.Keys.ARROW_LEFT * 10)
    until(lambda: "Offered 499" in page() or "Offered 500" in page(), "the answer at 500 kpps", 60)

    for width in (1280, 390):
        size(width)
        browser.save_screenshot(str(tmp_path / f"livelock-{width}.png"))
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width
        outside = "e => e.getBoundingClientRect().right > innerWidth + 1 && e.checkVisibility({opacityProperty: true})"
        assert browser.execute_script(FIND + f"return all(document, 'svg, select, table, p, form').filter({outside}).length") == 0
    assert [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []
