"""Compares the data folder with the database: decides whose the files are, and which of them are left over.

What is not known to be left over stays. That a folder belongs to no job of the database proves nothing, since the
database may be new, restored or another one. Left over are uploads that belong to no job and were silent for a
day.
Must not know: SQL, HTTP; it uses the Store protocol and the data folder.
See also: marks.py (what is written down about a folder), local.py (the caller).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import anyio.to_thread

from unstuck.files import marks
from unstuck.files.folder import DataFolder
from unstuck.store.protocol import FinishedJobs

log = logging.getLogger("unstuck.folder")

#: Folders that are compared with the store at once.
BATCH = 200


async def claim(folder: DataFolder, store: FinishedJobs) -> None:
    """Take the folder over for this database, or warn that its files belong to another one.

    Call it before anything can be submitted. Raises CannotStart if nothing can be written.
    """
    folder.identity = store.identity
    named = marks.read_identity(folder.mark)
    if named == store.identity:
        return
    strangers = 0
    for batch in batches(await anyio.to_thread.run_sync(folder.job_folders)):
        known = await store.seqs(batch)
        strangers += await anyio.to_thread.run_sync(_look_at, folder, batch, set(known))
    if strangers:
        log.warning(
            "Database does not belong to the files, so none of them is removed; stop the server to restore a lost "
            "database (unstuck restore) or to list the files (unstuck prune --orphans): folders=%d data=%s",
            strangers,
            folder.root,
        )
    if named is None or not strangers:
        try:
            await anyio.to_thread.run_sync(marks.write_identity, folder.mark, store.identity)
        except OSError as error:
            raise folder.refusal(error) from error


async def remove_left_over(folder: DataFolder, store: FinishedJobs, silent_since: float) -> int:
    """Remove uploads that belong to no job and were silent since (epoch seconds); return how many."""
    removed = 0
    for batch in batches(await anyio.to_thread.run_sync(folder.job_folders)):
        known = await store.seqs(batch)
        removed += await anyio.to_thread.run_sync(_tidy, folder, batch, set(known), silent_since)
    return removed


def batches(names: list[str]) -> Iterator[list[str]]:
    """Divide names into lists that one query takes."""
    for start in range(0, len(names), BATCH):
        yield names[start : start + BATCH]


def _look_at(folder: DataFolder, names: list[str], known: set[str]) -> int:
    """Mark the folders of known jobs, and return how many others were made under another database."""
    for name in known:
        _adopt(folder.job(name), folder.identity)
    return sum(marks.owner(folder.job(name)) != folder.identity for name in names if name not in known)


def _tidy(folder: DataFolder, names: list[str], known: set[str], silent_since: float) -> int:
    removed = 0
    for name in names:
        job = folder.job(name)
        if name in known:
            _adopt(job, folder.identity)
            continue
        try:
            if marks.is_left_over(job, folder.identity, silent_since):
                marks.erase(job)
                removed += 1
        except FileNotFoundError:
            continue  # an upload that has just been refused removes its own files
        except OSError as error:
            log.warning("Files of no job cannot be removed; check their owner: path=%s error=%s", job, error)
    return removed


def _adopt(job: Path, identity: str) -> None:
    try:
        marks.adopt(job, identity)
    except FileNotFoundError:
        pass  # the job has just been removed
    except OSError as error:
        log.warning("Folder of a job cannot be marked; check its owner: path=%s error=%s", job, error)
