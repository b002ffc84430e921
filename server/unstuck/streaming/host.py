"""Notices that the server which a host app runs in is stopping, so that its viewers are sent away.

Must not know: HTTP, or our own server, which announces its end itself (serve.py).
See also: hub.py (what viewers are sent).

uvicorn waits for all open streams before it ends the lifespan of an app, so the end of the lifespan comes too
late: the streams would wait for the server, and the server for the streams. What is looked at instead is the
server itself, found as sse-starlette finds it: uvicorn's signal handler is a method of it, with h11, `--reload`
and gunicorn alike. Other servers are not found; their own time limit ends the streams.
"""

from __future__ import annotations

import asyncio
import signal
from typing import Any

from unstuck.streaming.hub import Hub

#: Between two looks at the server (seconds). uvicorn itself looks every 0.1 s.
LOOK_S = 0.2


class HostServer:
    """The uvicorn server of this process, as far as its signal handler leads to it."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    async def watch(self) -> None:
        """Send all viewers away once the server is stopping; runs until cancelled."""
        while True:
            await asyncio.sleep(LOOK_S)
            if self._hub.leaving is None and self.is_stopping():
                self._hub.announce_leaving("the server is stopping")

    def is_stopping(self) -> bool:
        """Return whether the server was asked to stop, or has closed its sockets."""
        server: Any = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
        if getattr(server, "should_exit", None) is True:
            return True
        listening: list[Any] = getattr(server, "servers", [])  # there once it has started
        # `--limit-max-requests` stops a server that nothing asked to stop.
        return bool(listening) and not any(one.is_serving() for one in listening)
