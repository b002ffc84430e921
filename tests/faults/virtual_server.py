"""The server under virtual time: the real hub with its viewers, the real store, and a simulated worker.

- The store is the SQLite store with its statements, its transactions and `decide`. Only its threads are replaced:
  reads and writes happen at once, on one connection in memory, and take virtual time before and after.
- The routes are mirrored in a few lines: what they ask of the hub and the store, and how they respond.
- The hub can be made to fail while broadcasting, and either of the server's two safety nets can be switched off.

It must not know the network's faults, the page, or what is right.
See also: virtual_stage.py, which breaks it.
"""

from __future__ import annotations

import asyncio
import json
import random
import sqlite3
from collections.abc import Awaitable, Callable, Collection
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from tests.faults.virtual_net import Connection
from tests.faults.wire import STREAM
from unstuck.errors import StoreUnavailable, UnstuckError
from unstuck.jobs.job import Cancel, Finish, HealthLimits, Item, ItemState, Job, JobError, Report
from unstuck.jobs.snapshot import Snapshot, etag, public
from unstuck.store import claims, rows, schema, transaction
from unstuck.store.protocol import Changes, SweepResult, WorkItem
from unstuck.store.row_cache import RowCache
from unstuck.store.sqlite import SQLiteStore
from unstuck.store.sqlite_connection import SQLiteConnection
from unstuck.streaming import sse
from unstuck.streaming.config import StreamConfig
from unstuck.streaming.hub import Hub

T = TypeVar("T")

#: When virtual time starts (epoch seconds).
EPOCH = 1_700_000_000.0
JOB_ID = "00000000-0000-4000-8000-000000000001"
LEASE_S = 30.0
FOREVER_S = 1e9


@dataclass(frozen=True, slots=True)
class Nets:
    """Which of the three safety nets are switched on."""

    broadcast: bool = True
    comparison: bool = True
    polls: bool = True


@dataclass(slots=True)
class Trouble:
    """What is broken in the server now."""

    raises: bool = False  # every broadcast raises
    mute: bool = False  # every broadcast does nothing, and claims success
    unreadable: bool = False
    unwritable: bool = False
    slow_s: float = 0.0
    clock_s: float = 0.0


@cache
def _empty() -> bytes:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    schema.migrate(connection)
    return connection.serialize()


def _opened(content: bytes) -> SQLiteConnection:
    """Open a new connection with this content; statements prepared for other content would read garbage."""
    connection = sqlite3.connect(":memory:", isolation_level=None, factory=SQLiteConnection)
    connection.deserialize(content)
    return connection


class InlineStore(SQLiteStore):
    """The SQLite store without its threads."""

    def __init__(self, trouble: Trouble, seed: int) -> None:
        self._loop = asyncio.get_running_loop()
        super().__init__(Path(":memory:"), clock=lambda: EPOCH + self._loop.time() + trouble.clock_s)
        self._trouble = trouble
        self._chance = random.Random(f"store {seed}")
        self._connection = _opened(_empty())
        self.on_state: Callable[[Job], None] = lambda job: None  # called with each committed state of the job

    def forget_hub(self) -> None:
        """Forget the hub and the cache of a server that has ended."""
        self._listeners.clear()
        self._snapshots.clear()

    def backup(self) -> bytes:
        return self._connection.serialize()

    def restore(self, backup: bytes, history: int) -> None:
        """Continue from a backup; the job's name becomes the number of its history."""
        self._connection.close()
        self._connection = _opened(backup)
        self._connection.execute("UPDATE jobs SET name = ?", (str(history),))
        self._snapshots.clear()
        found = rows.find_job(self._connection, JOB_ID)
        assert found is not None
        self.on_state(found[1])

    async def close(self) -> None:
        self._connection.close()

    async def release_items(self) -> SweepResult:
        """Free the items that a server that has ended held."""
        return await self._write(
            transaction.Work(lambda one: claims.sweep(one, HealthLimits(), (), ended="an earlier run"))
        )

    async def _write(self, work: transaction.Work[T], *, can_wait: bool = False) -> T:
        await asyncio.sleep(self._chance.random() * 0.01)
        if self._trouble.unwritable:
            raise StoreUnavailable("The store cannot write now (disk I/O error).")
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            made = transaction.Transaction(connection, self._wall(), RowCache(), self._snapshots)
            answer = work.run(made)
            made.finish()
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        made.after_commit()
        if made.changed:
            for job in filter(None, made.changed.values()):
                self.on_state(job)
            self._loop.call_later(self._chance.random() * 0.003, self._publish, [], made.changed)
        return answer

    async def _read(self, work: Callable[[Any], T]) -> T:
        """Read; the result may be out of date by the time the caller gets it."""
        whole = self._chance.random() * 0.004 + self._trouble.slow_s
        before = self._chance.choice((0.0, whole))
        await asyncio.sleep(before)
        if self._trouble.unreadable:
            raise StoreUnavailable("The store cannot be read now (disk I/O error).")
        found = work(self._connection)
        await asyncio.sleep(whole - before)
        return found


class FaultyHub(Hub):
    """The real hub with broadcasts that can fail and safety nets that can be switched off."""

    def __init__(
        self, store: InlineStore, config: StreamConfig, clock: Callable[[], float], trouble: Trouble, nets: Nets
    ) -> None:
        self._trouble, self._nets = trouble, nets
        super().__init__(store, config, clock=clock)
        if not nets.comparison:
            self.heartbeat.compare = _nothing_compared  # type: ignore[method-assign]

    def on_commit(self, changed: Changes) -> None:
        if self._nets.broadcast:
            super().on_commit(changed)

    def _broadcast(self, *what: Any) -> None:
        if self._trouble.raises:
            raise RuntimeError("This broadcast fails on purpose.")
        if not self._trouble.mute:
            super()._broadcast(*what)


async def _nothing_compared(now: float, job_ids: Collection[str]) -> dict[str, int]:
    return {}


class Server:
    """A server that can be killed and started again: one store for all its lives, a new hub for each."""

    def __init__(self, seed: int, nets: Nets, config: StreamConfig, work: Work) -> None:
        self.trouble = Trouble()
        self.store = InlineStore(self.trouble, seed)
        self.hub: FaultyHub | None = None
        self.rescues = 0
        self._nets, self._config, self._work = nets, config, work
        self._tasks: set[asyncio.Task[Any]] = set()
        self._loop = asyncio.get_running_loop()

    def clock(self) -> float:
        return EPOCH + self._loop.time() + self.trouble.clock_s

    def start(self) -> None:
        self.store.forget_hub()
        self.hub = FaultyHub(self.store, self._config, self.clock, self.trouble, self._nets)
        self._spawn(self.hub.heartbeat.tick_periodically())
        self._spawn(self.hub.heartbeat.greet_new_viewers())
        self._spawn(self._work.run(self.store))

    async def kill(self) -> None:
        """Stop everything where it is, as SIGKILL does."""
        tasks, hub = tuple(self._tasks), self.hub
        self.hub = None
        self.store.forget_hub()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if hub is not None:
            self.rescues += hub.stats.rescues
            await hub.close()

    def serve(self, connection: Connection) -> asyncio.Task[None]:
        return self._spawn(self._answer(connection))

    def _spawn(self, work: Any) -> asyncio.Task[Any]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._loop.call_exception_handler({"message": "the server broke", "exception": error, "task": task})

    # -- the routes, abridged

    async def _answer(self, connection: Connection) -> None:
        try:
            snapshot = await self.store.snapshot(JOB_ID)
        except UnstuckError as error:
            connection.head(error.status, {"content-type": "application/problem+json", "retry-after": "2"})
            connection.send(json.dumps({"status": error.status, "code": error.code}).encode())
            connection.end()
            return
        if connection.where == STREAM:
            await self._stream(connection)
        else:
            self._poll(connection, snapshot)

    def _poll(self, connection: Connection, snapshot: Snapshot) -> None:
        now = self.clock()
        tag = etag(snapshot)
        if connection.headers.get("if-none-match") == tag:
            connection.head(304, {"etag": tag})
        else:
            connection.head(200, {"etag": tag, "content-type": "application/json"})
            connection.send(msgspec.json.encode(public(snapshot, now, "")))
        connection.end()

    async def _stream(self, connection: Connection) -> None:
        hub = self.hub
        assert hub is not None
        connection.head(200, {"content-type": "text/event-stream"})
        connection.send(sse.opening("live", 1_000))
        with ExitStack() as stream:
            async for pending in await hub.join(stream, [JOB_ID], base="", wants_items=False, ends=True):
                connection.send(pending)
        connection.end()


class Work:
    """A worker that works on the job, two items at a time, and retries while the store fails."""

    def __init__(self, total: int, item_s: float, failures: float, cancel_s: float | None, seed: int) -> None:
        self.total, self._item_s, self._failures, self._cancel_s = total, item_s, failures, cancel_s
        self._chance = random.Random(f"work {seed}")
        self._loop = asyncio.get_running_loop()

    async def submit(self, store: InlineStore) -> None:
        job = Job(id=JOB_ID, kind="k", name="0", total=self.total, waiting=self.total, created_at=EPOCH)
        await store.create(job, [Item(index=index, name=f"{index}") for index in range(self.total)])

    async def run(self, store: InlineStore) -> None:
        """Work from where the last server stopped until the job is done."""
        await self._retry(store.release_items)
        while not (await self._retry(lambda: store.snapshot(JOB_ID))).job.done:
            await self._cancel_in_time(store)
            claimed = await self._retry(lambda: store.claim(2, LEASE_S))
            for fraction in (0.4, 0.8):
                await asyncio.sleep(self._item_s * 0.4)
                reports = [Report(JOB_ID, one.item.index, one.item.lease, EPOCH, fraction) for one in claimed]
                await self._retry(partial(store.apply, reports))
            await asyncio.sleep(self._item_s * 0.2)
            for one in claimed:
                await self._finish(store, one)

    async def _cancel_in_time(self, store: InlineStore) -> None:
        if self._cancel_s is not None and self._loop.time() >= self._cancel_s:
            await self._retry(lambda: store.apply([Cancel(JOB_ID)]))

    async def _finish(self, store: InlineStore, one: WorkItem) -> None:
        fails = self._chance.random() < self._failures
        state = ItemState.FAILED if fails else ItemState.SUCCEEDED
        error = JobError("exception", "it broke", transient=self._chance.random() < 0.5) if fails else None
        finish = Finish(JOB_ID, one.item.index, one.item.lease, state, EPOCH, error=error)
        await self._retry(lambda: store.apply([finish]))

    async def _retry(self, call: Callable[[], Awaitable[T]]) -> T:
        while True:
            try:
                return await call()
            except StoreUnavailable:
                await asyncio.sleep(0.5)
