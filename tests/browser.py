"""Debian's Chromium, driven without a window, and what it saw: requests, errors, the tree of the page."""

from __future__ import annotations

import base64
import importlib.util
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

_BROWSERS = ("chromium", "chromium-browser", "google-chrome")


class Browser:
    """One window. Every page is loaded from the disk, as a reviewer opens it."""

    def __init__(self, driver: Any, downloads: Path) -> None:
        self.driver, self.downloads = driver, downloads
        self.cdp = driver.execute_cdp_cmd

    def open(self, page: Path, *, keep: bool = False) -> None:
        """Open a page; what an earlier test decided is forgotten unless it is to be kept."""
        self.driver.get(page.resolve().as_uri())
        if not keep:
            self.run("localStorage.clear(); sessionStorage.clear()")
            self.driver.get(page.resolve().as_uri())
        self.wait("document.querySelectorAll('#feed .card[aria-busy=true]').length === 0")

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def value(self, expression: str) -> Any:
        return self.run(f"return {expression}")

    def wait(self, condition: str, seconds: float = 20) -> None:
        until = time.monotonic() + seconds
        while not self.value(condition):
            assert time.monotonic() < until, f"never true: {condition}; the console: {self.complaints()}"
            time.sleep(0.02)

    def press(self, *keys: str) -> None:
        """Press keys, wherever the focus is."""
        from selenium.webdriver.common.action_chains import ActionChains

        for key in keys:
            ActionChains(self.driver, duration=0).send_keys(key).perform()

    def texts(self, selector: str) -> list[str]:
        return self.run(
            "return [...document.querySelectorAll(arguments[0])].map(e => e.textContent)", selector
        )

    def click(self, selector: str) -> None:
        self.run("document.querySelector(arguments[0]).click()", selector)

    def show(self, width: int, height: int, scheme: str = "light") -> None:
        """Choose the size of the window in CSS pixels, and the colour scheme."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.cdp("Emulation.setDeviceMetricsOverride", size)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.cdp("Emulation.setEmulatedMedia", {"features": features})

    def screenshot(self) -> bytes:
        return base64.b64decode(self.cdp("Page.captureScreenshot", {})["data"])

    def downloaded(self, name: str) -> bytes:
        """Wait for a download, and take it away."""
        path, until = self.downloads / name, time.monotonic() + 20
        while not path.is_file() or not path.stat().st_size:  # an empty one keeps the name for it meanwhile
            assert time.monotonic() < until, f"no {name}: {list(self.downloads.iterdir())}"
            time.sleep(0.02)
        data = path.read_bytes()
        path.unlink()
        return data

    def complaints(self) -> list[str]:
        """All that the console says since it was last asked: errors, and what the policy refused."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requests(self) -> list[str]:
        """Every address that was asked for since this was last called, but for pictures within the page."""
        entries = (json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance"))
        asked = (e["params"]["request"]["url"] for e in entries if e["method"] == "Network.requestWillBeSent")
        return [url for url in asked if not url.startswith(("data:", "blob:"))]

    def violations(self) -> list[str]:
        """What axe finds wrong for people who use a keyboard, a screen reader or strong contrast."""
        import axe_core_python

        axe = Path(axe_core_python.__file__).parent / "axe.min.js"
        if not self.value("'axe' in window"):
            self.run(axe.read_text())
        found = self.driver.execute_async_script(
            "const done = arguments[0]; axe.run(document).then(r => done(r.violations), e => done(String(e)))"
        )
        return [f"{one['id']}: {one['nodes'][0]['html'][:200]}" for one in found]


def _missing() -> str:
    for package in ("selenium", "axe_core_python"):
        if importlib.util.find_spec(package) is None:
            return f"no {package}: pip install -e '.[dev]'"
    if not any(map(shutil.which, _BROWSERS)) or not shutil.which("chromedriver"):
        return "no browser: apt-get install chromium chromium-driver"
    return ""


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A browser for all tests of this process; skips where there is none."""
    if why := _missing():
        pytest.skip(why)
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = next(filter(None, map(shutil.which, _BROWSERS)))
    # No name is resolved: a request that left would fail, and show.
    for flag in (
        "headless=new",
        "no-sandbox",
        "disable-dev-shm-usage",
        "host-resolver-rules=MAP * ~NOTFOUND",
    ):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    driver.set_script_timeout(120)
    downloads = tmp_path_factory.mktemp("downloads")
    driver.execute_cdp_cmd(
        "Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(downloads)}
    )
    yield Browser(driver, downloads)
    driver.quit()


@pytest.fixture
def shown(browser: Browser) -> Iterator[Browser]:
    """The browser with a usual window; at the end no request has left, and the console is empty."""
    browser.requests(), browser.complaints()
    browser.show(1280, 900)
    yield browser
    assert browser.complaints() == []
    assert [url for url in browser.requests() if not url.startswith("file:///")] == []
