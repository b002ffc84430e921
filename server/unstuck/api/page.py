"""Serves the batch page and the browser's files, small and seldom.

Must not know: jobs, or where the files are; it is given their folder.
See also: app.py (the folder), frontend/ (the files).

The page names its files with their version: below /static-VERSION/ a browser keeps them for a year, so a reload
costs the page alone, and a page never mixes the files of two versions. It lists all modules, so that they are
fetched at once instead of level by level. Below /static/, where the pages of others load the element, a browser
revalidates.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import anyio.to_thread
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import NotModifiedResponse, StaticFiles
from starlette.types import Scope

from unstuck.api.file_response import RangedFile
from unstuck.api.resource import allow, compressed, resource

METHODS = ["GET", "HEAD", "OPTIONS"]
REVALIDATE = {"Cache-Control": "no-cache"}
KEEP = {"Cache-Control": "public, max-age=31536000, immutable"}
#: Where index.html lists the modules.
MODULES = "<!-- modules -->"


def routes_of(folder: Path) -> list[Mount | Route]:
    """Return the routes of the page and of the browser's files."""
    page = _Page(folder)
    files = GZipMiddleware(_Static(page, folder), compresslevel=6)
    return [
        compressed(resource("/", GET=page.get_page)),
        Mount("/static-{version}", files),
        Mount("/static", files),
    ]


class _Page:
    """The page, and the version of the files that it named last."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.version = ""

    async def get_page(self, request: Request) -> Response:
        """Serve GET /."""
        html = await anyio.to_thread.run_sync(self._render)
        headers = {**REVALIDATE, "ETag": f'W/"{self.version}"'}
        if self.version in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return HTMLResponse(html, headers=headers)

    def _render(self) -> str:
        files = sorted(path for path in self._folder.rglob("*") if path.is_file())
        stats = [(str(path.relative_to(self._folder)), path.stat()) for path in files]
        told = repr([(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats])
        self.version = hashlib.sha256(told.encode()).hexdigest()[:16]
        modules = [path.relative_to(self._folder).as_posix() for path in files if path.suffix == ".js"]
        links = "\n    ".join(f'<link rel="modulepreload" href="static/{name}" />' for name in modules)
        html = (self._folder / "index.html").read_text(encoding="utf-8").replace(MODULES, links)
        return html.replace('="static/', f'="static-{self.version}/')


class _Static(StaticFiles):
    """The browser's files below both addresses."""

    def __init__(self, page: _Page, folder: Path) -> None:
        super().__init__(directory=folder)
        self._page = page

    async def get_response(self, path: str, scope: Scope) -> Response:
        if scope["method"] == "OPTIONS":
            return allow(METHODS)
        if scope["method"] not in METHODS:
            raise HTTPException(405, headers={"Allow": ", ".join(METHODS)})
        return await super().get_response(path, scope)

    def file_response(
        self, full_path: str | os.PathLike[str], stat_result: os.stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        # The files of another version than the page named last may be these only by chance.
        named = scope.get("path_params", {}).get("version", "") == self._page.version != ""
        response = RangedFile(full_path, status_code, KEEP if named else REVALIDATE, stat_result=stat_result)
        if self.is_not_modified(response.headers, Headers(scope=scope)):
            return NotModifiedResponse(response.headers)
        return response
