"""Serves all commands: where they print, how they report errors, and how they show foreign text and times.

It must not know any command.
See also: help.py, which lays out `--help`.

Exit codes: 0 success, 2 a mistake in the command, or a server that refused or did not answer, 130 Ctrl-C; 1 and 3
have a meaning of each command's own, which its help gives.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, NoReturn

import msgspec
import typer
from rich.console import Console
from rich.text import Text

from unstuck.address import URL_VARIABLE
from unstuck.errors import CannotStart, JobTimeoutError, UnstuckError

out = Console()
err = Console(stderr=True)

Url = Annotated[
    str, typer.Option(metavar="URL", envvar=URL_VARIABLE, help="Address of the server, else UNSTUCK_URL.")
]
JobId = Annotated[str, typer.Argument(metavar="JOB_ID", help="Id of the job, or its first characters.")]
JobIds = Annotated[
    list[str], typer.Argument(metavar="JOB_ID…", help="Ids of the jobs, or their first characters.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


def stop(error: UnstuckError, exit_code: int = 2) -> NoReturn:
    """Print what is wrong and exit."""
    complain(error.detail)
    sys.exit(exit_code)


def complain(detail: str) -> None:
    """Print one sentence to stderr."""
    err.print(Text.assemble(("unstuck: ", "bold red"), plain(detail)), soft_wrap=True)


@contextmanager
def client_errors() -> Iterator[None]:
    """Turn what the client raises into one sentence and an exit code."""
    try:
        yield
    except JobTimeoutError as error:
        stop(error, 3)
    except UnstuckError as error:
        stop(error)
    except OSError as error:
        stop(CannotStart(f"{error.filename or 'A file'}: {error.strerror or error}."))
    except ModuleNotFoundError as error:
        stop(CannotStart(f"This command needs {error.name}: pip install 'unstuck[client]'"))


def plain(text: str) -> str:
    """Escape whatever a terminal would obey, or would let reverse the text that follows."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def print_json(value: Any, *, indent: int | None = 2) -> None:
    """Print a value, such as an answer of the server, as JSON; with `indent=None` on one line.

    Only ASCII is printed, so that a terminal obeys nothing that is in it.
    """
    print(json.dumps(msgspec.to_builtins(value), indent=indent), flush=True)


def spaced(name: str) -> str:
    """Return a name of the wire, such as a state, as words: completed with errors."""
    return plain(name.replace("_", " "))


def duration(seconds: float) -> str:
    """Return a duration as exactly as is useful: 7 s, 12 min, 3 h 5 min, 2 d."""
    whole = max(round(seconds), 0)
    if whole < 60:
        return f"{whole} s"
    if whole < 3_600:
        return f"{whole // 60} min"
    if whole < 2 * 86_400:
        return f"{whole // 3_600} h {whole % 3_600 // 60} min"
    return f"{whole // 86_400} d"


def shortened(text: str, length: int) -> str:
    """Return the text, cut to `length` characters."""
    return text if len(text) <= length else f"{text[: length - 1]}…"
