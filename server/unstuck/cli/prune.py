"""`unstuck prune`: decides which finished jobs are removed from a running server, and shows how far it is.

It lists them first, so that the progress bar has a total, and then removes them one by one. Interrupted, it has
removed some of them.

It must not know how a server removes a job or its files.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from unstuck.address import DEFAULT_URL
from unstuck.cli.console import AsJson, Url, client_errors, err, plain, print_json
from unstuck.cli.orphans import prune_orphans
from unstuck.cli.remote import ask
from unstuck.errors import InvalidRequest, JobNotFound
from unstuck.jobs.job import FINAL
from unstuck.jobs.labels import counted

if TYPE_CHECKING:
    from unstuck.client import Client
    from unstuck.wire import Job

#: Seconds in each unit of a duration.
UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
#: The longest duration (seconds): dates that far back are still valid everywhere.
LONGEST_S = 100 * 365 * 86_400


def prune(
    older_than: Annotated[
        str | None,
        typer.Option(metavar="DURATION", help="Remove jobs that finished longer ago than this."),
    ] = None,
    state: Annotated[
        list[str] | None,
        typer.Option(metavar="STATE", help="Remove only jobs that ended in this state. Repeatable."),
    ] = None,
    dry_run: Annotated[bool, typer.Option(help="List the jobs without removing them.")] = False,
    url: Url = DEFAULT_URL,
    orphans: Annotated[
        bool, typer.Option("--orphans", help="List folders of jobs that the database does not know.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="With --orphans: remove them permanently.")] = False,
    data: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="With --orphans: data folder of the stopped server.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Remove finished jobs and their files permanently.

    A DURATION is written 30s, 90m, 12h, 3d or 2w. A STATE is completed, completed_with_errors, failed or
    cancelled.

    With --orphans, lists the files that a lost or replaced database left behind; --yes removes them. Only what
    unstuck made, and was not written to for a day, is listed. The server must be stopped.

    Examples:
      unstuck prune --older-than 3d --dry-run
      unstuck prune --older-than 12h --state cancelled --state failed
      unstuck prune --orphans --data /var/lib/unstuck

    Exit codes:
      0    removed, or there was nothing to remove
      2    a mistake, or the server refused or did not answer
      130  interrupted with Ctrl-C; some jobs may have been removed
    """
    with client_errors():
        if orphans:
            if older_than is not None or state:
                raise InvalidRequest("--orphans goes without --older-than and --state.")
            prune_orphans(data, yes=yes and not dry_run, as_json=as_json)
            return
        if older_than is None:
            raise InvalidRequest("Say which jobs to remove with --older-than DURATION, such as 3d.")
        if yes or data is not None:
            raise InvalidRequest("--yes and --data go with --orphans only.")
        longer_ago_s, ended = seconds(older_than), states(state or ())

    async def question(client: Client) -> None:
        await _prune(client, longer_ago_s, ended, dry_run=dry_run, as_json=as_json)

    ask(url, question)


def seconds(text: str) -> float:
    """Parse a duration such as 90m into seconds; InvalidRequest if it is none, or too long."""
    found = re.fullmatch(r"(\d{1,12}(?:\.\d{1,6})?)\s*([smhdw])", text.strip(), re.ASCII | re.IGNORECASE)
    if found is None:
        raise InvalidRequest(f"{text!r} is not a duration; write 30s, 90m, 12h, 3d or 2w.")
    value = float(found[1]) * UNITS[found[2].lower()]
    if value > LONGEST_S:
        raise InvalidRequest(f"{text!r} is longer than a hundred years.")
    return value


def states(given: Sequence[str]) -> list[str]:
    """Return final states as the server spells them; InvalidRequest if one is not a final state."""
    spelled = ["cancelled" if state == "canceled" else state for state in given]
    for state in spelled:
        if state not in FINAL:
            raise InvalidRequest(f"--state must be one of {', '.join(sorted(FINAL))}, not {state!r}.")
    return spelled


async def _prune(
    client: Client, older_than_s: float, final_states: list[str], *, dry_run: bool, as_json: bool
) -> None:
    with err.status("Looking for finished jobs…"):
        found = [_Line.of(job) async for job in client.finished(older_than_s, final_states)]
    if dry_run:
        if not as_json:
            for line in found:
                print(line.shown)
        _print("would remove", found, as_json=as_json)
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
                    continue  # it has expired meanwhile, or another call removed it
    finally:
        _print("removed", removed, as_json=as_json)


class _Line:
    """The part of a job that is kept until it is removed; a million of them fit into memory."""

    __slots__ = ("items", "job_id", "shown")

    def __init__(self, job_id: str, items: int, shown: str) -> None:
        self.job_id = job_id
        self.items = items
        self.shown = shown

    @classmethod
    def of(cls, job: Job) -> _Line:
        words = (job.id, job.finished_at or "", job.state, job.name)
        return cls(job.id, job.progress.total or 0, plain("  ".join(words)))


def _print(verb: str, lines: Sequence[_Line], *, as_json: bool) -> None:
    if as_json:
        print_json({verb.replace(" ", "_"): [line.job_id for line in lines]})
    else:
        print(f"{verb} {_amount(lines)}")


def _amount(lines: Sequence[_Line]) -> str:
    jobs, items = len(lines), sum(line.items for line in lines)
    return f"{counted(jobs, 'job', 'jobs')} with {counted(items, 'item', 'items')}"
