"""The exceptions with which a kind's code ends an item other than by returning.

They are named after the outcome, without "Error", because two of them are not errors.
See also: ../runner/worker.py (catches them).
"""

from __future__ import annotations

import re

_CODE = re.compile(r"[a-z0-9_]{1,40}")


class Skip(Exception):
    """There is nothing to do for this item: `raise Skip("already small enough")`."""


class Failed(Exception):
    """The item failed for a reason that the code understands: users see this message, without a traceback.

    `code` is a stable word for programs: 1 to 40 characters from a-z, 0-9 and _.
    """

    transient = False

    def __init__(self, message: str, *, code: str = "failed") -> None:
        if not _CODE.fullmatch(code):
            raise ValueError(f"the code {code!r} must be 1 to 40 characters from a-z, 0-9 and _")
        super().__init__(message)
        self.code = code


class Transient(Failed):
    """The item failed, but another attempt may succeed: `raise Transient("the mail server is busy")`."""

    transient = True

    def __init__(self, message: str, *, code: str = "transient") -> None:
        super().__init__(message, code=code)


class Cancelled(BaseException):
    """The item was asked to stop. `report(…)` raises it; let it pass, and clean up in `finally`.

    Not an Exception, so that `except Exception` in a kind's code does not catch it by accident.
    """
