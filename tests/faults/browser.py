"""Plays one schedule with Chromium → proxy → `unstuck serve`, waits for recovery, and judges the screens.

Many schedules can be played at once, since they mostly wait: each has its own server, proxy (hence its own
origin) and page in a shared browser. It must not know which schedules are played, or how often.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, nullcontext

from tests.faults import service_worker
from tests.faults.judge import Flaw, Screen
from tests.faults.page import BrowserBusy, Dialog
from tests.faults.proxy import PASS, Mode, Proxy, Trouble
from tests.faults.scene import CALM_S, Relay, Scene, Verdict, need_of, server_and_proxy
from tests.faults.schedule import KINDS, LONGEST_S, Fault, Schedule
from tests.faults.stage import Need
from tests.faults.stage import Stage as Stage
from tests.faults.stage import free_port as free_port
from tests.support.server import Server
from tests.support.violation import Violation

#: Something between the proxy and the page: from the proxy's port to the URL that the page is loaded from.
Gateway = Callable[[int], AbstractAsyncContextManager[str]]
#: Attempts at a play that the browser is too busy for.
TRIES = 4
#: The time to truth, the violations, and all screens; see Verdict.
Judgement = tuple[float | None, tuple[Violation, ...], tuple[Screen, ...]]
#: The longest time that a dialog waits for an answer after the end (seconds), and some slack.
RETRIES_S = 10.0 + 5.0


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
        relay: Relay | None = None,
        gateway: Gateway | None = None,
    ) -> AsyncIterator[BrowserScene]:
        """Yield a scene whose page has everything loaded but no dialog yet.

        `relay` goes between server and proxy, `gateway` between proxy and page.
        """
        async with AsyncExitStack() as stack:
            server, proxy = await stack.enter_async_context(server_and_proxy(stage, seed, need or Need(), relay))
            proxy.canned[service_worker.PATH] = service_worker.RESPONSE
            url = await stack.enter_async_context(gateway(proxy.port)) if gateway else proxy.url
            dialog = await Dialog.load(stage.browser, url)
            try:
                yield BrowserScene(stage, server, proxy, dialog)
            finally:
                await dialog.close()

    async def open(self) -> None:
        await self.dialog.open(self.job["links"]["self"])

    async def until(self, check: Callable[[Screen], bool], patience_s: float = LONGEST_S) -> Screen:
        """Return the first screen from now on that passes `check`; raise AssertionError after `patience_s`."""
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
        elif fault.kind == "page in bfcache":
            await self.dialog.enter_bfcache()
        elif fault.kind == "machine asleep":
            await self.proxy.set(Mode(Trouble.HALF_OPEN))
            await self.dialog.stop(browser=True)
        elif fault.kind == "renderer stopped":
            await self.dialog.stop(browser=False)
        elif does := KINDS[fault.kind].service_worker:
            await self.dialog.set_service_worker(service_worker.address(does, fault.where))
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
        elif fault.kind == "page in bfcache":
            await self.dialog.leave_bfcache()
        elif KINDS[fault.kind].stops:
            await self.proxy.set(PASS)
            await self.dialog.resume()
        elif KINDS[fault.kind].service_worker:
            await self.dialog.set_service_worker(service_worker.address("nothing", ()))
            healed_at = time.time()  # until then the previous one may have taken requests
        else:
            return await super().end(fault)
        return healed_at

    # -- the end

    async def judge(self, bound_s: float, healed_at: float) -> Judgement:
        """Wait for the end, at most a little longer than allowed, then judge everything that was shown."""
        seq = (await self.truth())["seq"]
        await self.until_done()
        given_up = time.monotonic() + bound_s + 5
        while not await self.dialog.ended() and time.monotonic() < given_up:
            await asyncio.sleep(0.1)
        truth_s, _ = self.found(bound_s, await self.dialog.screens(), healed_at, seq)
        activity_after_end = await self.activity_after_end() if truth_s is not None else []
        screens = await self.dialog.screens()  # again: nothing may have changed after the end
        truth_s, found = self.found(bound_s, screens, healed_at, seq)
        errors = (Violation(Flaw.ERROR, error) for error in self.dialog.errors)
        return truth_s, (*found, *activity_after_end, *errors), tuple(screens)

    async def activity_after_end(self) -> list[Violation]:
        """Return what the page holds after the end, requested since (by its own clock), or keeps in flight.

        With the end a dialog asks for the retries of its job, once and for at most RETRIES_S.
        """
        await asyncio.sleep(CALM_S)
        given_up = time.monotonic() + RETRIES_S
        while (held := await self.dialog.leftovers()) and time.monotonic() < given_up:
            await asyncio.sleep(0.2)
        return [*(Violation(Flaw.OPEN, f"after the end: {one}") for one in held), *await self.still_open()]


async def play(stage: Stage, schedule: Schedule, slack_s: float = 0.0) -> Verdict:
    """Play a schedule and judge it, with `slack_s` beyond its bound."""
    for _ in range(TRIES - 1):
        try:
            return await _play(stage, schedule, slack_s)
        except BrowserBusy:
            continue
    return await _play(stage, schedule, slack_s)


async def _play(stage: Stage, schedule: Schedule, slack_s: float) -> Verdict:
    async with (
        stage.with_own_browser() if schedule.stops else nullcontext(stage) as own,
        BrowserScene.set_up(own, schedule.seed, need_of(schedule)) as scene,
    ):
        await scene.submit(schedule.total, schedule.item_s, schedule.failures, schedule.seed)
        for fault in schedule.early:
            await scene.begin(fault)
        await scene.open()
        healed_at = await scene.play_faults(schedule)
        return Verdict(schedule, *await scene.judge(schedule.bound_s + slack_s, healed_at))
