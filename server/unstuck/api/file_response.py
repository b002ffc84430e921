"""Decides which ranges of a file are sent (RFC 9110, section 14); Starlette's FileResponse sends them.

Must not know: which file it is.
See also: results.py and page.py (the files), problems.py (how a refusal is sent).

A range that is not understood is ignored, and the whole file sent: an unknown unit, a set that is malformed or has
very many ranges. Of the others those beyond the file's end are left out; if no other is left, the request is
refused. FileResponse would refuse all of these, in plain text.
"""

from __future__ import annotations

import os
import re

import anyio.to_thread
from starlette.datastructures import MutableHeaders
from starlette.responses import FileResponse
from starlette.types import Receive, Scope, Send

from unstuck.errors import RangeNotSatisfiable

#: Most ranges of one request; a download manager asks for a few.
MOST_RANGES = 16
#: A position in a file; longer ones would cost time to read, and no file is as large.
_RANGE = re.compile(r"([0-9]{1,18})-([0-9]{0,18})|-([0-9]{1,18})")


class RangedFile(FileResponse):
    """A file, or the ranges of it that the request names. Raises RangeNotSatisfiable before anything is sent."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.stat_result is None:
            self.stat_result = await anyio.to_thread.run_sync(os.stat, self.path)
            self.set_stat_headers(self.stat_result)
        scope = dict(scope)
        headers = MutableHeaders(scope=scope)
        if "range" in headers:
            validator = headers.get("if-range")
            applies = validator is None or validator in (self.headers["etag"], self.headers["last-modified"])
            ranges = satisfiable(headers["range"], self.stat_result.st_size) if applies else None
            del headers["range"]
            if ranges is not None:
                headers["range"] = ranges
        await super().__call__(scope, receive, send)


def satisfiable(text: str, size: int) -> str | None:
    """Return the header Range without the ranges that a file of this size does not have; None to ignore it.

    Raises RangeNotSatisfiable if the file has none of them.
    """
    unit, _, spec = text.partition("=")
    parts = [part.strip(" \t") for part in spec.split(",")]
    parts = [part for part in parts if part]
    matches = [_RANGE.fullmatch(part) for part in parts]
    if unit.strip().lower() != "bytes" or not 1 <= len(parts) <= MOST_RANGES or None in matches:
        return None
    kept = []
    for match in matches:
        assert match is not None
        first, last, suffix = match.groups()
        if suffix is None and last and int(last) < int(first):
            return None
        if int(suffix) > 0 and size > 0 if suffix is not None else int(first) < size:
            kept.append(match[0])
    if not kept:
        raise RangeNotSatisfiable(size)
    return f"bytes={', '.join(kept)}"
