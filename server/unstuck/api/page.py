"""Serves the batch page and the browser's files.

Must not know: jobs, or where the files are; it is given their folder.
See also: app.py (the folder), frontend/ (the files).

A browser revalidates them at every load, so that a page never mixes the files of two versions.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from pathlib import Path

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.staticfiles import NotModifiedResponse, StaticFiles
from starlette.types import Scope

from unstuck.api.file_response import RangedFile
from unstuck.api.resource import allow

METHODS = ["GET", "HEAD", "OPTIONS"]
REVALIDATE = {"Cache-Control": "no-cache"}


def page_of(folder: Path) -> Callable[[Request], Awaitable[Response]]:
    """Return the handler that serves GET / from the browser's files."""

    async def get_page(_: Request) -> Response:
        return RangedFile(folder / "index.html", headers=REVALIDATE)

    return get_page


class Static(StaticFiles):
    """The browser's files below /static/."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        if scope["method"] == "OPTIONS":
            return allow(METHODS)
        if scope["method"] not in METHODS:
            raise HTTPException(405, headers={"Allow": ", ".join(METHODS)})
        return await super().get_response(path, scope)

    def file_response(
        self, full_path: str | os.PathLike[str], stat_result: os.stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        response = RangedFile(full_path, status_code, REVALIDATE, stat_result=stat_result)
        if self.is_not_modified(response.headers, Headers(scope=scope)):
            return NotModifiedResponse(response.headers)
        return response
