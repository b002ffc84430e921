"""Keeps the workers alive, hands each its items, and writes the outcomes to the store.

Must not know: HTTP, viewers, or what a command does to a job.
See also: claimed_item.py (an item's states), prefetch.py (claims), assignment.py (a worker's items).

    store ─ claim ─▶ Prefetch ─▶ Assignment ─▶ worker ─ messages ─▶ Runner ─ commands ─▶ WriteBuffer ─▶ store

Each worker has one task here, which decides when it gets items, and handles its messages in order. A thread renews
the leases (leases.py); if a renewal is refused, the item is dropped with all the work done on it.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import socket
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import partial

from unstuck.errors import CannotStart
from unstuck.files.protocol import WorkFiles
from unstuck.jobs.job import HealthLimits, ItemState, Job
from unstuck.kinds.option import KindInfo
from unstuck.runner import outcome, protocol
from unstuck.runner.assignment import Assignment
from unstuck.runner.claimed_item import ClaimedItem, ClaimState, LeaseKey, Outcome
from unstuck.runner.leases import LeaseKeeper
from unstuck.runner.leftovers import Leftovers
from unstuck.runner.prefetch import Prefetch
from unstuck.runner.process import Message, WorkerDiedError, WorkerProcess
from unstuck.runner.registry import ItemRegistry
from unstuck.runner.write_buffer import WriteBuffer
from unstuck.store.protocol import Changes, WorkQueue
from unstuck.supervision.backoff import Backoff
from unstuck.supervision.supervisor import Loop, Supervisor

log = logging.getLogger("unstuck.runner")

#: Pauses between attempts to start a worker (seconds); the last one repeats.
RESTART_S = (0.1, 0.5, 2.0, 5.0, 15.0)
#: Pause between reads of a worker that has items ahead (seconds): all that it finished meanwhile costs one read.
GATHER_S = 0.002


def fresh_name() -> str:
    """Return a name that no other server has: that of its host, and a random word."""
    return f"{socket.gethostname()}/{secrets.token_hex(3)}"


@dataclass(frozen=True, slots=True)
class RunnerConfig:
    """The runner's configuration; settings.py explains each setting."""

    #: Stored with each claim, for people to read, and for the next start of the same server.
    name: str = field(default_factory=fresh_name)
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
    """Runs items in worker processes, from `start()` until the supervisor ends its loops; then call `stop()`.

    `kinds` holds the kinds of work that the workers have loaded.
    """

    def __init__(self, store: WorkQueue, files: WorkFiles, config: RunnerConfig) -> None:
        self.kinds: dict[str, KindInfo] = {}
        #: Workers that exited or were killed, since the start.
        self.deaths = 0
        self._store = store
        self._files = files
        self._config = config
        self._items = ItemRegistry(config.lease_s)
        self._writes = WriteBuffer(store, self._items, config.hold_s)
        self._prefetch = Prefetch(
            store,
            self._items,
            self._writes,
            workers=config.workers,
            worker=config.name,
            kinds=lambda: self.able_kinds,
        )
        self._leftovers = Leftovers(files)
        self._leases = LeaseKeeper(
            store, self._items, config.limits, self._on_renewed, on_lapsed=self._leftovers.add
        )
        self._processes: set[WorkerProcess] = set()
        self._idle: list[WorkerProcess] = []  # started, not yet served
        self._loops: list[Loop] = []
        self._troubles: dict[int, str] = {}  # by worker: why it cannot be started

    @property
    def trouble(self) -> str | None:
        """The reason why a worker cannot be started, or None."""
        return next(iter(self._troubles.values()), None)

    @property
    def alive(self) -> bool:
        """Return whether the runner's loops run and workers can be started."""
        return self.trouble is None and bool(self._loops) and not any(loop.down for loop in self._loops)

    @property
    def has_workers(self) -> bool:
        """Return whether it works at all, or only keeps the leases of workers elsewhere."""
        return self._config.workers > 0

    @property
    def workers(self) -> int:
        """The number of live worker processes."""
        return sum(process.alive for process in tuple(self._processes))

    @property
    def able_kinds(self) -> Collection[str]:
        """The kinds that every live worker can work on: the app may be another one after a worker's restart."""
        loaded = [process.kinds for process in self._processes if process.alive] or [tuple(self.kinds.values())]
        able = [{info.name for info in infos if info.unavailable is None} for infos in loaded]
        return set.intersection(*able)

    @property
    def lapsed(self) -> int:
        """The number of items taken from runners that stopped renewing their leases, since the start."""
        return self._leases.lapsed

    async def start(self, supervisor: Supervisor) -> None:
        """Start the workers and the loops. Raises CannotStart if the kinds do not load."""
        first = await self._start_process()
        self.kinds = {info.name: info for info in first.kinds}
        if self.has_workers:
            self._idle = [first]
            self._store.on_commit(self.on_commit)
        else:  # it was only asked for the kinds
            await first.terminate()
            self._processes.discard(first)
        self._loops = [
            supervisor.run("write buffer", self._writes.run),
            supervisor.run("prefetch", self._prefetch.run),
            supervisor.run("leftovers", self._leftovers.run),
            self._leases.start(supervisor),
            *(
                supervisor.run(f"worker {number}", partial(self._keep_alive, number))
                for number in range(1, self._config.workers + 1)
            ),
        ]

    async def stop(self) -> None:
        """Release all items, so that the next start continues with them. Call this once the loops have ended."""
        await asyncio.gather(*(process.terminate() for process in tuple(self._processes)))
        self._loops = []
        for item in self._items.held():
            self._leftovers.add(item.key)
            self._writes.add(item.release())
        await self._leftovers.remove()
        await self._writes.flush()

    def discard_output(self, key: LeaseKey) -> None:
        """Remove soon what was written under this lease, which is no result."""
        self._leftovers.add(key)

    # -- one worker

    async def _keep_alive(self, number: int) -> None:
        """Keep one worker alive and busy."""
        failures = 0
        while True:
            try:
                process = self._idle.pop() if self._idle else await self._start_process()
            except Exception as error:  # whatever is missing may be there again later
                wait_s = RESTART_S[min(failures, len(RESTART_S) - 1)]
                failures += 1
                self._troubles[number] = str(error) or repr(error)
                log.error(
                    "Worker could not be started, will try again: pause_s=%g error=%s",
                    wait_s,
                    self._troubles[number],
                    exc_info=None if isinstance(error, CannotStart | OSError) else error,
                )
                await asyncio.sleep(wait_s)
                continue
            failures = 0
            self._troubles.pop(number, None)
            try:
                await self._serve_worker(
                    Assignment(process, self._config.cancel_grace_s, self._config.item_limit_s)
                )
            except WorkerDiedError:
                self.deaths += 1
            finally:
                try:
                    await process.terminate()
                finally:
                    self._processes.discard(process)

    async def _start_process(self) -> WorkerProcess:
        config = self._config
        process = await WorkerProcess.start(config.app, config.commands, config.memory_mib)
        self._processes.add(process)
        return process

    async def _serve_worker(self, assignment: Assignment) -> None:
        """Assign items to the worker and handle its messages, until it dies."""
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
            _log_death(assignment, str(death))
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
            return  # its last messages are read first
        runs = []
        for item in items:
            if item.work.kind in assignment.kinds:
                runs.append((item, self._run(item)))
            else:  # claimed before this worker started
                self._writes.add(item.release())
        if runs:
            assignment.assign(runs)
            self._report_start(assignment.current)

    def _run(self, item: ClaimedItem) -> protocol.Run:
        work, row = item.work, item.item
        file, output = self._files.paths(work.job_id, row.file, row.index, row.lease)
        return protocol.Run(
            id=random.getrandbits(53),  # code that forges messages must not hit the next item
            kind=work.kind,
            name=row.name,
            options=dict(work.options),
            input=file,
            output=output,
            attempt=row.attempt,
            job=work.job_id,
            item=row.index,
        )

    async def _on_messages(self, assignment: Assignment, messages: Sequence[Message]) -> None:
        """Handle the messages of one read; short items send many ends at once."""
        first = assignment.current
        ended = 0
        for message in messages:
            if isinstance(message, protocol.Returned):
                self._prefetch.put_back(assignment.take_back(message.id))
                continue
            item = assignment.current
            if item is None or item.run_id != message.id:
                continue  # a worker takes its items in order, so this is not about one that it still has
            if isinstance(message, protocol.Progress):
                if item.held:
                    self._writes.add_progress(item.report(message.fraction, message.message))
                continue
            assignment.finish_current()
            ended = 0 if message.state == "failed" else ended + 1
            if message.file is None or await self._adopt(item, message.file):
                self._end(item, outcome.of_done(item, message))
            if message.last:
                self._prefetch.put_back(assignment.take_back_all())
                raise WorkerDiedError("An item changed its process (limits, descriptors, threads, user or root).")
        if first is not None and self._prefetch.error_budget_spent(first.work.job_id):
            # Only the store knows whether the job continues: wait for it before more items fail.
            await self._writes.wait_written()
        if first is not None and first.began_at and ended:
            self._prefetch.record_duration(first.work.job_id, (time.monotonic() - first.began_at) / ended, ended)
        self._report_start(assignment.current)

    def _report_start(self, current: ClaimedItem | None) -> None:
        """Report that the current item runs; items that started and ended within one read need no such report."""
        if current is not None and current.state is ClaimState.RUNNING and not current.reported:
            self._writes.add_progress(current.report())

    async def _adopt(self, item: ClaimedItem, file: str) -> bool:
        try:
            await self._files.adopt(*item.key, file)
        except Exception as error:  # ValueError for a NUL in the name, which comes from the worker, and so on
            if not isinstance(error, OSError | ValueError):
                job_id, index, _ = item.key
                log.exception("Result file could not be kept: job=%s item=%d", job_id, index)
            self._end(item, outcome.result_not_kept(error))
            return False
        return True

    def _on_death(self, assignment: Assignment, why: str) -> None:
        """End the item that the worker was running, and put the others back."""
        current, ahead = assignment.close()
        self._prefetch.put_back(ahead)
        if current is not None:
            self._end(current, outcome.of_death(current, why))

    def _on_broken(self, assignment: Assignment) -> None:
        """Clean up after a defect in the server: no item is left without an owner or tried forever."""
        why = "The server failed while handling this worker; its log says why."
        try:
            self._on_death(assignment, why)
        finally:
            between = [item for item in self._items.held() if item.worker is assignment]
            for item in [*between, *self._prefetch.strays()]:
                try:
                    self._end(item, outcome.of_death(item, why))
                except Exception:
                    # Its lease lapses, and the store gives it another attempt.
                    job_id, index, _ = item.key
                    log.exception("Item could not be ended, giving up its lease: job=%s item=%d", job_id, index)
                    self._items.abandon(item)

    def _end(self, item: ClaimedItem, how: Outcome) -> None:
        if item.state is ClaimState.LOST or (item.held and how.state is not ItemState.SUCCEEDED):
            self._leftovers.add(item.key)
        if not item.held:
            return  # the lease was lost: drop the work
        error = how.error
        if how.state is ItemState.FAILED:
            self._prefetch.record_failure(item.work.job_id)
        transient = error is not None and error.transient
        pause_s = self._config.pause.pause_s(item.item.attempt, random.random()) if transient else 0.0  # noqa: S311
        self._writes.add(item.end(how, time.time(), pause_s))

    def on_commit(self, changed: Changes) -> None:
        """Stop the items of jobs that are being stopped, and tell the prefetch about every change."""
        if changed is None:  # what is being stopped, the next renewal of the leases tells
            self._prefetch.on_missed_commits()
            return
        for job_id, job in changed.items():
            if job is not None and job.stopping:
                self._stop(job_id)
            self._prefetch.on_commit(job_id, job)

    def _on_renewed(self, stopping: Sequence[Job]) -> None:
        """Stop the items of these jobs, as the store knows them now, in case no notice of it arrived."""
        for job in stopping:
            if self._items.of_job(job.id):
                self.on_commit({job.id: job})

    def _stop(self, job_id: str) -> None:
        # The last first: an item that a worker is at ends at once, and the worker would take the next one.
        for item in reversed(self._items.of_job(job_id)):
            item.stop()


def _log_death(assignment: Assignment, why: str) -> None:
    pid, item = assignment.process.pid, assignment.current
    if item is None:
        log.warning("Worker died while idle, starting another: worker=%d reason=%s", pid, why)
        return
    job_id, index, _ = item.key
    if item.held and not item.stopped and item.exceeded_limit_s is None:
        log.warning("Worker died, starting another: worker=%d job=%s item=%d reason=%s", pid, job_id, index, why)
    else:  # killed here, unless it died by itself in the grace period
        log.warning("Worker killed to stop its item: worker=%d job=%s item=%d", pid, job_id, index)
