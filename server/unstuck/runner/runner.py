"""Keeps the workers alive, gives each its items, and has the store told what becomes of them.

Decides: which worker gets items when, and in which order a worker's messages take effect.
Must not know: HTTP, viewers, what a command makes of a job.
Read on: claimed_item.py (an item's states), prefetch.py (claims), assignment.py (a worker's items).

    store ─ claim ─▶ Prefetch ─▶ Assignment ─▶ worker ─ messages ─▶ Runner ─ commands ─▶ WriteBuffer ─▶ store

Each worker has one task here. A thread renews the leases (leases.py); an item whose lease was refused all the same
is dropped with all that was done to it.
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
from unstuck.jobs.job import HealthLimits, ItemState, Job
from unstuck.kinds.option import KindInfo
from unstuck.runner import outcome, protocol
from unstuck.runner.assignment import Assignment
from unstuck.runner.claimed_item import ClaimedItem, ClaimState, Outcome
from unstuck.runner.leases import LeaseKeeper
from unstuck.runner.prefetch import Prefetch
from unstuck.runner.process import Message, WorkerDiedError, WorkerProcess
from unstuck.runner.registry import ItemRegistry
from unstuck.runner.write_buffer import WriteBuffer
from unstuck.store.protocol import WorkQueue
from unstuck.supervision.backoff import Backoff
from unstuck.supervision.supervisor import Loop, Supervisor

log = logging.getLogger("unstuck.runner")

#: Waits before a worker that does not start is tried again (seconds); the last one stays.
RESTART_S = (0.1, 0.5, 2.0, 5.0, 15.0)
#: A worker that has items ahead is read so often (seconds), so that all that it ended meanwhile costs one read.
GATHER_S = 0.002


def _host_and_pid() -> str:
    return f"{socket.gethostname()}/{os.getpid()}"


@dataclass(frozen=True, slots=True)
class RunnerConfig:
    """How the runner's workers are made and treated; see settings.py."""

    #: In the store, for people.
    name: str = field(default_factory=_host_and_pid)
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
    """Works from `start()` until the supervisor ends its loops; then comes `stop()`. `kinds` is what its workers
    can do."""

    def __init__(self, store: WorkQueue, folder: DataFolder, config: RunnerConfig) -> None:
        self.kinds: dict[str, KindInfo] = {}
        #: Why no worker can be started, or None.
        self.trouble: str | None = None
        #: Workers that ended by themselves or were killed, since the start.
        self.deaths = 0
        self._store = store
        self._folder = folder
        self._config = config
        self._items = ItemRegistry(config.lease_s)
        self._writes = WriteBuffer(store, self._items, config.hold_s)
        self._prefetch = Prefetch(store, self._items, self._writes, workers=config.workers, worker=config.name)
        self._leases = LeaseKeeper(store, self._items, config.limits)
        self._run_ids = itertools.count(1)
        self._processes: set[WorkerProcess] = set()
        self._idle: list[WorkerProcess] = []  # started, and not served yet
        self._loops: list[Loop] = []

    @property
    def alive(self) -> bool:
        """Whether it works, and has a worker to work with."""
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
        """Start the workers. Raises CannotStart if the kinds do not load."""
        first = await self._start_process()
        self.kinds = {info.name: info for info in first.kinds}
        self._idle = [first]
        self._store.on_commit(self.on_commit)
        self._loops = [
            supervisor.run("write buffer", self._writes.run),
            supervisor.run("prefetch", self._prefetch.run),
            self._leases.start(supervisor),
            *(supervisor.run(f"worker {number + 1}", self._keep_alive) for number in range(self._config.workers)),
        ]

    async def stop(self) -> None:
        """Give all items back, so that the next start goes on with them. Call it when the loops have ended."""
        await asyncio.gather(*(process.terminate() for process in tuple(self._processes)))
        self._loops = []
        for item in self._items.held():
            self._writes.add(item.release())
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
                await self._serve_worker(
                    Assignment(process, self._config.cancel_grace_s, self._config.item_limit_s)
                )
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

    async def _serve_worker(self, assignment: Assignment) -> None:
        """Give the worker items and act on its messages, until it dies."""
        try:
            while True:
                current = assignment.current
                if current is None:
                    item = await self._prefetch.next()
                    self._assign(assignment, [item, *self._prefetch.take_ahead(item.work.job_id, 0)])
                elif not assignment.current_is_slow:
                    self._assign(assignment, self._prefetch.take_ahead(current.work.job_id, len(assignment.ahead)))
                if assignment.current is not None:
                    if assignment.ahead:
                        await asyncio.sleep(GATHER_S)
                    await self._on_messages(assignment, await assignment.process.read_messages())
        except WorkerDiedError as death:
            self._on_death(assignment, str(death))
            raise
        except Exception:
            self._on_broken(assignment)
            raise
        finally:
            assignment.close()

    def _assign(self, assignment: Assignment, items: Sequence[ClaimedItem]) -> None:
        if not assignment.process.alive:
            self._prefetch.put_back(items)
            if assignment.current is None:
                raise WorkerDiedError("The worker process ended while it had nothing to do.")
            return  # its last messages come first
        runs = []
        for item in items:
            if item.work.kind in assignment.kinds:
                runs.append((item, self._run(item)))
            else:
                self._end(item, outcome.unknown_kind(item.work.kind))
        if runs:
            assignment.assign(runs)
            self._report_start(assignment.current)

    def _run(self, item: ClaimedItem) -> protocol.Run:
        work, row = item.work, item.item
        file, output = self._folder.paths(work.job_id, row.file, row.index, row.lease)
        return protocol.Run(
            id=next(self._run_ids),
            kind=work.kind,
            name=row.name,
            options=dict(work.options),
            input=file,
            output=output,
            attempt=row.attempt,
        )

    async def _on_messages(self, assignment: Assignment, messages: Sequence[Message]) -> None:
        """Act on what was read at once: of short items, many ends."""
        first = assignment.current
        ended = 0
        for message in messages:
            if isinstance(message, protocol.Returned):
                self._prefetch.put_back(assignment.take_back(message.id))
                continue
            item = assignment.current
            if item is None or item.run_id != message.id:
                continue  # a worker takes its items in order, so this is about none of them
            if isinstance(message, protocol.Progress):
                if item.held:
                    self._writes.add_progress(item.report(message.fraction, message.message))
                continue
            assignment.finish_current()
            ended = 0 if message.state == "failed" else ended + 1
            if message.file is None or await self._make_durable(item, message.file):
                self._end(item, outcome.of_done(item, message))
        if first is not None and self._prefetch.error_budget_spent(first.work.job_id):
            # Only the store knows whether the job goes on: ask before more of it fails.
            await self._writes.wait_written()
        if first is not None and first.began_at and ended:
            self._prefetch.record_duration(first.work.job_id, (time.monotonic() - first.began_at) / ended, ended)
        self._report_start(assignment.current)

    def _report_start(self, current: ClaimedItem | None) -> None:
        """Of many short items, only the one that still runs after all that was read is worth a report."""
        if current is not None and current.state is ClaimState.RUNNING and not current.reported:
            self._writes.add_progress(current.report())

    async def _make_durable(self, item: ClaimedItem, file: str) -> bool:
        try:
            await asyncio.to_thread(self._folder.make_durable, *item.key, file)
        except OSError as error:
            self._end(item, outcome.result_not_kept(error))
            return False
        return True

    def _on_death(self, assignment: Assignment, why: str) -> None:
        """The item that the worker was at has ended with it; the others go back as they are."""
        current, ahead = assignment.close()
        self._prefetch.put_back(ahead)
        if current is not None:
            self._end(current, outcome.of_death(current, why))

    def _on_broken(self, assignment: Assignment) -> None:
        """The server's own code broke: no item is left without an owner, and none is tried for ever."""
        why = "The server failed while it served this worker; its log says why."
        self._on_death(assignment, why)
        between = [item for item in self._items.held() if item.worker is assignment]
        for item in [*between, *self._prefetch.strays()]:
            self._end(item, outcome.of_death(item, why))

    def _end(self, item: ClaimedItem, how: Outcome) -> None:
        if not item.held:
            return  # lost: its work is dropped
        error = how.error
        if how.state is ItemState.FAILED:
            self._prefetch.record_failure(item.work.job_id)
        transient = error is not None and error.transient
        pause_s = self._config.pause.pause_s(item.item.attempt, random.random()) if transient else 0.0  # noqa: S311
        self._writes.add(item.end(how, time.time(), pause_s))

    def on_commit(self, changed: Mapping[str, Job | None]) -> None:
        """Stop what is to be stopped; there may also be something to claim."""
        for job_id, job in changed.items():
            if job is not None and job.stopping:
                # The last first: an item that a worker is at ends at once, and the worker would take the next one.
                for item in reversed(self._items.of_job(job_id)):
                    item.stop()
            self._prefetch.on_commit(job_id, job)
