"""No statement of the store reads all jobs or all items: SQLite's planner is asked about each.

The statements are recorded while the store runs, so a new query is checked without being listed here.
"""

from __future__ import annotations

import itertools
import re
import sqlite3
from collections.abc import Sequence
from uuid import uuid4

import anyio.to_thread

from tests.support.clock import Clock
from unstuck.jobs.job import (
    Fail,
    Finish,
    Health,
    HealthLimits,
    Item,
    ItemState,
    Job,
    JobError,
    Renew,
    Report,
    State,
)
from unstuck.store.protocol import JobFilter
from unstuck.store.sqlite import SQLiteStore

#: Indexes of unfinished work and waiting deliveries only; reading all of one is cheap.
SMALL = ("jobs_live", "jobs_to_claim", "items_leased", "items_claimable", "deliveries_due", "deliveries_by_host",
         "deliveries_given_up")  # fmt: skip
TABLES = ("jobs", "items", "timeline", "deliveries", "due")
STATES: tuple[tuple[str, ...], ...] = ((), ("failed",), ("failed", "running", "cancelled"))


class Plans:
    """Records every statement that a store runs, and asks the planner about it."""

    def __init__(self, store: SQLiteStore) -> None:
        self.statements: set[str] = set()
        readers = [store._readers.get() for _ in range(store._readers.qsize())]
        for reader in readers:
            store._readers.put(reader)
        assert store._writer is not None
        for connection in (*readers, store._writer._connection):
            connection.set_trace_callback(self.statements.add)
        self._planner = sqlite3.connect(store.path)

    def steps(self) -> list[tuple[str, str]]:
        """Return each statement, without line breaks, with each step of its plan."""
        found = []
        for sql in sorted(self.statements):
            if re.match(r"\s*(SELECT|UPDATE|DELETE|INSERT|WITH)", sql):
                sql = sql.replace("-Inf", "-9e999")  # SQLite's own literal
                rows = self._planner.execute(f"EXPLAIN QUERY PLAN {sql}").fetchall()
                found += [(" ".join(sql.split()), row[3]) for row in rows]
        self._planner.close()
        return found


def reads_all(step: str) -> bool:
    scanned = re.match(rf"SCAN ({'|'.join(TABLES)})\b", step)
    return scanned is not None and not re.search(rf"USING (COVERING )?INDEX ({'|'.join(SMALL)})\b", step)


def newest_first(sql: str) -> bool:
    """Return whether this lists jobs without a filter, which scans the table only up to its limit."""
    return bool(re.search(r"FROM jobs (WHERE n < \d+ )?ORDER BY n DESC LIMIT \d+$", sql))


async def work(store: SQLiteStore, clock: Clock) -> str:
    """Run jobs through everything that can happen to them; return the id of one that is not done."""
    ids = [str(uuid4()) for _ in range(3)]
    for job_id in ids:
        url = "http://example.org/hook"
        job = Job(id=job_id, kind="checksum", name="", total=3, waiting=3, created_at=clock.now, webhook_url=url)
        await store.create(job, [Item(index=index, name=f"{index}.csv") for index in range(3)], most=100)
    claimed = await store.claim(6, 30.0, "worker 1", kinds=["checksum"])
    broken = JobError("busy", "not now", transient=True)
    for one in claimed[:2]:
        await store.apply([Report(one.job_id, one.item.index, one.item.lease, clock.now, 0.5)])
    again, *rest = claimed
    where = (again.job_id, again.item.index, again.item.lease)
    await store.apply([Finish(*where, ItemState.FAILED, clock.now, error=broken, pause_s=60.0)])
    for one in rest[:3]:
        where = (one.job_id, one.item.index, one.item.lease)
        await store.apply([Finish(*where, ItemState.FAILED, clock.now, error=JobError("broken", "no"))])
    await store.rescue(ids[2], "to see what becomes of it")
    await store.apply([Fail(ids[2], JobError("failed_by_operator", "no longer needed"))])
    return ids[0]


async def read_everything(store: SQLiteStore, clock: Clock, job_id: str) -> None:
    """Call every method that reads, with every filter and page."""
    for states, kind, before in itertools.product(STATES, (None, "checksum"), (None, 7)):
        await store.jobs(JobFilter(states, kind), before=before, limit=3)
        await store.jobs(JobFilter(states, kind, (Health.STALLED, Health.OK)), before=before, limit=3)
        await store.jobs(JobFilter(states, kind, finished_before=clock.now), before=None, limit=3)
        await store.search("a", JobFilter(states, kind), before=before, limit=3)
        for healths in ((), (Health.STALLED, Health.OK)):
            await store.jobs(JobFilter(states, kind, healths, id_prefix=job_id[:4]), before=before, limit=3)
            await store.jobs(JobFilter(states, kind, healths, retry_of=job_id), before=before, limit=3)
    for item_states in ((), (ItemState.FAILED,), tuple(ItemState)):
        await store.items(job_id, states=item_states, limit=3)
        await store.items(job_id, states=item_states, after_seq=1, limit=3)
    await store.snapshot(job_id)
    await store.item(job_id, 1)
    await store.timeline(job_id, 5)
    await store.live_ids(60.0)
    await store.seqs([job_id])
    await store.overview()
    await store.has_room(10, "a key")


async def test_nothing_reads_all_jobs_or_all_items(store_set: SQLiteStore, clock: Clock) -> None:
    plans = Plans(store_set)
    job_id = await work(store_set, clock)
    await read_everything(store_set, clock, job_id)
    clock.now += 100  # the clock is set, so that all times are moved
    item = (await store_set.items(job_id, limit=1))[0]
    await store_set.check_writable()
    await sweep(store_set, HealthLimits(expiry_s=1.0), [Renew(job_id, 0, item.lease, 30.0)])
    await store_set.take_deliveries(4, 4, {}, 20.0)
    for one in await store_set.jobs(JobFilter(tuple(State)), before=None, limit=10):
        if one[1].job.done:
            await store_set.remove(one[1].job.id)
    steps = plans.steps()
    assert len({sql for sql, _ in steps}) > 60
    some = [found for found in steps if re.search(r"state = |lease_until", found[0].partition("WHERE")[2])]
    assert [found for found in some if found[1] == "SEARCH items USING PRIMARY KEY (job=?)"] == []
    assert [(step, sql) for sql, step in steps if reads_all(step) and not newest_first(sql)] == []
    lists = [(step, sql) for sql, step in steps if " ORDER BY n DESC" in sql or "FROM items WHERE job" in sql]
    lists = [(step, sql) for step, sql in lists if "id >= " not in sql]  # sorts one job of 65,536 at most
    assert [found for found in lists if "TEMP B-TREE" in found[0]] == []


async def sweep(store: SQLiteStore, limits: HealthLimits, held: Sequence[Renew] = ()) -> None:
    await anyio.to_thread.run_sync(store.sweep, limits, held)


async def test_the_counts_by_state_equal_the_rows(store: SQLiteStore, clock: Clock) -> None:
    await work(store, clock)
    assert await counted(store) == {"running": 2, "failed": 1}
    for _, snapshot in await store.jobs(JobFilter((State.FAILED,)), before=None, limit=1):
        await store.remove(snapshot.job.id)
    assert await counted(store) == {"running": 2}


async def counted(store: SQLiteStore) -> dict[str, int]:
    """Count the jobs by state, and check that the store reports the same counts."""
    with sqlite3.connect(store.path) as connection:
        found = dict(connection.execute("SELECT state, count(*) FROM jobs GROUP BY state"))
    assert (await store.overview()).by_state == found
    return found
