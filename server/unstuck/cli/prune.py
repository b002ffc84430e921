"""`unstuck prune --older-than 3d`: has a running server remove finished jobs and their files.

It lists them first, so that the bar knows its end, then removes them one by one; cut off anywhere, it has
removed some. Exit codes: 0 done, 2 something to mend in what was asked for, or the server could not do it.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from unstuck.cli.console import LOCAL, Url, client_errors, err
from unstuck.errors import InvalidRequest, JobNotFound
from unstuck.jobs.job import FINAL

if TYPE_CHECKING:
    from unstuck.wire import Job

#: Seconds of the units that a duration may have.
UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
#: Longer than anything was ever kept, and short enough for every calendar (seconds).
LONGEST_S = 100 * 365 * 86_400


def prune(
    older_than: Annotated[
        str,
        typer.Option(help="Remove what finished longer ago than this: 90m, 12h, 3d or 2w.", show_default=False),
    ],
    state: Annotated[
        list[str] | None, typer.Option(help="Only jobs that ended like this, such as cancelled. Repeatable.")
    ] = None,
    dry_run: Annotated[bool, typer.Option(help="Only list what would be removed.")] = False,
    url: Url = LOCAL,
) -> None:
    """Remove finished jobs and their files from a server, for good."""
    with client_errors():
        asyncio.run(_prune(seconds(older_than), states(state or ()), url, dry_run=dry_run))


def seconds(text: str) -> float:
    """A duration such as 90m in seconds; InvalidRequest."""
    found = re.fullmatch(r"(\d{1,12}(?:\.\d{1,6})?)\s*([smhdw])", text.strip(), re.ASCII | re.IGNORECASE)
    if found is None:
        raise InvalidRequest(f"{text!r} is no duration; write 30s, 90m, 12h, 3d or 2w.")
    value = float(found[1]) * UNITS[found[2].lower()]
    if value > LONGEST_S:
        raise InvalidRequest(f"{text!r} is more than a hundred years.")
    return value


def states(given: Sequence[str]) -> list[str]:
    """Final states as the server names them; InvalidRequest."""
    found = ["cancelled" if one == "canceled" else one for one in given]
    for one in found:
        if one not in FINAL:
            raise InvalidRequest(f"--state must be one of {', '.join(sorted(FINAL))}, not {one!r}.")
    return found


async def _prune(older_than_s: float, wanted: list[str], url: str, *, dry_run: bool) -> None:
    from unstuck.client.client import Client

    async with Client(url) as client:
        with err.status("looking for finished jobs …"):
            found = [_Line.of(job) async for job in client.finished(older_than_s, wanted)]
        if dry_run:
            for line in found:
                print(line.shown)
            print(f"would remove {_amount(found)}")
            return
        removed: list[_Line] = []
        try:
            with Progress(
                TextColumn("removing"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=err
            ) as bars:
                for line in bars.track(found):
                    try:
                        await client.remove(line.job_id)
                        removed.append(line)
                    except JobNotFound:
                        continue  # its time was over, or somebody else removed it
        finally:
            print(f"removed {_amount(removed)}")


class _Line:
    """What is kept of a job until it is removed: a million of them fit into memory."""

    __slots__ = ("items", "job_id", "shown")

    def __init__(self, job_id: str, items: int, shown: str) -> None:
        self.job_id = job_id
        self.items = items
        self.shown = shown

    @classmethod
    def of(cls, job: Job) -> _Line:
        words = (job.id, job.finished_at or "", job.state, job.name)
        return cls(job.id, job.progress.total or 0, "  ".join(words))


def _amount(lines: Sequence[_Line]) -> str:
    jobs, items = len(lines), sum(line.items for line in lines)
    return f"{jobs:,} job{'' if jobs == 1 else 's'} with {items:,} item{'' if items == 1 else 's'}"
