"""Decides what a kind may return, and turns it into the end of its item.

Must not know: how the kind's code is run, or what becomes of the result.
See also: worker.py (the caller), item_error.py (the end of an item that failed).

A path is the item's result file, None is no result, and anything else is the result, which has to be JSON or to
have a form in JSON: msgspec encodes dates, sets, dataclasses and more.
"""

from __future__ import annotations

import inspect
import math
import os
import stat
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec

from unstuck.kinds import Failed, Report
from unstuck.runner import protocol


def done_of(run_id: int, returned: object, report: Report) -> protocol.Done:
    """Return the end of an item whose kind returned this. Raises Failed."""
    if returned is None:
        return protocol.Done(id=run_id, state="succeeded")
    if isinstance(returned, Path):
        return protocol.Done(id=run_id, state="succeeded", file=_file_name(returned, report.output))
    return protocol.Done(id=run_id, state="succeeded", result=_result(returned))


def _result(returned: object) -> Any:
    """Return the result as it reads after being encoded as JSON."""
    if inspect.isawaitable(returned) or inspect.isgenerator(returned) or inspect.isasyncgen(returned):
        raise _bad(f"is a {type(returned).__name__}: call asyncio.run(…) or list(…) on it, and return its result")
    try:
        encoded = msgspec.json.encode(returned)
        result = msgspec.json.decode(encoded)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        place = _find(returned, _cannot_be_encoded)
        where = f" at {place}" if place else ""
        raise _bad(f"cannot be written as JSON{where}: {error}") from error
    if len(encoded) > protocol.RESULT_LIMIT:
        raise Failed(
            f"the kind's result has {len(encoded)} bytes as JSON, the limit is {protocol.RESULT_LIMIT}: "
            "write it to a file in report.output and return its path",
            code="result_too_large",
        )
    brackets = encoded.count(b"{") + encoded.count(b"[")  # quick to count, and nearly always few
    if brackets > protocol.RESULT_LEVELS and _levels(result) > protocol.RESULT_LEVELS:
        raise _bad(
            f"has more than {protocol.RESULT_LEVELS} levels: flatten it, or write it to a file in report.output "
            "and return its path"
        )
    # msgspec writes null for a number that is not finite.
    if b"null" in encoded and (place := _find(msgspec.to_builtins(returned), _is_not_finite)):
        raise _bad(
            f"has a number at {place} that is not finite, which JSON cannot hold: return None or text there"
        )
    return result


def _bad(what: str) -> Failed:
    return Failed(f"the kind's result {what}", code="bad_result")


def _is_not_finite(value: object) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def _cannot_be_encoded(value: object) -> bool:
    try:
        msgspec.json.encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError):
        return True
    return False


def _find(value: object, wrong: Callable[[object], bool], path: str = "result", level: int = 0) -> str | None:
    """Return the path of the first value inside this one that is wrong, such as `result['means'][2]`."""
    inner: Iterable[tuple[object, object]]
    if isinstance(value, dict):
        inner = dict.items(value)  # as msgspec reads it, whatever a subclass overrides
    elif isinstance(value, list | tuple):
        inner = enumerate(value)
    else:
        return path if wrong(value) else None
    if level > protocol.RESULT_LEVELS:
        return None
    found = (_find(one, wrong, f"{path}[{key!r}]", level + 1) for key, one in inner)
    return next((place for place in found if place), None)


def _levels(value: object) -> int:
    """Return how deeply objects and lists are nested in a JSON value, without recursion."""
    levels, level = 0, [value]
    while level := [one for one in level if isinstance(one, dict | list)]:
        levels += 1
        level = [inner for one in level for inner in (one.values() if isinstance(one, dict) else one)]
    return levels


def _file_name(returned: Path, output: Path) -> str:
    try:
        inside = os.path.realpath(returned.parent) == os.path.realpath(output)
        regular = inside and stat.S_ISREG(os.lstat(returned).st_mode)
        returned.name.encode()
    except (OSError, ValueError) as error:
        raise Failed(f"the result file cannot be used: {error}", code="bad_result_file") from error
    if not regular:
        raise Failed(
            f"{returned.name!r} is not a result file: it must be a regular file, directly in report.output",
            code="bad_result_file",
        )
    return returned.name
