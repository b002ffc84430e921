"""Measures durable results and state changes per second, through the whole store and with bare sqlite3.

    python -m tests.bench.durable [ROUNDS [SCALE]]

Ours is `decide`, write, commit with synchronous=FULL, answer and notify, in one process. The yardstick updates
rows of the same tables, with their indexes, 100 items a commit, and does nothing else: either the items alone, or
the rows of their jobs too, as every result has to. Both alternate in one run; the results are medians and ratios.
It must not know what the store does inside.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import statistics
import sys
import tempfile
import time
from pathlib import Path
from uuid import uuid4

from unstuck.jobs.job import Command, Finish, Item, ItemState, Job, Report
from unstuck.store import rows, schema
from unstuck.store.protocol import JobFilter, WorkItem
from unstuck.store.sqlite import SQLiteStore
from unstuck.store.sqlite_statements import SQLITE

#: Updates in one commit or call, and concurrent callers with one command each.
GROUP, CALLERS = 100, 500
#: Items in each run at scale 1, and the jobs that they are spread over.
ITEMS, JOBS = 20_000, 100
RESULT = {"sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08", "bytes": 4096}

_BARE = """
    UPDATE items SET state = ?, seq = ?, lease_until = NULL, progress = ?, result = ?,
    started_at = ?, finished_at = ? WHERE job = ? AND idx = ?
"""
_BARE_JOB = """
    UPDATE jobs SET seq = ?, leased = ?, succeeded = ?, partial = ?, percent = ?, meter = ?, progress_at = ?,
    heartbeat_at = ? WHERE n = ?
"""


def measure(rounds: int = 3, scale: float = 1.0) -> dict[str, float]:
    """Return medians of the changes a second of each way, and ours as a share of the bare ones."""
    runs = max(round(ITEMS * scale / CALLERS / 2), 1)
    items = 2 * CALLERS * runs  # half of the results in groups, half one by one
    found: dict[str, list[float]] = {}
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            found.setdefault("bare_per_s", []).append(_bare(Path(folder), items))
        with tempfile.TemporaryDirectory() as folder:
            found.setdefault("bare_with_jobs_per_s", []).append(_bare(Path(folder), items, JOBS))
        for jobs in (1, JOBS):
            with tempfile.TemporaryDirectory() as folder:
                for name, rate in asyncio.run(_ours(Path(folder), jobs, items)).items():
                    found.setdefault(f"{name}_of_{jobs}_jobs_per_s", []).append(rate)
    medians = {name: statistics.median(rates) for name, rates in found.items()}
    shares = {
        f"{name.removesuffix('_per_s')}_share_of_bare": rate / medians["bare_per_s"]
        for name, rate in medians.items()
        if not name.startswith("bare")
    }
    shares["results_of_100_jobs_share_of_bare_with_jobs"] = (
        medians[f"results_of_{JOBS}_jobs_per_s"] / medians["bare_with_jobs_per_s"]
    )
    return {name: round(value, 3) for name, value in (medians | shares).items()}


def _bare(folder: Path, items: int, jobs: int = 0) -> float:
    """Return the items written a second; with `jobs`, each commit also writes the row of each of so many jobs."""
    connection = sqlite3.connect(folder / "bare.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    schema.migrate(connection)
    row = (
        "INSERT INTO items (job, idx, name, state, seq, lease, lease_until, attempt) "
        "VALUES (?, ?, ?, ?, 1, 1, 9.9, 1)"
    )
    places = [(place % max(jobs, 1) + 1, place // max(jobs, 1)) for place in range(items)]
    connection.execute("BEGIN")
    connection.executemany(row, ((job, index, f"{index}.csv", "running") for job, index in places))
    for _ in range(jobs):
        connection.execute(SQLITE.insert_job, rows.job_values(_job(items // jobs)))
    connection.execute("COMMIT")
    result, meter = json.dumps(RESULT), json.dumps({"work": 1.5, "span": 2.5, "at": 1.5})
    began = time.perf_counter()
    for first in range(0, items, GROUP):
        connection.execute("BEGIN IMMEDIATE")
        group = places[first : first + GROUP]
        connection.executemany(
            _BARE, [("succeeded", index + 2, 1.0, result, 1.5, 2.5, job, index) for job, index in group]
        )
        connection.executemany(
            _BARE_JOB, [(first + 2, 1, first, 0.5, 0.5, meter, 1.5, 1.5, job) for job in range(1, jobs + 1)]
        )
        connection.execute("COMMIT")
    took_s = time.perf_counter() - began
    connection.close()
    return items / took_s


async def _ours(folder: Path, jobs: int, items: int) -> dict[str, float]:
    store = SQLiteStore(folder / "ours.db")
    commits: list[int] = []
    store.on_commit(lambda jobs: commits.append(len(jobs or ())))
    await store.open()
    took_s: dict[str, float] = dict.fromkeys(("claims", "reports", "results", "results_one_by_one"), 0.0)
    try:
        await _submit(store, jobs, items)
        # As a runner does it: claimed items are held for a short while, and are only a part of all items.
        for number in range(items // CALLERS):
            began = time.perf_counter()
            claimed = [one for _ in range(CALLERS // GROUP) for one in await store.claim(GROUP, 3600.0, "bench")]
            took_s["claims"] += time.perf_counter() - began
            took_s["reports"] += await _timed(store, [_report(one) for one in claimed], callers=False)
            name = ("results", "results_one_by_one")[number % 2]
            took_s[name] += await _timed(store, [_finish(one) for one in claimed], callers=number % 2 == 1)
        done = [snapshot.job.done for _, snapshot in await store.jobs(JobFilter(), before=None, limit=jobs)]
        assert done == [True] * jobs, "every result was counted"
        assert commits
    finally:
        await store.close()
    halves = {"claims": 1, "reports": 1, "results": 2, "results_one_by_one": 2}
    return {name: items / halves[name] / seconds for name, seconds in took_s.items()}


async def _submit(store: SQLiteStore, jobs: int, items: int) -> None:
    each = items // jobs
    for _ in range(jobs):
        await store.create(
            _job(each), [Item(index=index, name=f"{index}.csv", size=4096) for index in range(each)]
        )


def _job(total: int) -> Job:
    return Job(id=str(uuid4()), kind="checksum", name="bench", total=total, waiting=total, created_at=time.time())


async def _timed(store: SQLiteStore, commands: list[Command], *, callers: bool) -> float:
    """Return how long these take: in consecutive calls of GROUP or, with `callers`, in concurrent calls of one."""
    groups = [[command] for command in commands] if callers else _groups(commands)

    async def call(some: list[Command]) -> None:
        for outcome in await store.apply(some):
            assert isinstance(outcome, Job), outcome

    began = time.perf_counter()
    if callers:
        await asyncio.gather(*map(call, groups))
    else:
        for some in groups:
            await call(some)
    return time.perf_counter() - began


def _groups(commands: list[Command]) -> list[list[Command]]:
    return [commands[first : first + GROUP] for first in range(0, len(commands), GROUP)]


def _report(claimed: WorkItem) -> Report:
    return Report(claimed.job_id, claimed.item.index, claimed.item.lease, time.time(), 0.5, "half of it")


def _finish(claimed: WorkItem) -> Finish:
    item = claimed.item
    return Finish(claimed.job_id, item.index, item.lease, ItemState.SUCCEEDED, time.time(), result=RESULT)


def main(rounds: str = "3", scale: str = "1") -> None:
    """Measure and print JSON."""
    print(json.dumps(measure(int(rounds), float(scale)), indent=2))


if __name__ == "__main__":
    main(*sys.argv[1:])
