"""Runs the command `unstuck`: in this process where that is enough, since starting one costs a second of CPU."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import termios

from typer.testing import CliRunner

from unstuck.cli.commands import cli


def environment() -> dict[str, str]:
    """The environment without settings of a server."""
    return {name: text for name, text in os.environ.items() if not name.startswith("UNSTUCK_")}


def unstuck(*words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run `unstuck …` in this process, into pipes; an exception that no command expects is raised here."""
    done = CliRunner().invoke(cli, words, prog_name="unstuck", env=environ)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return subprocess.CompletedProcess(words, done.exit_code, done.stdout, done.stderr)


def unstuck_from_a_shell(*words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run `unstuck …` in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "unstuck", *words],
        capture_output=True, text=True, timeout=60, env={**os.environ, **environ}, check=False,
    )  # fmt: skip


def unstuck_on_a_terminal(*words: str, columns: int) -> str:
    """Run `unstuck …` on a terminal of this width, and return what it shows, without colours."""
    terminal, inside = pty.openpty()
    termios.tcsetwinsize(inside, (24, columns))
    environ = {name: text for name, text in environment().items() if name not in {"COLUMNS", "LINES", "NO_COLOR"}}
    process = subprocess.Popen(
        [sys.executable, "-m", "unstuck", *words],
        stdin=inside, stdout=inside, stderr=inside, env={**environ, "TERM": "xterm"},
    )  # fmt: skip
    os.close(inside)
    shown = b""
    try:
        while some := os.read(terminal, 65_536):
            shown += some
    except OSError:
        pass  # EIO: the program has ended, and nothing holds the terminal open
    finally:
        os.close(terminal)
    assert process.wait(60) == 0, shown
    return re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", shown.decode()).replace("\r\n", "\n")


def refused_to_start(*arguments: str, **environ: str) -> str:
    """Run `unstuck …`, expect exit code 2 and one sentence; returns it."""
    done = subprocess.run(
        [sys.executable, "-m", "unstuck", *arguments], capture_output=True, text=True, timeout=30,
        env={**environment(), **environ, "COLUMNS": "200"}, check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    if "--app" not in arguments:  # the author of an app file needs the traceback
        assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("unstuck: ")
    return done.stderr
