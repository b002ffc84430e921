"""What the commands share: where they print, how they refuse, how texts and times from outside are shown.

Exit codes: 0 done, 2 something to mend in what was asked for (the message says what); 1 and 3 are a command's own.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.text import Text

from unstuck.errors import CannotStart, JobTimeoutError, UnstuckError

out = Console()
err = Console(stderr=True)

Url = Annotated[str, typer.Option(help="The server.")]
LOCAL = "http://127.0.0.1:8765"


def stop(error: UnstuckError, exit_code: int = 2) -> NoReturn:
    """Say what is wrong, and end."""
    complain(error.detail)
    sys.exit(exit_code)


def complain(detail: str) -> None:
    """One sentence for people, beside the output."""
    err.print(Text.assemble(("unstuck: ", "bold red"), plain(detail)), soft_wrap=True)


@contextmanager
def client_errors() -> Iterator[None]:
    """What a client raises, as one sentence and an exit code."""
    try:
        yield
    except JobTimeoutError as error:
        stop(error, 3)
    except UnstuckError as error:
        stop(error)
    except ModuleNotFoundError as error:
        stop(CannotStart(f"This command needs {error.name}: pip install 'unstuck[client]'"))


def plain(text: str) -> str:
    """A text from outside without anything that a terminal would obey, or that turns what follows around."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


def duration(seconds: float) -> str:
    """As exact as is of use: 7 s, 12 min, 3 h 5 min, 2 d."""
    whole = max(round(seconds), 0)
    if whole < 60:
        return f"{whole} s"
    if whole < 3_600:
        return f"{whole // 60} min"
    if whole < 2 * 86_400:
        return f"{whole // 3_600} h {whole % 3_600 // 60} min"
    return f"{whole // 86_400} d"
