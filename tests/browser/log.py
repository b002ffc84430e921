"""Records the requests and errors of a page."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from playwright.sync_api import Dialog, Page, Request


@dataclass
class Log:
    """The requests of a page, those still open, and its errors."""

    requests: list[str] = field(default_factory=list)
    open: set[str] = field(default_factory=set)
    errors: list[str] = field(default_factory=list)

    def watch(self, page: Page) -> None:
        page.on("request", self._asked)
        page.on("requestfinished", self._answered)
        page.on("requestfailed", self._answered)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", lambda said: self.errors.append(said.text) if said.type == "error" else None)
        page.on("dialog", self._interrupted)

    def _asked(self, request: Request) -> None:
        self.requests.append(f"{request.method} {request.url}")
        self.open.add(str(id(request)))

    def _answered(self, request: Request) -> None:
        self.open.discard(str(id(request)))

    def _interrupted(self, dialog: Dialog) -> None:
        self.errors.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def count(self, part: str) -> int:
        return sum(part in request for request in self.requests)


#: The type of the fixture `open_page`.
OpenPage = Callable[..., tuple[Page, Log]]
