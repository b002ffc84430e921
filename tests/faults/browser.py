"""One schedule in the real thing: Chromium → proxy → `unstuck serve`, then heal and judge.

Many schedules can be played at once, since most of their time is waiting: each has a server, a proxy (so an
origin) and a page of its own in a shared browser. Must not know: which schedules are played, or how often.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, nullcontext

from tests.faults import service_worker
from tests.faults.judge import Flaw, Screen, Wrong
from tests.faults.page import Dialog, TooBusy
from tests.faults.proxy import PASS, Mode, Proxy, Trouble
from tests.faults.scene import CALM_S, Front, Scene, Verdict, ground, needed
from tests.faults.schedule import KINDS, LONGEST_S, Fault, Schedule
from tests.faults.stage import Need
from tests.faults.stage import Stage as Stage
from tests.faults.stage import free_port as free_port
from tests.support.server import Server

#: From the proxy's port to the URL that the page is loaded from.
Beyond = Callable[[int], AbstractAsyncContextManager[str]]
#: How often a play is begun that the browser was too busy for.
TRIES = 4
#: The time to the truth, what was wrong, and all that was shown; see Verdict.
Seen = tuple[float | None, tuple[Wrong, ...], tuple[Screen, ...]]


class BrowserScene(Scene):
    """A scene with a dialog."""

    def __init__(self, stage: Stage, server: Server, proxy: Proxy, dialog: Dialog) -> None:
        super().__init__(stage, server, proxy)
        self.dialog = dialog

    @staticmethod
    @asynccontextmanager
    async def set_up(
        stage: Stage,
        seed: int = 1,
        need: Need | None = None,
        front: Front | None = None,
        beyond: Beyond | None = None,
    ) -> AsyncIterator[BrowserScene]:
        """With a page that has everything loaded, and nothing opened; `beyond` puts something more between it and
        the proxy."""
        async with AsyncExitStack() as stack:
            server, proxy = await stack.enter_async_context(ground(stage, seed, need or Need(), front))
            proxy.own[service_worker.PATH] = service_worker.RESPONSE
            url = await stack.enter_async_context(beyond(proxy.port)) if beyond else proxy.url
            dialog = await Dialog.load(stage.browser, url)
            try:
                yield BrowserScene(stage, server, proxy, dialog)
            finally:
                await dialog.close()

    async def open(self) -> None:
        await self.dialog.open(self.job["links"]["self"])

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
        if fault.kind == "offline":
            await self.dialog.offline(True)
            await self.proxy.set(Mode(Trouble.HALF_OPEN))
        elif fault.kind == "clock jump":
            await self.dialog.shift_clock(fault.amount)
        elif fault.kind == "page covered":
            await self.dialog.cover()
        elif fault.kind == "page frozen":
            await self.dialog.freeze()
        elif fault.kind == "page put aside":
            await self.dialog.put_aside()
        elif fault.kind == "machine asleep":
            await self.proxy.set(Mode(Trouble.HALF_OPEN))
            await self.dialog.stop(browser=True)
        elif fault.kind == "renderer stopped":
            await self.dialog.stop(browser=False)
        elif does := KINDS[fault.kind].service_worker:
            await self.dialog.put_under(service_worker.address(does, fault.where))
        else:
            await super().begin(fault)

    async def end(self, fault: Fault) -> float:
        healed_at = time.time()
        if fault.kind == "offline":
            await self.proxy.set(PASS)
            await self.dialog.offline(False)
        elif fault.kind == "clock jump":
            await self.dialog.shift_clock(0)
        elif fault.kind == "page covered":
            await self.dialog.uncover()
        elif fault.kind == "page frozen":
            await self.dialog.thaw()
        elif fault.kind == "page put aside":
            await self.dialog.bring_back()
        elif KINDS[fault.kind].stops:
            await self.proxy.set(PASS)
            await self.dialog.go_on()
        elif KINDS[fault.kind].service_worker:
            await self.dialog.put_under(service_worker.address("nothing", ()))
            healed_at = time.time()  # until then the other one may have taken what was asked
        else:
            return await super().end(fault)
        return healed_at

    # -- the end

    async def judge(self, bound_s: float, healed_at: float) -> Seen:
        """Wait for the truth, and a little longer than it may take, then look at all that was shown."""
        seq = (await self.truth())["seq"]
        await self.until_done()
        given_up = time.monotonic() + bound_s + 5
        while not await self.dialog.ended() and time.monotonic() < given_up:
            await asyncio.sleep(0.1)
        truth_s, _ = self.found(bound_s, await self.dialog.screens(), healed_at, seq)
        unrest = await self.unrest() if truth_s is not None else []
        screens = await self.dialog.screens()  # once more: nothing may have changed after the end
        truth_s, found = self.found(bound_s, screens, healed_at, seq)
        errors = (Wrong(Flaw.ERROR, error) for error in self.dialog.errors)
        return truth_s, (*found, *unrest, *errors), tuple(screens)

    async def unrest(self) -> list[Wrong]:
        """What the page holds after the end, asked for after it (by its own clock), or keeps in flight."""
        await asyncio.sleep(CALM_S)
        holds = await self.dialog.holds()
        return [*(Wrong(Flaw.ALIVE, f"after the end: {one}") for one in holds), *await self.still_open()]


async def play(stage: Stage, schedule: Schedule, slack_s: float = 0.0) -> Verdict:
    """Play it, heal, judge; with so much beyond its bound."""
    for _ in range(TRIES - 1):
        try:
            return await _play(stage, schedule, slack_s)
        except TooBusy:
            continue
    return await _play(stage, schedule, slack_s)


async def _play(stage: Stage, schedule: Schedule, slack_s: float) -> Verdict:
    async with (
        stage.with_own_browser() if schedule.stops else nullcontext(stage) as own,
        BrowserScene.set_up(own, schedule.seed, needed(schedule)) as scene,
    ):
        await scene.submit(schedule.total, schedule.item_s, schedule.failures, schedule.seed)
        for fault in schedule.early:
            await scene.begin(fault)
        await scene.open()
        healed_at = await scene.play_faults(schedule)
        return Verdict(schedule, *await scene.judge(schedule.bound_s + slack_s, healed_at))
