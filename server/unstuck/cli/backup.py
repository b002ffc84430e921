"""`unstuck backup` and `restore`: copy a data folder, and put the copy back.

It must not know what a backup consists of.
See also: files/backup.py, which does the work.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unstuck.cli.console import AsJson, client_errors, err, print_json
from unstuck.jobs.labels import counted
from unstuck.settings import load

if TYPE_CHECKING:
    from unstuck.files.backup import Copied

Data = Annotated[
    str | None,
    typer.Option(metavar="FOLDER", help="Data folder of the server. [default: as for serve]"),
]


def backup(
    target: Annotated[Path, typer.Argument(metavar="FOLDER", help="Empty or new folder for the backup.")],
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Copy the data folder of a server, which may be running.

    The copy has the database as of one moment and the files of its jobs, and is on disk when the command ends. Run
    it as the user of the server.

    Examples:
      unstuck backup /backups/monday
      unstuck backup --data /var/lib/unstuck /backups/monday

    Exit codes:
      0    the backup is complete
      2    a mistake, or the backup could not be written; then nothing of it is kept
      130  interrupted with Ctrl-C; then nothing of it is kept
    """
    from unstuck.files import backup as files

    with client_errors():
        folder = load({"data": data}).folder
        with err.status("Copying…"):
            copied = files.back_up(folder, target)
    if as_json:
        print_json({"jobs": copied.jobs, "bytes": copied.bytes, "from": str(folder), "to": str(target)})
        return
    print(f"backed up {_amount(copied)} from {folder} to {target}")


def restore(
    source: Annotated[Path, typer.Argument(metavar="BACKUP", help="Folder that `unstuck backup` made.")],
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Put a backup into the data folder of a stopped server.

    Nothing is erased: a database and files that are there are moved into folders named before-restore and the
    time, which no server uses. Remove them yourself when you no longer need them.

    Examples:
      unstuck restore /backups/monday
      unstuck restore --data /var/lib/unstuck /backups/monday

    Exit codes:
      0    restored; start the server now
      2    a mistake, or the server still runs, or the backup could not be restored
      130  interrupted with Ctrl-C; run it again
    """
    from unstuck.files import backup as files

    with client_errors():
        folder = load({"data": data}).folder
        with err.status("Copying…"):
            copied = files.restore(source, folder)
    if as_json:
        aside = None if copied.aside is None else str(copied.aside)
        amounts = {"jobs": copied.jobs, "bytes": copied.bytes}
        print_json({**amounts, "from": str(source), "to": str(folder), "aside": aside})
        return
    print(f"restored {_amount(copied)} from {source} to {folder}")
    if copied.aside is not None:
        print(f"what was there before is in {copied.aside} and {folder / 'files' / copied.aside.name}")


def _amount(copied: Copied) -> str:
    return f"{counted(copied.jobs, 'job', 'jobs')} with {copied.bytes / 1024**2:,.1f} MiB"
