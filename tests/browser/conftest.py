"""Pages of a real Chromium that keep what they asked the network for, and what went wrong in them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Request

from tests.browser.chromium import browser
from tests.conftest import Server


@dataclass
class Log:
    """What a page did on the network, and its errors."""

    requests: list[str] = field(default_factory=list)
    open: set[str] = field(default_factory=set)
    errors: list[str] = field(default_factory=list)

    def watch(self, page: Page) -> None:
        page.on("request", self._asked)
        for over in ("requestfinished", "requestfailed"):
            page.on(over, lambda request: self.open.discard(str(id(request))))
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", lambda said: self.errors.append(said.text) if said.type == "error" else None)
        page.on("dialog", lambda dialog: (self.errors.append(f"dialog: {dialog.message}"), dialog.dismiss()))

    def _asked(self, request: Request) -> None:
        self.requests.append(f"{request.method} {request.url}")
        self.open.add(str(id(request)))

    def count(self, part: str) -> int:
        return sum(part in request for request in self.requests)


@pytest.fixture(scope="module")  # no longer: while it is open, its event loop is in every other test's way
def chromium() -> Iterator[Browser]:
    with browser() as one:
        yield one


OpenPage = Callable[..., tuple[Page, Log]]

#: Runs in the page from the start: keeps every value that the bar of a dialog showed, frame by frame.
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
        context.add_init_script(WATCH_BAR)
        page, log = context.new_page(), Log()
        log.watch(page)
        page.goto(f"{(on or server).url}{path}")
        return page, log

    yield open_
    for context in contexts:
        context.close()
