"""A Chromium of our own, driven by its DevTools protocol through a pipe, and nothing in between.

The usual drivers make every page believe that it is visible and focused, in a way that cannot be switched
off from outside, so that none can be frozen. Here a page that lies under another tab is hidden, as it is
for people. Must not know: dialogs, jobs, faults.
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

#: Beyond what any command takes, on a busy machine too.
ANSWER_S = 60.0
LONGEST_MESSAGE = 64 * 2**20
#: Chromium reads commands from descriptor 3 and writes to 4; this puts ours there, and becomes Chromium.
_BECOME = """
import os, sys
read, write, *chromium = sys.argv[1:]
os.dup2(int(read), 3), os.dup2(int(write), 4)
os.execv(chromium[0], chromium)
"""


class Browser:
    """See `launched`. Commands go out by number, answers come back by number."""

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
        """A headless browser with an empty profile, gone at the end with all its processes."""
        path = executable()
        assert path, "Install a Chromium, or name one with CHROMIUM=/path."
        to_browser, commands = _high(os.pipe())
        answers, from_browser = _high(os.pipe())
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
            process = await asyncio.create_subprocess_exec(
                *[sys.executable, "-c", _BECOME, str(to_browser), str(from_browser), path, *QUIET],
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
            hearing = asyncio.create_task(browser._hear())
            try:
                yield browser
            finally:
                hearing.cancel()
                processes.kill(processes.family(process.pid))
                await process.wait()
                transport.close()
                os.close(commands)

    async def new_tab(self, profile: str = "") -> Tab:
        """A tab in a profile of its own, or beside others in theirs."""
        profile = profile or (await self.send("Target.createBrowserContext"))["browserContextId"]
        target = await self._create(profile)
        attached = await self.send("Target.attachToTarget", {"targetId": target, "flatten": True})
        tab = self._tabs[attached["sessionId"]] = Tab(self, attached["sessionId"], target, profile)
        await tab.send("Runtime.enable")
        return tab

    async def cover(self, tab: Tab) -> None:
        """Lay another tab over this one."""
        cover = await self._create(tab.profile)
        await self.send("Target.activateTarget", {"targetId": cover})

    async def uncover(self, tab: Tab) -> None:
        await self.send("Target.activateTarget", {"targetId": tab.target})

    async def _create(self, profile: str) -> str:
        asked = {"url": "about:blank", "browserContextId": profile}
        return str((await self.send("Target.createTarget", asked))["targetId"])

    async def send(self, method: str, params: dict[str, Any] | None = None, session: str = "") -> dict[str, Any]:
        """The result of a command; RuntimeError if the browser refuses it."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": params or {}}
        if session:
            message["sessionId"] = session
        answer = self._waiting[self._number] = asyncio.get_running_loop().create_future()
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        said = await asyncio.wait_for(answer, ANSWER_S)
        if "error" in said:
            raise RuntimeError(f"{method}: {said['error']['message']}")
        return dict(said["result"])

    async def _hear(self) -> None:
        while True:
            said = json.loads((await self._reader.readuntil(b"\0"))[:-1])
            if answer := self._waiting.pop(said.get("id", 0), None):
                if not answer.done():
                    answer.set_result(said)
            elif tab := self._tabs.get(said.get("sessionId", "")):
                tab.hear(said["method"], said["params"])


class Tab:
    """A page, and what was heard of it, such as the errors that nobody caught."""

    def __init__(self, browser: Browser, session: str, target: str, profile: str) -> None:
        self.errors: list[str] = []
        #: Why the page was thrown away when it could have been restored; heard after `Page.enable`.
        self.thrown_away: list[str] = []
        self.browser = browser
        self.target = target
        self.profile = profile
        self._session = session

    async def send(self, method: str, params: dict[str, Any] | None = None) -> dict[str, Any]:
        return await self.browser.send(method, params, self._session)

    def hear(self, event: str, params: dict[str, Any]) -> None:
        if event == "Runtime.exceptionThrown":
            self.errors.append(_words(params["exceptionDetails"]))
        elif event == "Page.backForwardCacheNotUsed":
            self.thrown_away += [one["reason"] for one in params["notRestoredExplanations"]]

    async def goto(self, url: str) -> None:
        """Returns when everything of the page is there."""
        failed = (await self.send("Page.navigate", {"url": url})).get("errorText")
        assert not failed, f"{url}: {failed}"
        end = time.monotonic() + ANSWER_S
        while not await self.call("(url) => location.href === url && document.readyState === 'complete'", url):
            assert time.monotonic() < end, f"{url} was not loaded within {ANSWER_S} s"
            await asyncio.sleep(0.02)

    async def call(self, function: str, *given: Any) -> Any:
        """What a JavaScript function returns, or what its promise brings; RuntimeError with what it threw."""
        expression = f"({function})({', '.join(json.dumps(one) for one in given)})"
        asked = {"expression": expression, "awaitPromise": True, "returnByValue": True}
        said = await self.send("Runtime.evaluate", asked)
        if "exceptionDetails" in said:
            raise RuntimeError(_words(said["exceptionDetails"]))
        return said["result"].get("value")

    async def close(self) -> None:
        """The tab and its profile."""
        await self.browser.send("Target.disposeBrowserContext", {"browserContextId": self.profile})


def _words(details: dict[str, Any]) -> str:
    return str(details.get("exception", {}).get("description") or details["text"])


def _high(ends: tuple[int, int]) -> tuple[int, int]:
    """The same pipe on descriptors beyond 3 and 4, which must be free in the child."""
    high = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 20) for end in ends]
    for end in ends:
        os.close(end)
    return high[0], high[1]
