"""Queries for one job, its snapshot and timeline, and for counts.

Each function takes a connection in a read transaction, so that all its statements see one state, and must not
decide or write anything.
See also: listings.py (lists of jobs and items).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

import msgspec

from unstuck.errors import JobNotFound
from unstuck.jobs.job import FINAL, MOST, Item, Job
from unstuck.jobs.snapshot import ITEM_ERRORS_SHOWN, RUNNING_KNOWN, Snapshot
from unstuck.jobs.timeline import Entry, item_entries, merge
from unstuck.store import deliveries, rows
from unstuck.store.damaged_rows import DAMAGED
from unstuck.store.protocol import Overview

#: A timeline covers all items of a job with up to this many, and only the running ones of a larger job.
FEW_ITEMS = 100


def job(connection: sqlite3.Connection, job_id: str) -> tuple[int, Job]:
    """Return the row number and the job. Raise JobNotFound."""
    found = rows.find_job(connection, job_id)
    if found is None:
        raise JobNotFound(job_id)
    return found


def snapshot(connection: sqlite3.Connection, job_n: int, job: Job) -> Snapshot:
    """Return the job with the items that its snapshot names."""
    running: list[tuple[int, str]] = []
    errors: list[Item] = []
    if job.leased:
        sql = (
            "SELECT idx, name FROM items INDEXED BY items_by_state "
            "WHERE job = ? AND state = 'running' ORDER BY idx LIMIT ?"
        )
        running = connection.execute(sql, (job_n, RUNNING_KNOWN)).fetchall()
    if job.failed:
        sql = f"{rows.SELECT_ITEM_BY_STATE} WHERE job = ? AND state = 'failed' ORDER BY idx LIMIT ?"
        errors = [rows.item_from(job_n, row) for row in connection.execute(sql, (job_n, ITEM_ERRORS_SHOWN))]
    return Snapshot(job, tuple(running), tuple(errors))


def indexes_of(connection: sqlite3.Connection, job_n: int, names: Sequence[str]) -> list[tuple[str, int]]:
    """Return name and index of the items that have one of these names."""
    sql = "SELECT name, idx FROM items WHERE job = ? AND name IN (SELECT value FROM json_each(?)) ORDER BY idx"
    return connection.execute(sql, (job_n, msgspec.json.encode(names).decode())).fetchall()


def live_ids(connection: sqlite3.Connection, since: float) -> list[str]:
    """Return the ids of jobs that are unfinished, or finished after `since` (epoch seconds)."""
    ends = ", ".join(f"'{state}'" for state in sorted(FINAL))
    sql = (
        "SELECT id FROM jobs WHERE finished_at IS NULL "
        f"UNION ALL SELECT id FROM jobs WHERE state IN ({ends}) AND finished_at > ?"
    )
    return [row[0] for row in connection.execute(sql, (since,))]


def seqs(connection: sqlite3.Connection, job_ids: Sequence[str]) -> dict[str, int]:
    """Return the seq of each of these jobs that exists."""
    # Within the bounds of what a snapshot says, see jobs/job.py; else its viewers would always seem to be behind.
    sql = f"SELECT id, max(1, min(seq, {MOST})) FROM jobs WHERE id IN (SELECT value FROM json_each(?))"
    return dict(connection.execute(sql, (msgspec.json.encode(job_ids).decode(),)).fetchall())


def queue_full(connection: sqlite3.Connection, most: int, *, external: bool) -> bool:
    """Return whether `most` jobs of this server, or `most` external ones, are unfinished."""
    sql = "SELECT total(jobs) FROM tally WHERE state IN ('queued', 'running')"
    unfinished = connection.execute(sql).fetchone()[0]
    if unfinished < most:
        return False  # as a rule, so that only an almost full queue is counted
    sql = "SELECT count(*) FROM jobs INDEXED BY jobs_live WHERE finished_at IS NULL AND external = ?"
    return bool(connection.execute(sql, (external,)).fetchone()[0] >= most)


def key_known(connection: sqlite3.Connection, key: str | None) -> bool:
    """Return whether a job was submitted under this Idempotency-Key."""
    sql = "SELECT 1 FROM jobs WHERE submission_key = ?"
    return connection.execute(sql, (key,)).fetchone() is not None


def overview(connection: sqlite3.Connection, now: float) -> Overview:
    """Return counts over the whole store at `now` (epoch seconds)."""
    by_state = dict(connection.execute("SELECT state, jobs FROM tally WHERE jobs > 0"))
    by_health = dict(
        connection.execute("SELECT health, count(*) FROM jobs WHERE finished_at IS NULL GROUP BY health")
    )
    sql = (
        "SELECT total(waiting), total(leased) FROM jobs "  # sum() fails if the numbers are too large
        "WHERE finished_at IS NULL AND external = 0"  # only items that this server's workers process
    )
    waiting, leased = (int(max(0.0, min(count, MOST))) for count in connection.execute(sql).fetchone())
    sql = "SELECT min(coalesce(started_at, created_at)) FROM jobs WHERE waiting > 0 AND external = 0"
    oldest = connection.execute(sql).fetchone()[0]
    sql = (
        "SELECT kind, count(*) FROM jobs INDEXED BY jobs_to_claim WHERE waiting > 0 AND external = 0 GROUP BY kind"
    )
    by_kind = dict(connection.execute(sql))
    return Overview(
        by_state=by_state,
        by_health=by_health,
        waiting_by_kind=by_kind,
        waiting_items=waiting,
        leased_items=leased,
        oldest_wait_s=None if oldest is None else max(0.0, min(now - oldest, float(MOST))),
        webhooks=deliveries.counts(connection),
        unreadable=len(DAMAGED),
    )


def timeline(connection: sqlite3.Connection, job_n: int, job: Job, limit: int | None) -> list[Entry]:
    """Return stored entries, merged with those derived from items: all items if few, else running ones."""
    most = -1 if limit is None else limit
    sql = (
        "SELECT at, what, text, timeline.idx, timeline.attempt, timeline.worker, items.name FROM timeline "
        "LEFT JOIN items ON items.job = timeline.job AND items.idx = timeline.idx "
        "WHERE timeline.job = ? ORDER BY n DESC LIMIT ?"
    )
    stored = [rows.entry_from(job_n, row) for row in connection.execute(sql, (job_n, most))]
    few = job.total <= FEW_ITEMS
    select = (
        f"{rows.SELECT_ITEM} WHERE job = ?"
        if few
        else f"{rows.SELECT_ITEM_BY_STATE} WHERE job = ? AND state = 'running'"
    )
    sql = f"{select} ORDER BY idx LIMIT {FEW_ITEMS}"
    derived = item_entries(rows.item_from(job_n, row) for row in connection.execute(sql, (job_n,)))
    found = merge(reversed(stored), derived)
    return found if limit is None else found[-limit:]
