"""Ranges of files: what is not understood is ignored, and what is refused has the form of every refusal."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

from tests.support.asgi import call
from unstuck.api import problems
from unstuck.api.file_response import MOST_RANGES, RangedFile, satisfiable
from unstuck.api.resource import resource
from unstuck.app import create_app, frontend
from unstuck.errors import RangeNotSatisfiable, UnstuckError
from unstuck.settings import Settings

CONTENT = bytes(range(100))


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("bytes=0-9", "bytes=0-9"), ("Bytes= 0-9 ,\t20-", "bytes=0-9, 20-"), ("bytes=-5", "bytes=-5"),
        ("bytes=0-999", "bytes=0-999"), ("bytes=,,0-0,", "bytes=0-0"),
        ("bytes=0-0,100-,-0", "bytes=0-0"),  # what the file does not have is left out
        ("items=0-1", None), ("bytes", None), ("bytes=", None), ("bytes=-", None), ("bytes=5-4", None),
        ("bytes=0-1,x", None), ("bytes=²-", None), ("bytes=0x1-2", None), ("bytes=1 - 2", None), ("", None),
        ("bytes=" + "9" * 5_000 + "-", None),
        ("bytes=" + "0-0," * MOST_RANGES, "bytes=" + ", ".join(["0-0"] * MOST_RANGES)),
        ("bytes=" + "0-0," * MOST_RANGES + "1-1", None),
    ],
)  # fmt: skip
def test_ranges_that_are_understood(text: str, kept: str | None) -> None:
    assert satisfiable(text, 100) == kept


@pytest.mark.parametrize(("text", "size"), [("bytes=100-", 100), ("bytes=-0", 100), ("bytes=0-,-5", 0)])
def test_ranges_beyond_the_end(text: str, size: int) -> None:
    with pytest.raises(RangeNotSatisfiable):
        satisfiable(text, size)


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    (tmp_path / "file.bin").write_bytes(CONTENT)

    async def get_file(_: Request) -> Response:
        return RangedFile(tmp_path / "file.bin")

    app = Starlette(
        routes=[resource("/", GET=get_file)], exception_handlers={UnstuckError: problems.on_unstuck_error}
    )
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        yield client


async def test_a_file_and_its_ranges(client: httpx.AsyncClient) -> None:
    whole = await client.get("/")
    assert (whole.status_code, whole.content) == (200, CONTENT)
    one = await client.get("/", headers={"Range": "bytes=10-19"})
    assert (one.status_code, one.content, one.headers["content-range"]) == (206, CONTENT[10:20], "bytes 10-19/100")
    several = await client.get("/", headers={"Range": "bytes=0-1, 50-51, 200-"})
    assert (several.status_code, several.headers["content-type"][:31]) == (206, "multipart/byteranges; boundary=")
    assert int(several.headers["content-length"]) == len(several.content)
    assert several.content.count(b"Content-Range: bytes ") == 2
    for text in ("items=0-1", "bytes=9-5", "bytes=x"):
        answer = await client.get("/", headers={"Range": text})
        assert (answer.status_code, answer.content) == (200, CONTENT)


async def test_if_range(client: httpx.AsyncClient) -> None:
    etag = (await client.get("/")).headers["etag"]
    for changed, range_, status in [
        (etag, "bytes=0-0", 206), (etag, "bytes=500-", 416),
        *(
            (other, range_, 200)
            for other in ('"other"', f"W/{etag}", "Thu, 01 Jan 1970 00:00:00 GMT")
            for range_ in ("bytes=0-0", "bytes=500-")
        ),
    ]:  # fmt: skip
        answer = await client.get("/", headers={"Range": range_, "If-Range": changed})
        assert answer.status_code == status


@pytest.mark.parametrize("path", ["/static-x/define.js", "/static/define.js"])
def test_every_file_is_refused_alike(path: str) -> None:
    size = (frontend() / (path.rpartition("/")[2])).stat().st_size
    app = create_app(Settings())
    beyond = asyncio.run(call(app, "GET", path, headers=[(b"range", b"bytes=99999999-")]))
    assert (beyond.status, beyond.json()["code"]) == (416, "range_not_satisfiable")
    assert beyond.headers[b"content-type"] == b"application/problem+json"
    assert beyond.headers[b"content-range"] == f"bytes */{size}".encode()
    assert asyncio.run(call(app, "GET", path, headers=[(b"range", b"lines=1-2")])).status == 200
