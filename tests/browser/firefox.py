"""A real Firefox, driven by WebDriver BiDi over its websocket, and nothing in between.

The program runs as long as its fixture; each test has a session of its own in it, and in that a profile of
its own (its tabs share storage, locks and channels; other tests' do not). It decides nothing about pages:
must not know dialogs, jobs or faults.
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

#: Beyond what any command takes, on a busy machine too.
ANSWER_S = 60.0
LONGEST_MESSAGE = 64 * 2**20
#: A test speaks to the servers of its own machine only; so does its browser.
PREFERENCES: dict[str, bool | int | str] = {
    "app.normandy.enabled": False,
    "browser.startup.page": 0,
    "datareporting.policy.dataSubmissionEnabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "services.settings.server": "data:,",  # no lists from afar
    "browser.tabs.animated": False,
}


def executable() -> str | None:
    """The path of a Firefox: the one named by the variable FIREFOX, or the first that is installed."""
    names = (os.environ.get("FIREFOX"), "firefox-esr", "firefox")
    return next((path for name in names if name and (path := shutil.which(name))), None)


@contextmanager
def running(profile: Path) -> Iterator[str]:
    """A headless Firefox; yields the address of its websocket."""
    path = executable()
    assert path, "Install Firefox (Debian: firefox-esr), or name one with FIREFOX=/path."
    lines = [f"user_pref({json.dumps(name)}, {json.dumps(value)});" for name, value in PREFERENCES.items()]
    (profile / "user.js").write_text("\n".join(lines))
    where = profile / "WebDriverBiDiServer.json"  # written when it listens
    command = [path, "--headless", "--no-remote", "--profile", str(profile), "--remote-debugging-port", "0"]
    with (profile / "firefox.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        eventually(lambda: where.exists() and where.read_text().endswith("}"), ANSWER_S)
        said = json.loads(where.read_text())
        yield f"ws://{said['ws_host']}:{said['ws_port']}/session"
    finally:
        process.terminate()
        try:
            process.wait(10)
        finally:
            process.kill()
            process.wait()


class Session:
    """See `opened`. Commands go out by number, answers come back by number."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._number = 0
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._profile = ""
        #: What any page said on its console as an error, or threw and nobody caught.
        self.errors: list[str] = []

    @staticmethod
    @asynccontextmanager
    async def opened(address: str) -> AsyncIterator[Session]:
        """A session with an empty profile; both are gone at the end."""
        async with connect(address, max_size=LONGEST_MESSAGE, open_timeout=ANSWER_S) as socket:
            session = Session(socket)
            hearing = asyncio.create_task(session._hear())
            try:
                await session.send("session.new", {"capabilities": {}})
                await session.send("session.subscribe", {"events": ["log.entryAdded"]})
                session._profile = (await session.send("browser.createUserContext", {}))["userContext"]
                yield session
                await session.send("browser.removeUserContext", {"userContext": session._profile})
            finally:
                await session.send("session.end", {})
                hearing.cancel()

    async def new_tab(self) -> Tab:
        asked = {"type": "tab", "userContext": self._profile}
        return Tab(self, (await self.send("browsingContext.create", asked))["context"])

    async def send(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """The result of a command; RuntimeError if the browser refuses it."""
        self._number += 1
        answer = self._waiting[self._number] = asyncio.get_running_loop().create_future()
        await self._socket.send(json.dumps({"id": self._number, "method": method, "params": params}))
        said = await asyncio.wait_for(answer, ANSWER_S)
        if said["type"] == "error":
            raise RuntimeError(f"{method}: {said['message']}")
        return dict(said["result"])

    async def _hear(self) -> None:
        async for message in self._socket:
            said = json.loads(message)
            if said["type"] == "event":
                entry = said["params"]
                if entry["level"] == "error":
                    self.errors.append(entry["text"])
            elif (answer := self._waiting.pop(said["id"] or 0, None)) and not answer.done():
                answer.set_result(said)


class Tab:
    """One page."""

    def __init__(self, session: Session, context: str) -> None:
        self._session = session
        self._context = context

    async def goto(self, url: str) -> None:
        """Returns when everything of the page is there."""
        asked = {"context": self._context, "url": url, "wait": "complete"}
        await self._session.send("browsingContext.navigate", asked)

    async def call(self, function: str, *given: Any) -> Any:
        """What a JavaScript function returns, or what its promise brings, as JSON would have it; RuntimeError
        with what it threw."""
        asked = {
            # Values travel as JSON in a string, since BiDi's own form would have to be taken apart again.
            "functionDeclaration": f"async (given) => JSON.stringify(await ({function})(...JSON.parse(given)))",
            "arguments": [{"type": "string", "value": json.dumps(given)}],
            "target": {"context": self._context},
            "awaitPromise": True,
        }
        said = await self._session.send("script.callFunction", asked)
        if said["type"] == "exception":
            raise RuntimeError(said["exceptionDetails"]["text"])
        return json.loads(said["result"].get("value", "null"))

    async def resize(self, width: int, height: int) -> None:
        asked = {"context": self._context, "viewport": {"width": width, "height": height}}
        await self._session.send("browsingContext.setViewport", asked)

    async def picture(self) -> bytes:
        """What it looks like, as a PNG."""
        said = await self._session.send("browsingContext.captureScreenshot", {"context": self._context})
        return base64.b64decode(said["data"])

    async def close(self) -> None:
        await self._session.send("browsingContext.close", {"context": self._context})
