"""The command line. It reads words and shows words; every rule is elsewhere.

Exit codes: 0 done, 2 something to mend in what was asked for (the message says what).
"""

from __future__ import annotations

import logging
import sys
from dataclasses import fields
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.logging import RichHandler
from rich.table import Table
from rich.text import Text

from unstuck import __version__
from unstuck.errors import CannotStart
from unstuck.settings import PREFIX, Settings, load, source

cli = typer.Typer(
    help="Background work on many files, with progress that is never stuck.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
_out = Console()
_err = Console(stderr=True)


def _version(wanted: bool) -> None:
    if wanted:
        _out.print(f"unstuck {__version__}", highlight=False)
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
        _stop(error)
    with listener:
        port = listener.getsockname()[1]
        try:
            server.run(application.create_app(settings), settings, listener, lambda: _greet(settings, port))
        except CannotStart as error:
            _stop(error)


@cli.command()
def settings() -> None:
    """List every setting, its value, and where the value comes from."""
    try:
        found = load()
    except CannotStart as error:
        _stop(error)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("setting", "value", "from", "meaning"):
        table.add_column(column, overflow="fold")
    for one in fields(Settings):
        value = getattr(found, one.name)
        shown = ", ".join(value) if isinstance(value, tuple) else str(value)
        table.add_row(
            Text(f"{PREFIX}{one.name.upper()}"), Text(shown), source(one.name, {}), Text(one.metadata["help"])
        )
    _out.print(table)


def main() -> None:
    """The console command."""
    cli()


def _stop(error: CannotStart) -> NoReturn:
    _err.print(Text.assemble(("unstuck: ", "bold red"), error.detail), soft_wrap=True)
    sys.exit(2)


def _greet(settings: Settings, port: int) -> None:
    scheme = "https" if settings.tls_cert else "http"
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(settings.host, settings.host)  # noqa: S104
    if ":" in host and not host.startswith("["):
        host = f"[{host}]"
    address = f"{scheme}://{host}:{port}"
    line = f"curl -F kind=checksum -F files=@README.md {address}/api/jobs"
    _out.print(Text.assemble("\nunstuck ", (__version__, "bold"), " serves ", (address, "bold underline")))
    _out.print(Text.assemble("  data  ", str(settings.folder)), soft_wrap=True)
    _out.print(Text.assemble("  try   ", line, "\n"), soft_wrap=True)


def _log_to_terminal(level: str) -> None:
    if sys.stderr.isatty():
        handler: logging.Handler = RichHandler(console=_err, show_path=False, rich_tracebacks=False)
        handler.setFormatter(logging.Formatter("%(message)s"))
    else:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logging.basicConfig(level=level.upper(), handlers=[handler])
    for noisy in ("uvicorn.error", "python_multipart.multipart", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
