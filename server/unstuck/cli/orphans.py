"""`unstuck prune --orphans`: shows folders of jobs that the database does not know, and removes them on request.

It must not know which folders these are.
See also: files/orphans.py, which finds them; prune.py, which has the command.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from unstuck.cli.console import err, print_json
from unstuck.jobs.labels import counted
from unstuck.jobs.snapshot import rfc3339
from unstuck.settings import load

if TYPE_CHECKING:
    from unstuck.files.orphans import Orphan


def prune_orphans(data: str | None, *, yes: bool, as_json: bool) -> None:
    """List the orphans of a data folder; remove them if `yes`. Raise CannotStart if a server uses the folder."""
    from unstuck.files import orphans

    with orphans.held(load({"data": data}).folder) as folder:
        with err.status("Looking for orphans…"):
            found = orphans.find(folder)
        if as_json:
            ids = [orphan.job_id for orphan in found.orphans]
            removed = orphans.remove(folder, found.orphans) if yes else 0
            print_json({"orphans": ids, "removed": removed, "young": found.young, "unmarked": found.unmarked})
            return
        for orphan in found.orphans:
            print(_line(orphan))
        if found.young:
            print(f"left alone: {_amount(found.young)} written to within a day")
        if found.unmarked:
            print(f"left alone: {_amount(found.unmarked)} without a mark of unstuck; remove them by hand")
        if yes:
            print(f"removed {_amount(orphans.remove(folder, found.orphans))}")
        else:
            print(f"would remove {_amount(len(found.orphans))}; --yes removes permanently")


def _line(orphan: Orphan) -> str:
    written = f"{rfc3339(orphan.last_write):.19}Z"
    return f"{orphan.job_id}  {written}  {'of another database' if orphan.foreign else 'of this database'}"


def _amount(count: int) -> str:
    return counted(count, "folder", "folders")
