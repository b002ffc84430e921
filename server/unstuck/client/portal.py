"""The event loop of code without asyncio: one for all threads of a process, in a thread of its own.

It begins with the first call and ends with the process; a forked child has its own. So a plain function works
anywhere: beside a running loop, in many threads or greenlets at once, and keeps its connections between calls.
anyio's portal is not used: suspended in a forked child, it writes into the pipe that wakes its parent's loop.
See also: plain.py and plain_reporter.py, which call it.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections.abc import Coroutine, Mapping
from concurrent.futures import Future
from typing import Any, TypeVar

import httpx

from unstuck.address import server_url
from unstuck.client.client import Client
from unstuck.client.transport import is_this_machine, open_http

T = TypeVar("T")
#: The longest wait for the loop to end with the process (seconds).
CLOSE_S = 2.0


class Portal:
    """An event loop in a thread, and the connections that live in it."""

    def __init__(self) -> None:
        self._http: dict[bool, httpx.AsyncClient] = {}
        self._stop = asyncio.Event()
        started: Future[asyncio.AbstractEventLoop] = Future()
        # A daemon: the process ends without waiting for it, and close() is called while it ends.
        self._thread = threading.Thread(target=self._serve, args=(started,), name="unstuck-client", daemon=True)
        self._thread.start()
        self._loop = started.result()

    def client(self, url: str | None, headers: Mapping[str, str] | None) -> Client:
        """Return a client that shares the connections of all others; it needs no `async with`."""
        local = is_this_machine(server_url(url))
        if local not in self._http:
            # Without cookies: callers with different headers must not get one another's sessions.
            self._http[local] = open_http(server_url(url), cookies=False)
        return Client(url, headers=headers, http=self._http[local])

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Return what the coroutine returns; if the caller is interrupted, the coroutine is cancelled."""
        if threading.get_ident() == self._thread.ident:
            coroutine.close()
            raise RuntimeError("A callback of a plain function cannot call another one; use a thread, or Client.")
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def start(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        """Run the coroutine without waiting for it."""
        asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def close(self) -> None:
        """Close the connections, and end the loop."""
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(CLOSE_S)

    def _serve(self, started: Future[asyncio.AbstractEventLoop]) -> None:
        # Not the loop of the policy: another library's may not run in a second thread, or not under gevent.
        with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
            started.set_result(runner.get_loop())
            runner.run(self._until_stopped())

    async def _until_stopped(self) -> None:
        await self._stop.wait()
        for http in self._http.values():
            await http.aclose()


class _Held:
    """The portal of this process."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.portal: Portal | None = None
        self.inherited: list[Portal | None] = []

    def forget(self) -> None:
        """In a forked child: leave the parent's loop alone, which closing or collecting it would disturb."""
        self.inherited.append(self.portal)
        self.lock, self.portal = threading.Lock(), None

    def close(self) -> None:
        with self.lock:
            if self.portal is not None:
                self.portal.close()
            self.portal = None


_held = _Held()
atexit.register(_held.close)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_held.forget)


def portal() -> Portal:
    """Return the portal of this process; the first call starts it."""
    with _held.lock:
        if _held.portal is None:
            _held.portal = Portal()
        return _held.portal
