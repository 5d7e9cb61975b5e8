"""The demo as a Space runs it, and a browser that looks at it. Run by `make test-browser`."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page, sync_playwright

SPACE = Path(__file__).resolve().parents[1] / "runs" / "space"

# The server too may speak to this machine alone: a connection to another one fails, loudly.
START = """
import runpy
from pytest_socket import socket_allow_hosts
socket_allow_hosts(["127.0.0.1", "::1"], allow_unix_socket=True)
runpy.run_path("app.py", run_name="__main__")
"""


def pytest_addoption(parser):
    parser.addoption("--pictures", type=Path, help="Save pictures of the page in this folder.")


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """The address of the demo, and the file of what it prints."""
    log = tmp_path_factory.mktemp("demo") / "log"
    assert (SPACE / "app.py").is_file(), "make space"
    environment = os.environ | {"PYTHONPATH": str(SPACE), "PYTHONUNBUFFERED": "1"}
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", START], cwd=SPACE, stdout=output, stderr=output, env=environment
        )
    try:
        for _ in range(600):
            if found := re.search(r"http://127\.0\.0\.1:\d+", log.read_text()):
                yield found[0], log
                break
            try:
                process.wait(0.2)
            except subprocess.TimeoutExpired:
                continue
            pytest.fail(f"the demo did not start:\n{log.read_text()}")
    finally:
        process.terminate()
        process.wait()


@pytest.fixture(scope="session")
def browser():
    path = shutil.which("chromium")
    assert path, "no chromium: apt-get install chromium"
    # Chromium refuses its sandbox to root, as whom containers run.
    options = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=options)
        yield browser
        browser.close()


@pytest.fixture
def page(server, browser):
    """The demo, opened; afterwards, nothing may have been asked of another machine."""
    address, log = server
    page: Page = browser.new_page(viewport={"width": 1120, "height": 860}, accept_downloads=True)
    elsewhere = []

    def look(request):
        if request.url.startswith("http") and urlsplit(request.url).hostname != "127.0.0.1":
            elsewhere.append(request)

    page.on("request", look)
    page.goto(address)
    page.locator("#read").wait_for()
    yield page
    page.close()
    assert [r.url for r in elsewhere if r.failure != "csp"] == []
    assert "SocketConnectBlockedError" not in log.read_text()


@pytest.fixture
def picture(page, request):
    """Saves the page where --pictures asks for it, in 256 colours, which its size is owed to."""

    def save(name):
        if (folder := request.config.getoption("--pictures")) is not None:
            path = folder / f"{name}.png"
            page.screenshot(path=path)
            from PIL import Image

            Image.open(path).convert("RGB").quantize(256).save(path, optimize=True)

    return save
