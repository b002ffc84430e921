"""Converts jobs, items and timeline entries to rows of the SQLite store, and back.

A column has the same name as its field, except `Item.index`, which is `idx` in SQL. Values that are neither
numbers nor text (options, error, meter, result) are JSON.
It must not decide anything.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Any

import msgspec
from msgspec.structs import astuple, replace

from unstuck.jobs.job import MOST, Item, Job, JobError
from unstuck.jobs.labels import host_of
from unstuck.jobs.rate import Meter
from unstuck.jobs.timeline import Entry, What
from unstuck.store import damaged_rows

JOB_COLUMNS = Job.__struct_fields__
ITEM_COLUMNS = tuple("idx" if name == "index" else name for name in Item.__struct_fields__)

SELECT_ITEM = f"SELECT {', '.join(ITEM_COLUMNS)} FROM items"
#: For items of one job in one state, in order. Left to itself, SQLite reads all items of the job, which are in
#: order too: 2 ms for each query of a job of 10,000.
SELECT_ITEM_BY_STATE = f"{SELECT_ITEM} INDEXED BY items_by_state"
INSERT_JOB = f"INSERT INTO jobs ({', '.join(JOB_COLUMNS)}) VALUES ({', '.join('?' * len(JOB_COLUMNS))})"
INSERT_ITEM = (
    f"INSERT INTO items (job, {', '.join(ITEM_COLUMNS)}) VALUES (?, {', '.join('?' * len(ITEM_COLUMNS))})"
)

#: Types that SQLite accepts as they are.
_PLAIN = {type(None), str, int, float, bool}
_encode = msgspec.json.Encoder().encode


def _or_none(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: None if value is None else read(value)


#: What decodes the columns that are JSON.
_JOB_JSON: Mapping[str, Callable[[Any], Any]] = {
    "options": msgspec.json.decode,
    "meter": msgspec.json.Decoder(Meter).decode,
    "error": _or_none(msgspec.json.Decoder(JobError).decode),
}
_ITEM_JSON: Mapping[str, Callable[[Any], Any]] = {
    "error": _JOB_JSON["error"],
    "result": _or_none(msgspec.json.Decoder().decode),
}
_WHATS: Mapping[str, What] = {what.value: what for what in What}
_JOB_PLACES = [(JOB_COLUMNS.index(name), read) for name, read in _JOB_JSON.items()]
_ITEM_PLACES = [(ITEM_COLUMNS.index(name), read) for name, read in _ITEM_JSON.items()]
_ERROR, _RESULT = ITEM_COLUMNS.index("error"), ITEM_COLUMNS.index("result")


def job_values(job: Job) -> list[Any]:
    """Return the parameters of INSERT_JOB."""
    return [sql(value) for value in astuple(job)]


def item_values(job_n: int, item: Item) -> list[Any]:
    """Return the parameters of INSERT_ITEM; `job_n` is the job's row number."""
    values = [sql(value) for value in astuple(item)]
    values[_RESULT] = json_text(item.result)
    return [job_n, *values]


def job_from(row: Sequence[Any]) -> Job:
    """Return the job in a row of all JOB_COLUMNS, mended if it cannot be read in full."""
    values = list(row)
    try:
        for place, read in _JOB_PLACES:
            values[place] = read(values[place])
        return msgspec.convert(values, Job, strict=False)  # SQLite stores booleans as 1 and 0
    except damaged_rows.REASONS:
        return damaged_rows.mend_job(row, _JOB_JSON)


def item_from(job_n: int, row: Sequence[Any]) -> Item:
    """Return the item in a row of all ITEM_COLUMNS, mended if it cannot be read in full."""
    try:
        if row[_ERROR] is None and row[_RESULT] is None:  # as of each claimed item
            return msgspec.convert(row, Item, strict=False)
        values = list(row)
        for place, read in _ITEM_PLACES:
            values[place] = read(values[place])
        return msgspec.convert(values, Item, strict=False)
    except damaged_rows.REASONS:
        return damaged_rows.mend_item(job_n, row, _ITEM_JSON)


def entry_from(job_n: int, row: Sequence[Any]) -> Entry:
    """Return the entry in a row of a timeline: its columns as in Entry, mended if they cannot be read in full."""
    try:
        entry = msgspec.convert(row, Entry, strict=False)
    except damaged_rows.REASONS:
        entry = damaged_rows.mend_entry(job_n, row)
    return replace(entry, what=_WHATS[entry.what]) if entry.what in _WHATS else entry


def find_job(connection: sqlite3.Connection, job_id: str) -> tuple[int, Job] | None:
    """Return the row number and the job, or None."""
    row = connection.execute(f"SELECT n, {', '.join(JOB_COLUMNS)} FROM jobs WHERE id = ?", (job_id,)).fetchone()
    return None if row is None else (row[0], job_from(row[1:]))


def find_item(connection: sqlite3.Connection, job_n: int, index: int) -> Item | None:
    """Return the item, or None."""
    row = connection.execute(f"{SELECT_ITEM} WHERE job = ? AND idx = ?", (job_n, index)).fetchone()
    return None if row is None else item_from(job_n, row)


#: Leases waiting items of a job, those first that do not pause. A damaged number must not make the statement fail,
#: and with it every claim, so the counts stay within MOST.
CLAIM_ITEMS = f"""
    UPDATE items SET lease = lease % {MOST} + 1, attempt = attempt % {MOST} + 1, lease_until = :until,
        not_before = NULL, worker = :worker
    WHERE job = :job AND idx IN (
        SELECT idx FROM items WHERE job = :job AND state = 'pending' AND lease_until IS NULL
        AND (not_before IS NULL OR not_before <= :now) ORDER BY not_before, idx LIMIT :limit)
    RETURNING {", ".join(ITEM_COLUMNS)}
"""


#: Writes an item that succeeded, whatever had changed before.
END_ITEM = """
    UPDATE items SET state = 'succeeded', progress = 1.0, lease_until = NULL, error = NULL, seq = ?, message = ?,
        result = ?, result_file = ?, started_at = ?, finished_at = ?
    WHERE job = ? AND idx = ?
"""


def end_values(job_n: int, item: Item) -> tuple[Any, ...]:
    """Return the parameters of END_ITEM; `job_n` is the job's row number."""
    return (
        item.seq,
        item.message,
        json_text(item.result),
        item.result_file,
        item.started_at,
        item.finished_at,
        job_n,
        item.index,
    )


INSERT_DELIVERY = "INSERT INTO deliveries (job, url, host, made_at, next_at) VALUES (?, ?, ?, ?, ?)"


def delivery_values(job_n: int, url: str, now: float) -> list[Any]:
    """Return the parameters of INSERT_DELIVERY, for a delivery that is due at once."""
    return [job_n, url, host_of(url), now, now]


#: The most entries about single items in a job's timeline; entries about the whole job are always kept.
ITEM_ENTRIES_KEPT = 1_000

INSERT_ENTRY = f"""
    INSERT INTO timeline (job, at, what, text, idx, attempt, worker)
    SELECT :job, :at, :what, :text, :idx, :attempt, :worker
    WHERE :idx IS NULL
       OR (SELECT count(*) FROM timeline WHERE job = :job AND idx IS NOT NULL) < {ITEM_ENTRIES_KEPT}
"""


def entry_values(job_n: int, entry: Entry) -> dict[str, Any]:
    """Return the parameters of INSERT_ENTRY."""
    return {
        "job": job_n,
        "at": entry.at,
        "what": sql(entry.what),
        "text": entry.text,
        "idx": entry.index,
        "attempt": entry.attempt,
        "worker": entry.worker,
    }


def shift_times(connection: sqlite3.Connection, jump: float) -> None:
    """Shift stored times by the `jump` of the clock (seconds), so that running durations keep their length."""
    connection.execute(
        "UPDATE items SET lease_until = lease_until + :jump WHERE lease_until IS NOT NULL", {"jump": jump}
    )
    connection.execute(
        # Only waiting items pause. The condition makes SQLite use the index of waiting items, not read all items.
        "UPDATE items SET not_before = not_before + :jump "
        "WHERE state = 'pending' AND lease_until IS NULL AND not_before IS NOT NULL",
        {"jump": jump},
    )
    connection.execute(
        "UPDATE jobs SET created_at = created_at + :jump, started_at = started_at + :jump, "
        "progress_at = progress_at + :jump, heartbeat_at = heartbeat_at + :jump, "
        "cancel_requested_at = cancel_requested_at + :jump WHERE finished_at IS NULL",
        {"jump": jump},
    )
    connection.execute(
        "UPDATE deliveries SET made_at = made_at + :jump, next_at = next_at + :jump WHERE next_at IS NOT NULL",
        {"jump": jump},
    )


#: The newest steps of the clock that are kept.
CLOCK_STEPS_KEPT = 1_000


def add_clock_step(connection: sqlite3.Connection, now: float, jump: float) -> None:
    """Note that the clock was set by `jump` (seconds) and shows `now`."""
    n = connection.execute("INSERT INTO clock_steps (at, jump) VALUES (?, ?)", (now, jump)).lastrowid
    assert n is not None
    connection.execute("DELETE FROM clock_steps WHERE n <= ?", (n - CLOCK_STEPS_KEPT,))


def json_text(value: Any) -> str | None:
    """Return any JSON value, such as a result, as text; None is NULL."""
    return None if value is None else _encode(value).decode()


def sql(value: Any) -> Any:
    """Return a value in a form that SQLite accepts."""
    if value.__class__ in _PLAIN:
        return value
    if isinstance(value, StrEnum):
        return value.value
    return _encode(value).decode()
