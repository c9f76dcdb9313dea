"""Reports in a headless Chromium, which must stay silent: no error, no dialog, nothing asked of any network."""

import os
import shutil
from pathlib import Path

import pytest

playwright = pytest.importorskip("playwright.sync_api")

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="session")
def chromium():
    if CHROMIUM is None:
        pytest.fail("There is no chromium on the path; install Debian's package chromium, or set CHROMIUM to its path.")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture
def show(chromium):
    """Opens a report; what the page should not do is looked for when the test is over."""
    heard, contexts = [], []

    def open_report(report, view="responses", *, width=1300, height=900, ready=True, **options):
        context = chromium.new_context(viewport={"width": width, "height": height}, offline=True, **options)
        contexts.append(context)
        page = context.new_page()
        address = Path(report).resolve().as_uri()
        page.on("console", lambda message: heard.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: heard.append(f"error: {error}"))
        page.on("dialog", lambda dialog: (heard.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on("request", lambda asked: asked.url.split("#")[0] == address or heard.append(f"request: {asked.url}"))
        page.goto(f"{address}#{view}")
        if ready:
            page.wait_for_selector("html[data-ready]")
        return page

    yield open_report
    for context in contexts:
        context.close()
    assert heard == []
