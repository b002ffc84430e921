"""Lists of jobs and of items. A page costs the same among ten jobs and among a million.

For several states, a query walks an index once per state, in the order of the list, and SQLite merges the walks:
with `state IN (…)` it would sort all matching rows, or read all others. Each function takes a connection in a read
transaction, and must not decide or write anything.
See also: queries.py (reads one job), tests/store/test_plans.py (checks that each query uses its index).
"""

from __future__ import annotations

import sqlite3
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

from unstuck.jobs.job import FINAL, MOST, Item, State
from unstuck.jobs.snapshot import Snapshot
from unstuck.store import queries, rows
from unstuck.store.protocol import JobFilter

_JOBS = f"SELECT n, {', '.join(rows.JOB_COLUMNS)} FROM jobs"
_NAMES = "SELECT n, name FROM jobs"
#: Names that one search reads at most: some 20 ms. An index over parts of names would make each submission slower.
SEARCHED = 10_000

Values = dict[str, int | float | str | None]


def jobs(
    connection: sqlite3.Connection, wanted: JobFilter, before: int | None, limit: int
) -> list[tuple[int, Snapshot]]:
    """Return jobs with their row numbers: newest first, from below row `before`, or by end time; see JobFilter."""
    sql, values = _query(_JOBS, wanted, before)
    found = connection.execute(f"{sql} LIMIT :limit", {**values, "limit": limit})
    return _with_snapshots(connection, found)


def search(
    connection: sqlite3.Connection, name: str, wanted: JobFilter, before: int | None, limit: int
) -> tuple[list[tuple[int, Snapshot]], int | None]:
    """Return jobs of `jobs` whose name contains `name`, whatever the case, and where to continue (None: the end).

    Reads SEARCHED names at most, so fewer than `limit` jobs, or none, may be found before the end.
    """
    sql, values = _query(_NAMES, wanted, before)
    sought, found, following = _folded(name), [], None
    names = connection.execute(f"{sql} LIMIT :limit", {**values, "limit": SEARCHED})
    for read, (job_n, text) in enumerate(names, 1):
        if isinstance(text, str) and sought in _folded(text):  # it is no text in a damaged row
            found.append(job_n)
        if len(found) == limit or read == SEARCHED:
            following = job_n
            break
    by_number = f"{_JOBS} WHERE n = ?"
    read_again = [connection.execute(by_number, (job_n,)).fetchone() for job_n in found]
    return _with_snapshots(connection, read_again), following


def _query(select: str, wanted: JobFilter, before: int | None) -> tuple[str, Values]:
    """Return the query for these jobs in their order, without a limit, and its values."""
    values: Values = {"kind": wanted.kind, "before": before}
    states: Sequence[str] = tuple(dict.fromkeys(wanted.states))
    where, order = [], "n DESC"
    if before is not None:
        where.append("n < :before")
    if wanted.finished_before is not None:
        where.append("finished_at < :end AND (finished_at, n) > (:after, :after_n)")
        after, after_n = wanted.finished_after
        values |= {"end": wanted.finished_before, "after": after, "after_n": after_n}
        states, order = states or sorted(FINAL), "finished_at, n"
    if wanted.id_prefix is not None or wanted.retry_of is not None:
        sql = _narrow(select, wanted, where, values)
    elif wanted.healths:
        # Only unfinished jobs have a health; they are few and have an index. The + rules out the other indexes.
        kind = ["+kind = :kind"] if wanted.kind is not None else []
        where += [
            *kind,
            *_in_condition("health", wanted.healths, values),
            *_in_condition("+state", states, values),
        ]
        sql = f"{select} WHERE {' AND '.join([*where, 'finished_at IS NULL'])}"
    elif wanted.kind is not None:
        sql = _merge_walks(select, [*where, "kind = :kind"], states or tuple(State), values)
    else:
        sql = _merge_walks(select, where, states, values)
    return f"{sql} ORDER BY {order}", values


def _with_snapshots(connection: sqlite3.Connection, found: Iterable[Any]) -> list[tuple[int, Snapshot]]:
    kept = [(row[0], rows.job_from(row[1:])) for row in found]
    return [(job_n, queries.snapshot(connection, job_n, one)) for job_n, one in kept]


def _folded(name: str) -> str:
    """Return the name for a comparison that ignores case, and how macOS composes letters."""
    return name.casefold() if name.isascii() else unicodedata.normalize("NFC", name).casefold()


def items(
    connection: sqlite3.Connection,
    job_n: int,
    states: Sequence[str],
    after_seq: int | None,
    after_index: int,
    limit: int,
) -> list[Item]:
    """Return items of the job in the order of their index, or with `after_seq` of their last change."""
    values: Values = {"job": job_n, "after": after_index, "after_seq": after_seq, "limit": limit, "most": MOST}
    # A row with a number that no answer can name would be read again with each page: it is left out.
    where = ["job = :job", "idx <= :most"]
    if after_seq is None:
        select = rows.SELECT_ITEM_BY_STATE if states else rows.SELECT_ITEM
        sql = _merge_walks(select, [*where, "idx > :after"], tuple(dict.fromkeys(states)), values)
        order = "idx"
    else:
        # Reads every change and skips other states: an index for that would make every report slower.
        where += ["(seq, idx) > (:after_seq, :after)", "seq <= :most", *_in_condition("+state", states, values)]
        sql, order = f"{rows.SELECT_ITEM} WHERE {' AND '.join(where)}", "seq, idx"
    found = connection.execute(f"{sql} ORDER BY {order} LIMIT :limit", values)
    return [rows.item_from(job_n, row) for row in found]


def _narrow(select: str, wanted: JobFilter, where: Sequence[str], values: Values) -> str:
    """Return a query over the index of ids or of retries; the + keeps every other index out."""
    few = []
    if wanted.id_prefix is not None:
        values |= {
            "first": wanted.id_prefix,
            "past": f"{wanted.id_prefix}~",
        }  # ~ sorts after all of an id
        few.append("id >= :first AND id < :past")
    if wanted.retry_of is not None:
        values["retry_of"] = wanted.retry_of
        few.append("retry_of = :retry_of")
    conditions = [
        *few,
        *(f"+{condition}" for condition in where),
        *(["+kind = :kind"] if wanted.kind is not None else []),
        *_in_condition("+health", wanted.healths, values),
        *(["finished_at IS NULL"] if wanted.healths else []),
        *_in_condition("+state", wanted.states, values),
    ]
    return f"{select} WHERE {' AND '.join(conditions)}"


def _merge_walks(select: str, where: Sequence[str], states: Sequence[str], values: Values) -> str:
    """Return a query with one walk for each state, or with one over all."""
    if not states:
        return f"{select} WHERE {' AND '.join(where)}" if where else select
    walks = []
    for place, state in enumerate(states):
        values[f"state{place}"] = state
        walks.append(f"{select} WHERE {' AND '.join([*where, f'state = :state{place}'])}")
    return " UNION ALL ".join(walks)


def _in_condition(column: str, wanted: Sequence[str], values: Values) -> list[str]:
    """Return a condition on the column, or none if no values are wanted."""
    if not wanted:
        return []
    names = {f"{column.lstrip('+')}{place}": value for place, value in enumerate(wanted)}
    values |= names
    return [f"{column} IN ({', '.join(f':{name}' for name in names)})"]
