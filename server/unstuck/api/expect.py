"""Deals with requests that ask before they send their body (`Expect: 100-continue`).

Must not know: what a request asks for.
See also: bodies.py (which asks for the body), middleware.py (the caller).

The server in front of the app sends `100 Continue` as soon as the body is received. So whatever the head alone
shows to be wrong is refused before that. The client may then send its body or not, and nothing tells which of the
two the next bytes are: such an answer closes the connection.
"""

from __future__ import annotations

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import Message, Receive, Send


def asks_first(headers: Headers) -> bool:
    """Return whether the client waits for an answer to the head before it sends the body."""
    return headers.get("expect", "").strip().lower() == "100-continue"


def close_if_unreceived(receive: Receive, send: Send) -> tuple[Receive, Send]:
    """Wrap a request, so that its connection is closed by an answer that comes before the body was asked for."""
    received = False

    async def receiving() -> Message:
        nonlocal received
        received = True
        return await receive()

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start" and not received:
            MutableHeaders(scope=message)["Connection"] = "close"
        await send(message)

    return receiving, sending
