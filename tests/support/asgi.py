"""Calls the app in this process, with bytes that no HTTP library would send."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import unquote

import msgspec
from starlette.applications import Starlette
from starlette.types import ASGIApp, Message

from tests.support.waiting import PATIENCE_S
from unstuck.app import create_app, running
from unstuck.settings import load

T = TypeVar("T")
Headers = Sequence[tuple[bytes, bytes]]


@dataclass(slots=True)
class Answer:
    status: int = 0
    headers: dict[bytes, bytes] = field(default_factory=dict)
    body: bytes = b""

    def json(self) -> Any:
        return msgspec.json.decode(self.body)


async def call(
    app: ASGIApp,
    method: str,
    path: str,
    query: bytes = b"",
    headers: Headers = (),
    body: Sequence[bytes] = (),
) -> Answer:
    """Make one request as uvicorn would pass it on. A client that has the beginning of an answer leaves."""
    answer = Answer()
    begun = asyncio.Event()
    rest = list(body) or [b""]

    async def receive() -> Message:
        if rest:
            return {"type": "http.request", "body": rest.pop(0), "more_body": bool(rest)}
        await begun.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            answer.status = message["status"]
            answer.headers = {name.lower(): value for name, value in message["headers"]}
        else:
            answer.body += message.get("body", b"")
            begun.set()

    given = dict(headers)
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
        "path": unquote(path), "raw_path": path.encode(), "query_string": query, "root_path": "",
        "headers": [*headers] if b"host" in given else [(b"host", b"localhost"), *headers],
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80), "state": {},
    }  # fmt: skip
    async with asyncio.timeout(PATIENCE_S):
        await app(scope, receive, send)
    return answer


class InProcess:
    """A running app with its own event loop in a thread, for tests that are not coroutines."""

    def __init__(self, app: Starlette, loop: asyncio.AbstractEventLoop) -> None:
        self.app = app
        self.loop = loop

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(2 * PATIENCE_S)

    def call(self, method: str, path: str, query: bytes = b"", headers: Headers = (), *body: bytes) -> Answer:
        return self.run(call(self.app, method, path, query, headers, body))

    def post(self, path: str, value: object) -> Answer:
        return self.call("POST", path, b"", [(b"content-type", b"application/json")], msgspec.json.encode(value))


@contextmanager
def in_process(**settings: Any) -> Iterator[InProcess]:
    """Run an app with these settings."""
    app = create_app(load(settings, {}))
    started: Future[InProcess] = Future()
    ended = asyncio.Event()

    async def live() -> None:
        try:
            async with running(app):
                started.set_result(InProcess(app, asyncio.get_running_loop()))
                await ended.wait()
        except BaseException as error:
            if started.done():
                raise
            started.set_exception(error)

    thread = threading.Thread(target=asyncio.run, args=(live(),))
    thread.start()
    here = started.result(PATIENCE_S)
    try:
        yield here
    finally:
        here.loop.call_soon_threadsafe(ended.set)
        thread.join(PATIENCE_S)
        assert not thread.is_alive()
