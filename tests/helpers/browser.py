"""Chromium for the tests of HTML pages."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser

FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


# One per module: playwright runs an event loop in this thread, which tests of other modules must not find.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Start a headless Chromium with an empty profile. The test is skipped where there is none."""
    executable = shutil.which("chromium") or shutil.which("google-chrome")
    if not executable:
        pytest.skip("no browser found; apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=FLAGS)
        yield browser
        browser.close()


@contextlib.contextmanager
def opened(browser: Browser, address: str, **settings: Any) -> Iterator[Any]:
    """Open a page at `address`. It must print nothing to the console.

    `settings` go to playwright's new_context. `page.asked` lists the addresses that the page requests, `page.said` its
    console messages: a test that expects a message removes it.
    """
    context, said = browser.new_context(**settings), []
    page = context.new_page()
    page.asked, page.said = [], said
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: page.asked.append(request.url))
    page.goto(address)
    yield page
    context.close()
    assert not said
