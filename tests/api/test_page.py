"""The page and its files: compressed, all modules listed, and kept by their version."""

from __future__ import annotations

import asyncio
import gzip
import os
import re
from pathlib import Path

import pytest
from starlette.applications import Starlette

from tests.support.asgi import Answer, call
from unstuck.api.page import routes_of
from unstuck.app import create_app, frontend
from unstuck.settings import Settings

GZIP = (b"accept-encoding", b"gzip")


def ask(app: Starlette, path: str, *headers: tuple[bytes, bytes]) -> Answer:
    return asyncio.run(call(app, "GET", path, headers=headers))


def imported(folder: Path) -> set[str]:
    """Return every module that the page loads, found by walking its imports."""
    found, waiting = set(), [folder / "page/batch.js"]
    while waiting:
        module = waiting.pop().resolve()
        if module not in found:
            found.add(module)
            names = re.findall(r'^(?:import|export|\})[^"\n]*"(\.[^"]+)";', module.read_text(), re.MULTILINE)
            waiting += [module.parent / name for name in names]
    return {path.relative_to(folder.resolve()).as_posix() for path in found}


def test_the_page_lists_every_module_that_it_loads() -> None:
    app = create_app(Settings())
    page = ask(app, "/").body.decode()
    version = re.search(r'src="static-([0-9a-f]{16})/page/batch.js"', page)
    assert version is not None
    modules = re.findall(rf'<link rel="modulepreload" href="static-{version[1]}/([^"]+)" />', page)
    assert len(modules) == len(set(modules)) > 20
    assert set(modules) == imported(frontend())
    assert '="static/' not in page
    for name in modules:
        kept = ask(app, f"/static-{version[1]}/{name}", GZIP)
        assert (kept.status, b"immutable" in kept.headers[b"cache-control"]) == (200, True)
        plain = gzip.decompress(kept.body) if b"content-encoding" in kept.headers else kept.body
        assert plain == (frontend() / name).read_bytes()
    page_size = len(ask(app, "/", GZIP).body)
    assert page_size + sum(len(ask(app, f"/static/{name}", GZIP).body) for name in modules) < 120_000


def test_files_without_their_version_are_revalidated(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text('<!-- modules --><script src="static/a.js"></script>')
    (tmp_path / "a.js").write_text("a" * 1_000)
    app = Starlette(routes=routes_of(tmp_path))
    before = ask(app, "/")
    assert ask(app, "/", (b"if-none-match", before.headers[b"etag"])).status == 304
    for path in ("/static/a.js", "/static-other/a.js", "/static-/a.js"):
        if (answer := ask(app, path)).status == 200:
            assert answer.headers[b"cache-control"] == b"no-cache", path
    os.utime(tmp_path / "a.js", (1, 1))
    after = ask(app, "/", (b"if-none-match", before.headers[b"etag"]))
    assert (after.status, after.headers[b"etag"] != before.headers[b"etag"]) == (200, True)


@pytest.mark.parametrize("path", ["/api/openapi.json", "/", "/static/define.js"])
def test_what_is_large_is_compressed_only_for_those_that_take_it(path: str) -> None:
    app = create_app(Settings())
    plain, small = ask(app, path), ask(app, path, GZIP)
    assert b"content-encoding" not in plain.headers
    if len(plain.body) > 2_000:
        assert small.headers[b"content-encoding"] == b"gzip"
        assert small.headers[b"vary"] == b"Accept-Encoding"
        assert gzip.decompress(small.body) == plain.body
