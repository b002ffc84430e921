"""Claims items and has them worked on by worker processes; reports what becomes of them.

    wait for a free worker → claim a handful → start one → hold its progress → finish → next

Each worker has one task here that keeps it alive and gives it items. All that is to be written goes
through one more task (pen.py). A thread renews the leases while items are in hand (keeper.py); an item that
was taken from us all the same is dropped with all that was done to it. Knows the Store protocol and the data
folder; no HTTP, no viewers. What a command makes of a job is decided by the store alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import random
import socket
import time
from collections import deque
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from unstuck import pipe
from unstuck.backoff import Backoff
from unstuck.child import Child, WorkerDiedError
from unstuck.errors import CannotStart, StoreUnavailable
from unstuck.folder import DataFolder, sync
from unstuck.job import Alarms, Finish, Item, ItemState, Job, Problem, Release, Renew, Report
from unstuck.keeper import Keeper
from unstuck.kinds.option import KindInfo
from unstuck.pen import Pen
from unstuck.stores import Claimed, Store

log = logging.getLogger("unstuck.runner")

#: Items claimed at once for each worker: one to work on, one in reserve while the next claim is written.
CLAIM_PER_WORKER = 2
#: Looked for work at least so often: items that rest before another attempt ring no bell (seconds).
LOOK_S = 1.0
#: Waits before a worker that does not start is tried again (seconds); the last one stays.
RESTART_S = (0.1, 0.5, 2.0, 5.0, 15.0)


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


@dataclass(slots=True, eq=False)
class Held:
    """A claimed item in our hands; `run_id` and `child` once it is worked on."""

    claimed: Claimed
    run_id: int = 0
    child: Child | None = None
    started_at: float = 0.0
    stopped: bool = False
    overtaken: bool = False  # in reserve, by a job that came later
    overran: float | None = None  # the limit that it ran into (seconds)
    limit: asyncio.TimerHandle | None = field(default=None, repr=False)

    @property
    def item(self) -> Item:
        return self.claimed.item


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
        self._ready: deque[Held] = deque()
        self._held: set[Held] = set()
        self._stopping: set[str] = set()
        self._newcomer = False
        self._bell = asyncio.Event()
        self._claiming = asyncio.Lock()
        self._run_ids = itertools.count(1)
        self._children: set[Child] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self._keeper = Keeper(store, crew.alarms, crew.lease_s)
        #: Who we are in the store, for people.
        self.name = f"{socket.gethostname()}/{os.getpid()}"

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
                while True:
                    held = await self._next()
                    if not child.alive:
                        self._ready.appendleft(held)  # it never began, so it has not used its attempt
                        raise WorkerDiedError("The worker process ended while it had nothing to do.")
                    await self._work(child, held)
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

    async def _next(self) -> Held:
        """An item to work on; waits for one. What lies in reserve lets a job that came new go first, once."""
        while not self._ready or self._newcomer:
            async with self._claiming:
                self._bell.clear()
                newcomer, self._newcomer = self._newcomer, False
                if (newcomer or not self._ready) and not await self._claim() and not self._ready:
                    with contextlib.suppress(TimeoutError):
                        # Not wait_for: Python 3.11's can lose a cancel that falls on the moment of a wake.
                        async with asyncio.timeout(LOOK_S):
                            await self._bell.wait()
        return self._ready.popleft()

    async def _claim(self) -> bool:
        try:
            wanted = self._crew.workers * CLAIM_PER_WORKER
            claimed = await self._store.claim(wanted, self._crew.lease_s, self.name)
        except StoreUnavailable:
            return False  # the store has logged it, and is asked again soon
        in_hand = {held.claimed.job_id for held in self._held}
        taken = [Held(one) for one in claimed]
        first = [held for held in taken if held.claimed.job_id not in in_hand]
        for held in self._ready:
            held.overtaken = held.overtaken or bool(first)
        self._held.update(taken)
        self._ready.extendleft(reversed(first))
        self._ready.extend(held for held in taken if held not in first)
        for job_id in self._stopping.intersection(one.job_id for one in claimed):
            self._stop_items(job_id)  # asked to stop between the claim's commit and now
        return bool(claimed)

    async def _work(self, child: Child, held: Held) -> None:
        claimed = held.claimed
        if claimed.kind not in self.kinds:
            message = f"This server knows no kind of work {claimed.kind!r} (any more)."
            self._finish(held, ItemState.FAILED, error=Problem("unknown_kind", message))
            return
        held.run_id, held.child, held.started_at = next(self._run_ids), child, time.time()
        self._pen.hold(self._report(held))
        self._set_limit(held)
        try:
            done = await child.work(
                self._run(held), lambda said: self._pen.hold(self._report(held, said.fraction, said.message))
            )
        except WorkerDiedError as death:
            if held.overran is not None:
                self._finish(held, ItemState.FAILED, error=_overran(held.overran))
            elif held.stopped:
                self._finish(held, ItemState.CANCELLED, message="Stopped by force.")
            else:
                lost = Problem("worker_lost", str(death), transient=True)
                self._finish(held, ItemState.FAILED, error=lost)
            raise
        finally:
            if held.limit is not None:
                held.limit.cancel()
        await self._done(held, done)

    def _set_limit(self, held: Held) -> None:
        kind = self.kinds[held.claimed.kind]
        limits = [limit for limit in (held.claimed.limit_s, kind.limit_s) if limit is not None]
        limit_s = min(limits, default=self._crew.item_limit_s)
        if limit_s is not None:
            held.limit = asyncio.get_running_loop().call_later(limit_s, self._overrun, held, limit_s)

    def _overrun(self, held: Held, limit_s: float) -> None:
        if held.child is not None and not held.stopped:
            held.overran = limit_s
            held.child.stop(held.run_id, self._crew.cancel_grace_s)

    def _run(self, held: Held) -> pipe.Run:
        claimed, item = held.claimed, held.item
        return pipe.Run(
            id=held.run_id,
            kind=claimed.kind,
            name=item.name,
            options=dict(claimed.options),
            input=None if item.file is None else str(self._folder.input(claimed.job_id, item.file)),
            output=str(self._folder.output(claimed.job_id, item.index, item.lease)),
            attempt=item.attempt,
        )

    # -- what becomes of an item

    def _report(self, held: Held, fraction: float | None = None, message: str | None = None) -> Report:
        item = held.item
        return Report(held.claimed.job_id, item.index, item.lease, held.started_at, fraction, message)

    async def _done(self, held: Held, done: pipe.Done) -> None:
        state = ItemState(done.state)
        if state is ItemState.CANCELLED and held.overran is not None:
            self._finish(held, ItemState.FAILED, error=_overran(held.overran))
            return
        if state is ItemState.CANCELLED and not held.stopped:
            # The kind raised Cancelled although nobody had asked: that is a failure of its own.
            error = Problem("exception", "The work stopped itself although nobody had asked for it.")
            self._finish(held, ItemState.FAILED, error=error)
            return
        if done.file is not None:
            folder = self._folder.output(held.claimed.job_id, held.item.index, held.item.lease)
            try:
                await asyncio.to_thread(_make_durable, folder, done.file)
            except OSError as trouble:
                error = Problem("result_not_kept", f"The result file could not be kept: {trouble}", True)
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
        pause_s = self._crew.pause.pause_s(item.attempt, random.random()) if error and error.transient else 0.0  # noqa: S311
        self._pen.write(
            Finish(
                held.claimed.job_id, item.index, item.lease, state, started_at,
                error, message, result, file, pause_s,
            )
        )  # fmt: skip
        self._held.discard(held)

    # -- what the store says

    def wake(self, woken: Mapping[str, Job | None]) -> None:
        """There may be something to claim, or to stop."""
        for job_id, job in woken.items():
            if job is not None and job.waiting and not job.external:
                self._bell.set()
                if not job.leased and self._ready and not any(held.overtaken for held in self._ready):
                    self._newcomer = True
            if job is not None and job.stopping:
                self._stopping.add(job_id)
                self._stop_items(job_id)
            elif job is None or job.done:
                self._stopping.discard(job_id)

    def _stop_items(self, job_id: str) -> None:
        for held in [one for one in self._held if one.claimed.job_id == job_id and not one.stopped]:
            held.stopped = True
            if held.child is not None:
                held.child.stop(held.run_id, self._crew.cancel_grace_s)
            elif held in self._ready:
                self._ready.remove(held)
                self._held.discard(held)
                self._pen.write(Release(job_id, held.item.index, held.item.lease))

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
        for held in tuple(self._held):
            if (held.claimed.job_id, held.item.index, held.item.lease) not in keys:
                continue
            self._held.discard(held)
            if held.child is not None:
                held.child.kill_if_running(held.run_id)
            elif held in self._ready:
                self._ready.remove(held)


def _overran(limit_s: float) -> Problem:
    return Problem("time_limit_exceeded", f"The work on this item took longer than the {limit_s:g} s it may take.")


def _report_end(task: asyncio.Task[None]) -> None:
    # None of these tasks ever ends by itself; if one breaks, the health endpoint shows it too.
    if not task.cancelled() and (error := task.exception()) is not None:
        log.critical("the runner's task %r broke", task.get_name(), exc_info=error)


def _make_durable(folder: Path, file: str) -> None:
    """A result file is on the disk before anybody is told of it: the file, and the names that lead to it."""
    output, job, files = folder.parents[:3]
    sync(folder / file, folder, output, job, files)
