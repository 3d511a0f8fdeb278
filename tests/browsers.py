"""A headless Chromium for the tests that look at pages."""

import contextlib
import shutil
import time
import typing
from collections.abc import Callable, Iterator

import pytest

if typing.TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

_PATIENCE = 120  # seconds: a busy machine draws slowly without a GPU
_ARGUMENTS = ("--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")  # WebGL without a GPU


@contextlib.contextmanager
def headless_chromium() -> Iterator["Browser"]:
    """The machine's own, driven by playwright; skips where either is missing."""
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        pytest.skip("no Chromium on the PATH: install your system's package chromium")
    api = pytest.importorskip("playwright.sync_api", reason="pip install '.[dev]' brings playwright")
    with api.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=_ARGUMENTS)
        yield browser
        browser.close()


def wait_until(page: "Page", holds: Callable[[], bool]) -> None:
    """Asks again and again, while the page lives on; a failure where it never holds."""
    deadline = time.monotonic() + _PATIENCE
    while not holds():
        assert time.monotonic() < deadline
        page.wait_for_timeout(200)


@contextlib.contextmanager
def open_page(
    browser: "Browser", address: str, width: int = 640, height: int = 760, scheme: str = "light"
) -> Iterator["Page"]:
    """A page at the address. At the end its console must have no error, and nothing of elsewhere may have been asked
    for."""
    errors, elsewhere = [], []
    page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
    page.set_default_timeout(1000 * _PATIENCE)
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", lambda request: elsewhere.append(request.url))
    page.goto(address)
    yield page
    page.close()
    own = (address, address.replace("http:", "ws:"), "data:", "blob:")
    assert errors == [] and [url for url in elsewhere if not url.startswith(own)] == []
