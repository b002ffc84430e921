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
from msgspec.structs import astuple

from unstuck.jobs.job import Health, Item, ItemState, Job, JobError, State
from unstuck.jobs.labels import host_of
from unstuck.jobs.rate import Meter
from unstuck.jobs.timeline import Entry

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
_METER_DECODER = msgspec.json.Decoder(Meter)
_ERROR_DECODER = msgspec.json.Decoder(JobError)


def _or_none(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: None if value is None else read(value)


def _readers(
    columns: Sequence[str], readers: Mapping[str, Callable[[Any], Any]]
) -> list[tuple[int, Callable[[Any], Any]]]:
    return [(columns.index(name), read) for name, read in readers.items()]


# States are looked up in a dict: calling the enum costs half as much as the rest of an item's row. SQLite stores
# booleans as 1 and 0.
_JOB_READERS = _readers(
    JOB_COLUMNS,
    {
        "state": {state.value: state for state in State}.__getitem__,
        "health": {health.value: health for health in Health}.__getitem__,
        "options": msgspec.json.decode,
        "meter": _METER_DECODER.decode,
        "error": _or_none(_ERROR_DECODER.decode),
        **dict.fromkeys(("cancel_requested", "external", "counted", "open_end"), bool),
    },
)
_ITEM_READERS = _readers(
    ITEM_COLUMNS,
    {
        "state": {state.value: state for state in ItemState}.__getitem__,
        "error": _or_none(_ERROR_DECODER.decode),
        "result": _or_none(msgspec.json.decode),
    },
)


_RESULT = ITEM_COLUMNS.index("result")


def job_values(job: Job) -> list[Any]:
    """Return the parameters of INSERT_JOB."""
    return [sql(value) for value in astuple(job)]


def item_values(job_n: int, item: Item) -> list[Any]:
    """Return the parameters of INSERT_ITEM; `job_n` is the job's row number."""
    values = [sql(value) for value in astuple(item)]
    values[_RESULT] = json_text(item.result)
    return [job_n, *values]


def job_from(row: Sequence[Any]) -> Job:
    """Return the job in a row of all JOB_COLUMNS."""
    values = list(row)
    for place, read in _JOB_READERS:
        values[place] = read(values[place])
    return Job(*values)


def item_from(row: Sequence[Any]) -> Item:
    """Return the item in a row of SELECT_ITEM."""
    values = list(row)
    for place, read in _ITEM_READERS:
        values[place] = read(values[place])
    return Item(*values)


def find_job(connection: sqlite3.Connection, job_id: str) -> tuple[int, Job] | None:
    """Return the row number and the job, or None."""
    row = connection.execute(f"SELECT n, {', '.join(JOB_COLUMNS)} FROM jobs WHERE id = ?", (job_id,)).fetchone()
    return None if row is None else (row[0], job_from(row[1:]))


def find_item(connection: sqlite3.Connection, job_n: int, index: int) -> Item | None:
    """Return the item, or None."""
    row = connection.execute(f"{SELECT_ITEM} WHERE job = ? AND idx = ?", (job_n, index)).fetchone()
    return None if row is None else item_from(row)


_CLAIMABLE = f"""
    {SELECT_ITEM} WHERE job = ? AND state = 'pending' AND lease_until IS NULL
    AND (not_before IS NULL OR not_before <= ?) ORDER BY not_before, idx LIMIT ?
"""


def find_claimable(connection: sqlite3.Connection, job_n: int, now: float, limit: int) -> list[Item]:
    """Return up to `limit` items of the job that may be claimed at `now` (epoch seconds)."""
    return [item_from(row) for row in connection.execute(_CLAIMABLE, (job_n, now, limit))]


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
        "what": entry.what.value,
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
