"""Notices that the server which a host app runs in is stopping, so that its viewers are sent away.

Must not know: HTTP, or our own server, which announces its end itself (serve.py).
See also: hub.py (what viewers are sent).

A server waits for all open streams before it ends the lifespan of an app, so the end of the lifespan comes too
late: the streams would wait for the server, and the server for the streams. uvicorn (also under gunicorn, with
`--reload`, or in a thread) and hypercorn are looked at themselves: they stand in the stack of their task, whatever
handles the signals, and they may stop without any. Of other servers, such as granian, only the signal is known: it
is passed on to whatever handled it before.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any

import uvicorn

from unstuck.streaming.hub import Hub

#: Between two looks at the server (seconds). uvicorn itself looks every 0.1 s.
LOOK_S = 0.2
SIGNALS = (signal.SIGTERM, signal.SIGINT)
#: uvicorn's coroutine from the start of a server to its end, and the module and name of hypercorn's.
_UVICORN = uvicorn.Server._serve.__code__
_HYPERCORN = ("hypercorn.asyncio.run", "worker_serve")


class HostServer:
    """The server that this app runs in, as far as it can be found."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._is_stopping: Callable[[], bool] | None = None
        self._previous: dict[signal.Signals, Any] = {}
        self._on_signal: Callable[[int, FrameType | None], None] | None = None

    async def watch(self) -> None:
        """Send all viewers away once the server is stopping; runs until cancelled."""
        try:
            while True:
                await asyncio.sleep(LOOK_S)
                self._look()
        finally:
            self._stop_listening()

    def _look(self) -> None:
        self._is_stopping = self._is_stopping or _find_server()
        if self._is_stopping is None:
            self._listen_for_signals()
        elif self._is_stopping():
            self._leave()

    def _leave(self) -> None:
        if self._hub.leaving is None:
            self._hub.announce_leaving("the server is stopping")

    def _listen_for_signals(self) -> None:
        """Come before whatever handles the signals; a server may set its handlers after the app has started."""
        if threading.current_thread() is not threading.main_thread():
            return  # where signals cannot be handled
        if self._on_signal is None:
            self._on_signal = self._handler(asyncio.get_running_loop())
        for one in SIGNALS:
            handler = signal.getsignal(one)
            # Without a handler, or with Python's own, the signal ends the process at once.
            if callable(handler) and handler not in (self._on_signal, signal.default_int_handler):
                self._previous[one] = handler
                signal.signal(one, self._on_signal)

    def _handler(self, loop: asyncio.AbstractEventLoop) -> Callable[[int, FrameType | None], None]:
        def on_signal(number: int, frame: FrameType | None) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._leave)
            self._previous[signal.Signals(number)](number, frame)

        return on_signal

    def _stop_listening(self) -> None:
        for one, handler in self._previous.items():
            if signal.getsignal(one) is self._on_signal:
                signal.signal(one, handler)


def _find_server() -> Callable[[], bool] | None:
    """Return what tells whether the server of this event loop is stopping; None if it is not found."""
    for task in asyncio.all_tasks():
        work: Any = task.get_coro()
        while work is not None:
            frame: FrameType | None = getattr(work, "cr_frame", None)
            if frame is not None and frame.f_code is _UVICORN:
                return partial(_uvicorn_is_stopping, frame.f_locals["self"])
            if frame is not None and (frame.f_globals.get("__name__"), frame.f_code.co_name) == _HYPERCORN:
                return partial(_hypercorn_is_stopping, frame)
            work = getattr(work, "cr_await", None)
    return None


def _uvicorn_is_stopping(server: uvicorn.Server) -> bool:
    """Return whether the server was asked to stop, or has closed its sockets."""
    listening = getattr(server, "servers", [])  # there once it has started
    # `--limit-max-requests` stops a server that nothing asked to stop.
    return server.should_exit or (bool(listening) and not any(one.is_serving() for one in listening))


def _hypercorn_is_stopping(frame: FrameType) -> bool:
    """Return whether the server has told its connections to end."""
    context = frame.f_locals.get("context")  # there once the app has started
    return context is not None and context.terminated.is_set()
