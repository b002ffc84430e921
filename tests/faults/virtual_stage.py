"""Plays one schedule under virtual time, from the submission of its job until well after its end: starts page,
network and server, lets the faults strike and heal, and records everything that is judged.

It must not know which schedules there are, or what is wrong.
Next: virtual_schedule.py draws the faults; virtual_judge.py judges the record.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from tests.faults.virtual_judge import Seen
from tests.faults.virtual_net import Line, Network, Tell
from tests.faults.virtual_page import Dialog, Page, Screen
from tests.faults.virtual_schedule import NETWORK, Fault, Schedule
from tests.faults.virtual_server import FOR_EVER_S, Nets, Server, Work
from unstuck.jobs.job import Job
from unstuck.jobs.snapshot import Snapshot, public
from unstuck.streaming.config import StreamConfig

#: The dialog opens, and a server says farewell before it goes (seconds).
BEGIN_S, FAREWELL_S = 0.1, 0.2
#: Faults that take the server away, and those that stop the page.
DOWN = {"server killed", "server killed unheard", "server leaves", "older backup"}
STOPPED = {"page frozen", "page put aside", "machine sleeps"}
#: Faults that keep bytes from passing.
OF_NET = {*NETWORK, "offline", "machine sleeps"}
#: A job that is not done this long after the healing never will be.
WORK_S = 7_200.0
#: After the end nothing may stir for this long.
AFTERWARDS_S = 90.0


async def perform(
    schedule: Schedule, nets: Nets, patience_s: float, client: type[Dialog], tell: Tell | None
) -> Seen:
    """All of it; a dialog that has not ended so long after the healing and the work's end is left alone."""
    stage = _Stage(schedule, nets, client, tell)
    await stage.begin()
    await stage.strike_and_heal()
    truth_then = stage.truth_now()
    stage.tell(f"healed; the truth is {truth_then}")
    await asyncio.wait_for(stage.done.wait(), WORK_S)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stage.dialog.ended.wait(), patience_s)
    left = await stage.look_for_life()
    await stage.clear()
    if stage.broken:
        raise RuntimeError(f"the suite itself broke: {schedule}") from stage.broken[0]
    return Seen(
        schedule=schedule,
        screens=stage.dialog.screens,
        truths=stage.truths,
        truth_then=truth_then,
        truth_now=stage.truth_now(),
        finished_at=stage.finished_at,
        phase=stage.dialog.state.phase,
        asked=stage.net.asked,
        most_polls=stage.dialog.most_polls,
        left=left,
        rescues=stage.server.rescues,
    )


class _Stage:
    """Page, network, server and dialog of one schedule, and the faults that strike them now."""

    def __init__(self, schedule: Schedule, nets: Nets, client: type[Dialog], tell: Tell | None) -> None:
        seed, self._schedule, self._tell = schedule.seed, schedule, tell
        self._loop = asyncio.get_running_loop()
        self._struck: list[Fault] = []
        self._backups: dict[Fault, bytes] = {}
        self._history = 0
        self._truth = (0, 0)
        self.truths: dict[tuple[int, int], Screen] = {}
        self.finished_at = 0.0
        self.done = asyncio.Event()
        self.broken: list[BaseException] = []
        self._loop.set_exception_handler(self._break)
        self.page = Page(seed)
        self.net = Network(seed, self.page.receive, self.tell)
        self.net.polls_pass = nets.polls
        self.work = Work(schedule.total, schedule.item_s, schedule.failures, schedule.cancel_s, seed)
        pace = StreamConfig() if schedule.beats else StreamConfig(heartbeat_s=FOR_EVER_S)
        self.server = Server(seed, nets, pace, self.work)
        self.server.store.told = self._committed
        self.dialog = client(self.page, self.net, seed, self.tell)

    def tell(self, line: str) -> None:
        if self._tell is not None:
            self._tell(f"{self._loop.time():9.3f} {line}")

    def _break(self, _: object, context: Mapping[str, Any]) -> None:
        """Let no failure in the background pass unnoticed."""
        self.broken.append(context.get("exception") or RuntimeError(context["message"]))
        self.done.set()

    def truth_now(self) -> tuple[int, int]:
        """The newest (history, seq) of the store."""
        return self._truth

    async def begin(self) -> None:
        await self.work.submit(self.server.store)
        self._start_server()
        self._loop.call_at(BEGIN_S, lambda: self.page.receive(self._start_dialog))
        for fault in self._schedule.faults:
            if fault.kind == "older backup":
                self._loop.call_at(max(BEGIN_S, fault.start_s - fault.amount), self._back_up, fault)
        if self._schedule.stays_hidden:
            self.page.show(False)

    def _start_dialog(self) -> None:
        self.dialog.on({"type": "start"})
        if any(fault.kind == "offline" for fault in self._struck):
            self.dialog.on({"type": "offline"})

    def _back_up(self, fault: Fault) -> None:
        self._backups[fault] = self.server.store.backup()

    def _committed(self, job: Job) -> None:
        screen = Screen.of(msgspec.to_builtins(public(Snapshot(job), 0.0, "")), 0.0)
        self._truth = (screen.history, screen.seq)
        self.truths[self._truth] = screen
        if screen.done:
            self.finished_at = self._loop.time()
            self.done.set()
        else:
            self.done.clear()

    # -- faults come and go

    async def strike_and_heal(self) -> None:
        for when, fault, begins in self._schedule.moments():
            await asyncio.sleep(max(0.0, when - self._loop.time()))
            self.tell(f"{'strikes' if begins else 'is over'}: {fault}")
            if begins:
                self._struck.append(fault)
                await self._strike(fault)
            else:
                self._struck.remove(fault)
                self._heal(fault)
            self._set_trouble()

    async def _strike(self, fault: Fault) -> None:
        if fault.kind in OF_NET:
            self.net.strike(fault)
        if fault.kind in DOWN:
            await self._stop_server(fault.kind)
        elif fault.kind in STOPPED:
            if fault.kind == "page put aside":
                self._break_lines(Network.break_line)
            self.page.stop(asleep=fault.kind == "machine sleeps")
        elif fault.kind == "offline":
            self.page.network(False)
        elif fault.kind == "hidden":
            self.page.show(False)

    def _heal(self, fault: Fault) -> None:
        still = {other.kind for other in self._struck}
        if fault.kind in OF_NET:
            self.net.heal(fault)
        if fault in self._backups:
            self._history += 1
            self.server.store.restore(self._backups[fault], self._history)
        if fault.kind in DOWN and not still & DOWN:
            self._start_server()
        elif fault.kind in STOPPED:
            self.page.go_on(asleep=fault.kind == "machine sleeps")
        elif fault.kind == "offline" and fault.kind not in still:
            self.page.network(True)
        elif fault.kind == "hidden" and fault.kind not in still and not self._schedule.stays_hidden:
            self.page.show(True)

    def _set_trouble(self) -> None:
        trouble, kinds = self.server.trouble, {fault.kind for fault in self._struck}
        trouble.raises = "broadcast raises" in kinds
        trouble.mute = "broadcast does nothing" in kinds
        trouble.unreadable = "store unreadable" in kinds
        trouble.unwritable = "store unwritable" in kinds
        trouble.slow_s = self._sum("store slow")
        trouble.clock_s = self._sum("server clock jump")
        self.page.wall_offset_s = self._sum("clock jump")

    def _sum(self, kind: str) -> float:
        return sum(fault.amount for fault in self._struck if fault.kind == kind)

    def _start_server(self) -> None:
        self.server.start()
        self.net.serve = self.server.serve

    async def _stop_server(self, how: str) -> None:
        self.net.serve = None
        if how == "server leaves" and self.server.hub is not None:
            self.server.hub.announce_leaving("the server is restarted")
            await asyncio.sleep(FAREWELL_S)
        await self.server.kill()
        self._break_lines(Network.kill_line if how == "server killed unheard" else Network.break_line)

    def _break_lines(self, how: Callable[[Network, Line], None]) -> None:
        for line in sorted(self.net.lines, key=lambda line: line.name):
            how(self.net, line)

    # -- the end

    async def look_for_life(self) -> list[str]:
        """Describe what is still alive, or comes to life, well after the dialog has ended."""
        if not self.dialog.ended.is_set():
            return []
        asked = len(self.net.asked)
        found = {
            "is a timer": self.page.timer_is_set,
            "are streams": self.dialog.streams,
            "is a poll": self.dialog.poll,
        }
        left = [f"after the end there {what}" for what, there in found.items() if there]
        await asyncio.sleep(AFTERWARDS_S)
        if len(self.net.asked) > asked:
            left.append(f"after the end there were {len(self.net.asked) - asked} requests")
        if self.net.lines:
            left.append(f"after the end {len(self.net.lines)} connections are open")
        if self.server.hub is not None and (self.server.hub.streams or self.server.hub.watched):
            left.append(f"the hub still holds {self.server.hub.streams} streams")
        return left

    async def clear(self) -> None:
        await self.server.kill()
        await self.server.store.close()
