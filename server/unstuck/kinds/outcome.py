"""How a kind's code ends an item other than by returning: what it may raise.

Decides: the four words and what they carry. Must not know: who catches them.
They are named for the outcome and not "…Error", because two of them are none.
"""

from __future__ import annotations

import re

_CODE = re.compile(r"[a-z0-9_]{1,40}")


class Skip(Exception):
    """There is nothing to do for this item: `raise Skip("already small enough")`."""


class Failed(Exception):
    """The item failed for a reason that the code understands: no traceback, and this very message on the screen.

    `code` is a stable word for programs, [a-z0-9_], at most 40 characters.
    """

    transient = False

    def __init__(self, message: str, *, code: str = "failed") -> None:
        if not _CODE.fullmatch(code):
            raise ValueError(f"the code {code!r} must be 1 to 40 of a-z, 0-9 and _")
        super().__init__(message)
        self.code = code


class Transient(Failed):
    """The item failed, but another attempt may succeed: `raise Transient("the mail server is busy")`."""

    transient = True

    def __init__(self, message: str, *, code: str = "transient") -> None:
        super().__init__(message, code=code)


class Cancelled(BaseException):
    """Somebody asked to stop. Raised by `report(…)`; let it pass, and clean up in `finally`.

    Not an Exception, so that `except Exception` in a kind's code does not catch it by accident.
    """
