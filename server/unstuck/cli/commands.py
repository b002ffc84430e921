"""The command line. It reads words and shows words; every rule is elsewhere.

Exit codes: 0 done, 2 something to mend in what was asked for (the message says what). `watch` also has
1 for a job that did not end well, and 3 for one of which there was no news any more.
"""

from __future__ import annotations

import json
import logging
import sys
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.logging import RichHandler
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from unstuck import __version__
from unstuck.cli.console import LOCAL, Url, client_errors, err, out, stop
from unstuck.cli.doctor import doctor
from unstuck.cli.jobs import fail, jobs, rescue
from unstuck.cli.prune import prune
from unstuck.errors import CannotStart
from unstuck.settings import PREFIX, Settings, load, source
from unstuck.wire import Job

cli = typer.Typer(
    help="Background work on many files, with progress that is never stuck.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _version(wanted: bool) -> None:
    if wanted:
        out.print(f"unstuck {__version__}", highlight=False)
        raise typer.Exit


@cli.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


@cli.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on. [default: 127.0.0.1]")] = None,
    port: Annotated[int | None, typer.Option(help="TCP port; 0 takes a free one. [default: 8765]")] = None,
    data: Annotated[str | None, typer.Option(help="Folder for the database and the files.")] = None,
    app: Annotated[str | None, typer.Option(help="Python file or module with kinds of your own.")] = None,
    command: Annotated[
        list[str] | None, typer.Option(help="Offer a command line as a kind: NAME=COMMAND. Repeatable.")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Worker processes. [default: one for each core]")] = None,
    allowed_host: Annotated[
        list[str] | None, typer.Option(help="A host name that requests may come in under. Repeatable.")
    ] = None,
    tls_cert: Annotated[str | None, typer.Option(help="Certificate file (PEM): serve HTTPS.")] = None,
    tls_key: Annotated[str | None, typer.Option(help="Private key file (PEM) of the certificate.")] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error.")] = None,
) -> None:
    """Start the server. Every setting can also be given as UNSTUCK_… (see `unstuck settings`)."""
    from unstuck import app as application  # here, so that --version and --help stay quick
    from unstuck import serve as server

    given = {
        "host": host,
        "port": port,
        "data": data,
        "app": app,
        "commands": tuple(command) if command else None,
        "workers": workers,
        "tls_cert": tls_cert,
        "tls_key": tls_key,
        "log_level": log_level,
    }
    try:
        settings = load(given)
        if allowed_host:
            given["allowed_hosts"] = (*settings.allowed_hosts, *allowed_host)
            settings = load(given)
        _log_to_terminal(settings.log_level)
        server.check_tls(settings)
        listener = server.listen(settings)
    except CannotStart as error:
        stop(error)
    with listener:
        port = listener.getsockname()[1]
        try:
            server.run(application.create_app(settings), settings, listener, lambda: _greet(settings, port))
        except CannotStart as error:
            stop(error)


@cli.command()
def settings() -> None:
    """List every setting, its value, and where the value comes from."""
    try:
        found = load()
    except CannotStart as error:
        stop(error)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("setting", "value", "from", "meaning"):
        table.add_column(column, overflow="fold")
    for one in fields(Settings):
        value = getattr(found, one.name)
        shown = ", ".join(value) if isinstance(value, tuple) else str(value)
        if one.metadata["secret"] and shown:
            shown = "(set)"
        table.add_row(
            Text(f"{PREFIX}{one.name.upper()}"), Text(shown), source(one.name, {}), Text(one.metadata["help"])
        )
    out.print(table)


@cli.command()
def submit(
    kind: Annotated[str, typer.Argument(help="Kind of work, such as checksum.")],
    files: Annotated[
        list[Path] | None, typer.Argument(help="The files to work on.", exists=True, dir_okay=False)
    ] = None,
    option: Annotated[
        list[str] | None, typer.Option(help="An option of the kind: NAME=VALUE. Repeatable.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="A label for people.")] = None,
    total: Annotated[int | None, typer.Option(help="Number of items, for a kind that needs no files.")] = None,
    priority: Annotated[int | None, typer.Option(help="Higher goes first. [default: 0]")] = None,
    max_attempts: Annotated[int | None, typer.Option(help="Attempts at an item.")] = None,
    max_errors: Annotated[int | None, typer.Option(help="Failed items that are put up with.")] = None,
    deadline_seconds: Annotated[float | None, typer.Option(help="From now on; then the job fails.")] = None,
    item_limit_seconds: Annotated[float | None, typer.Option(help="Longest work on one item.")] = None,
    webhook_url: Annotated[str | None, typer.Option(help="Who is told of the job's end.")] = None,
    url: Url = LOCAL,
) -> None:
    """Submit a job, and print its id: `unstuck watch $(unstuck submit checksum *.csv)`."""
    options = dict(_option(text) for text in option or ())
    with client_errors():
        from unstuck.client import client

        job = client.submit(
            kind,
            url=url,
            files=files or None,
            options=options,
            name=name,
            total=total,
            priority=priority,
            max_attempts=max_attempts,
            max_errors=max_errors,
            deadline_seconds=deadline_seconds,
            item_limit_seconds=item_limit_seconds,
            webhook_url=webhook_url,
        )
    print(job.id)


@cli.command()
def retry(
    job_id: Annotated[str, typer.Argument(help="Id of a finished job.")],
    everything: Annotated[
        bool, typer.Option("--all", help="All of it, and not only what failed or was cancelled.")
    ] = False,
    url: Url = LOCAL,
) -> None:
    """Do over what failed in a job, as a new job, and print its id."""
    with client_errors():
        from unstuck.client import client

        job = client.retry(job_id, "all" if everything else "failed", url=url)
    print(job.id)


@cli.command()
def watch(job_id: Annotated[str, typer.Argument(help="Id of the job.")], url: Url = LOCAL) -> None:
    """Show a job's progress until its end. Ctrl-C stops the watching; the job goes on."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
    )
    job: Job | None = None
    with client_errors():
        from unstuck.client import client

        with Progress(*columns, TextColumn("{task.fields[note]}", markup=False), console=err) as progress:
            bar = progress.add_task(job_id, total=None, note="connecting")
            for job in client.watch(job_id, url=url, on_link=lambda link: progress.update(bar, note=_link(link))):
                counts = job.progress
                progress.update(
                    bar,
                    description=f"{job.name}: {counts.processed} of {counts.total or '?'}",
                    completed=counts.percent or 0,
                    total=None if counts.percent is None else 100,
                )
    assert job is not None  # watching ends with a job that is done, or raises
    out.print(_sentence(job), highlight=False, markup=False, soft_wrap=True)
    for one in job.item_errors:
        out.print(f"  {one.name}: {one.message or one.code}", highlight=False, markup=False, soft_wrap=True)
    sys.exit(0 if job.state == "completed" else 1)


cli.command()(doctor)
cli.command()(jobs)
cli.command()(rescue)
cli.command()(fail)
cli.command()(prune)


def main() -> None:
    """The console command."""
    cli()


def _option(text: str) -> tuple[str, Any]:
    """NAME=VALUE; a value that is JSON (2, true, null) is taken as such, anything else as text."""
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise typer.BadParameter(f"{text!r} is not NAME=VALUE", param_hint="--option")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _link(link: str) -> str:
    """How the connection stands, where that is worth a word."""
    return "" if link in ("live", "polling", "ended") else link.replace("_", " ")


def _sentence(job: Job) -> str:
    counts = job.progress
    parts = [f"{counts[name]} {name}" for name in ("succeeded", "failed", "skipped") if counts[name]]
    said = f"{job.state.replace('_', ' ')}: {', '.join(parts) or 'nothing was done'} of {counts.total or '?'}"
    return f"{said} – {job.error.message}" if job.error else said


def _greet(settings: Settings, port: int) -> None:
    scheme = "https" if settings.tls_cert else "http"
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(settings.host, settings.host)  # noqa: S104
    if ":" in host and not host.startswith("["):
        host = f"[{host}]"
    address = f"{scheme}://{host}:{port}"
    line = f"curl -F kind=checksum -F files=@README.md {address}/api/jobs"
    out.print(Text.assemble("\nunstuck ", (__version__, "bold"), " serves ", (address, "bold underline")))
    out.print(Text.assemble("  data  ", str(settings.folder)), soft_wrap=True)
    out.print(Text.assemble("  try   ", line, "\n"), soft_wrap=True)


def _log_to_terminal(level: str) -> None:
    if sys.stderr.isatty():
        handler: logging.Handler = RichHandler(console=err, show_path=False, rich_tracebacks=False)
        handler.setFormatter(logging.Formatter("%(message)s"))
    else:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logging.basicConfig(level=level.upper(), handlers=[handler])
    for noisy in ("uvicorn.error", "python_multipart.multipart", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
