"""One schedule in the real thing: Chromium → proxy → `unstuck serve`, then heal and judge.

Many schedules can be played at once, since most of their time is waiting: each has a server, a proxy (so an
origin) and a page of its own in a shared browser. Must not know: which schedules are played, or how often.
"""

from __future__ import annotations

import asyncio
import random
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx

from tests.conftest import Server
from tests.faults.devtools import Browser
from tests.faults.judge import Screen, time_to_truth, wrongs
from tests.faults.page import Dialog
from tests.faults.proxy import PASS, Mode, Proxy, Trouble
from tests.faults.schedule import LONGEST_S, Fault, Schedule
from tests.faults.wire import HOST, Asked

#: A window in which nothing may be asked any more: a first poll would come after 1 s, a broken stream would be
#: opened anew within 1 s, a running job polled every 2 s.
CALM_S = 4.0
#: How long a job may take that was rehearsed for a few seconds; beyond this the suite itself is broken.
WORK_S = 240.0
#: A server that is killed loses the items in its hands until their lease has run out; this keeps tests short.
LEASE_S = "3"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one schedule. `truth_s` is None where the truth was never shown."""

    schedule: Schedule
    truth_s: float | None
    wrongs: tuple[str, ...]
    screens: tuple[Screen, ...]


class Stage:
    """What all scenes share: a browser, a folder, and a way to ask servers past every proxy."""

    def __init__(self, browser: Browser, folder: Path, http: httpx.AsyncClient) -> None:
        self.browser = browser
        self.http = http
        self._folder = folder
        self._servers = 0

    @staticmethod
    @asynccontextmanager
    async def raised(folder: Path) -> AsyncIterator[Stage]:
        # A connection for each request: one that idled may be closed by the server while it is used again.
        limits = httpx.Limits(max_keepalive_connections=0)
        async with Browser.launched() as browser, httpx.AsyncClient(timeout=30, limits=limits) as http:
            yield Stage(browser, folder, http)

    @asynccontextmanager
    async def server(self) -> AsyncIterator[Server]:
        self._servers += 1
        server = Server(
            self._folder / f"server-{self._servers}",
            "--workers", "2", "--port", str(free_port()),  # the same one when it is started again
            environ={"UNSTUCK_LEASE_S": LEASE_S},
        )  # fmt: skip
        try:
            await asyncio.to_thread(server.start)
            yield server
        finally:
            await asyncio.to_thread(server.stop)


Front = Callable[[int], AbstractAsyncContextManager[int]]


class Scene:
    """A job, its dialog, and the proxy between them."""

    def __init__(self, stage: Stage, server: Server, proxy: Proxy) -> None:
        self.stage = stage
        self.server = server
        self.proxy = proxy
        self.dialog: Dialog
        self.job: dict[str, Any] = {}

    @staticmethod
    @asynccontextmanager
    async def set_up(stage: Stage, seed: int, front: Front | None = None) -> AsyncIterator[Scene]:
        """`front` puts something more between the proxy and the server: from the one's port to the other's."""
        async with AsyncExitStack() as stack:
            server = await stack.enter_async_context(stage.server())
            port = httpx.URL(server.url).port or 0
            if front is not None:
                port = await stack.enter_async_context(front(port))
            proxy = await stack.enter_async_context(Proxy(port, seed))
            scene = Scene(stage, server, proxy)
            scene.dialog = await Dialog.load(stage.browser, proxy.url)
            stack.push_async_callback(scene.dialog.close)
            yield scene

    async def submit(self, total: int, item_s: float, failures: float = 0.0, seed: int = 1) -> None:
        options = {"seconds": item_s, "failures": failures, "seed": seed}
        asked = {"kind": "rehearsal", "total": total, "name": f"seed {seed}", "options": options}
        answer = await self.stage.http.post(f"{self.server.url}/api/jobs", json=asked)
        assert answer.status_code == 202, answer.text
        self.job = answer.json()

    async def open(self) -> None:
        await self.dialog.open(self.job["links"]["self"])

    async def cancel(self) -> None:
        answer = await self.stage.http.post(f"{self.server.url}{self.job['links']['cancel']}")
        assert answer.status_code == 202, answer.text

    async def truth(self) -> dict[str, Any]:
        """The job as the server has it, asked past the proxy."""
        answer = await self.stage.http.get(f"{self.server.url}{self.job['links']['self']}")
        assert answer.status_code == 200, answer.text
        self.job = answer.json()
        return self.job

    async def until(self, check: Callable[[Screen], bool], patience_s: float = LONGEST_S) -> Screen:
        """The first screen, from now on, that passes; AssertionError after so long."""
        end = time.monotonic() + patience_s
        while not (screens := await self.dialog.screens()) or not check(screens[-1]):
            last = screens[-1] if screens else "nothing"
            assert time.monotonic() < end, f"not shown within {patience_s} s; last: {last}"
            await asyncio.sleep(0.1)
        return screens[-1]

    # -- faults

    async def begin(self, fault: Fault) -> None:
        if fault.mode is not None:
            await self.proxy.set(fault.mode, *fault.where)
        elif fault.kind == "server killed":
            await asyncio.to_thread(self.server.stop, signal.SIGKILL)
        elif fault.kind == "offline":
            await self.dialog.offline(True)
            await self.proxy.set(Mode(Trouble.HALF_OPEN))
        elif fault.kind == "page frozen":
            await self.dialog.freeze()
        else:
            await self.dialog.shift_clock(fault.amount)

    async def end(self, fault: Fault) -> float:
        """Heal this one; the moment from which the truth can be known again (seconds, wall clock)."""
        healed_at = time.time()
        if fault.mode is not None:
            await self.proxy.set(PASS, *fault.where)
        elif fault.kind == "server killed":
            await asyncio.to_thread(self.server.start)
            healed_at = time.time()  # a server that starts cannot answer yet
        elif fault.kind == "offline":
            await self.proxy.set(PASS)
            await self.dialog.offline(False)
        elif fault.kind == "page frozen":
            await self.dialog.thaw()
        else:
            await self.dialog.shift_clock(0)
        return healed_at

    # -- the end

    async def judge(self, schedule: Schedule, healed_at: float, seq: int) -> Verdict:
        """Wait for the truth, and a little longer than it may take, then look at all that was shown."""
        await self._until_over(schedule.bound_s + 5)
        job, screens = await self.truth(), await self.dialog.screens()
        found = wrongs(screens, job)
        truth_s = time_to_truth(screens, healed_at, seq, _seconds(job["finished_at"]))
        if truth_s is not None and truth_s > schedule.bound_s:
            found.append(f"the truth came after {truth_s:.1f} s, not within {schedule.bound_s:.1f} s")
        if truth_s is not None:
            found += await self.unrest()
        return Verdict(schedule, truth_s, (*found, *self.dialog.errors), tuple(await self.dialog.screens()))

    async def _until_over(self, patience_s: float) -> None:
        """Until the job is done and shown so, or long enough after it is done."""
        given_up = time.monotonic() + WORK_S
        while not (await self.truth())["done"]:
            assert time.monotonic() < given_up, f"the job is not done after {WORK_S} s: {self.job}"
            await asyncio.sleep(0.3)
        given_up = time.monotonic() + patience_s
        while not await self.dialog.ended() and time.monotonic() < given_up:
            await asyncio.sleep(0.1)

    async def unrest(self) -> list[str]:
        """What is still in flight after the end, or asked then."""
        before = len(self.proxy.asked)
        await asyncio.sleep(CALM_S)
        late: list[Asked] = self.proxy.asked[before:]
        return [
            *(f"still in flight after the end: {one}" for one in self.proxy.open),
            *(f"asked after the end: {one}" for one in late),
        ]


async def play(stage: Stage, schedule: Schedule) -> Verdict:
    """Play it, heal, judge."""
    async with Scene.set_up(stage, schedule.seed) as scene:
        await scene.submit(schedule.total, schedule.item_s, schedule.failures, schedule.seed)
        # What strikes from the start is there before the dialog, unless it needs the dialog to strike it.
        early = [fault for fault in schedule.faults if fault.start_s == 0 and fault.kind != "page frozen"]
        for fault in early:
            await scene.begin(fault)
        await scene.open()
        opened, healed_at = time.monotonic(), 0.0
        for when, fault, begins in schedule.moments():
            await asyncio.sleep(max(0.0, opened + when - time.monotonic()))
            if not begins:
                healed_at = await scene.end(fault)
            elif fault not in early:
                await scene.begin(fault)
        seq = (await scene.truth())["seq"]
        return await scene.judge(schedule, healed_at, seq)


def free_port() -> int:
    """One below those that systems give to outgoing connections, so that it stays free while nobody listens."""
    while True:
        port = random.randint(20_000, 32_000)
        with socket.socket() as one, suppress(OSError):
            one.bind((HOST, port))
            return port


def _seconds(rfc3339: str) -> float:
    return datetime.fromisoformat(rfc3339).timestamp()
