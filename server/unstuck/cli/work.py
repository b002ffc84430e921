"""`unstuck work`: decides how a worker for a server on another machine is started from a terminal.

It must not know how the work is done.
See also: runner/remote.py, which does it; serve.py, which starts a server.
"""

from __future__ import annotations

import asyncio
import signal
from typing import Annotated

import typer

from unstuck.address import URL_VARIABLE, server_url
from unstuck.cli.console import client_errors, out, plain
from unstuck.cli.serve import log_to_terminal
from unstuck.errors import CannotStart
from unstuck.settings import Settings, load


def work(
    server: Annotated[
        str | None,
        typer.Option(metavar="URL", envvar=URL_VARIABLE, help="Address of the server, else UNSTUCK_URL."),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(metavar="NUMBER", help="Worker processes. [default: one per core]")
    ] = None,
    app: Annotated[
        str | None, typer.Option(metavar="FILE", help="Python file, or module, that declares your own kinds.")
    ] = None,
    command: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=COMMAND", help="Offer a command line as a kind. Repeatable."),
    ] = None,
    kind: Annotated[
        list[str] | None, typer.Option(metavar="KIND", help="Work on this kind only. Repeatable.")
    ] = None,
    log_level: Annotated[
        str | None, typer.Option(metavar="LEVEL", help="debug, info, warning or error. [default: info]")
    ] = None,
) -> None:
    """Work for a server on another machine.

    It takes items of the kinds that are declared here, and that the server knows too. UNSTUCK_WORK_TOKEN must hold
    the secret that the server was started with. Ctrl-C or SIGTERM gives back what is not done.

    Examples:
      unstuck work --server https://jobs.example.com --workers 8
      unstuck work --app mywork.py --kind resize

    Exit codes:
      0    stopped by Ctrl-C or SIGTERM
      2    cannot start: a wrong address, token, kind or setting
    """
    given = {
        "workers": workers,
        "app": app,
        "commands": tuple(command) if command else None,
        "log_level": log_level,
    }
    with client_errors():
        settings = load(given)
        if not settings.work_token:
            raise CannotStart("Set UNSTUCK_WORK_TOKEN to the secret that the server was started with.")
        log_to_terminal(settings.log_level)
        asyncio.run(_work(server_url(server), settings, kind or []))


async def _work(url: str, settings: Settings, only: list[str]) -> None:
    from unstuck.runner.remote import work_for  # here: it needs an extra, and --help stays fast
    from unstuck.runner.runner import RunnerConfig

    ending = asyncio.Event()
    loop = asyncio.get_running_loop()
    for sig in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(sig, ending.set)
    config = RunnerConfig(
        workers=settings.worker_count,
        app=settings.app,
        commands=settings.commands,
        memory_mib=settings.worker_memory,
        hold_s=settings.report_hold_s,
    )
    await work_for(
        url,
        settings.work_token,
        config,
        ending,
        only=only,
        ready=lambda kinds: out.print(plain(f"unstuck works for {url}: {', '.join(kinds)}"), soft_wrap=True),
    )
