"""Lists of jobs and of items. A page costs the same among ten jobs and among a million.

For several states, a query walks an index once per state, in the order of the list, and the walks are merged:
with `state IN (…)` it would sort all matching rows, or read all others. Each function takes a connection in a read
transaction, and must not decide or write anything.
See also: queries.py (reads one job), tests/store/sqlite/test_plans.py (checks that each query uses its index).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

from unstuck.jobs.job import FINAL, MOST, Item, State
from unstuck.jobs.snapshot import Snapshot
from unstuck.store import queries, rows
from unstuck.store.database import Connection
from unstuck.store.protocol import JobFilter
from unstuck.store.statements import Statements

#: Names that one search reads at most: some 20 ms. An index over parts of names would make each submission slower.
SEARCHED = 10_000

Values = dict[str, int | float | str | None]


class _Query:
    """Conditions and their values, in the words of one database."""

    def __init__(self, statements: Statements, **values: int | float | str | None) -> None:
        self.values: Values = values
        self.p = statements.parameter
        self.unindexed = statements.unindexed

    def one_of(self, column: str, wanted: Sequence[str], *, indexed: bool = False) -> list[str]:
        """Return a condition on the column, or none if no values are wanted."""
        if not wanted:
            return []
        names = {f"{column}{place}": value for place, value in enumerate(wanted)}
        self.values |= names
        left = column if indexed else self.unindexed(column)
        return [f"{left} IN ({', '.join(self.p(name) for name in names)})"]

    def walks(self, select: str, where: Sequence[str], states: Sequence[str]) -> str:
        """Return a query with one walk for each state, or with one over all."""
        if not states:
            return f"{select} WHERE {' AND '.join(where)}" if where else select
        walks = []
        for place, state in enumerate(states):
            self.values[f"state{place}"] = state
            condition = f"state = {self.p(f'state{place}')}"
            walks.append(f"{select} WHERE {' AND '.join([*where, condition])}")
        return " UNION ALL ".join(walks)


def jobs(connection: Connection, wanted: JobFilter, before: int | None, limit: int) -> list[tuple[int, Snapshot]]:
    """Return jobs with their row numbers: newest first, from below row `before`, or by end time; see JobFilter."""
    statements = connection.statements
    sql, values = _query(statements, statements.select_jobs, wanted, before, limit)
    return _with_snapshots(connection, connection.execute(sql, values))


def search(
    connection: Connection, name: str, wanted: JobFilter, before: int | None, limit: int
) -> tuple[list[tuple[int, Snapshot]], int | None]:
    """Return jobs of `jobs` whose name contains `name`, whatever the case, and where to continue (None: the end).

    Reads SEARCHED names at most, so fewer than `limit` jobs, or none, may be found before the end.
    """
    statements = connection.statements
    sql, values = _query(statements, statements.select_names, wanted, before, SEARCHED)
    sought, found, following = _folded(name), [], None
    for read, (job_n, text) in enumerate(connection.execute(sql, values), 1):
        if isinstance(text, str) and sought in _folded(text):  # it is no text in a damaged row
            found.append(job_n)
        if len(found) == limit or read == SEARCHED:
            following = job_n
            break
    read_again = [connection.execute(statements.job_by_number, (job_n,)).fetchone() for job_n in found]
    return _with_snapshots(connection, read_again), following


def _query(
    statements: Statements, select: str, wanted: JobFilter, before: int | None, limit: int
) -> tuple[str, Values]:
    """Return the query for these jobs in their order, and its values."""
    query = _Query(statements, kind=wanted.kind, before=before, limit=limit)
    p = query.p
    states: Sequence[str] = tuple(dict.fromkeys(wanted.states))
    where, order = [], "n DESC"
    if before is not None:
        where.append(f"n < {p('before')}")
    if wanted.finished_before is not None:
        where.append(f"finished_at < {p('end')} AND (finished_at, n) > ({p('after')}, {p('after_n')})")
        after, after_n = wanted.finished_after
        query.values |= {"end": wanted.finished_before, "after": after, "after_n": after_n}
        states, order = states or sorted(FINAL), "finished_at, n"
    if wanted.id_prefix is not None or wanted.retry_of is not None:
        sql = f"{select} WHERE {' AND '.join(_narrow(query, wanted, where))}"
    elif wanted.healths:
        # Only unfinished jobs have a health; they are few and have an index. No other index is to be used.
        where += [
            *([f"{query.unindexed('kind')} = {p('kind')}"] if wanted.kind is not None else []),
            *query.one_of("health", wanted.healths, indexed=True),
            *query.one_of("state", states),
        ]
        sql = f"{select} WHERE {' AND '.join([*where, 'finished_at IS NULL'])}"
    elif wanted.kind is not None:
        sql = query.walks(select, [*where, f"kind = {p('kind')}"], states or tuple(State))
    else:
        sql = query.walks(select, where, states)
    return f"{sql} ORDER BY {order} LIMIT {p('limit')}", query.values


def _with_snapshots(connection: Connection, found: Iterable[Any]) -> list[tuple[int, Snapshot]]:
    kept = [(row[0], rows.job_from(row[1:])) for row in found]
    return [(job_n, queries.snapshot(connection, job_n, one)) for job_n, one in kept]


def _folded(name: str) -> str:
    """Return the name for a comparison that ignores case, and how macOS composes letters."""
    return name.casefold() if name.isascii() else unicodedata.normalize("NFC", name).casefold()


def items(
    connection: Connection,
    job_n: int,
    states: Sequence[str],
    after_seq: int | None,
    after_index: int,
    limit: int,
) -> list[Item]:
    """Return items of the job in the order of their index, or with `after_seq` of their last change."""
    statements = connection.statements
    query = _Query(statements, job=job_n, after=after_index, after_seq=after_seq, limit=limit, most=MOST)
    p = query.p
    # A row with a number that no answer can name would be read again with each page: it is left out.
    where = [f"job = {p('job')}", f"idx <= {p('most')}"]
    if after_seq is None:
        select = statements.select_items_by_state if states else statements.select_items
        sql = query.walks(select, [*where, f"idx > {p('after')}"], tuple(dict.fromkeys(states)))
        order = "idx"
    else:
        # Reads every change and skips other states: an index for that would make every report slower.
        after = f"(seq, idx) > ({p('after_seq')}, {p('after')})"
        where += [after, f"seq <= {p('most')}", *query.one_of("state", states)]
        sql, order = f"{statements.select_items} WHERE {' AND '.join(where)}", "seq, idx"
    found = connection.execute(f"{sql} ORDER BY {order} LIMIT {p('limit')}", query.values)
    return [rows.item_from(job_n, row) for row in found]


def _narrow(query: _Query, wanted: JobFilter, where: Sequence[str]) -> list[str]:
    """Return the conditions of a query over the index of ids or of retries, and no other index."""
    p = query.p
    few = []
    if wanted.id_prefix is not None:
        # ~ sorts after all of an id
        query.values |= {"first": wanted.id_prefix, "past": f"{wanted.id_prefix}~"}
        few.append(f"id >= {p('first')} AND id < {p('past')}")
    if wanted.retry_of is not None:
        query.values["retry_of"] = wanted.retry_of
        few.append(f"retry_of = {p('retry_of')}")
    return [
        *few,
        *(query.unindexed(condition) for condition in where),
        *([f"{query.unindexed('kind')} = {p('kind')}"] if wanted.kind is not None else []),
        *query.one_of("health", wanted.healths),
        *(["finished_at IS NULL"] if wanted.healths else []),
        *query.one_of("state", wanted.states),
    ]
