"""A real Firefox, driven directly by WebDriver BiDi over its websocket.

The program runs as long as its fixture. Each test has its own session with its own profile: its tabs share
storage, locks and channels with one another, but not with other tests.
It must not know dialogs, jobs or faults.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from tests.support.waiting import eventually

#: Longer than any command takes, even on a busy machine.
ANSWER_S = 60.0
LONGEST_MESSAGE = 64 * 2**20
#: Tests talk only to servers on their own machine, and so must the browser.
PREFERENCES: dict[str, bool | int | str] = {
    "app.normandy.enabled": False,
    "browser.startup.page": 0,
    "datareporting.policy.dataSubmissionEnabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "services.settings.server": "data:,",  # no downloads of lists
    "browser.tabs.animated": False,
}


def executable() -> str | None:
    """Return the path of the Firefox that the variable FIREFOX names, or of the first on the path, or None."""
    names = (os.environ.get("FIREFOX"), "firefox-esr", "firefox")
    return next((path for name in names if name and (path := shutil.which(name))), None)


@contextmanager
def running(profile: Path) -> Iterator[str]:
    """Run a headless Firefox; yield the address of its websocket."""
    path = executable()
    assert path, "Install Firefox (Debian: firefox-esr), or name one with FIREFOX=/path."
    lines = [f"user_pref({json.dumps(name)}, {json.dumps(value)});" for name, value in PREFERENCES.items()]
    (profile / "user.js").write_text("\n".join(lines))
    where = profile / "WebDriverBiDiServer.json"  # written once Firefox listens
    command = [path, "--headless", "--no-remote", "--profile", str(profile), "--remote-debugging-port", "0"]
    with (profile / "firefox.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        eventually(lambda: where.exists() and where.read_text().endswith("}"), ANSWER_S)
        server = json.loads(where.read_text())
        yield f"ws://{server['ws_host']}:{server['ws_port']}/session"
    finally:
        process.terminate()
        try:
            process.wait(10)
        finally:
            process.kill()
            process.wait()


class Session:
    """A WebDriver session, made by `opened`. Commands and answers are matched by number."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._number = 0
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._profile = ""
        #: Errors on the consoles of all pages, uncaught exceptions included.
        self.errors: list[str] = []

    @staticmethod
    @asynccontextmanager
    async def opened(address: str) -> AsyncIterator[Session]:
        """Open a session with an empty profile; remove both at the end."""
        async with connect(address, max_size=LONGEST_MESSAGE, open_timeout=ANSWER_S) as socket:
            session = Session(socket)
            listening = asyncio.create_task(session._listen())
            try:
                await session.send("session.new", {"capabilities": {}})
                await session.send("session.subscribe", {"events": ["log.entryAdded"]})
                session._profile = (await session.send("browser.createUserContext", {}))["userContext"]
                yield session
                await session.send("browser.removeUserContext", {"userContext": session._profile})
            finally:
                await session.send("session.end", {})
                listening.cancel()

    async def new_tab(self) -> Tab:
        params = {"type": "tab", "userContext": self._profile}
        return Tab(self, (await self.send("browsingContext.create", params))["context"])

    async def send(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """Send a command and return its result; raise RuntimeError if the browser refuses it."""
        self._number += 1
        answer = self._waiting[self._number] = asyncio.get_running_loop().create_future()
        await self._socket.send(json.dumps({"id": self._number, "method": method, "params": params}))
        received = await asyncio.wait_for(answer, ANSWER_S)
        if received["type"] == "error":
            raise RuntimeError(f"{method}: {received['message']}")
        return dict(received["result"])

    async def _listen(self) -> None:
        async for message in self._socket:
            received = json.loads(message)
            if received["type"] == "event":
                entry = received["params"]
                if entry["level"] == "error":
                    self.errors.append(entry["text"])
            elif (answer := self._waiting.pop(received["id"] or 0, None)) and not answer.done():
                answer.set_result(received)


class Tab:
    """A tab and the page in it."""

    def __init__(self, session: Session, context: str) -> None:
        self._session = session
        self._context = context

    async def goto(self, url: str) -> None:
        """Load this URL; return once the page is complete."""
        params = {"context": self._context, "url": url, "wait": "complete"}
        await self._session.send("browsingContext.navigate", params)

    async def call(self, function: str, *given: Any) -> Any:
        """Call a JavaScript function and return its (awaited) JSON value; raise RuntimeError if it throws."""
        params = {
            # Values are passed as JSON in strings, because BiDi's own encoding would have to be decoded.
            "functionDeclaration": f"async (given) => JSON.stringify(await ({function})(...JSON.parse(given)))",
            "arguments": [{"type": "string", "value": json.dumps(given)}],
            "target": {"context": self._context},
            "awaitPromise": True,
        }
        answer = await self._session.send("script.callFunction", params)
        if answer["type"] == "exception":
            raise RuntimeError(answer["exceptionDetails"]["text"])
        return json.loads(answer["result"].get("value", "null"))

    async def resize(self, width: int, height: int) -> None:
        params = {"context": self._context, "viewport": {"width": width, "height": height}}
        await self._session.send("browsingContext.setViewport", params)

    async def picture(self) -> bytes:
        """Return a screenshot as a PNG."""
        answer = await self._session.send("browsingContext.captureScreenshot", {"context": self._context})
        return base64.b64decode(answer["data"])

    async def close(self) -> None:
        await self._session.send("browsingContext.close", {"context": self._context})
