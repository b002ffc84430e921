"""Runs `unstuck serve` with a database connection that kills the process at a commit.

    CRASH_AT=3:before python -m tests.crash.dying serve …

kills it right before the third commit that writes anything; `3:after` right after it, before any response or
event is sent. Nothing in the product knows of this.
"""

from __future__ import annotations

import os
import signal
import sqlite3
from pathlib import Path
from typing import Any

import unstuck.store.sqlite as product
from unstuck.cli.commands import main
from unstuck.store import connection as opening


class KilledAtCommit:
    """A database connection that counts the commits that write, and kills the process at one of them."""

    def __init__(self, connection: sqlite3.Connection, at: int, when: str) -> None:
        self._connection = connection
        self._left = at
        self._when = when
        self._written = connection.total_changes

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
        if sql != "COMMIT" or self._connection.total_changes == self._written:
            return self._connection.execute(sql, *values)
        self._written = self._connection.total_changes
        self._left -= 1
        if self._left == 0 and self._when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        done = self._connection.execute(sql, *values)
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return done


if __name__ == "__main__":
    number, _, moment = os.environ["CRASH_AT"].partition(":")
    opened = opening.open_checked

    def open_checked(path: Path) -> Any:
        return KilledAtCommit(opened(path), int(number), moment)

    vars(product)["open_checked"] = open_checked
    main()
