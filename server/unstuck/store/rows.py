"""Converts jobs, items and timeline entries to rows of a database, and back.

A column has the same name as its field, except `Item.index`, which is `idx` in SQL. Values that are neither
numbers nor text (options, error, meter, result) are JSON.
It must not decide anything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Any

import msgspec
from msgspec.structs import astuple, replace

from unstuck.jobs.job import Item, Job, JobError
from unstuck.jobs.labels import host_of
from unstuck.jobs.rate import Meter
from unstuck.jobs.timeline import Entry, What
from unstuck.store import damaged_rows
from unstuck.store.database import Connection

JOB_COLUMNS = Job.__struct_fields__
ITEM_COLUMNS = tuple("idx" if name == "index" else name for name in Item.__struct_fields__)

#: The most entries about single items in a job's timeline; entries about the whole job are always kept.
ITEM_ENTRIES_KEPT = 1_000

#: Types that databases accept as they are.
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
    """Return the parameters of the statement `insert_job`."""
    return [sql(value) for value in astuple(job)]


def item_values(job_n: int, item: Item) -> list[Any]:
    """Return the values of a row of items; `job_n` is the job's row number."""
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


def find_job(connection: Connection, job_id: str) -> tuple[int, Job] | None:
    """Return the row number and the job, or None."""
    row = connection.execute(connection.statements.find_job, (job_id,)).fetchone()
    return None if row is None else (row[0], job_from(row[1:]))


def find_item(connection: Connection, job_n: int, index: int) -> Item | None:
    """Return the item, or None."""
    row = connection.execute(connection.statements.find_item, (job_n, index)).fetchone()
    return None if row is None else item_from(job_n, row)


def end_values(job_n: int, item: Item) -> tuple[Any, ...]:
    """Return the parameters of the statement `end_item`; `job_n` is the job's row number."""
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


def delivery_values(job_n: int, url: str, now: float) -> list[Any]:
    """Return the parameters of the statement `insert_delivery`, for a delivery that is due at once."""
    return [job_n, url, host_of(url), now, now]


def entry_values(job_n: int, entry: Entry) -> dict[str, Any]:
    """Return the values of a row of timeline, by name."""
    return {
        "job": job_n,
        "at": entry.at,
        "what": sql(entry.what),
        "text": entry.text,
        "idx": entry.index,
        "attempt": entry.attempt,
        "worker": entry.worker,
    }


def json_text(value: Any) -> str | None:
    """Return any JSON value, such as a result, as text; None is NULL."""
    return None if value is None else _encode(value).decode()


def sql(value: Any) -> Any:
    """Return a value in a form that databases accept."""
    if value.__class__ in _PLAIN:
        return value
    if isinstance(value, StrEnum):
        return value.value
    return _encode(value).decode()
