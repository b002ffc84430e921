"""Measures what the store's queries cost with a long history and with a short one: CPU seconds and their ratio.

    python -m tests.bench.large [JOBS]

Both databases have a hundred unfinished jobs. In the small one, the job that is queried has 20 items, and ten
jobs are finished; in the large one it has ten thousand items, most of them done, and a million jobs are finished
(made by SQL). Each query is sent to both in turn. Prints JSON. It must not know how the store finds its answers.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from uuid import UUID, uuid4

import anyio.to_thread

from unstuck.jobs.job import Health, HealthLimits, Item, ItemState, Job, Release, State
from unstuck.store.connection import open_checked
from unstuck.store.protocol import JobFilter
from unstuck.store.rows import JOB_COLUMNS
from unstuck.store.sqlite import SQLiteStore

LIVE, FEW, MANY = 100, 20, 10_000
ROUNDS = 9
#: Repetitions of a query in a round, so that the CPU clock can resolve it.
REPETITIONS = 30
PAGE = 5

Ask = Callable[[SQLiteStore], Awaitable[object]]


async def fill(path: Path, finished: int, items: int) -> str:
    """Fill a database with this many finished jobs and with unfinished ones; return the id of the large job."""
    store = SQLiteStore(path)
    await store.open()
    first = Job(id=str(UUID(int=0)), kind="checksum", name="first", total=1, waiting=0, created_at=0.0)
    await store.create(first, [])
    await store.close()
    _history(path, finished)
    store = SQLiteStore(path)
    await store.open()
    ids = [str(uuid4()) for _ in range(LIVE)]
    for job_id in ids:
        total = items if job_id == ids[0] else FEW
        job = Job(id=job_id, kind="checksum", name="", total=total, waiting=total, created_at=time.time())
        await store.create(job, [Item(index=index, name=f"{index:05d}.csv") for index in range(total)])
    await store.close()
    _work(path, ids[0], items)
    return ids[0]


def _history(path: Path, finished: int) -> None:
    """Copy the first job, finished, this often; in every thousand, one is cancelled and one of a rare kind."""
    own = {
        "id": "printf('%08x-0000-4000-8000-000000000000', value)",
        "kind": "CASE value % 1000 WHEN 500 THEN 'thumbnail' ELSE 'checksum' END",
        "state": "CASE value % 1000 WHEN 7 THEN 'cancelled' ELSE 'completed' END",
        "total": "1", "waiting": "0", "succeeded": "1", "created_at": "value", "finished_at": "value + 1.0",
    }  # fmt: skip
    chosen = ", ".join(own.get(name, name) for name in JOB_COLUMNS)
    numbers = "(SELECT 1 UNION ALL SELECT value + 1 FROM numbers WHERE value < ?)"
    copies = f"WITH RECURSIVE numbers (value) AS {numbers} SELECT {chosen} FROM numbers, jobs WHERE jobs.n = 1"
    with closing(open_checked(path)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("BEGIN")
        connection.execute(f"INSERT INTO jobs ({', '.join(JOB_COLUMNS)}) {copies}", (finished,))
        connection.execute(
            "INSERT INTO items (job, idx, name, state, seq, lease, attempt) "
            "SELECT n, 0, 'a.csv', 'succeeded', 2, 1, 1 FROM jobs WHERE n > 1"
        )
        connection.execute("INSERT INTO timeline (job, at, what) SELECT n, created_at, 'submitted' FROM jobs")
        connection.execute("DELETE FROM jobs WHERE n = 1")
        connection.execute("COMMIT")


def _work(path: Path, job_id: str, items: int) -> None:
    """Mark all but ten items of a job as done."""
    with closing(open_checked(path)) as connection:
        connection.execute("BEGIN")
        connection.execute(
            "UPDATE items SET state = 'succeeded', seq = idx + 2 "
            "WHERE idx < ? AND job = (SELECT n FROM jobs WHERE id = ?)",
            (items - 10, job_id),
        )
        connection.execute(
            "UPDATE jobs SET state = 'running', priority = 1, succeeded = ?, waiting = 10, seq = ? WHERE id = ?",
            (items - 10, items, job_id),
        )
        connection.execute("COMMIT")


def questions(large: str) -> dict[str, Ask]:
    """Return every query that a user, a page or a timer sends, by name."""
    limits = HealthLimits()
    rare = JobFilter((State.CANCELLED, State.FAILED))

    def listed(wanted: JobFilter, before: int | None = None) -> Ask:
        return lambda store: store.jobs(wanted, before=before, limit=PAGE)

    return {
        "list": listed(JobFilter()),
        "list, a later page": listed(JobFilter(), before=70),
        "list: one state": listed(JobFilter((State.FAILED,))),
        "list: unfinished": listed(JobFilter((State.QUEUED, State.RUNNING))),
        "list: rare states": listed(rare),
        "list: one kind": listed(JobFilter(kind="checksum")),
        "list: an unused kind": listed(JobFilter(kind="csv-profile")),
        "list: kind and state": listed(JobFilter((State.FAILED,), "checksum")),
        "list: health": listed(JobFilter(healths=(Health.STALLED, Health.UNRESPONSIVE))),
        "by end": listed(JobFilter(finished_before=1e12)),
        "by end: rare states": listed(JobFilter((State.FAILED,), finished_before=1e12)),
        "by end: an unused kind": listed(JobFilter(kind="csv-profile", finished_before=1e12)),
        "retention": listed(JobFilter(finished_before=0.5)),
        "status": lambda store: store.snapshot(large),
        "items": lambda store: store.items(large, limit=PAGE),
        "items: one state": lambda store: store.items(large, states=(ItemState.FAILED,), limit=PAGE),
        "items: states": lambda store: store.items(large, states=("failed", "running"), limit=PAGE),
        "items: after a seq": lambda store: store.items(large, after_seq=2, limit=PAGE),
        "timeline": lambda store: store.timeline(large, PAGE),
        "live": lambda store: store.live_ids(60.0),
        "health and metrics": lambda store: store.overview(),
        "room in the queue": lambda store: store.has_room(10_000),
        "claim": claimed_and_given_back,
        "sweep": lambda store: anyio.to_thread.run_sync(store.sweep, limits),
    }


async def claimed_and_given_back(store: SQLiteStore) -> None:
    """Claim an item and release it unchanged."""
    (claimed,) = await store.claim(1, 1e6)
    await store.apply([Release(claimed.job_id, claimed.item.index, claimed.item.lease)])


async def compared(finished: int = 1_000_000, rounds: int = ROUNDS) -> dict[str, dict[str, float]]:
    """Return medians for each query: CPU milliseconds with ten finished jobs and with more, and their ratio."""
    with tempfile.TemporaryDirectory() as folder:
        stores, asks = [], []
        for name, count, items in (("small", 10, FEW), ("large", finished, MANY)):
            path = Path(folder) / f"{name}.db"
            asks.append(questions(await fill(path, count, items)))
            store = SQLiteStore(path)
            await store.open()
            stores.append(store)
        try:
            return {name: await _compare(stores, [one[name] for one in asks], rounds) for name in asks[0]}
        finally:
            for store in stores:
                await store.close()


async def _compare(stores: list[SQLiteStore], asks: list[Ask], rounds: int) -> dict[str, float]:
    taken: list[list[float]] = [[], []]
    for _ in range(rounds):
        for store, ask, times in zip(stores, asks, taken, strict=True):
            begun = time.process_time()
            for _ in range(REPETITIONS):
                await ask(store)
            times.append((time.process_time() - begun) / REPETITIONS * 1_000)
    small, large = (statistics.median(times) for times in taken)
    return {"small_ms": round(small, 3), "large_ms": round(large, 3), "ratio": round(large / small, 2)}


def measure(rounds: int, scale: float) -> dict[str, dict[str, float]]:
    """Return a row for each query; at scale 1 with a million finished jobs."""
    return asyncio.run(compared(max(int(1_000_000 * scale), 1_000), rounds))


if __name__ == "__main__":
    print(json.dumps(asyncio.run(compared(*(int(text) for text in sys.argv[1:]))), indent=2))
