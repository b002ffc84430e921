"""The seam between what all stores share and one database: a connection that runs statements of its catalogue.

It must not know SQL, or which databases there are.
See also: statements.py (the catalogue), sqlite_connection.py and postgres/connection.py (the connections).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from unstuck.store.statements import Statements

Parameters = Sequence[Any] | Mapping[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class ChangedColumns:
    """Columns of a table that changed together.

    The values at `places` of a job or an item, followed by the job's row number, are those of the columns `names`
    and of the `key`. Those at the positions `others` have to be converted first, each by its function.
    """

    table: str
    names: tuple[str, ...]
    key: tuple[str, ...]
    places: tuple[int, ...]
    others: tuple[tuple[int, Callable[[Any], Any]], ...]


class Cursor(Protocol):
    """The rows of a query, or the number of rows that a statement changed."""

    @property
    def rowcount(self) -> int: ...

    def fetchone(self) -> Any: ...

    def fetchall(self) -> list[Any]: ...

    def __iter__(self) -> Iterator[Any]: ...


class Connection(Protocol):
    """A connection in a transaction."""

    @property
    def statements(self) -> Statements: ...

    def execute(self, sql: str, parameters: Parameters = ..., /) -> Cursor: ...

    def executemany(self, sql: str, parameters: Iterable[Parameters], /) -> object: ...

    def insert_items(self, values: Iterable[Sequence[Any]]) -> None:
        """Insert items, each as `rows.item_values` returns it."""

    def insert_entries(self, values: Sequence[Mapping[str, Any]]) -> None:
        """Insert entries of timelines, each as `rows.entry_values` returns it."""

    def update_rows(self, columns: ChangedColumns, values: Sequence[Sequence[Any]]) -> None:
        """Update rows in which the same columns changed."""
