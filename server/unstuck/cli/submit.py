"""`unstuck submit` and `retry`: decide how words on the command line become a job.

They must not know what a kind's options mean: the server checks them.
See also: client/client.py, which sends the job.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unstuck.address import DEFAULT_URL
from unstuck.cli.console import AsJson, Url, client_errors, plain, print_json
from unstuck.cli.remote import ask, full_id

if TYPE_CHECKING:
    from unstuck.client import Client
    from unstuck.wire import Job

#: How long a submission is tried while the server does not answer (seconds): longer than its restart takes.
PATIENCE_S = 30.0


def submit(
    kind: Annotated[str, typer.Argument(metavar="KIND", help="Kind of work, such as checksum.")],
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="FILE…", help="Files to work on.", exists=True, dir_okay=False),
    ] = None,
    option: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="An option of the kind. Repeatable.")
    ] = None,
    name: Annotated[str | None, typer.Option(metavar="TEXT", help="A name for the job, shown to users.")] = None,
    total: Annotated[
        int | None, typer.Option(metavar="NUMBER", help="Number of items, for a kind that needs no files.")
    ] = None,
    priority: Annotated[
        int | None, typer.Option(metavar="NUMBER", help="Jobs of a higher priority start first. [default: 0]")
    ] = None,
    max_attempts: Annotated[
        int | None, typer.Option(metavar="NUMBER", help="Maximum number of attempts at each item.")
    ] = None,
    max_errors: Annotated[
        int | None, typer.Option(metavar="NUMBER", help="Fail the job after more than this many failed items.")
    ] = None,
    deadline_seconds: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="Fail the job if it is not done within this time.")
    ] = None,
    item_limit_seconds: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="Maximum time for one attempt at an item.")
    ] = None,
    webhook_url: Annotated[
        str | None, typer.Option(metavar="URL", help="Post the finished job to this address.")
    ] = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Submit a job and print its id.

    A VALUE that is JSON, such as 2, true or null, is sent as such; anything else is sent as text.

    Examples:
      unstuck submit checksum *.csv
      unstuck submit rehearsal --total 20 --option seconds=0.5 --name "A test"
      unstuck watch $(unstuck submit checksum *.csv)

    Exit codes:
      0    submitted
      2    a mistake, or the server refused or did not answer
      130  interrupted with Ctrl-C
    """
    options = dict(_option(text) for text in option or ())
    with client_errors():
        from unstuck.client.form import uploads  # here: the client needs an extra

        ready = uploads(files or ())  # in this thread, which Ctrl-C interrupts while a pipe is read

    async def question(client: Client) -> Job:
        return await client.submit(
            kind,
            files=ready or None,
            options=options,
            name=name,
            total=total,
            priority=priority,
            max_attempts=max_attempts,
            max_errors=max_errors,
            deadline_seconds=deadline_seconds,
            item_limit_seconds=item_limit_seconds,
            webhook_url=webhook_url,
            patience_s=PATIENCE_S,
        )

    _print(ask(url, question), as_json=as_json)


def retry(
    job_id: Annotated[
        str, typer.Argument(metavar="JOB_ID", help="Id of a finished job, or its first characters.")
    ],
    everything: Annotated[
        bool, typer.Option("--all", help="Repeat all items, not only those that failed or were cancelled.")
    ] = False,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Start a new job for what failed in another, and print its id.

    The new job has the items of the finished one that failed or were cancelled.

    Examples:
      unstuck retry 1b4e28ba-2fa1-4d3b-a3f5-ef19b5a7633b
      unstuck watch $(unstuck retry --all 1b4e28ba-2fa1-4d3b-a3f5-ef19b5a7633b)

    Exit codes:
      0    submitted
      2    a mistake, or the server refused or did not answer
      130  interrupted with Ctrl-C
    """

    async def question(client: Client) -> Job:
        return await client.retry(await full_id(client, job_id), "all" if everything else "failed")

    _print(ask(url, question), as_json=as_json)


def _print(job: Job, *, as_json: bool) -> None:
    if as_json:
        print_json(job)
    else:
        print(plain(job.id))


def _option(text: str) -> tuple[str, Any]:
    """Parse NAME=VALUE; a value that is JSON (2, true, null) is taken as such, anything else as text."""
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise typer.BadParameter(f"{text!r} is not NAME=VALUE", param_hint="--option")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value
