"""What is read of a database: jobs, items, lists, counts. Each function is given a connection in a read
transaction, so that all its statements see one state. Decides nothing, writes nothing.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

import msgspec

from unstuck.errors import JobNotFound
from unstuck.job import Item, Job
from unstuck.snapshot import CURRENT_SHOWN, ITEM_ERRORS_SHOWN, Snapshot
from unstuck.stores import JobFilter, Overview, rows
from unstuck.timeline import Entry, What


def job(connection: sqlite3.Connection, job_id: str) -> tuple[int, Job]:
    """Row number and job; JobNotFound."""
    found = rows.find_job(connection, job_id)
    if found is None:
        raise JobNotFound(job_id)
    return found


def snapshot(connection: sqlite3.Connection, job_n: int, job: Job) -> Snapshot:
    """The job with what is shown of its items."""
    current: list[str] = []
    errors: list[Item] = []
    if job.leased:
        sql = "SELECT name FROM items WHERE job = ? AND state = 'running' ORDER BY idx LIMIT ?"
        current = [row[0] for row in connection.execute(sql, (job_n, CURRENT_SHOWN))]
    if job.failed:
        sql = f"{rows.SELECT_ITEM} WHERE job = ? AND state = 'failed' ORDER BY idx LIMIT ?"
        errors = [rows.item_from(row) for row in connection.execute(sql, (job_n, ITEM_ERRORS_SHOWN))]
    return Snapshot(job, current, errors)


def jobs(
    connection: sqlite3.Connection, wanted: JobFilter, before: int | None, limit: int
) -> list[tuple[int, Snapshot]]:
    """Newest first, each with its row number, those after the row `before`."""
    where = ["1"]
    values: list[int | str] = []
    if wanted.states:
        where.append(f"state IN ({', '.join('?' * len(wanted.states))})")
        values += list(wanted.states)
    if wanted.kind is not None:
        where.append("kind = ?")
        values.append(wanted.kind)
    if wanted.health is not None:
        where.append("finished_at IS NULL AND health = ?")
        values.append(wanted.health)
    if before is not None:
        where.append("n < ?")
        values.append(before)
    sql = f"SELECT n, {', '.join(rows.JOB_COLUMNS)} FROM jobs WHERE {' AND '.join(where)} ORDER BY n DESC LIMIT ?"
    found = [(row[0], rows.job_from(row[1:])) for row in connection.execute(sql, (*values, limit))]
    return [(job_n, snapshot(connection, job_n, one)) for job_n, one in found]


def items(
    connection: sqlite3.Connection,
    job_n: int,
    states: Sequence[str],
    after_seq: int | None,
    after_index: int,
    limit: int,
) -> list[Item]:
    """In order of their index, or with `after_seq` of their last change."""
    where = "job = ?"
    values: list[int | str] = [job_n]
    if states:
        where += f" AND state IN ({', '.join('?' * len(states))})"
        values += states
    if after_seq is None:
        where, order = f"{where} AND idx > ?", "idx"
        values.append(after_index)
    else:
        where, order = f"{where} AND (seq, idx) > (?, ?)", "seq, idx"
        values += [after_seq, after_index]
    sql = f"{rows.SELECT_ITEM} WHERE {where} ORDER BY {order} LIMIT ?"
    return [rows.item_from(row) for row in connection.execute(sql, (*values, limit))]


def live(connection: sqlite3.Connection, since: float) -> list[str]:
    """Ids of those that are not done, or ended after `since`."""
    sql = "SELECT id FROM jobs WHERE finished_at IS NULL UNION ALL SELECT id FROM jobs WHERE finished_at > ?"
    return [row[0] for row in connection.execute(sql, (since,))]


def seqs(connection: sqlite3.Connection, job_ids: Sequence[str]) -> dict[str, int]:
    """The seq of each of these that exists."""
    sql = "SELECT id, seq FROM jobs WHERE id IN (SELECT value FROM json_each(?))"
    return dict(connection.execute(sql, (msgspec.json.encode(job_ids).decode(),)).fetchall())


def overview(connection: sqlite3.Connection, now: float) -> Overview:
    """Everything in numbers."""
    by_state = dict(connection.execute("SELECT state, count(*) FROM jobs GROUP BY state"))
    by_health = dict(
        connection.execute("SELECT health, count(*) FROM jobs WHERE finished_at IS NULL GROUP BY health")
    )
    sql = "SELECT coalesce(sum(waiting), 0), coalesce(sum(leased), 0) FROM jobs WHERE finished_at IS NULL"
    waiting, leased = connection.execute(sql).fetchone()
    sql = "SELECT min(coalesce(started_at, created_at)) FROM jobs WHERE waiting > 0"
    oldest = connection.execute(sql).fetchone()[0]
    return Overview(by_state, by_health, waiting, leased, None if oldest is None else now - oldest)


def timeline(connection: sqlite3.Connection, job_n: int) -> list[Entry]:
    """What is remembered, oldest first."""
    sql = "SELECT at, what, text, idx, attempt, worker FROM timeline WHERE job = ? ORDER BY n"
    return [Entry(row[0], What(row[1]), *row[2:]) for row in connection.execute(sql, (job_n,))]
