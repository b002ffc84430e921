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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from unstuck.errors import CannotStart
from unstuck.files.folder import DataFolder
from unstuck.jobs.job import Finish, HealthLimits, ItemState, Job, JobError, Release, Renew, Report
from unstuck.kinds.option import KindInfo
from unstuck.runner import protocol as pipe
from unstuck.runner.assignment import Assignment
from unstuck.runner.leases import LeaseKeeper
from unstuck.runner.prefetch import ClaimedItem, Prefetch
from unstuck.runner.process import Message, WorkerDiedError, WorkerProcess
from unstuck.runner.write_buffer import WriteBuffer
from unstuck.store.protocol import Store
from unstuck.supervision.backoff import Backoff
from unstuck.supervision.supervisor import Loop, Supervisor

log = logging.getLogger("unstuck.runner")

#: Waits before a worker that does not start is tried again (seconds); the last one stays.
RESTART_S = (0.1, 0.5, 2.0, 5.0, 15.0)
#: A worker that has items ahead is listened to so often (seconds): what it ended meanwhile costs one turn.
GATHER_S = 0.002

#: By what a worker says; looking them up in the class takes 0.7 µs.
_STATES: Mapping[str, ItemState] = {state: state for state in ItemState}


@dataclass(frozen=True, slots=True)
class RunnerConfig:
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
    limits: HealthLimits = field(default_factory=HealthLimits)


class Runner:
    """`start()`, then its loops work until the supervisor ends them; then `stop()`. `kinds` is what its workers
    can do."""

    def __init__(self, store: Store, folder: DataFolder, config: RunnerConfig) -> None:
        self.kinds: dict[str, KindInfo] = {}
        #: Why no worker can be started, or None.
        self.trouble: str | None = None
        #: Workers that ended by themselves or were killed, since the start.
        self.deaths = 0
        self._store = store
        self._folder = folder
        self._config = config
        self._writes = WriteBuffer(store, config.hold_s)
        self._items: set[ClaimedItem] = set()
        self._stopping: set[str] = set()
        self._run_ids = itertools.count(1)
        self._processes: set[WorkerProcess] = set()
        self._idle: list[WorkerProcess] = []  # started, and not yet served
        self._loops: list[Loop] = []
        self._leases = LeaseKeeper(store, config.limits, config.lease_s)
        #: Who we are in the store, for people.
        self.name = f"{socket.gethostname()}/{os.getpid()}"
        self._prefetch = Prefetch(
            store, config.workers, config.lease_s, lambda: self.name, self._items, self._on_claimed
        )

    @property
    def alive(self) -> bool:
        """It works, and has a worker to work with."""
        return self.trouble is None and bool(self._loops) and not any(loop.down for loop in self._loops)

    @property
    def workers(self) -> int:
        """How many worker processes are alive."""
        return sum(process.alive for process in tuple(self._processes))

    @property
    def lapsed(self) -> int:
        """How many items were taken from silent runners, since the start."""
        return self._leases.lapsed

    async def start(self, supervisor: Supervisor) -> None:
        """Start the workers; CannotStart if the kinds do not load."""
        first = await self._start_process()
        self.kinds = {info.name: info for info in first.kinds}
        self._idle = [first]
        self._store.on_commit(self.on_commit)
        self._loops = [
            supervisor.run("write buffer", self._writes.run),
            supervisor.run("prefetch", self._prefetch.run),
            self._leases.start(supervisor, self._leases_to_renew, self._on_leases_lost),
            *(supervisor.run(f"worker {number + 1}", self._keep_alive) for number in range(self._config.workers)),
        ]

    async def stop(self) -> None:
        """Give all items back, so that the next start goes on with them. Call it when the loops have ended."""
        await asyncio.gather(*(process.terminate() for process in tuple(self._processes)))
        self._loops = []
        for held in self._items:
            self._writes.add(Release(held.work.job_id, held.item.index, held.item.lease))
        await self._writes.flush()

    # -- one worker

    async def _keep_alive(self) -> None:
        """Keep one worker alive and busy."""
        failures = 0
        while True:
            try:
                process = self._idle.pop() if self._idle else await self._start_process()
            except (CannotStart, OSError) as error:
                wait_s = RESTART_S[min(failures, len(RESTART_S) - 1)]
                failures += 1
                self.trouble = str(error)
                log.error("no worker could be started (again in %s s): %s", wait_s, self.trouble)
                await asyncio.sleep(wait_s)
                continue
            failures, self.trouble = 0, None
            try:
                await self._serve_worker(Assignment(process, self._limit_s, self._config.cancel_grace_s))
            except WorkerDiedError as death:
                self.deaths += 1
                log.warning("worker %d: %s", process.pid, death)
            finally:
                await process.terminate()
                self._processes.discard(process)

    async def _start_process(self) -> WorkerProcess:
        config = self._config
        process = await WorkerProcess.start(config.app, config.commands, config.memory_mib)
        self._processes.add(process)
        return process

    async def _serve_worker(self, hand: Assignment) -> None:
        """Give the worker items and hear what becomes of them, until it dies."""
        try:
            while True:
                if hand.current is None:
                    one = await self._prefetch.next()
                    self._assign(hand, [one, *self._prefetch.take_ahead(one.work.job_id, 0)])
                elif not hand.current_is_slow:
                    self._assign(hand, self._prefetch.take_ahead(hand.current.work.job_id, len(hand.ahead)))
                if hand.current is not None:
                    if hand.ahead:
                        await asyncio.sleep(GATHER_S)
                    await self._on_messages(hand, await hand.process.read_messages())
        except WorkerDiedError as death:
            self._on_death(hand, death)
            raise
        except Exception:
            self._on_broken(hand)
            raise
        finally:
            hand.close()

    def _assign(self, hand: Assignment, some: Sequence[ClaimedItem]) -> None:
        if not hand.process.alive:
            self._prefetch.put_back(some)
            if hand.current is None:
                raise WorkerDiedError("The worker process ended while it had nothing to do.")
            return  # its last words come first
        for held in some:
            held.process = hand.process  # from now on they go with it, whatever breaks
        known = [(held, self._run(held)) for held in some if self._check_kind(held)]
        if known:
            hand.assign(known)
            self._report_started(hand.start_current())

    def _check_kind(self, held: ClaimedItem) -> bool:
        if held.work.kind in self.kinds:
            return True
        message = f"This server knows no kind of work {held.work.kind!r} (any more)."
        self._finish(held, ItemState.FAILED, error=JobError("unknown_kind", message))
        return False

    def _report_started(self, held: ClaimedItem | None) -> None:
        """Of many short items heard of at once, only the last is one that still runs."""
        if held is not None and not held.start_reported:
            held.start_reported = True
            self._writes.add_progress(self._report(held))

    async def _on_messages(self, hand: Assignment, messages: Sequence[Message]) -> None:
        """What the worker has said: of short items, the ends of many at once."""
        first = hand.current
        ended = 0
        for message in messages:
            held = hand.get(message.id)
            if held is None:
                continue
            if isinstance(message, pipe.Progress):
                hand.start_current()
                self._writes.add_progress(self._report(held, message.fraction, message.message))
                continue
            hand.remove(held)
            if isinstance(message, pipe.Returned):
                self._on_returned(held)
                continue
            ended = 0 if message.state == "failed" else ended + 1
            if message.file is None or await self._make_durable(held, message.file):
                self._on_done(held, message)
        if first is not None and self._prefetch.error_budget_spent(first.work.job_id):
            await (
                self._writes.wait_written()
            )  # whether its job goes on is for the store to say, before more of it fails
        if first is not None and ended:
            self._prefetch.record_duration(first.work.job_id, (time.monotonic() - first.began_at) / ended, ended)
        self._report_started(hand.start_current())

    def _on_returned(self, held: ClaimedItem) -> None:
        """It was given to a worker that never began it."""
        held.process, held.run_id, held.exceeded_limit_s, held.start_reported, held.began_at = (
            None,
            0,
            None,
            False,
            0.0,
        )
        if held not in self._items:
            return  # taken away meanwhile
        if held.stopped:
            self._release(held)
        else:
            self._prefetch.put_back([held])

    def _on_death(self, hand: Assignment, death: WorkerDiedError) -> None:
        """What it was at has ended with it; the others go back as they are."""
        held = hand.current
        if held is None:
            return
        for one in reversed(hand.ahead):
            self._on_returned(one)
        hand.remove(held)
        if held.exceeded_limit_s is not None:
            self._finish(held, ItemState.FAILED, error=_time_limit_error(held.exceeded_limit_s))
        elif held.stopped:
            self._finish(held, ItemState.CANCELLED, message="Stopped by force.")
        else:
            self._finish(held, ItemState.FAILED, error=JobError("worker_lost", str(death), transient=True))

    def _on_broken(self, hand: Assignment) -> None:
        """This server's own code broke: the process is killed, and none of its items is left without an owner."""
        death = WorkerDiedError("The server failed while it served this worker; its log says why.")
        self._on_death(hand, death)
        for held in [one for one in self._items if one.process is hand.process]:
            self._finish(held, ItemState.FAILED, error=JobError("worker_lost", str(death), transient=True))

    def _limit_s(self, held: ClaimedItem) -> float | None:
        limits = (held.work.limit_s, self.kinds[held.work.kind].limit_s)
        return min((limit for limit in limits if limit is not None), default=self._config.item_limit_s)

    def _run(self, held: ClaimedItem) -> pipe.Run:
        claimed, item = held.work, held.item
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

    def _report(self, held: ClaimedItem, fraction: float | None = None, message: str | None = None) -> Report:
        item = held.item
        return Report(held.work.job_id, item.index, item.lease, held.started_at, fraction, message)

    async def _make_durable(self, held: ClaimedItem, file: str) -> bool:
        where = held.work.job_id, held.item.index, held.item.lease, file
        try:
            await asyncio.to_thread(self._folder.make_durable, *where)
        except OSError as trouble:
            error = JobError("result_not_kept", f"The result file could not be kept: {trouble}", True)
            self._finish(held, ItemState.FAILED, error=error)
            return False
        return True

    def _on_done(self, held: ClaimedItem, done: pipe.Done) -> None:
        state = _STATES[done.state]
        if state is ItemState.CANCELLED and held.exceeded_limit_s is not None:
            self._finish(held, ItemState.FAILED, error=_time_limit_error(held.exceeded_limit_s))
            return
        if state is ItemState.CANCELLED and not held.stopped:
            # The kind raised Cancelled although nobody had asked: that is a failure of its own.
            error = JobError("exception", "The work stopped itself although nobody had asked for it.")
            self._finish(held, ItemState.FAILED, error=error)
            return
        message = done.error
        problem = None if message is None else JobError(message.code, message.message, message.transient)
        self._finish(held, state, error=problem, message=done.message, result=done.result, file=done.file)

    def _finish(
        self,
        held: ClaimedItem,
        state: ItemState,
        *,
        error: JobError | None = None,
        message: str | None = None,
        result: Mapping[str, object] | None = None,
        file: str | None = None,
    ) -> None:
        if held not in self._items:
            return  # taken away: somebody else has it, and what was done here is dropped
        item, started_at = held.item, held.started_at or time.time()
        if state is ItemState.FAILED:
            self._prefetch.record_failure(held.work.job_id)
        pause_s = self._config.pause.pause_s(item.attempt, random.random()) if error and error.transient else 0.0  # noqa: S311
        self._writes.add(
            Finish(
                held.work.job_id, item.index, item.lease, state, started_at,
                error, message, result, file, pause_s,
            ),
            hurry=len(self._items) == 1,  # nothing more would come along
        )  # fmt: skip
        self._items.discard(held)  # only now: at each moment the keeper's thread finds it here or with the pen

    def _release(self, held: ClaimedItem) -> None:
        self._items.discard(held)
        self._writes.add(Release(held.work.job_id, held.item.index, held.item.lease))

    # -- what the store says

    def on_commit(self, changed: Mapping[str, Job | None]) -> None:
        """There may be something to claim, or to stop."""
        for job_id, job in changed.items():
            if job is not None:
                self._prefetch.on_commit(job)
            if job is not None and job.stopping:
                self._stopping.add(job_id)
                self._stop_items(job_id)
            elif job is None or job.done:
                self._stopping.discard(job_id)

    def _on_claimed(self, job_ids: set[str]) -> None:
        for job_id in self._stopping.intersection(job_ids):
            self._stop_items(job_id)  # asked to stop between the claim's commit and now

    def _stop_items(self, job_id: str) -> None:
        stopped = {one for one in self._items if one.work.job_id == job_id and not one.stopped}
        for held in stopped:
            held.stopped = True
            if held.process is not None:
                held.process.stop(held.run_id, self._config.cancel_grace_s)
        for held in self._prefetch.remove(stopped):
            self._release(held)

    # -- leases

    def _leases_to_renew(self) -> list[Renew]:
        """What is ours: what is worked on, and what ended, until that is written. Called by the keeper's thread:
        copying a set is one step for Python."""
        lease_s = self._config.lease_s
        held = [Renew(one.work.job_id, one.item.index, one.item.lease, lease_s) for one in tuple(self._items)]
        return held + [
            Renew(one.job_id, one.index, one.lease, lease_s) for one in self._writes.unwritten_finishes()
        ]

    def _on_leases_lost(self, lost: Sequence[Renew]) -> None:
        """These items have a new owner, or their job is over: nothing that we do to them counts any more."""
        keys = {(one.job_id, one.index, one.lease) for one in lost}
        gone = {one for one in self._items if (one.work.job_id, one.item.index, one.item.lease) in keys}
        self._items -= gone
        self._prefetch.remove(gone)
        for held in gone:
            if held.process is not None:
                held.process.recall(held.run_id)
                held.process.kill_if_running(held.run_id)


def _time_limit_error(limit_s: float) -> JobError:
    return JobError(
        "time_limit_exceeded", f"The work on this item took longer than the {limit_s:g} s it may take."
    )
