"""Chromium, for the tests that look at pages as people do."""

import contextlib
import shutil

import pytest

FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


# Of a module: while it lives, its event loop runs in this thread, which others must not find.
@pytest.fixture(scope="module")
def browser():
    """A headless Chromium with an empty profile of its own."""
    executable = shutil.which("chromium") or shutil.which("google-chrome")
    if not executable:
        pytest.skip("the page was not opened in a browser: there is none; apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=FLAGS)
        yield browser
        browser.close()


@contextlib.contextmanager
def opened(browser, address: str, **settings):
    """A page at `address`, which must say nothing on the console. `settings` are of playwright's new_context.

    `page.asked` lists what it asks for, `page.said` what it says: a test that expects it takes it out.
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
