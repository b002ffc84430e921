"""A Chromium driven directly by its DevTools protocol, through a pipe.

The usual drivers make every page believe that it is visible and focused, in a way that cannot be switched off from
outside, so no page can be frozen. Here a page behind another tab is hidden, as it is for users. It must not know
dialogs, jobs or faults.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.browser.chromium import QUIET, executable
from tests.faults import processes

#: Longer than any command takes, even on a busy machine (seconds).
ANSWER_S = 60.0
LONGEST_MESSAGE = 64 * 2**20
#: Chromium reads commands from descriptor 3 and writes to 4: this moves the pipes there and executes Chromium.
_EXEC = """
import os, sys
read, write, *chromium = sys.argv[1:]
os.dup2(int(read), 3), os.dup2(int(write), 4)
os.execv(chromium[0], chromium)
"""


class Browser:
    """A running Chromium; see `launched`. Commands and their answers are matched by number."""

    def __init__(self, reader: asyncio.StreamReader, commands: int, pid: int) -> None:
        self.pid = pid
        self._reader = reader
        self._commands = commands
        self._number = 0
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._tabs: dict[str, Tab] = {}

    @staticmethod
    @asynccontextmanager
    async def launched(*options: str) -> AsyncIterator[Browser]:
        """Yield a headless browser with an empty profile, and kill it with all its processes at the end."""
        path = executable()
        assert path, "Install a Chromium, or name one with CHROMIUM=/path."
        to_browser, commands = _above_4(os.pipe())
        answers, from_browser = _above_4(os.pipe())
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
            process = await asyncio.create_subprocess_exec(
                *[sys.executable, "-c", _EXEC, str(to_browser), str(from_browser), path, *QUIET],
                *[
                    "--headless=new",
                    "--remote-debugging-pipe",
                    f"--user-data-dir={profile}",
                    *options,
                    "about:blank",
                ],
                pass_fds=(to_browser, from_browser),
                stderr=asyncio.subprocess.DEVNULL,
            )
            os.close(to_browser)
            os.close(from_browser)
            reader = asyncio.StreamReader(limit=LONGEST_MESSAGE)
            transport, _ = await asyncio.get_running_loop().connect_read_pipe(
                lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(answers, "rb")
            )
            browser = Browser(reader, commands, process.pid)
            reading = asyncio.create_task(browser._read_messages())
            try:
                yield browser
            finally:
                reading.cancel()
                processes.kill(processes.family(process.pid))
                await process.wait()
                transport.close()
                os.close(commands)

    async def new_tab(self, profile: str = "") -> Tab:
        """Open a tab in the given profile, or in a new one."""
        profile = profile or (await self.send("Target.createBrowserContext"))["browserContextId"]
        target = await self._create(profile)
        attached = await self.send("Target.attachToTarget", {"targetId": target, "flatten": True})
        tab = self._tabs[attached["sessionId"]] = Tab(self, attached["sessionId"], target, profile)
        await tab.send("Runtime.enable")
        return tab

    async def cover(self, tab: Tab) -> None:
        """Open another tab in front of this one."""
        cover = await self._create(tab.profile)
        await self.send("Target.activateTarget", {"targetId": cover})

    async def uncover(self, tab: Tab) -> None:
        await self.send("Target.activateTarget", {"targetId": tab.target})

    async def _create(self, profile: str) -> str:
        asked = {"url": "about:blank", "browserContextId": profile}
        return str((await self.send("Target.createTarget", asked))["targetId"])

    async def send(self, method: str, params: dict[str, Any] | None = None, session: str = "") -> dict[str, Any]:
        """Send a command and return its result; raise RuntimeError if the browser refuses it."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": params or {}}
        if session:
            message["sessionId"] = session
        answer = self._waiting[self._number] = asyncio.get_running_loop().create_future()
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        response = await asyncio.wait_for(answer, ANSWER_S)
        if "error" in response:
            raise RuntimeError(f"{method}: {response['error']['message']}")
        return dict(response["result"])

    async def _read_messages(self) -> None:
        while True:
            response = json.loads((await self._reader.readuntil(b"\0"))[:-1])
            if answer := self._waiting.pop(response.get("id", 0), None):
                if not answer.done():
                    answer.set_result(response)
            elif tab := self._tabs.get(response.get("sessionId", "")):
                tab.on_event(response["method"], response["params"])


class Tab:
    """A page, and what the browser reported about it, such as uncaught errors."""

    def __init__(self, browser: Browser, session: str, target: str, profile: str) -> None:
        self.errors: list[str] = []
        #: Why the page was not restored from the back/forward cache; reported after `Page.enable`.
        self.not_restored: list[str] = []
        self.browser = browser
        self.target = target
        self.profile = profile
        self._session = session

    async def send(self, method: str, params: dict[str, Any] | None = None) -> dict[str, Any]:
        return await self.browser.send(method, params, self._session)

    def on_event(self, event: str, params: dict[str, Any]) -> None:
        if event == "Runtime.exceptionThrown":
            self.errors.append(_exception_text(params["exceptionDetails"]))
        elif event == "Page.backForwardCacheNotUsed":
            self.not_restored += [one["reason"] for one in params["notRestoredExplanations"]]

    async def goto(self, url: str) -> None:
        """Load this page, and wait until it is complete."""
        failed = (await self.send("Page.navigate", {"url": url})).get("errorText")
        assert not failed, f"{url}: {failed}"
        end = time.monotonic() + ANSWER_S
        while not await self.call("(url) => location.href === url && document.readyState === 'complete'", url):
            assert time.monotonic() < end, f"{url} was not loaded within {ANSWER_S} s"
            await asyncio.sleep(0.02)

    async def call(self, function: str, *given: Any) -> Any:
        """Call a JavaScript function and return its result, awaited; raise RuntimeError with what it throws."""
        expression = f"({function})({', '.join(json.dumps(one) for one in given)})"
        asked = {"expression": expression, "awaitPromise": True, "returnByValue": True}
        response = await self.send("Runtime.evaluate", asked)
        if "exceptionDetails" in response:
            raise RuntimeError(_exception_text(response["exceptionDetails"]))
        return response["result"].get("value")

    async def close(self) -> None:
        """Close the tab and its profile."""
        await self.browser.send("Target.disposeBrowserContext", {"browserContextId": self.profile})


def _exception_text(details: dict[str, Any]) -> str:
    return str(details.get("exception", {}).get("description") or details["text"])


def _above_4(ends: tuple[int, int]) -> tuple[int, int]:
    """Move a pipe to descriptors above 3 and 4, which must be free in the child."""
    high = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 20) for end in ends]
    for end in ends:
        os.close(end)
    return high[0], high[1]
