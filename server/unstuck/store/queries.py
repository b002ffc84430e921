"""Queries for one job, its snapshot and timeline, and for counts.

Each function takes a connection in a read transaction, so that all its statements see one state, and must not
decide or write anything.
See also: listings.py (lists of jobs and items).
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from unstuck.errors import JobNotFound
from unstuck.jobs.job import MOST, Item, Job
from unstuck.jobs.snapshot import ITEM_ERRORS_SHOWN, RUNNING_KNOWN, Snapshot
from unstuck.jobs.timeline import Entry, item_entries, merge
from unstuck.store import deliveries, rows
from unstuck.store.damaged_rows import DAMAGED
from unstuck.store.database import Connection
from unstuck.store.protocol import Overview

#: A timeline covers all items of a job with up to this many, and only the running ones of a larger job.
FEW_ITEMS = 100


def job(connection: Connection, job_id: str) -> tuple[int, Job]:
    """Return the row number and the job. Raise JobNotFound."""
    found = rows.find_job(connection, job_id)
    if found is None:
        raise JobNotFound(job_id)
    return found


def snapshot(connection: Connection, job_n: int, job: Job) -> Snapshot:
    """Return the job with the items that its snapshot names."""
    running: list[tuple[int, str]] = []
    errors: list[Item] = []
    if job.leased:
        running = connection.execute(connection.statements.running_names, (job_n, RUNNING_KNOWN)).fetchall()
    if job.failed:
        found = connection.execute(connection.statements.failed_items, (job_n, ITEM_ERRORS_SHOWN))
        errors = [rows.item_from(job_n, row) for row in found]
    return Snapshot(job, tuple(running), tuple(errors))


def indexes_of(connection: Connection, job_n: int, names: Sequence[str]) -> list[tuple[str, int]]:
    """Return name and index of the items that have one of these names."""
    values = (job_n, msgspec.json.encode(names).decode())
    return connection.execute(connection.statements.indexes_of, values).fetchall()


def live_ids(connection: Connection, since: float) -> list[str]:
    """Return the ids of jobs that are unfinished, or finished after `since` (epoch seconds)."""
    return [row[0] for row in connection.execute(connection.statements.live_ids, (since,))]


def seqs(connection: Connection, job_ids: Sequence[str]) -> dict[str, int]:
    """Return the seq of each of these jobs that exists."""
    values = (msgspec.json.encode(job_ids).decode(),)
    return dict(connection.execute(connection.statements.seqs, values).fetchall())


def queue_full(connection: Connection, most: int, *, external: bool) -> bool:
    """Return whether `most` jobs of this server, or `most` external ones, are unfinished."""
    if connection.execute(connection.statements.unfinished).fetchone()[0] < most:
        return False  # as a rule, so that only an almost full queue is counted
    return bool(connection.execute(connection.statements.unfinished_of, (external,)).fetchone()[0] >= most)


def key_known(connection: Connection, key: str | None) -> bool:
    """Return whether a job was submitted under this Idempotency-Key."""
    return connection.execute(connection.statements.key_known, (key,)).fetchone() is not None


def overview(connection: Connection, now: float) -> Overview:
    """Return counts over the whole store at `now` (epoch seconds)."""
    statements = connection.statements
    by_state = dict(connection.execute(statements.jobs_by_state))
    by_health = dict(connection.execute(statements.jobs_by_health))
    totals = connection.execute(statements.item_totals).fetchone()
    waiting, leased = (int(max(0.0, min(count, MOST))) for count in totals)
    oldest = connection.execute(statements.oldest_wait).fetchone()[0]
    by_kind = dict(connection.execute(statements.waiting_by_kind))
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


def timeline(connection: Connection, job_n: int, job: Job, limit: int | None) -> list[Entry]:
    """Return stored entries, merged with those derived from items: all items if few, else running ones."""
    statements = connection.statements
    values = (job_n, MOST if limit is None else limit)
    stored = [rows.entry_from(job_n, row) for row in connection.execute(statements.timeline, values)]
    sql = statements.all_items if job.total <= FEW_ITEMS else statements.running_items
    derived = item_entries(rows.item_from(job_n, row) for row in connection.execute(sql, (job_n, FEW_ITEMS)))
    found = merge(reversed(stored), derived)
    return found if limit is None else found[-limit:]
