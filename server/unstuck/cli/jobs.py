"""`unstuck jobs`, `rescue` and `fail`: decides how an operator sees the jobs of a server and acts on stuck ones.

Each command says what it is about to do, and then what it did. It must not know what that means for a job: the
server decides that.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.padding import Padding
from rich.text import Text

from unstuck.address import DEFAULT_URL
from unstuck.cli.console import Url, client_errors, complain, duration, err, out, plain
from unstuck.errors import UnstuckError

if TYPE_CHECKING:
    from unstuck.client.client import Client
    from unstuck.wire import Item, Job

STUCK = ("waiting_long", "stalled", "unresponsive")
#: Running items that are named for each job.
ITEMS_SHOWN = 3
#: One page of items: more than any machine works on at a time.
ITEMS_ASKED = 1_000
TONES = {"stalled": "yellow", "waiting_long": "yellow", "unresponsive": "bold red", "failed": "red"}

Ids = Annotated[list[str], typer.Argument(metavar="JOB_ID…", help="Ids of the jobs.")]


def jobs(
    stuck: Annotated[bool, typer.Option("--stuck", help="List only jobs that are stuck.")] = False,
    state: Annotated[
        list[str] | None, typer.Option(metavar="STATE", help="List only jobs in this state. Repeatable.")
    ] = None,
    limit: Annotated[
        int, typer.Option(metavar="NUMBER", min=1, max=200, help="List at most this many jobs, 1 to 200.")
    ] = 50,
    ids: Annotated[bool, typer.Option("--ids", help="Print only the ids, for another command.")] = False,
    url: Url = DEFAULT_URL,
) -> None:
    """List the jobs of a server, newest first.

    Shows each job's id, state, progress and name, when it was submitted, and what its workers are doing. In a pipe
    each job is one line. A STATE is queued, running, completed, completed_with_errors, failed or cancelled.

    Examples:
      unstuck jobs --state queued --state running
      unstuck jobs --stuck
      unstuck rescue $(unstuck jobs --stuck --ids)

    Exit codes:
      0    listed, even if there are no such jobs
      2    a mistake, or the server refused or did not answer
      130  interrupted with Ctrl-C
    """

    async def ask(client: Client) -> tuple[list[Job], list[list[Item]], bool]:
        page = await client.jobs(states=state or (), healths=STUCK if stuck else (), limit=limit)
        running = [[] if ids else await _running(client, job) for job in page.jobs]
        return page.jobs, running, page.next is not None

    with client_errors():
        found, running, more = _with_client(url, ask)
    if ids:
        for job in found:
            print(plain(job.id))
        return
    if not found:
        out.print("No job needs attention." if stuck else "There are no such jobs.")
        return
    _list(found, running)
    if more:
        err.print(f"These are the newest {limit}; --limit shows up to 200.")


def rescue(
    job_ids: Ids,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Take a job's running items from their workers to try them again.

    Says how many there are and asks for confirmation. Items on their last attempt fail instead.

    Examples:
      unstuck rescue 1b4e28ba-2fa1-4d3b-a3f5-ef19b5a7633b
      unstuck rescue $(unstuck jobs --stuck --ids)

    Exit codes:
      0    rescued, or there was nothing to rescue
      1    not confirmed
      2    a mistake, a job was refused, or the server did not answer
      130  interrupted with Ctrl-C
    """

    async def each(client: Client, job_id: str) -> None:
        job = await client.job(job_id)
        running = await _running(client, job)
        if not running and not job.done:  # a finished job is refused by the server, with its own message
            _say(job, "no item is running, so there is nothing to rescue. It continues when a worker is free.")
            return
        last = sum(item.attempt >= job.max_attempts for item in running)
        workers = "its worker" if len(running) == 1 else "their workers"
        sentences = [f"{_items(len(running))} will be taken from {workers} and tried again."]
        sentences += [f"{last} of them will fail instead: no attempt is left."] if last else []
        if not job.done:
            _say(job, " ".join([*sentences, "Finished items do not change."]))
            _confirm(yes, "Continue?")
        after = await client.rescue(job_id)
        failed = after.progress.failed - job.progress.failed
        again = _items(max(len(running) - failed, 0))
        _say(job, f"rescued: {again} will be tried again, {failed} failed; the job is {_words(after.state)}.")

    _for_each(job_ids, url, each)


def fail(
    job_ids: Ids,
    why: Annotated[str, typer.Option(metavar="REASON", help="The reason, shown to every viewer of the job.")],
    url: Url = DEFAULT_URL,
) -> None:
    """Stop a job and end it as failed.

    Running items are stopped, by force if need be, and waiting ones are cancelled; finished items do not change.

    Examples:
      unstuck fail 1b4e28ba-2fa1-4d3b-a3f5-ef19b5a7633b --why "the source is gone"

    Exit codes:
      0    failed, or failing as soon as its running items have stopped
      2    a mistake, a job was refused, or the server did not answer
      130  interrupted with Ctrl-C
    """

    async def each(client: Client, job_id: str) -> None:
        job = await client.job(job_id)
        running = len(await _running(client, job))
        waiting = max((job.progress.total or 0) - job.progress.processed - running, 0)
        if not job.done:
            plan = f"{_items(running)} will be stopped, {_items(waiting)} cancelled."
            _say(job, f"{plan} Finished items do not change.")
        after = await client.fail(job_id, why)
        _say(job, "failed, as asked." if after.done else "it will fail as soon as its running items have stopped.")

    _for_each(job_ids, url, each)


# -- asking the server


def _with_client(url: str, ask: Callable[[Client], Awaitable[Any]]) -> Any:
    from unstuck.client.client import Client  # here: it needs an extra, and --help stays fast

    async def run() -> Any:
        async with Client(url) as client:
            return await ask(client)

    return asyncio.run(run())


def _for_each(job_ids: Sequence[str], url: str, each: Callable[[Client, str], Awaitable[None]]) -> None:
    """Do it for one job after the other; a refusal does not stop the rest, but sets the exit code."""

    async def ask(client: Client) -> bool:
        refused = False
        for job_id in dict.fromkeys(job_ids):
            try:
                await each(client, job_id)
            except UnstuckError as error:
                complain(error.detail)
                refused = True
        return refused

    with client_errors():
        if _with_client(url, ask):
            sys.exit(2)


async def _running(client: Client, job: Job) -> list[Item]:
    if job.state != "running":
        return []
    return (await client.items(job.id, states=["running"], limit=ITEMS_ASKED)).items


def _confirm(yes: bool, question: str) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        complain("There is no terminal to ask for confirmation; add --yes to go ahead without.")
        sys.exit(2)
    if not typer.confirm(question):
        sys.exit(1)


# -- in words


def _list(found: Sequence[Job], running: Sequence[Sequence[Item]]) -> None:
    """Print two lines or more for each job, the first of them whole at 80 columns; into a pipe, one line."""
    standings = [_standing(job) for job in found]
    width = max(standing.cell_len for standing in standings)
    for job, items, standing in zip(found, running, standings, strict=True):
        standing.pad_right(width - standing.cell_len)
        counts = f"{job.progress.processed} of {job.progress.total or '?'}"
        head = Text.assemble(plain(job.id), "  ", standing, "  ", counts)
        details = " · ".join(_details(job, items))
        if out.is_terminal:
            out.print(head, soft_wrap=True)
            out.print(Padding(Text(details, style="dim"), (0, 0, 0, 2), expand=False))
        else:
            print(head.plain, details, sep="  ")


def _standing(job: Job) -> Text:
    """Return the job's state, and its health unless that is ok."""
    text, health = Text(_words(job.state), style=TONES.get(job.state, "")), job.health
    if health not in (None, "ok"):
        text.append(f", {_words(health)}", style=TONES.get(health, ""))
    elif job.cancel_requested and not job.done:
        text.append(", cancelling")
    return text


def _details(job: Job, items: Sequence[Item]) -> list[str]:
    now = job.server_time
    details = [_shortened(plain(job.name), 60)]
    if job.progress.failed:
        details.append(f"{job.progress.failed} failed")
    details.append(f"submitted {_since(job.created_at, now)} ago")
    if job.heartbeat_at is not None and not job.done:
        details.append(f"last heartbeat {_since(job.heartbeat_at, now)} ago")
    if items:
        details.append(_work(items))
    return details


def _work(items: Sequence[Item]) -> str:
    """Name the workers and the first of their items."""
    workers = sorted({plain(item.worker) for item in items if item.worker})
    names = ", ".join(_shortened(plain(item.name), 40) for item in items[:ITEMS_SHOWN])
    more = f" and {len(items) - ITEMS_SHOWN} more" if len(items) > ITEMS_SHOWN else ""
    return f"{', '.join(workers)}: {names}{more}" if workers else f"{names}{more}"


def _say(job: Job, message: str) -> None:
    name = _shortened(plain(job.name), 60)
    out.print(Text.assemble((plain(job.id), "bold"), f" {name}: {message}"), soft_wrap=True)


def _words(name: str) -> str:
    return plain(name.replace("_", " "))


def _items(count: int) -> str:
    return f"{count} item{'' if count == 1 else 's'}"


def _since(then: str, now: str) -> str:
    return duration((datetime.fromisoformat(now) - datetime.fromisoformat(then)).total_seconds())


def _shortened(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"
