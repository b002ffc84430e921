"""`unstuck jobs`, `show` and `kinds`: decide how a server's jobs, one job, and kinds of work read in a terminal.

On a terminal a list is a table that fits its width; in a pipe each row is one line, whole, with tabs between its
columns. They must not know what any of it means: the server decides that.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.padding import Padding
from rich.text import Text

from unstuck.address import DEFAULT_URL
from unstuck.cli.console import AsJson, JobId, Url, duration, err, out, plain, print_json, shortened, spaced
from unstuck.cli.remote import SHOWN, ask, full_id, running_items, short_id
from unstuck.wire import Jobs

if TYPE_CHECKING:
    from unstuck.client import Client
    from unstuck.wire import Item, Job, Kind, Kinds

STUCK = ("waiting_long", "stalled", "unresponsive")
#: Running items that are named for each job.
ITEMS_SHOWN = 3
#: Failed items that `show` names, unless all are requested.
FAILURES_SHOWN = 10
TONES = {"stalled": "yellow", "waiting_long": "yellow", "unresponsive": "bold red", "failed": "red"}
#: The least room for a name in a table (characters).
NAME_LEAST = 12


def jobs(
    stuck: Annotated[bool, typer.Option("--stuck", help="List only jobs that are stuck.")] = False,
    state: Annotated[
        list[str] | None, typer.Option(metavar="STATE", help="List only jobs in this state. Repeatable.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(metavar="TEXT", help="List only jobs whose name contains this.")
    ] = None,
    limit: Annotated[
        int, typer.Option(metavar="NUMBER", min=1, max=200, help="List at most this many jobs, 1 to 200.")
    ] = 50,
    ids: Annotated[bool, typer.Option("--ids", help="Print only the ids, for another command.")] = False,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """List the jobs of a server, newest first.

    Shows each job's name, state, progress, age and the beginning of its id, which the other commands take. In a
    pipe each job is one line with its whole id. A STATE is queued, running, completed, completed_with_errors,
    failed or cancelled.

    Examples:
      unstuck jobs --state queued --state running
      unstuck jobs --name invoices
      unstuck jobs --stuck
      unstuck rescue $(unstuck jobs --stuck --ids)

    Exit codes:
      0    listed, even if there are no such jobs
      2    a mistake, or the server refused or did not answer
      130  interrupted with Ctrl-C
    """

    async def question(client: Client) -> tuple[Jobs, list[list[Item]]]:
        page = await _newest(client, states=state or (), healths=STUCK if stuck else (), name=name, limit=limit)
        running = [[] if ids or as_json else await running_items(client, job) for job in page.jobs]
        return page, running

    page, running = ask(url, question)
    if as_json:
        print_json(page)
    elif ids:
        for job in page.jobs:
            print(plain(job.id))
    elif not page.jobs:
        out.print("No job needs attention." if stuck else "There are no such jobs.")
    else:
        _list(page.jobs, running)
    if page.next is not None and not as_json:
        err.print(f"These are the newest {limit}; --limit shows up to 200.")


def show(
    job_id: JobId,
    failed: Annotated[bool, typer.Option("--failed", help="List every failed item, one per line.")] = False,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Show one job: its state, times, counts and errors.

    Examples:
      unstuck show 1b4e28ba
      unstuck show 1b4e28ba --failed | cut -f 1

    Exit codes:
      0    shown, whatever the job's state
      2    a mistake, or the server refused or did not answer
      130  interrupted with Ctrl-C
    """

    async def question(client: Client) -> None:
        job = await client.job(await full_id(client, job_id))
        if as_json and not failed:
            print_json(job)
        elif failed:
            cursor: str | None = None
            while True:  # page by page, since a million items can have failed
                page = await client.items(job.id, states=["failed"], limit=500, cursor=cursor)
                for item in page.items:
                    if as_json:
                        print_json(item, indent=None)
                    else:
                        print(*_failure(item), sep="\t")
                if (cursor := page.next) is None:
                    return
        else:
            page = await client.items(job.id, states=["failed"], limit=FAILURES_SHOWN)
            _show(job, await running_items(client, job), page.items, await _obstacle(client, job))

    ask(url, question)


def kinds(as_json: AsJson = False, url: Url = DEFAULT_URL) -> None:
    """List the kinds of work that a server offers, and their options.

    Examples:
      unstuck kinds
      unstuck kinds --json

    Exit codes:
      0    listed
      2    a mistake, or the server refused or did not answer
      130  interrupted with Ctrl-C
    """

    async def question(client: Client) -> Kinds:
        return await client.kinds()

    found = ask(url, question)
    if as_json:
        print_json(found)
        return
    for kind in found.kinds:
        _show_kind(kind)


# -- a list of jobs


async def _newest(client: Client, limit: int, **wanted: Any) -> Jobs:
    """Return the newest of these jobs; a search by name may take several pages to find them."""
    page = await client.jobs(limit=limit, **wanted)
    found = list(page.jobs)
    while page.next is not None and len(found) < limit:
        page = await client.jobs(limit=limit - len(found), cursor=page.next, **wanted)
        found += page.jobs
    return Jobs(jobs=found, next=page.next)


def _list(found: Sequence[Job], running: Sequence[Sequence[Item]]) -> None:
    """Print a row for each job and, on a terminal, a second one if there is more to say."""
    if not out.is_terminal:
        for job, items in zip(found, running, strict=True):
            details = " · ".join(_details(job, items))
            print(plain(job.name), _standing(job).plain, _counts(job), _age(job), plain(job.id), details, sep="\t")
        return
    rows = [(_standing(job), _counts(job), _age(job)) for job in found]
    widths = [max(len(row[place]) for row in rows) for place in range(3)]
    room = max(out.width - sum(widths) - SHOWN - 8, NAME_LEAST)  # 8: four gaps of two
    width = min(room, max(len(plain(job.name)) for job in found))
    for job, items, (standing, counts, age) in zip(found, running, rows, strict=True):
        name = Text(shortened(plain(job.name), width).ljust(width), style="bold")
        standing.pad_right(widths[0] - len(standing))
        columns = (name, standing, counts.rjust(widths[1]), age.rjust(widths[2]), short_id(job))
        line = Text("  ").join(column if isinstance(column, Text) else Text(column) for column in columns)
        out.print(line, no_wrap=True, overflow="ignore", crop=False)
        if details := " · ".join(_details(job, items)):
            out.print(Padding(Text(details, style="dim"), (0, 0, 0, 2), expand=False))


def _standing(job: Job) -> Text:
    """Return the job's state, and its health unless that is ok."""
    text, health = Text(spaced(job.state), style=TONES.get(job.state, "")), job.health
    if health not in (None, "ok"):
        text.append(f", {spaced(health)}", style=TONES.get(health, ""))
    elif job.cancel_requested and not job.done:
        text.append(", cancelling")
    return text


def _counts(job: Job) -> str:
    total = "?" if job.progress.total is None else f"{job.progress.total:,}"
    return f"{job.progress.processed:,} of {total}"


def _age(job: Job) -> str:
    return f"{_since(job.created_at, job.server_time)} ago"


def _details(job: Job, items: Sequence[Item]) -> list[str]:
    details = []
    if job.progress.failed:
        details.append(f"{job.progress.failed:,} failed")
    if job.heartbeat_at is not None and not job.done:
        details.append(f"last heartbeat {_since(job.heartbeat_at, job.server_time)} ago")
    if items:
        details.append(_work(items))
    return details


def _work(items: Sequence[Item]) -> str:
    """Name the workers and the first of their items."""
    workers = sorted({plain(item.worker) for item in items if item.worker})
    names = ", ".join(shortened(plain(item.name), 40) for item in items[:ITEMS_SHOWN])
    more = f" and {len(items) - ITEMS_SHOWN} more" if len(items) > ITEMS_SHOWN else ""
    return f"{', '.join(workers)}: {names}{more}" if workers else f"{names}{more}"


# -- one job


async def _obstacle(client: Client, job: Job) -> str | None:
    """Return why no worker of this server takes up a job that waits, or None."""
    if job.external or job.done or not (job.state == "queued" or job.health == "waiting_long"):
        return None
    found = next((kind for kind in (await client.kinds()).kinds if kind.name == job.kind), None)
    if found is None:
        return "no worker of this server knows its kind: start a server that does, or cancel it"
    return found.unavailable


def _show(job: Job, running: Sequence[Item], failures: Sequence[Item], obstacle: str | None) -> None:
    out.print(Text(plain(job.name), style="bold"), soft_wrap=True)
    for word, value in _facts(job, running, obstacle):
        out.print(Text.assemble((f"  {word:<10}", "dim"), value), soft_wrap=True)
    for item in failures:
        name, code, message = _failure(item)
        out.print(Text.assemble(("  ✗ ", "red"), f"{name}: {message or code}"), soft_wrap=True)
    if (more := job.progress.failed - len(failures)) > 0:
        out.print(f"  and {more:,} more: unstuck show {short_id(job)} --failed", highlight=False)


def _facts(job: Job, running: Sequence[Item], obstacle: str | None) -> Iterator[tuple[str, str | Text]]:
    """Yield what is known of a job as pairs of a word and its value."""
    yield "id", plain(job.id)
    yield "kind", plain(job.kind)
    yield "state", _standing(job)
    if obstacle is not None:
        yield "waiting", Text(plain(obstacle), style="yellow")
    counts = [f"{job.progress.percent:.0f} %"] if job.progress.percent is not None else []
    numbers = [(name, job.progress[name]) for name in ("succeeded", "failed", "skipped") if job.progress[name]]
    yield "progress", " · ".join([*counts, _counts(job), *(f"{number:,} {name}" for name, number in numbers)])
    if job.progress.eta_seconds is not None and not job.done:
        yield "time left", f"about {duration(job.progress.eta_seconds)}"
    if job.progress.message:
        yield "message", plain(job.progress.message)
    if running:
        yield "running", _work(running)
    for word, time in (("submitted", job.created_at), ("started", job.started_at), ("finished", job.finished_at)):
        if time:
            yield word, f"{plain(time)} ({_since(time, job.server_time)} ago)"
    if job.retry_of:
        yield "retry of", plain(job.retry_of)
    if job.expires_at:
        yield "expires", plain(job.expires_at)
    if job.error:
        yield "error", Text(f"{plain(job.error.message)} ({plain(job.error.code)})", style="red")


def _failure(item: Item) -> tuple[str, str, str]:
    """Return the item's name, and the code and the message of its error."""
    error = item.error
    return plain(item.name), plain(error.code if error else ""), plain(error.message if error else "")


# -- kinds


def _show_kind(kind: Kind) -> None:
    if not out.is_terminal:
        print(plain(kind.name), plain(kind.title), plain(" ".join(kind.description.split())), sep="\t")
        return
    out.print(Text.assemble((plain(kind.name), "bold"), f"  {plain(kind.title)}"), soft_wrap=True)
    if kind.description:
        out.print(Padding(Text(plain(" ".join(kind.description.split()))), (0, 0, 0, 4), expand=False))
    for option in kind.options:
        value = "required" if option.required else f"default: {option.default}"
        choices = f", one of {', '.join(map(str, option.choices))}" if option.choices else ""
        facts = f"({option.type}, {value}{choices}) {option.description}"
        line = Text.assemble((f"--option {plain(option.name)}=", "cyan"), f" {plain(facts)}")
        out.print(Padding(line, (0, 0, 0, 4), expand=False))


# -- words


def _since(then: str, now: str) -> str:
    return duration((datetime.fromisoformat(now) - datetime.fromisoformat(then)).total_seconds())
