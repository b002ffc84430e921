"""A kind made from a command line: `--command 'audio=ffmpeg -i {input} {output}.mp3'`.

It decides how the words become an argument list (never through a shell), how the program is watched and killed,
and what its exit code means. It must not know what the program does. Users of `--command` are trusted, labels are
not.

Placeholders: {input} is the file; {output} is a path without a suffix, in an empty folder; {name} is the label as
a harmless file name. Exit code 0 is success: the result is the one file left in the folder or, if there is none,
what the program printed. Several files are a failure, because it is not clear which one is the result.
"""

from __future__ import annotations

import os
import re
import selectors
import shlex
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from unstuck.jobs.labels import harmless, stem
from unstuck.kinds.declare import NAME, Kind
from unstuck.kinds.option import KindInfo
from unstuck.kinds.outcome import Failed
from unstuck.kinds.report import Report

STDERR_KEPT = 2 * 1024  # bytes: the end of stderr, which an error message repeats
STDOUT_KEPT = 8 * 1024  # bytes: the end of stdout, which is the result if there is no file
LAST_LINE_SHOWN = 200  # characters of the latest line of output, which the progress shows
TERM_GRACE = 0.5  # seconds from SIGTERM to SIGKILL: less than the 1 s after which the runner kills
_POLL_INTERVAL = 0.1  # seconds between two checks for a request to stop
_PIPE_SIZE = 64 * 1024  # bytes that a pipe holds

_PLACEHOLDER = re.compile(r"\{(input|output|name)\}")
#: Words that only a shell understands. Without one, the program would get them as arguments.
_SHELL_WORDS = frozenset({"<", "<<", ">", ">>", "2>", "2>>", "2>&1", "&>", "|", "||", "&", "&&", ";"})
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")  # colours and cursor movements of terminals
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")

# This shell leads the program's process group. It outlives the program and waits for the end of its own input,
# which comes when the worker closes it or dies for any reason; then it kills the whole group.
_GUARD = ("/bin/sh", "-c", "trap '' HUP INT TERM; read -r _; kill -KILL 0")


class MalformedCommand(ValueError):
    """A `--command` that cannot be run; the message says what is wrong with it."""


def command_kind(text: str) -> Kind:
    """Make a kind from `NAME=command line`. Raise MalformedCommand."""
    name, words = _parse(text)

    def work(file: Path | None, report: Report) -> object:
        return run(words, file, report)

    info = KindInfo(
        name=name,
        title=name.replace("-", " ").capitalize(),
        # Not the whole line: it may hold paths and passwords, and descriptions are public.
        description=f"Runs {os.path.basename(words[0])} on each file.",
        needs_file=any("{input}" in word for word in words),
    )
    return Kind(info, work)


def _parse(text: str) -> tuple[str, list[str]]:
    name, equals, line = text.partition("=")
    if not equals or not NAME.fullmatch(name):
        raise MalformedCommand(
            f"the command {text!r} must look like NAME=PROGRAM …; NAME is 1 to 40 characters from a-z, 0-9 and -"
        )
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise MalformedCommand(f"the command of {name} cannot be split into words: {error}") from error
    if not words:
        raise MalformedCommand(f"the command of {name} is empty")
    _refuse_shell_words(name, line)
    if _PLACEHOLDER.search(words[0]):
        raise MalformedCommand(f"the program of {name} cannot be a placeholder: {words[0]}")
    program = shutil.which(words[0])
    if program is None:
        raise MalformedCommand(f"the program of {name} was not found or is not executable: {words[0]}")
    return name, [os.path.abspath(program), *words[1:]]


def _refuse_shell_words(name: str, line: str) -> None:
    try:
        unquoted = shlex.split(line, posix=False)  # leaves quotes where they are: '|' is an argument, | is not
    except ValueError:
        return  # quoted in a way that only the other grammar knows
    for word in unquoted:
        if word in _SHELL_WORDS:
            raise MalformedCommand(
                f"the command of {name} has {word}, which only a shell understands, and it runs without one: put "
                f"the line into a script, or quote the word ('{word}') if it is an argument of the program"
            )


def run(words: Sequence[str], file: Path | None, report: Report) -> Path | dict[str, str] | None:
    """Run the program for one item. Return the result file, what the program printed, or None."""
    with _group() as group, _program(_fill(words, file, report), group) as process:
        out, err = _watch(process, report)
    if process.returncode != 0:
        output = _text(err) or _text(out) or "it printed nothing"
        raise Failed(f"{_ending(process.returncode)}: {output}", code="command_failed")
    return _result_file(report.output) or ({"stdout": _text(out)} if out else None)


def _fill(words: Sequence[str], file: Path | None, report: Report) -> list[str]:
    values = {
        "input": str(file or ""),
        "output": str(report.output / stem(report.name)),
        "name": harmless(report.name),
    }
    # In one pass, so that a label that looks like a placeholder stays a label.
    return [_PLACEHOLDER.sub(lambda match: values[match[1]], word) for word in words]


@contextmanager
def _group() -> Iterator[int]:
    """Yield a process group that ends with this block or with this process, whichever comes first."""
    with subprocess.Popen(_GUARD, stdin=subprocess.PIPE, process_group=0) as guard:  # noqa: S603 (constant)
        yield guard.pid
        # Leaving closes the guard's input and waits for it, so that nothing the program started survives.


@contextmanager
def _program(arguments: list[str], group: int) -> Iterator[subprocess.Popen[bytes]]:
    """Yield the running program, which does not survive the block."""
    pipe, null = subprocess.PIPE, subprocess.DEVNULL
    try:
        process = subprocess.Popen(  # noqa: S603 (the operator's command, without a shell)
            arguments, stdin=null, stdout=pipe, stderr=pipe, process_group=group, bufsize=0
        )
    except OSError as error:
        raise Failed(f"cannot start {arguments[0]}: {error.strerror}", code="command_failed") from error
    with process:
        try:
            yield process
        finally:
            if process.poll() is None:
                _end(process, group)


def _end(process: subprocess.Popen[bytes], group: int) -> None:
    os.killpg(group, signal.SIGTERM)
    try:
        process.wait(TERM_GRACE)
    except subprocess.TimeoutExpired:
        process.kill()  # and the guard kills the others


def _watch(process: subprocess.Popen[bytes], report: Report) -> tuple[bytes, bytes]:
    """Read the program's output until it exits. Return the ends of stdout and of stderr. Raise Cancelled."""
    assert process.stdout is not None
    assert process.stderr is not None
    out, err = process.stdout.fileno(), process.stderr.fileno()
    kept, limits = {out: b"", err: b""}, {out: STDOUT_KEPT, err: STDERR_KEPT}
    with selectors.DefaultSelector() as open_streams:
        for stream in kept:
            open_streams.register(stream, selectors.EVENT_READ)
        exited = False
        while not exited:
            # Check, then read: what the program printed before it exited is in the pipes now, and one read takes a
            # whole pipe. This does not wait for a child process that keeps the pipes open.
            exited = process.poll() is not None
            for key, _ in open_streams.select(0 if exited else _POLL_INTERVAL):
                chunk = os.read(key.fd, _PIPE_SIZE)
                if not chunk:
                    open_streams.unregister(key.fd)
                    continue
                kept[key.fd] = (kept[key.fd] + chunk)[-limits[key.fd] :]
                report(None, message=_last_line(chunk))
            report(None)
    return kept[out], kept[err]


def _last_line(chunk: bytes) -> str | None:
    lines = _text(chunk[-2 * LAST_LINE_SHOWN :]).splitlines()
    return lines[-1][-LAST_LINE_SHOWN:] if lines else None


def _text(printed: bytes) -> str:
    """Return output as text for people: no colours or control characters; an overwritten line becomes several."""
    text = _ESCAPES.sub("", printed.decode("utf-8", "replace"))
    return _CONTROLS.sub("", text.replace("\r\n", "\n").replace("\r", "\n")).strip()


def _ending(code: int) -> str:
    if code > 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:  # a real-time signal has no name
        return f"killed by signal {-code}"


def _result_file(folder: Path) -> Path | None:
    left = sorted(os.scandir(folder), key=lambda entry: entry.name)
    if not left:
        return None
    if len(left) > 1:
        names = ", ".join(entry.name for entry in left[:5])
        raise Failed(
            f"the command left {len(left)} files, but only one can be the result: {names}", code="several_files"
        )
    if not left[0].is_file(follow_symlinks=False):
        raise Failed(f"the command left {left[0].name}, which is not a regular file", code="bad_result_file")
    return Path(left[0].path)
