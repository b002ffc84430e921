"""Claims items and has them worked on by worker processes; reports what becomes of them.

    a worker is free → an item from the reserve → hold its progress → finish → next

Each worker has one task here that keeps it alive and gives it items, short ones some ahead. What is claimed when
is the reserve's affair (reserve.py). All that is to be written goes
through one more task (pen.py). A thread renews the leases while items are in hand (keeper.py); an item that
was taken from us all the same is dropped with all that was done to it. Knows the Store protocol and the data
folder; no HTTP, no viewers. What a command makes of a job is decided by the store alone.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import random
import socket
import time
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, field

from unstuck.backoff import Backoff
from unstuck.errors import CannotStart
from unstuck.files.folder import DataFolder
from unstuck.jobs.job import Alarms, Finish, ItemState, Job, Problem, Release, Renew, Report
from unstuck.kinds.option import KindInfo
from unstuck.runner import protocol as pipe
from unstuck.runner.assignment import Hand
from unstuck.runner.leases import Keeper
from unstuck.runner.prefetch import Held, Reserve
from unstuck.runner.process import Child, Said, WorkerDiedError
from unstuck.runner.write_buffer import Pen
from unstuck.store.protocol import Store

log = logging.getLogger("unstuck.runner")

#: Waits before a worker that does not start is tried again (seconds); the last one stays.
RESTART_S = (0.1, 0.5, 2.0, 5.0, 15.0)
#: A worker that has items ahead is listened to so often (seconds): what it ended meanwhile costs one turn.
GATHER_S = 0.002

#: By what a worker says; looking them up in the class takes 0.7 µs.
_STATES: Mapping[str, ItemState] = {state: state for state in ItemState}


@dataclass(frozen=True, slots=True)
class Crew:
    """How the runner's workers are made and treated; see settings.py."""

    workers: int = 1
    app: str = ""
    commands: Sequence[str] = ()
    memory_mib: int = 1024
    lease_s: float = 30.0
    hold_s: float = 0.2
    cancel_grace_s: float = 1.0
    item_limit_s: float | None = None
    pause: Backoff = field(default_factory=Backoff)
    alarms: Alarms = field(default_factory=Alarms)


class Runner:
    """`start()`, then it works until `stop()`. `kinds` is what its workers can do."""

    def __init__(self, store: Store, folder: DataFolder, crew: Crew) -> None:
        self.kinds: dict[str, KindInfo] = {}
        #: Why no worker can be started, or None.
        self.trouble: str | None = None
        #: Workers that ended by themselves or were killed, since the start.
        self.deaths = 0
        self._store = store
        self._folder = folder
        self._crew = crew
        self._pen = Pen(store, crew.hold_s)
        self._held: set[Held] = set()
        self._stopping: set[str] = set()
        self._run_ids = itertools.count(1)
        self._children: set[Child] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self._keeper = Keeper(store, crew.alarms, crew.lease_s)
        #: Who we are in the store, for people.
        self.name = f"{socket.gethostname()}/{os.getpid()}"
        self._reserve = Reserve(store, crew.workers, crew.lease_s, lambda: self.name, self._held, self._claimed)

    @property
    def alive(self) -> bool:
        """It works, and has a worker to work with."""
        tasks_run = bool(self._tasks) and not any(task.done() for task in self._tasks)
        return self.trouble is None and tasks_run and self._keeper.alive

    @property
    def workers(self) -> int:
        """How many worker processes are alive."""
        return sum(child.alive for child in tuple(self._children))

    @property
    def lapsed(self) -> int:
        """How many items were taken from silent runners, since the start."""
        return self._keeper.lapsed

    async def start(self) -> None:
        """Start the workers; CannotStart if the kinds do not load."""
        first = await self._start_child()
        self.kinds = {info.name: info for info in first.kinds}
        self._store.on_wake(self.wake)
        self._go(self._pen.run(), "pen")
        self._go(self._reserve.run(), "claims")
        self._keeper.start(self._leases, self._taken_away)
        for number in range(self._crew.workers):
            self._go(self._man(first if number == 0 else None), f"worker {number}")

    async def stop(self) -> None:
        """Kill the workers and give all items back, so that the next start goes on with them."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(child.end() for child in tuple(self._children)))
        self._tasks = []
        await asyncio.to_thread(self._keeper.stop)
        for held in self._held:
            self._pen.write(Release(held.claimed.job_id, held.item.index, held.item.lease))
        await self._pen.flush()

    def _go(self, work: Coroutine[None, None, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(_report_end)
        self._tasks.append(task)

    # -- one worker

    async def _man(self, child: Child | None) -> None:
        """Keep one worker alive and busy."""
        failures = 0
        while True:
            if child is None:
                try:
                    child = await self._start_child()
                except (CannotStart, OSError) as error:
                    wait_s = RESTART_S[min(failures, len(RESTART_S) - 1)]
                    failures += 1
                    self.trouble = str(error)
                    log.error("no worker could be started (again in %s s): %s", wait_s, self.trouble)
                    await asyncio.sleep(wait_s)
                    continue
            failures, self.trouble = 0, None
            try:
                await self._attend(Hand(child, self._limit_s, self._crew.cancel_grace_s))
            except WorkerDiedError as death:
                self.deaths += 1
                log.warning("worker %d: %s", child.pid, death)
                await child.end()
                self._children.discard(child)
                child = None

    async def _start_child(self) -> Child:
        crew = self._crew
        child = await Child.start(crew.app, crew.commands, crew.memory_mib)
        self._children.add(child)
        return child

    async def _attend(self, hand: Hand) -> None:
        """Give the worker items and hear what becomes of them, until it dies."""
        try:
            while True:
                if hand.first is None:
                    one = await self._reserve.next()
                    self._give(hand, [one, *self._reserve.more(one.claimed.job_id, 0)])
                elif not hand.slow:
                    self._give(hand, self._reserve.more(hand.first.claimed.job_id, len(hand.ahead)))
                if hand.first is not None:
                    if hand.ahead:
                        await asyncio.sleep(GATHER_S)
                    await self._heard(hand, await hand.child.hear())
        except WorkerDiedError as death:
            self._died(hand, death)
            raise
        finally:
            hand.close()

    def _give(self, hand: Hand, some: Sequence[Held]) -> None:
        if not hand.child.alive:
            self._reserve.put_back(some)
            if hand.first is None:
                raise WorkerDiedError("The worker process ended while it had nothing to do.")
            return  # its last words come first
        known = [(held, self._run(held)) for held in some if self._is_known(held)]
        if known:
            hand.give(known)
            self._show_begun(hand.begin())

    def _is_known(self, held: Held) -> bool:
        if held.claimed.kind in self.kinds:
            return True
        message = f"This server knows no kind of work {held.claimed.kind!r} (any more)."
        self._finish(held, ItemState.FAILED, error=Problem("unknown_kind", message))
        return False

    def _show_begun(self, held: Held | None) -> None:
        """Of many short items heard of at once, only the last is one that still runs."""
        if held is not None and not held.shown:
            held.shown = True
            self._pen.hold(self._report(held))

    async def _heard(self, hand: Hand, messages: Sequence[Said]) -> None:
        """What the worker has said: of short items, the ends of many at once."""
        first = hand.first
        ended = 0
        for said in messages:
            held = hand.find(said.id)
            if held is None:
                continue
            if isinstance(said, pipe.Progress):
                hand.begin()
                self._pen.hold(self._report(held, said.fraction, said.message))
                continue
            hand.take(held)
            if isinstance(said, pipe.Back):
                self._came_back(held)
                continue
            ended = 0 if said.state == "failed" else ended + 1
            if said.file is None or await self._is_kept(held, said.file):
                self._done(held, said)
        if first is not None and self._reserve.spent(first.claimed.job_id):
            await self._pen.written()  # whether its job goes on is for the store to say, before more of it fails
        if first is not None and ended:
            self._reserve.took(first.claimed.job_id, (time.monotonic() - first.began) / ended, ended)
        self._show_begun(hand.begin())

    def _came_back(self, held: Held) -> None:
        """It was given to a worker that never began it."""
        held.child, held.run_id, held.overran, held.shown, held.began = None, 0, None, False, 0.0
        if held not in self._held:
            return  # taken away meanwhile
        if held.stopped:
            self._release(held)
        else:
            self._reserve.put_back([held])

    def _died(self, hand: Hand, death: WorkerDiedError) -> None:
        """What it was at has ended with it; the others go back as they are."""
        held = hand.first
        if held is None:
            return
        for one in reversed(hand.ahead):
            self._came_back(one)
        hand.take(held)
        if held.overran is not None:
            self._finish(held, ItemState.FAILED, error=_overran(held.overran))
        elif held.stopped:
            self._finish(held, ItemState.CANCELLED, message="Stopped by force.")
        else:
            self._finish(held, ItemState.FAILED, error=Problem("worker_lost", str(death), transient=True))

    def _limit_s(self, held: Held) -> float | None:
        limits = (held.claimed.limit_s, self.kinds[held.claimed.kind].limit_s)
        return min((limit for limit in limits if limit is not None), default=self._crew.item_limit_s)

    def _run(self, held: Held) -> pipe.Run:
        claimed, item = held.claimed, held.item
        file, output = self._folder.paths(claimed.job_id, item.file, item.index, item.lease)
        return pipe.Run(
            id=next(self._run_ids),
            kind=claimed.kind,
            name=item.name,
            options=dict(claimed.options),
            input=file,
            output=output,
            attempt=item.attempt,
        )

    # -- what becomes of an item

    def _report(self, held: Held, fraction: float | None = None, message: str | None = None) -> Report:
        item = held.item
        return Report(held.claimed.job_id, item.index, item.lease, held.started_at, fraction, message)

    async def _is_kept(self, held: Held, file: str) -> bool:
        where = held.claimed.job_id, held.item.index, held.item.lease, file
        try:
            await asyncio.to_thread(self._folder.make_durable, *where)
        except OSError as trouble:
            error = Problem("result_not_kept", f"The result file could not be kept: {trouble}", True)
            self._finish(held, ItemState.FAILED, error=error)
            return False
        return True

    def _done(self, held: Held, done: pipe.Done) -> None:
        state = _STATES[done.state]
        if state is ItemState.CANCELLED and held.overran is not None:
            self._finish(held, ItemState.FAILED, error=_overran(held.overran))
            return
        if state is ItemState.CANCELLED and not held.stopped:
            # The kind raised Cancelled although nobody had asked: that is a failure of its own.
            error = Problem("exception", "The work stopped itself although nobody had asked for it.")
            self._finish(held, ItemState.FAILED, error=error)
            return
        said = done.error
        problem = None if said is None else Problem(said.code, said.message, said.transient)
        self._finish(held, state, error=problem, message=done.message, result=done.result, file=done.file)

    def _finish(
        self,
        held: Held,
        state: ItemState,
        *,
        error: Problem | None = None,
        message: str | None = None,
        result: Mapping[str, object] | None = None,
        file: str | None = None,
    ) -> None:
        if held not in self._held:
            return  # taken away: somebody else has it, and what was done here is dropped
        item, started_at = held.item, held.started_at or time.time()
        if state is ItemState.FAILED:
            self._reserve.stumbled(held.claimed.job_id)
        pause_s = self._crew.pause.pause_s(item.attempt, random.random()) if error and error.transient else 0.0  # noqa: S311
        self._pen.write(
            Finish(
                held.claimed.job_id, item.index, item.lease, state, started_at,
                error, message, result, file, pause_s,
            ),
            hurry=len(self._held) == 1,  # nothing more would come along
        )  # fmt: skip
        self._held.discard(held)  # only now: at each moment the keeper's thread finds it here or with the pen

    def _release(self, held: Held) -> None:
        self._held.discard(held)
        self._pen.write(Release(held.claimed.job_id, held.item.index, held.item.lease))

    # -- what the store says

    def wake(self, woken: Mapping[str, Job | None]) -> None:
        """There may be something to claim, or to stop."""
        for job_id, job in woken.items():
            if job is not None:
                self._reserve.wake(job)
            if job is not None and job.stopping:
                self._stopping.add(job_id)
                self._stop_items(job_id)
            elif job is None or job.done:
                self._stopping.discard(job_id)

    def _claimed(self, job_ids: set[str]) -> None:
        for job_id in self._stopping.intersection(job_ids):
            self._stop_items(job_id)  # asked to stop between the claim's commit and now

    def _stop_items(self, job_id: str) -> None:
        stopped = {one for one in self._held if one.claimed.job_id == job_id and not one.stopped}
        for held in stopped:
            held.stopped = True
            if held.child is not None:
                held.child.stop(held.run_id, self._crew.cancel_grace_s)
        for held in self._reserve.take_out(stopped):
            self._release(held)

    # -- leases

    def _leases(self) -> list[Renew]:
        """What is ours: what is worked on, and what ended, until that is written. Called by the keeper's thread:
        copying a set is one step for Python."""
        lease_s = self._crew.lease_s
        held = [Renew(one.claimed.job_id, one.item.index, one.item.lease, lease_s) for one in tuple(self._held)]
        return held + [Renew(one.job_id, one.index, one.lease, lease_s) for one in self._pen.unwritten_ends()]

    def _taken_away(self, lost: Sequence[Renew]) -> None:
        """These items have a new owner, or their job is over: nothing that we do to them counts any more."""
        keys = {(one.job_id, one.index, one.lease) for one in lost}
        gone = {one for one in self._held if (one.claimed.job_id, one.item.index, one.item.lease) in keys}
        self._held -= gone
        self._reserve.take_out(gone)
        for held in gone:
            if held.child is not None:
                held.child.recall(held.run_id)
                held.child.kill_if_running(held.run_id)


def _overran(limit_s: float) -> Problem:
    return Problem("time_limit_exceeded", f"The work on this item took longer than the {limit_s:g} s it may take.")


def _report_end(task: asyncio.Task[None]) -> None:
    # None of these tasks ever ends by itself; if one breaks, the health endpoint shows it too.
    if not task.cancelled() and (error := task.exception()) is not None:
        log.critical("the runner's task %r broke", task.get_name(), exc_info=error)
