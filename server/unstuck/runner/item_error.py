"""Decides what a person reads about an item that failed: the error, without the paths of the server.

Must not know: how the kind's code is run, or whether the item is tried again.
See also: worker.py (the caller), worker_log.py (the log has the traceback).
"""

from __future__ import annotations

import inspect
import os
import re
import traceback

from unstuck.kinds import Cancelled, Failed, InvalidOptions, Kind
from unstuck.runner import protocol


def error_of(run: protocol.Run, kind: Kind | None, error: BaseException) -> protocol.ItemError:
    """Return the error of an item whose kind raised this exception."""
    transient = kind is not None and isinstance(error, kind.transient)
    match error:
        case Failed():
            message = for_people(str(error), run, protocol.ERROR_LIMIT)
            return protocol.ItemError(code=error.code, message=message, transient=error.transient or transient)
        case InvalidOptions():
            message = protocol.fit_text(str(error), protocol.MESSAGE_LIMIT)
            return protocol.ItemError(code="invalid_options", message=message)
        case SystemExit():
            text = f"SystemExit: the code called sys.exit({error.code!r}); a kind must return or raise instead"
        case Cancelled():
            text = "Cancelled: raised without a request to stop; raise unstuck.Skip or unstuck.Failed instead"
        case _:
            text = f"{type(error).__name__}: {text_of(error)}"
    where = protocol.fit_text("" if kind is None else _where(kind, error), protocol.MESSAGE_LIMIT // 2)
    message = for_people(text, run, protocol.MESSAGE_LIMIT - len(where)) + where
    return protocol.ItemError(code="exception", message=message, transient=transient)


def is_unexpected(error: BaseException) -> bool:
    """Return whether the exception is none that a kind raises on purpose, so that it belongs into the log."""
    return not isinstance(error, Failed | InvalidOptions)


def text_of(error: BaseException) -> str:
    """Return the message of any exception."""
    try:
        return str(error)
    except BaseException:  # noqa: BLE001 (str() of a foreign exception runs foreign code)
        return "(its message cannot be read)"


def for_people(text: str, run: protocol.Run, limit: int) -> str:
    """Return a text of the kind's code with the item's name instead of the paths of its input and output."""
    names = _names(run)
    paths = "|".join(re.escape(path) for path in sorted(names, key=len, reverse=True))
    return protocol.fit_text(re.sub(paths, lambda found: names[found[0]], text), limit)


def _names(run: protocol.Run) -> dict[str, str]:
    """Return what to write for each path: as the code was given it, absolute, and without links."""
    names: dict[str, str] = {}
    for way in (str, os.path.abspath, os.path.realpath):
        names[way(run.output) + os.sep] = ""
        names[way(run.output)] = "the output folder"
        if run.input is not None:
            names[os.path.dirname(way(run.input)) + os.sep] = ""
            names[way(run.input)] = run.name
    # Programs often print the last part alone. A path, which is longer, comes first.
    return names | ({os.path.basename(run.input): run.name} if run.input is not None else {})


def _where(kind: Kind, error: BaseException) -> str:
    """Return the last line of the kind's own file in the traceback; the log has all of it."""
    code = getattr(inspect.unwrap(kind.work), "__code__", None)
    file = code.co_filename if code else None
    lines = [line for frame, line in traceback.walk_tb(error.__traceback__) if frame.f_code.co_filename == file]
    return f" ({os.path.basename(file)}, line {lines[-1]})" if file and lines else ""
