"""Outages of a real network, as TCP and the browser live through them: a router between two namespaces drops,
refuses or delays what it should forward, while a job ends behind it, and dialogs watch.

Each dialog has a profile of its own, so connections of its own: an outage gives as many samples as it has
viewers. All outages are played at the same time, each over a network of its own, since they are mostly waiting.
Must not know: proxies, schedules, what is wrong on a screen (judge.py).
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

from tests.faults.judge import time_to_truth, wrongs
from tests.faults.namespaces import Router, Way
from tests.faults.page import Dialog
from tests.faults.schedule import LONGEST_S
from tests.faults.stage import LEASE_S, Stage
from tests.support.server import Server

ITEMS = 4
#: No job ends by itself.
ITEM_S = 600.0
#: How long after an outage the job may go on: a killed server has to wait until its old leases have run out.
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
    share: float = 1.0  # of the packets that are lost
    viewers: int = 1

    def __str__(self) -> str:
        lost = "network down" if self.way is Way.BOTH else f"{self.way} lost"
        said = {
            Trouble.LOST: lost if self.share == 1 else f"{self.share:.0%} lost",
            Trouble.SLOW: "16 kbit/s",
            Trouble.REFUSED: "resets from the router",
            Trouble.KILLED: "network down, server killed behind it",
        }
        return f"{said[self.trouble]} for {self.seconds:g} s"

    def begin(self, router: Router) -> None:
        if self.trouble is Trouble.SLOW:
            router.slow("16kbit")
        elif self.trouble is Trouble.REFUSED:
            router.refuse()
        else:
            router.drop(self.way, self.share)


#: Beyond 100 s, TCP's own pauses are longer than a minute; shorter ones do not show what that does.
LONG = (
    *(Outage(seconds, viewers=3) for seconds in (30, 120, 300)),
    *(Outage(seconds) for seconds in (5, 60, 100, 200)),
    *(Outage(seconds, way=way) for way in (Way.ANSWERS, Way.REQUESTS) for seconds in (30, 120)),
    *(Outage(60, share=share) for share in (0.01, 0.05, 0.1, 0.3)),
    *(Outage(60, trouble) for trouble in (Trouble.SLOW, Trouble.REFUSED, Trouble.KILLED)),
)

#: For one viewer: seconds from the healing to the truth, None where it never came; and what was wrong.
Result = tuple[Outage, float | None, list[str]]


def play_outages(outages: Sequence[Outage], tell: Callable[[Result], None]) -> list[Result]:
    """All at the same time; a result for each viewer. Needs root."""

    async def run(folder: Path, routers: Iterable[Router]) -> list[Result]:
        opening = asyncio.Lock()  # pages open one by one: that is all the work there is
        async with Stage.raised(folder) as stage:
            scenes = [
                _Scene(outage, stage, router, folder / f"outage-{number}", opening).play(tell)
                for number, (outage, router) in enumerate(zip(outages, routers, strict=True))
            ]
            return [result for results in await asyncio.gather(*scenes) for result in results]

    with ExitStack() as networks, tempfile.TemporaryDirectory() as name:
        # Before the browser and until after it: one that sees an address come or go drops all its connections.
        routers = [networks.enter_context(Router.routed()) for _ in outages]
        return asyncio.run(run(Path(name), routers))


class _Scene:
    """One outage: a network, a server behind it with a job, and the dialogs in front of it."""

    def __init__(self, outage: Outage, stage: Stage, router: Router, data: Path, opening: asyncio.Lock) -> None:
        self._outage = outage
        self._stage = stage
        self._router = router
        self._opening = opening
        at = ("--host", router.server, "--port", "8765", "--allowed-host", router.server)
        # Reports once a second are enough to see that a dialog lives.
        environ = {"UNSTUCK_LEASE_S": LEASE_S, "UNSTUCK_REPORT_HOLD_S": "1"}
        self._server = Server(data, "--workers", "1", *at, environ=environ)
        self._job: dict[str, Any] = {}

    async def play(self, tell: Callable[[Result], None]) -> list[Result]:
        async with AsyncExitStack() as stack:
            stack.push_async_callback(asyncio.to_thread, self._server.stop)
            await self._start()
            options = {"seconds": ITEM_S}
            self._job = await asyncio.to_thread(self._server.submit, "rehearsal", total=ITEMS, options=options)
            dialogs = [await self._open(stack) for _ in range(self._outage.viewers)]
            self._outage.begin(self._router)
            await self._last()
            self._router.heal()
            healed_at = time.time()
            truth = await self._done()
            seen = [self._see(dialog, truth, healed_at, tell) for dialog in dialogs]
            return list(await asyncio.gather(*seen))

    async def _start(self) -> None:
        await asyncio.to_thread(self._router.at_the_server, self._server.start)

    async def _open(self, stack: AsyncExitStack) -> Dialog:
        """A dialog that shows the job."""
        async with self._opening:
            dialog = await Dialog.load(self._stage.browser, self._server.url)
            stack.push_async_callback(dialog.close)
            await dialog.open(self._job["links"]["self"])
            given_up = time.monotonic() + LONGEST_S
            while not await dialog.screens():
                assert time.monotonic() < given_up, f"{self._outage}: the dialog never showed its job"
                await asyncio.sleep(0.1)
        return dialog

    async def _last(self) -> None:
        """Let the outage last. In the middle of it the job is stopped from inside, and a killed server is back."""
        await asyncio.sleep(self._outage.seconds / 2)
        if self._outage.trouble is Trouble.KILLED:
            await asyncio.to_thread(self._server.stop, signal.SIGKILL)
            await self._start()
        await asyncio.to_thread(self._router.at_the_server, self._cancel)
        await asyncio.sleep(self._outage.seconds / 2)

    def _cancel(self) -> None:
        answer = httpx.post(f"{self._server.url}{self._job['links']['cancel']}")
        assert answer.status_code == 202, answer.text

    async def _done(self) -> dict[str, Any]:
        """The finished job as the server tells it."""

        def ask() -> dict[str, Any]:
            return self._router.at_the_server(lambda: self._server.job(self._job["id"]))

        given_up = time.monotonic() + WORK_S
        while not (truth := await asyncio.to_thread(ask))["done"]:
            assert time.monotonic() < given_up, f"{self._outage}: the job is not done: {truth}"
            await asyncio.sleep(0.3)
        return truth

    async def _see(
        self, dialog: Dialog, truth: dict[str, Any], healed_at: float, tell: Callable[[Result], None]
    ) -> Result:
        given_up = time.monotonic() + LONGEST_S + 15
        while not await dialog.ended() and time.monotonic() < given_up:
            await asyncio.sleep(0.5)
        screens = await dialog.screens()
        found = wrongs(screens, truth) + dialog.errors
        since = max(healed_at, datetime.fromisoformat(truth["finished_at"]).timestamp())
        truth_s = time_to_truth(screens, since, truth["seq"], since)
        if truth_s is not None and truth_s > LONGEST_S:
            found.append(f"the truth came after {truth_s:.1f} s")
        result = (self._outage, truth_s, found)
        tell(result)
        return result
