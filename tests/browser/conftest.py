"""Pages of a real Chromium, with a log of their requests and errors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.chromium import browser
from tests.browser.log import Log, OpenPage
from tests.support.held import COUNT
from tests.support.server import Server

# Playwright's own limit of 5 s is passed on a busy machine; only a failure waits this long.
expect.set_options(timeout=60_000)


@pytest.fixture(scope="module")  # no longer, because its event loop disturbs the tests of other modules
def chromium() -> Iterator[Browser]:
    with browser() as chromium:
        yield chromium


#: Runs in the page from the start: records every value that the dialog's progress bar shows, frame by frame.
WATCH_BAR = """
  window.shown = [];
  const look = () => {
    const bar = document.querySelector("job-progress")?.shadowRoot?.querySelector("progress");
    if (bar && bar.hasAttribute("value") && window.shown.at(-1) !== bar.value) window.shown.push(bar.value);
    requestAnimationFrame(look);
  };
  look();
"""


@pytest.fixture
def open_page(chromium: Browser, server: Server) -> Iterator[OpenPage]:
    contexts = []

    def open_(path: str = "/", on: Server | None = None, **options: Any) -> tuple[Page, Log]:
        context = chromium.new_context(**options)
        contexts.append(context)
        context.add_init_script(f"({COUNT})()")
        context.add_init_script(WATCH_BAR)
        page, log = context.new_page(), Log()
        log.watch(page)
        page.goto(f"{(on or server).url}{path}")
        return page, log

    yield open_
    for context in contexts:
        context.close()
