"""Plays one schedule under virtual time, from the submission of its job until well after its end.

It starts page, network and server, begins and ends the faults, and records everything that is judged. It must not
know which schedules there are, or what is wrong.
Next: virtual_schedule.py draws the faults; virtual_judge.py judges the record.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from tests.faults.virtual_judge import Record
from tests.faults.virtual_net import Connection, Log, Network
from tests.faults.virtual_page import Dialog, Page, Screen
from tests.faults.virtual_schedule import NETWORK, Fault, Schedule
from tests.faults.virtual_server import FOREVER_S, Nets, Server, Work
from unstuck.jobs.job import Job
from unstuck.jobs.snapshot import Snapshot, public
from unstuck.streaming.config import StreamConfig

#: When the dialog opens, and how long a server that leaves stays after it announced that (seconds).
BEGIN_S, FAREWELL_S = 0.1, 0.2
#: Faults that take the server down, and those that stop the page.
SERVER_DOWN = {"server killed", "server killed silently", "server leaves", "older backup"}
PAGE_STOPPED = {"page frozen", "page in bfcache", "machine sleeps"}
#: Faults that keep bytes from passing.
NETWORK_FAULTS = {*NETWORK, "offline", "machine sleeps"}
#: A job that is not done this long after the last fault never will be (seconds).
WORK_S = 7_200.0
#: How long nothing may happen after the end (seconds).
AFTERWARDS_S = 90.0


async def perform(
    schedule: Schedule, nets: Nets, patience_s: float, client: type[Dialog], log: Log | None
) -> Record:
    """Play this schedule and return the record; give up on the dialog `patience_s` after the job's end."""
    stage = _Stage(schedule, nets, client, log)
    await stage.begin()
    await stage.strike_and_heal()
    truth_at_recovery = stage.current_truth()
    stage.log(f"recovered; the truth is {truth_at_recovery}")
    await asyncio.wait_for(stage.done.wait(), WORK_S)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stage.dialog.ended.wait(), patience_s)
    leftovers = await stage.find_leftovers()
    await stage.clear()
    if stage.errors:
        raise RuntimeError(f"the suite itself broke: {schedule}") from stage.errors[0]
    return Record(
        schedule=schedule,
        screens=stage.dialog.screens,
        truths=stage.truths,
        truth_at_recovery=truth_at_recovery,
        final_truth=stage.current_truth(),
        finished_at=stage.finished_at,
        phase=stage.dialog.state.phase,
        requests=stage.net.requests,
        max_polls=stage.dialog.max_polls,
        leftovers=leftovers,
        rescues=stage.server.rescues,
    )


class _Stage:
    """The page, network, server and dialog of one schedule, and the faults active now."""

    def __init__(self, schedule: Schedule, nets: Nets, client: type[Dialog], log: Log | None) -> None:
        seed, self._schedule, self._log = schedule.seed, schedule, log
        self._loop = asyncio.get_running_loop()
        self._active: list[Fault] = []
        self._backups: dict[Fault, bytes] = {}
        self._history = 0
        self._truth = (0, 0)
        self.truths: dict[tuple[int, int], Screen] = {}
        self.finished_at = 0.0
        self.done = asyncio.Event()
        self.errors: list[BaseException] = []
        self._loop.set_exception_handler(self._on_exception)
        self.page = Page(seed)
        self.net = Network(seed, self.page.receive, self.log)
        self.net.polls_pass = nets.polls
        self.work = Work(schedule.total, schedule.item_s, schedule.failures, schedule.cancel_s, seed)
        config = StreamConfig() if schedule.heartbeats else StreamConfig(heartbeat_s=FOREVER_S)
        self.server = Server(seed, nets, config, self.work)
        self.server.store.on_state = self._on_state
        self.dialog = client(self.page, self.net, seed, self.log)

    def log(self, text: str) -> None:
        if self._log is not None:
            self._log(f"{self._loop.time():9.3f} {text}")

    def _on_exception(self, _: object, context: Mapping[str, Any]) -> None:
        """Record a failure in the background, and end the play."""
        self.errors.append(context.get("exception") or RuntimeError(context["message"]))
        self.done.set()

    def current_truth(self) -> tuple[int, int]:
        """Return the newest (history, seq) of the store."""
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
        if any(fault.kind == "offline" for fault in self._active):
            self.dialog.on({"type": "offline"})

    def _back_up(self, fault: Fault) -> None:
        self._backups[fault] = self.server.store.backup()

    def _on_state(self, job: Job) -> None:
        screen = Screen.of(msgspec.to_builtins(public(Snapshot(job), 0.0, "")), 0.0)
        self._truth = (screen.history, screen.seq)
        self.truths[self._truth] = screen
        if screen.done:
            self.finished_at = self._loop.time()
            self.done.set()
        else:
            self.done.clear()

    # -- faults

    async def strike_and_heal(self) -> None:
        for when, fault, begins in self._schedule.moments():
            await asyncio.sleep(max(0.0, when - self._loop.time()))
            self.log(f"{'begins' if begins else 'ends'}: {fault}")
            if begins:
                self._active.append(fault)
                await self._strike(fault)
            else:
                self._active.remove(fault)
                self._heal(fault)
            self._set_trouble()

    async def _strike(self, fault: Fault) -> None:
        if fault.kind in NETWORK_FAULTS:
            self.net.strike(fault)
        if fault.kind in SERVER_DOWN:
            await self._stop_server(fault.kind)
        elif fault.kind in PAGE_STOPPED:
            if fault.kind == "page in bfcache":
                self._break_connections(Network.break_connection)
            self.page.stop(asleep=fault.kind == "machine sleeps")
        elif fault.kind == "offline":
            self.page.network(False)
        elif fault.kind == "hidden":
            self.page.show(False)

    def _heal(self, fault: Fault) -> None:
        still = {other.kind for other in self._active}
        if fault.kind in NETWORK_FAULTS:
            self.net.heal(fault)
        if fault in self._backups:
            self._history += 1
            self.server.store.restore(self._backups[fault], self._history)
        if fault.kind in SERVER_DOWN and not still & SERVER_DOWN:
            self._start_server()
        elif fault.kind in PAGE_STOPPED:
            self.page.resume(asleep=fault.kind == "machine sleeps")
        elif fault.kind == "offline" and fault.kind not in still:
            self.page.network(True)
        elif fault.kind == "hidden" and fault.kind not in still and not self._schedule.stays_hidden:
            self.page.show(True)

    def _set_trouble(self) -> None:
        trouble, kinds = self.server.trouble, {fault.kind for fault in self._active}
        trouble.raises = "broadcast raises" in kinds
        trouble.mute = "broadcast does nothing" in kinds
        trouble.unreadable = "store unreadable" in kinds
        trouble.unwritable = "store unwritable" in kinds
        trouble.slow_s = self._sum("store slow")
        trouble.clock_s = self._sum("server clock jump")
        self.page.wall_offset_s = self._sum("clock jump")

    def _sum(self, kind: str) -> float:
        return sum(fault.amount for fault in self._active if fault.kind == kind)

    def _start_server(self) -> None:
        self.server.start()
        self.net.serve = self.server.serve

    async def _stop_server(self, how: str) -> None:
        self.net.serve = None
        if how == "server leaves" and self.server.hub is not None:
            self.server.hub.announce_leaving("the server is restarted")
            await asyncio.sleep(FAREWELL_S)
        await self.server.kill()
        self._break_connections(
            Network.kill_connection if how == "server killed silently" else Network.break_connection
        )

    def _break_connections(self, how: Callable[[Network, Connection], None]) -> None:
        for connection in sorted(self.net.connections, key=lambda connection: connection.name):
            how(self.net, connection)

    # -- the end

    async def find_leftovers(self) -> list[str]:
        """Describe what is still open, or happens, well after the dialog has ended."""
        if not self.dialog.ended.is_set():
            return []
        requests = len(self.net.requests)
        found = {
            "a timer is set": self.page.timer_is_set,
            "streams are open": self.dialog.streams,
            "a poll is in flight": self.dialog.poll,
        }
        leftovers = [f"after the end {what}" for what, there in found.items() if there]
        await asyncio.sleep(AFTERWARDS_S)
        if len(self.net.requests) > requests:
            leftovers.append(f"after the end there were {len(self.net.requests) - requests} requests")
        if self.net.connections:
            leftovers.append(f"after the end {len(self.net.connections)} connections are open")
        if self.server.hub is not None and (self.server.hub.streams or self.server.hub.watched):
            leftovers.append(f"the hub still holds {self.server.hub.streams} streams")
        return leftovers

    async def clear(self) -> None:
        await self.server.kill()
        await self.server.store.close()
