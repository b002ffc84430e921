"""Finds the folders of jobs that the database does not know, for an operator to remove.

A server never removes them, since the database may be the wrong one; see ownership.py. Here too a folder must
carry a mark of unstuck, and must have been silent for a day.
Must not know: HTTP.
See also: marks.py (what is written down about a folder), cli/orphans.py (shows and removes them).
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from unstuck.errors import CannotStart
from unstuck.files import marks
from unstuck.files.folder import DataFolder
from unstuck.files.ownership import batches
from unstuck.store import queries, schema
from unstuck.store.connection import check, open_to_read, read_identity, refusal


@dataclass(frozen=True, slots=True)
class Orphan:
    """A job's folder without a job; `foreign` if it was made under another database. Times in epoch seconds."""

    job_id: str
    last_write: float
    foreign: bool


@dataclass(slots=True)
class Found:
    """The orphans, and the number of other folders without a job: those too young, and those without a mark."""

    orphans: list[Orphan]
    young: int = 0
    unmarked: int = 0


@contextmanager
def held(root: Path) -> Iterator[DataFolder]:
    """Hold the lock of a data folder. Raise CannotStart if it has no database, or a server uses it."""
    folder = DataFolder(root)
    if not folder.database.is_file():
        raise CannotStart(
            f"There is no database in {root}, so it is not known which files are of use. Restore it from a backup "
            "(unstuck restore), or name the data folder with --data."
        )
    folder.open()
    try:
        yield folder
    finally:
        folder.close()


def find(folder: DataFolder) -> Found:
    """Return the orphans in a folder whose lock is held. Raise CannotStart if its database cannot be used."""
    names = folder.job_folders()
    try:
        check(folder.database)
        with closing(open_to_read(folder.database)) as connection:
            if connection.execute("PRAGMA user_version").fetchone()[0] != schema.VERSION:
                raise CannotStart(
                    f"{folder.database} is of an older version. Start the server once to upgrade it, and stop it."
                )
            identity = read_identity(connection)
            known = {row[0] for row in connection.execute("SELECT id FROM removals")}  # the server removes these
            for batch in batches(names):
                known.update(queries.seqs(connection, batch))
    except sqlite3.Error as error:
        raise refusal(folder.database, error) from error
    found = Found([])
    for name in sorted(set(names) - known):
        owner, moment = marks.owner(folder.job(name)), marks.last_write(folder.job(name))
        if owner is None:
            found.unmarked += 1
        elif moment > time.time() - marks.SILENT_S:
            found.young += 1
        else:
            found.orphans.append(Orphan(name, moment, owner != identity))
    return found


def remove(folder: DataFolder, orphans: Iterable[Orphan]) -> int:
    """Remove these orphans permanently, and return how many are gone. What cannot be removed is logged."""
    return len(folder.remove_all(orphan.job_id for orphan in orphans))
