"""`unstuck jobs`, `rescue` and `fail`: what an operator asks a server about its jobs, and does with those stuck.

One function for each command. They say what they are about to do, and what they did; what that means for a job
is decided by the server. Exit codes: 0 done, also where there was nothing to do; 1 not confirmed; 2 something
to mend, or a job for which it could not be done.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from unstuck.cli.console import LOCAL, Url, client_errors, complain, duration, out, plain
from unstuck.errors import UnstuckError

if TYPE_CHECKING:
    from unstuck.client.client import Client
    from unstuck.wire import Item, Job

STUCK = ("waiting_long", "stalled", "unresponsive")
#: Of the items that run, so many are shown for each job.
ITEMS_SHOWN = 3
#: One page of the server's; more items than any machine works on at a time.
ITEMS_ASKED = 1_000
TONES = {"stalled": "yellow", "waiting_long": "yellow", "unresponsive": "bold red", "failed": "red"}

Ids = Annotated[list[str], typer.Argument(help="Ids of the jobs.", metavar="ID…")]


def jobs(
    stuck: Annotated[bool, typer.Option("--stuck", help="Only jobs that do not get on.")] = False,
    state: Annotated[list[str] | None, typer.Option(help="Only jobs in this state. Repeatable.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=200, help="How many, the newest first.")] = 50,
    ids: Annotated[bool, typer.Option("--ids", help="Print the ids alone, for another command.")] = False,
    url: Url = LOCAL,
) -> None:
    """List the server's jobs, with what is known of each: `unstuck jobs --stuck`."""

    async def ask(client: Client) -> tuple[list[Job], list[list[Item]], bool]:
        page = await client.jobs(states=state or (), healths=STUCK if stuck else (), limit=limit)
        running = [[] if ids else await _running(client, job) for job in page.jobs]
        return page.jobs, running, page.next is not None

    with client_errors():
        found, running, more = _with_client(url, ask)
    if ids:
        for job in found:
            print(job.id)
        return
    if not found:
        out.print("No job needs attention." if stuck else "There are no such jobs.")
        return
    # A pipe has no width that lines would have to be broken for.
    (out if out.is_terminal else Console(width=200)).print(_table(found, running))
    if more:
        out.print(f"There are more; --limit shows up to 200, these are the newest {limit}.")


def rescue(
    job_ids: Ids,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask first.")] = False,
    url: Url = LOCAL,
) -> None:
    """Take what a job works on from its workers, and have it tried again."""

    async def each(client: Client, job_id: str) -> None:
        job = await client.job(job_id)
        running = await _running(client, job)
        if not running and not job.done:  # of a finished job the server says so itself
            _say(job, "nothing of it runs, so there is nothing to take back. It goes on when a worker is free.")
            return
        last = sum(item.attempt >= job.max_attempts for item in running)
        lines = [f"{_items(len(running))} taken from the worker and tried again."]
        lines += [f"{_items(last)} at the last attempt, and will fail instead."] if last else []
        if not job.done:
            _say(job, " ".join([*lines, "What is done stays done."]))
            _confirm(yes, "Go on?")
        after = await client.rescue(job_id)
        failed = after.progress.failed - job.progress.failed
        _say(job, f"done: {_state(after)}, {_items(max(len(running) - failed, 0))} tried again, {failed} failed.")

    _for_each(job_ids, url, each)


def fail(
    job_ids: Ids,
    why: Annotated[
        str, typer.Option(help="The reason; everybody who looks at the job reads it.", show_default=False)
    ],
    url: Url = LOCAL,
) -> None:
    """Give up on a job: it ends as failed, and what runs is stopped, by force if need be."""

    async def each(client: Client, job_id: str) -> None:
        job = await client.job(job_id)
        running = len(await _running(client, job))
        waiting = max((job.progress.total or 0) - job.progress.processed - running, 0)
        if not job.done:
            _say(job, f"{_items(running)} stopped, {_items(waiting)} cancelled; what is done stays done.")
        after = await client.fail(job_id, why)
        _say(job, f"done: {_state(after)}." if after.done else "done: it fails as soon as its work has stopped.")

    _for_each(job_ids, url, each)


# -- asking the server


def _with_client(url: str, ask: Callable[[Client], Awaitable[Any]]) -> Any:
    from unstuck.client.client import Client  # here, since it needs an extra, and --help stays quick

    async def run() -> Any:
        async with Client(url) as client:
            return await ask(client)

    return asyncio.run(run())


def _for_each(job_ids: Sequence[str], url: str, each: Callable[[Client, str], Awaitable[None]]) -> None:
    """One job after the other; one that is refused does not spare the others, but shows in the exit code."""

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
        complain("Nobody can be asked here; say --yes to do it.")
        sys.exit(2)
    if not typer.confirm(question):
        sys.exit(1)


# -- in words


def _table(found: Sequence[Job], running: Sequence[Sequence[Item]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", collapse_padding=True)
    table.add_column("job", no_wrap=True, min_width=36)
    for column in ("state", "progress", "age", "last sign of life"):
        table.add_column(column)
    table.add_column("worker and items", overflow="fold")
    for job, items in zip(found, running, strict=True):
        now = job.server_time
        table.add_row(
            Text.assemble(job.id, "\n", (_shortened(plain(job.name), 36), "dim")),
            _standing(job),
            _progress(job),
            _since(job.created_at, now),
            "–" if job.done or job.heartbeat_at is None else f"{_since(job.heartbeat_at, now)} ago",
            _work(items),
        )
    return table


def _standing(job: Job) -> Text:
    state, health = job.state.replace("_", " "), job.health
    text = Text(state, style=TONES.get(job.state, ""))
    if health not in (None, "ok"):
        text.append(f"\n{health.replace('_', ' ')}", style=TONES.get(health, ""))
    elif job.cancel_requested and not job.done:
        text.append("\ncancelling")
    return text


def _progress(job: Job) -> str:
    counts = job.progress
    said = f"{counts.processed} of {counts.total or '?'}"
    return f"{said}\n{counts.failed} failed" if counts.failed else said


def _work(items: Sequence[Item]) -> Text:
    workers = sorted({plain(item.worker) for item in items if item.worker})
    names = [_shortened(plain(item.name), 40) for item in items[:ITEMS_SHOWN]]
    more = [f"and {len(items) - ITEMS_SHOWN} more"] if len(items) > ITEMS_SHOWN else []
    return Text("\n".join([*workers, *names, *more]) or "–")


def _say(job: Job, what: str) -> None:
    name = _shortened(plain(job.name), 60)
    out.print(Text.assemble((job.id, "bold"), f" {name}: {what}"), soft_wrap=True)


def _state(job: Job) -> str:
    return f"the job is {job.state.replace('_', ' ')}"


def _items(count: int) -> str:
    return f"{count} item is" if count == 1 else f"{count} items are"


def _since(then: str, now: str) -> str:
    return duration((datetime.fromisoformat(now) - datetime.fromisoformat(then)).total_seconds())


def _shortened(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"
