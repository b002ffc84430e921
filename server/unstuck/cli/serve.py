"""`unstuck serve`: decides how the server is started from a terminal, and how it greets and logs there.

It must not know how the server works.
See also: unstuck/serve.py, which runs it; settings.py, which lists what can be set.
"""

from __future__ import annotations

import logging
import sys
from typing import Annotated

import typer
from rich.logging import RichHandler
from rich.text import Text

from unstuck import __version__
from unstuck.cli.console import err, out, plain, stop
from unstuck.errors import CannotStart
from unstuck.settings import Settings, load


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
        log_to_terminal(settings.log_level)
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


def log_to_terminal(level: str) -> None:
    """Log to stderr: for people at a terminal, and as lines for programs."""
    if sys.stderr.isatty():
        handler: logging.Handler = RichHandler(console=err, show_path=False, rich_tracebacks=False)
        handler.setFormatter(_PlainLines("%(message)s"))
    else:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logging.basicConfig(level=level.upper(), handlers=[handler])
    for noisy in ("uvicorn.error", "python_multipart.multipart", "asyncio", "httpx", "httpcore"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
