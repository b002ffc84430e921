"""Plays outages of a real network: a router drops, refuses or delays packets while a job ends and dialogs watch.

Each dialog has its own profile, hence its own connections, so an outage gives as many samples as it has viewers.
All outages are played at the same time, each over its own network, since they mostly wait. It must not know
proxies, schedules, or what is wrong on a screen (judge.py).
See also: namespaces.py, the networks.
"""

from __future__ import annotations

import asyncio
import signal
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

import httpx

from tests.faults.judge import Silence, time_to_truth, violations
from tests.faults.namespaces import Router, Way
from tests.faults.page import Dialog
from tests.faults.schedule import LONGEST_S
from tests.faults.stage import LEASE_S, Stage
from tests.support.server import Server

ITEMS = 4
#: Long enough that no job ends by itself (seconds).
ITEM_S = 600.0
#: How long the job may continue after an outage: a killed server's old leases must expire first (seconds).
WORK_S = 30.0


class Trouble(StrEnum):
    LOST = "lost"
    SLOW = "slow"
    REFUSED = "refused"
    KILLED = "killed"


@dataclass(frozen=True, slots=True)
class Outage:
    seconds: float
    trouble: Trouble = Trouble.LOST
    way: Way = Way.BOTH
    share: float = 1.0  # of the packets, those that are lost
    viewers: int = 1

    def __str__(self) -> str:
        lost = "network down" if self.way is Way.BOTH else f"{self.way} lost"
        words = {
            Trouble.LOST: lost if self.share == 1 else f"{self.share:.0%} of packets lost",
            Trouble.SLOW: "16 kbit/s",
            Trouble.REFUSED: "resets from the router",
            Trouble.KILLED: "network down and server killed",
        }
        return f"{words[self.trouble]} for {self.seconds:g} s"

    @property
    def severs(self) -> bool:
        """Whether nothing gets through."""
        return self.trouble is not Trouble.SLOW and self.way is Way.BOTH and self.share == 1

    def begin(self, router: Router) -> None:
        if self.trouble is Trouble.SLOW:
            router.slow("16kbit")
        elif self.trouble is Trouble.REFUSED:
            router.refuse()
        else:
            router.drop(self.way, self.share)


#: Beyond 100 s, TCP's own pauses exceed a minute; shorter outages do not show the effect of that.
LONG = (
    *(Outage(seconds, viewers=3) for seconds in (30, 120, 300)),
    *(Outage(seconds) for seconds in (5, 60, 100, 200)),
    *(Outage(seconds, way=way) for way in (Way.ANSWERS, Way.REQUESTS) for seconds in (30, 120)),
    *(Outage(60, share=share) for share in (0.01, 0.05, 0.1, 0.3)),
    *(Outage(60, trouble) for trouble in (Trouble.SLOW, Trouble.REFUSED, Trouble.KILLED)),
)

#: For one viewer: the outage, the seconds from recovery to truth (None if it was never shown), the violations.
Result = tuple[Outage, float | None, list[str]]


def play_outages(outages: Sequence[Outage], on_result: Callable[[Result], None]) -> list[Result]:
    """Play all of these at the same time, and return a result for each viewer. Needs root."""

    async def run(folder: Path, routers: Iterable[Router]) -> list[Result]:
        opening = asyncio.Lock()  # pages open one by one, since opening them is all the CPU that this takes
        async with Stage.set_up(folder) as stage:
            scenes = [
                _Scene(outage, stage, router, folder / f"outage-{number}", opening).play(on_result)
                for number, (outage, router) in enumerate(zip(outages, routers, strict=True))
            ]
            return [result for results in await asyncio.gather(*scenes) for result in results]

    with ExitStack() as networks, tempfile.TemporaryDirectory() as name:
        # The networks outlive the browser, which drops all connections when it sees an address appear or
        # disappear.
        routers = [networks.enter_context(Router.set_up()) for _ in outages]
        return asyncio.run(run(Path(name), routers))


class _Scene:
    """One outage: a network, a server with a job behind it, and dialogs in front of it."""

    def __init__(self, outage: Outage, stage: Stage, router: Router, data: Path, opening: asyncio.Lock) -> None:
        self._outage = outage
        self._stage = stage
        self._router = router
        self._opening = opening
        at = ("--host", router.server, "--port", "8765", "--allowed-host", router.server)
        # One report a second is enough to see that a dialog is live.
        environ = {"UNSTUCK_LEASE_S": LEASE_S, "UNSTUCK_REPORT_HOLD_S": "1"}
        self._server = Server(data, "--workers", "1", *at, environ=environ)
        self._job: dict[str, Any] = {}
        self._silences: list[Silence] = []

    async def play(self, on_result: Callable[[Result], None]) -> list[Result]:
        async with AsyncExitStack() as stack:
            stack.push_async_callback(asyncio.to_thread, self._server.stop)
            await self._start()
            options = {"seconds": ITEM_S}
            self._job = await asyncio.to_thread(self._server.submit, "rehearsal", total=ITEMS, options=options)
            dialogs = [await self._open(stack) for _ in range(self._outage.viewers)]
            self._outage.begin(self._router)
            told_by = time.time() + LONGEST_S
            await self._wait_out()
            if self._outage.severs:
                self._silences.append(Silence(told_by, time.time()))
            self._router.heal()
            healed_at = time.time()
            truth = await self._until_done()
            watching = [self._watch(dialog, truth, healed_at, on_result) for dialog in dialogs]
            return list(await asyncio.gather(*watching))

    async def _start(self) -> None:
        await asyncio.to_thread(self._router.in_server_namespace, self._server.start)

    async def _open(self, stack: AsyncExitStack) -> Dialog:
        """Open a dialog, and wait until it shows the job."""
        async with self._opening:
            dialog = await Dialog.load(self._stage.browser, self._server.url)
            stack.push_async_callback(dialog.close)
            await dialog.open(self._job["links"]["self"])
            given_up = time.monotonic() + LONGEST_S
            while not await dialog.screens():
                assert time.monotonic() < given_up, f"{self._outage}: the dialog never showed its job"
                await asyncio.sleep(0.1)
        return dialog

    async def _wait_out(self) -> None:
        """Wait until the outage ends; halfway, cancel the job, and kill and restart the server if it is to be."""
        await asyncio.sleep(self._outage.seconds / 2)
        if self._outage.trouble is Trouble.KILLED:
            await asyncio.to_thread(self._server.stop, signal.SIGKILL)
            await self._start()
        await asyncio.to_thread(self._router.in_server_namespace, self._cancel)
        await asyncio.sleep(self._outage.seconds / 2)

    def _cancel(self) -> None:
        answer = httpx.post(f"{self._server.url}{self._job['links']['cancel']}")
        assert answer.status_code == 202, answer.text

    async def _until_done(self) -> dict[str, Any]:
        """Return the finished job as the server reports it."""

        def ask() -> dict[str, Any]:
            return self._router.in_server_namespace(lambda: self._server.job(self._job["id"]))

        given_up = time.monotonic() + WORK_S
        while not (truth := await asyncio.to_thread(ask))["done"]:
            assert time.monotonic() < given_up, f"{self._outage}: the job is not done: {truth}"
            await asyncio.sleep(0.3)
        return truth

    async def _watch(
        self, dialog: Dialog, truth: dict[str, Any], healed_at: float, on_result: Callable[[Result], None]
    ) -> Result:
        given_up = time.monotonic() + LONGEST_S + 15
        while not await dialog.ended() and time.monotonic() < given_up:
            await asyncio.sleep(0.5)
        screens = await dialog.screens()
        found = [*map(str, violations(screens, truth, self._silences)), *dialog.errors]
        since = max(healed_at, datetime.fromisoformat(truth["finished_at"]).timestamp())
        truth_s = time_to_truth(screens, since, truth["seq"], since)
        if truth_s is not None and truth_s > LONGEST_S:
            found.append(f"the truth came after {truth_s:.1f} s")
        result = (self._outage, truth_s, found)
        on_result(result)
        return result
