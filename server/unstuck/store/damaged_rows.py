"""Mends rows that cannot be read in full: a damaged database, or one that another program has changed.

It decides what such a row is shown as, so that it costs itself only, never the list, stream or sweep that it is
part of. Whatever can be read is kept, a number out of range becomes the nearest that is allowed, and anything else
becomes neutral (0, null, an empty text). If only passing values are affected, the job continues. Otherwise it has
the error `unreadable` and is final: nothing can work on it, and no viewer waits for it. Nothing is written, except
what a later command changes anyway.
It must not know SQL.
See also: rows.py (the only caller), PROTOCOL.md section 2 (what viewers see).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from unstuck.jobs.job import FINAL, ITEM_FINAL, UNREADABLE, Item, ItemState, Job, JobError, State
from unstuck.jobs.timeline import Entry

log = logging.getLogger("unstuck.store")

T = TypeVar("T", bound=msgspec.Struct)

#: Why a value cannot be read: it is out of range, is no JSON, or is JSON nested too deep.
REASONS = (msgspec.DecodeError, msgspec.ValidationError, RecursionError, UnicodeDecodeError)
#: Fields of a job that are computed anew or reported again; no rule depends on them.
PASSING = frozenset({"health", "partial", "percent", "meter", "stage", "message"})
#: Neutral values of fields that have no default.
NEUTRAL: Mapping[str, Any] = {
    "id": "", "kind": "", "name": "", "total": 0, "waiting": 0, "created_at": 0.0, "index": 0, "at": 0.0,
    "what": "",
}  # fmt: skip
#: The most rows that are told apart; further ones are neither counted nor logged.
MOST_ROWS = 10_000

Key = tuple[str, str | int, int]


class DamagedRows:
    """The rows that could not be read in full: each is logged once. Any thread may use it."""

    def __init__(self) -> None:
        self._seen: set[Key] = set()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._seen)

    def note(self, key: Key, fields: Sequence[str]) -> None:
        """Log and count the row, unless it was seen before."""
        with self._lock:
            if key in self._seen or len(self._seen) >= MOST_ROWS:
                return
            self._seen.add(key)
        log.error("Row cannot be read in full, the rest is shown: table=%s row=%r item=%d fields=%s", *key,
                  ",".join(fields))  # fmt: skip


#: Of this process, like its log.
DAMAGED = DamagedRows()


def mend_job(values: Sequence[Any], json_fields: Mapping[str, Any]) -> Job:
    """Return the job in a row that cannot be read in full; `json_fields` decode the fields that are JSON."""
    job, unreadable = _mend(Job, values, json_fields)
    DAMAGED.note(("jobs", job.id, -1), unreadable)
    if PASSING.issuperset(unreadable):
        return job
    state = job.state if job.state in FINAL and "state" not in unreadable else State.FAILED
    ended = job.finished_at or job.heartbeat_at or job.created_at
    return replace(job, state=state, error=_error("job", unreadable), finished_at=ended, waiting=0, leased=0)


def mend_item(job_n: int, values: Sequence[Any], json_fields: Mapping[str, Any]) -> Item:
    """Return the item in such a row; `job_n` is the job's row number."""
    item, unreadable = _mend(Item, values, json_fields)
    DAMAGED.note(("items", job_n, item.index), unreadable)
    if "state" in unreadable:
        item = replace(item, state=ItemState.FAILED)
    return replace(item, error=_error("item", unreadable)) if item.state in ITEM_FINAL else item


def mend_entry(job_n: int, values: Sequence[Any]) -> Entry:
    """Return the entry of a timeline in such a row."""
    entry, unreadable = _mend(Entry, values, {})
    DAMAGED.note(("timeline", job_n, -1), unreadable)
    return replace(entry, index=None, name=None) if "index" in unreadable else entry


def _error(what: str, fields: Sequence[str]) -> JobError:
    return JobError(
        UNREADABLE,
        f"The server's record of this {what} is damaged, and cannot be read in full: {', '.join(fields)}. What "
        "can be read is shown. Restore the database from a backup, or remove the job.",
    )


def _mend(kind: type[T], values: Sequence[Any], json_fields: Mapping[str, Any]) -> tuple[T, list[str]]:
    """Return the struct, and the names of the fields that cannot be read."""
    types = get_type_hints(kind, include_extras=True)
    fields: dict[str, Any] = {}
    unreadable = []
    for field, value in zip(msgspec.structs.fields(kind), values, strict=True):
        name, found = field.name, value
        try:
            if name in json_fields:
                found = json_fields[name](value)
            fields[name] = msgspec.convert(found, types[name], strict=False)
        except REASONS:
            unreadable.append(name)
            neutral = NEUTRAL[name] if field.required else _default(field)
            fields[name] = _nearest(value, types[name], neutral)
    return kind(**fields), unreadable


def _default(field: msgspec.structs.FieldInfo) -> Any:
    return field.default if field.default is not msgspec.NODEFAULT else field.default_factory()


def _nearest(value: Any, kind: Any, neutral: Any) -> Any:
    """Return the allowed number that is nearest to the value, or else the neutral value."""
    one = next((part for part in (kind, *get_args(kind)) if get_origin(part) is Annotated), None)
    if one is None or not isinstance(value, int | float):
        return neutral
    bounds = next(part for part in get_args(one) if isinstance(part, Meta))
    assert bounds.ge is not None
    assert bounds.le is not None
    return max(bounds.ge, min(value, bounds.le))
