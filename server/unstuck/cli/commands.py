"""The program `unstuck`: decides which commands there are, and turns words into calls and results into words.

It must not know any rule of jobs or of a server.
Next: console.py, which the commands share, with their exit codes; backup.py, doctor.py, jobs.py, prune.py and
settings.py.
"""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.logging import RichHandler
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from unstuck import __version__
from unstuck.cli.backup import backup, restore
from unstuck.cli.console import LOCAL, Url, client_errors, err, out, plain, stop
from unstuck.cli.doctor import doctor
from unstuck.cli.help import Command, Group
from unstuck.cli.jobs import fail, jobs, rescue
from unstuck.cli.prune import prune
from unstuck.cli.settings import settings
from unstuck.errors import CannotStart
from unstuck.jobs.labels import counted
from unstuck.settings import Settings, load
from unstuck.wire import Job

HELP = """Background work on many files, with progress that is never stuck.

`unstuck COMMAND --help` explains a command. The commands that talk to a server take its address as --url.

Examples:
  unstuck serve
  unstuck watch $(unstuck submit checksum *.csv)

Exit codes:
  0    success
  1    a negative result, such as a failed job; see the command's help
  2    a mistake, or the server refused or did not answer
  3    no news of a watched job for 30 minutes
  130  interrupted with Ctrl-C
"""

cli = typer.Typer(
    cls=Group,
    help=HELP,
    subcommand_metavar="COMMAND",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _version(show: bool) -> None:
    if show:
        out.print(f"unstuck {__version__}", highlight=False)
        raise typer.Exit


@cli.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


def serve(
    host: Annotated[
        str | None, typer.Option(metavar="HOST", help="Address to listen on. [default: 127.0.0.1]")
    ] = None,
    port: Annotated[
        int | None, typer.Option(metavar="PORT", help="TCP port; 0 picks a free one. [default: 8765]")
    ] = None,
    data: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="Folder of the database and the files.")
    ] = None,
    app: Annotated[
        str | None, typer.Option(metavar="FILE", help="Python file, or module, that declares your own kinds.")
    ] = None,
    command: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=COMMAND", help="Offer a command line as a kind. Repeatable."),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(metavar="NUMBER", help="Worker processes. [default: one per core]")
    ] = None,
    allowed_host: Annotated[
        list[str] | None,
        typer.Option(metavar="HOST", help="Accept requests for this host name too. Repeatable."),
    ] = None,
    tls_cert: Annotated[
        str | None, typer.Option(metavar="FILE", help="Certificate (PEM); with --tls-key, serve HTTPS.")
    ] = None,
    tls_key: Annotated[
        str | None, typer.Option(metavar="FILE", help="Private key (PEM) of the certificate.")
    ] = None,
    log_level: Annotated[
        str | None, typer.Option(metavar="LEVEL", help="debug, info, warning or error. [default: info]")
    ] = None,
) -> None:
    """Start the server.

    Every setting can also be given as an environment variable; `unstuck settings` lists them. Ctrl-C or SIGTERM
    stops the server; unfinished jobs continue with the next start.

    Examples:
      unstuck serve --port 8765 --data /var/lib/unstuck
      unstuck serve --app mywork.py --workers 4
      unstuck serve --command 'to-mp3=ffmpeg -i {input} {output}.mp3'

    Exit codes:
      0    stopped by Ctrl-C or SIGTERM
      2    cannot start: a wrong setting, folder, file or address
    """
    from unstuck import app as application  # here, so that --version and --help stay fast
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
    url: Url = LOCAL,
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
    print(plain(job.id))


def retry(
    job_id: Annotated[str, typer.Argument(metavar="JOB_ID", help="Id of a finished job.")],
    everything: Annotated[
        bool, typer.Option("--all", help="Repeat all items, not only those that failed or were cancelled.")
    ] = False,
    url: Url = LOCAL,
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
    with client_errors():
        from unstuck.client import client

        job = client.retry(job_id, "all" if everything else "failed", url=url)
    print(plain(job.id))


def watch(
    job_id: Annotated[str, typer.Argument(metavar="JOB_ID", help="Id of the job.")], url: Url = LOCAL
) -> None:
    """Show a job's progress until it is done.

    Survives lost connections and server restarts. Ctrl-C stops watching; the job continues.

    Examples:
      unstuck watch 1b4e28ba-2fa1-4d3b-a3f5-ef19b5a7633b
      unstuck watch $(unstuck submit checksum *.csv) && echo "all files done"

    Exit codes:
      0    the job completed
      1    the job failed, was cancelled, or completed with errors
      2    a mistake, or the server refused or does not know the job
      3    no news of the job for 30 minutes; the job itself continues
      130  interrupted with Ctrl-C; the job itself continues
    """
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
            bar = progress.add_task(plain(job_id), total=None, note="connecting")
            for job in client.watch(job_id, url=url, on_link=lambda link: progress.update(bar, note=_link(link))):
                counts = job.progress
                progress.update(
                    bar,
                    description=plain(f"{job.name}: {counts.processed:,} {_of_total(job)}"),
                    completed=counts.percent or 0,
                    total=None if counts.percent is None else 100,
                )
    assert job is not None  # `watch` yields a job that is done, or raises
    for line in (_sentence(job), *(f"  {one.name}: {one.message or one.code}" for one in job.item_errors)):
        out.print(plain(line), highlight=False, markup=False, soft_wrap=True)
    sys.exit(0 if job.state == "completed" else 1)


for command in (serve, submit, watch, retry, jobs, rescue, fail, prune, backup, restore, doctor, settings):
    cli.command(cls=Command)(command)


def main() -> None:
    """Run the program."""
    cli(prog_name="unstuck")


def _option(text: str) -> tuple[str, Any]:
    """Parse NAME=VALUE; a value that is JSON (2, true, null) is taken as such, anything else as text."""
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise typer.BadParameter(f"{text!r} is not NAME=VALUE", param_hint="--option")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _link(link: str) -> str:
    """Return the state of the connection in words, or nothing if all is well."""
    return "" if link in ("live", "polling", "ended") else link.replace("_", " ")


def _sentence(job: Job) -> str:
    counts = job.progress
    parts = [f"{counts[name]} {name}" for name in ("succeeded", "failed", "skipped") if counts[name]]
    summary = f"{job.state.replace('_', ' ')}: {', '.join(parts) or '0 done'} {_of_total(job)}"
    return f"{summary} – {job.error.message}" if job.error else summary


def _of_total(job: Job) -> str:
    """Return how many items there are: of 25 rows, or just rows if that is not known."""
    total, unit, units = job.progress.total, job.get("unit", "item"), job.get("units", "items")
    return units if total is None else f"of {counted(total, unit, units)}"


def _greet(settings: Settings, port: int) -> None:
    scheme = "https" if settings.tls_cert else "http"
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(settings.host, settings.host)  # noqa: S104
    if ":" in host and not host.startswith("["):
        host = f"[{host}]"
    address = f"{scheme}://{host}:{port}"
    line = f"curl -F kind=checksum -F files=@README.md {address}/api/jobs"
    out.print(Text.assemble("\nunstuck ", (__version__, "bold"), " serves ", (address, "bold underline")))
    out.print(Text.assemble("  data  ", plain(str(settings.folder))), soft_wrap=True)
    out.print(Text.assemble("  try   ", line, "\n"), soft_wrap=True)


class _PlainLines(logging.Formatter):
    """Formats log lines for a terminal, which must not obey names that they repeat."""

    def format(self, record: logging.LogRecord) -> str:
        return "\n".join(plain(line) for line in super().format(record).splitlines())


def _log_to_terminal(level: str) -> None:
    if sys.stderr.isatty():
        handler: logging.Handler = RichHandler(console=err, show_path=False, rich_tracebacks=False)
        handler.setFormatter(_PlainLines("%(message)s"))
    else:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logging.basicConfig(level=level.upper(), handlers=[handler])
    for noisy in ("uvicorn.error", "python_multipart.multipart", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
