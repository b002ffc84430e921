"""Run the real server with broadcasts or a store that can be made to fail at any time.

`python -m tests.faults.breakable serve …` is `unstuck serve`, except that the part named in the file $BREAKAGE is
broken; without that file nothing is. unstuck.app assembles the app as usual; only two of its classes are replaced,
by subclasses with one fault each. It must not know what breaks it, or for how long.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import Future
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

import unstuck.app
from unstuck.cli.commands import main
from unstuck.errors import StoreUnavailable
from unstuck.store.protocol import Changes
from unstuck.store.sqlite import SQLiteStore
from unstuck.store.transaction import Work
from unstuck.streaming.hub import Hub

T = TypeVar("T")
VARIABLE = "BREAKAGE"


class Breakage(StrEnum):
    RAISES = "raises"  # every attempt at a broadcast raises
    DEAF = "deaf"  # no commit reaches the hub, silently
    STORE = "store"  # the store can neither read nor write


def broken() -> str:
    try:
        return Path(os.environ[VARIABLE]).read_text()
    except FileNotFoundError:
        return ""


class BreakableHub(Hub):
    def on_commit(self, changed: Changes) -> None:
        if broken() != Breakage.DEAF:
            super().on_commit(changed)

    def _broadcast(self, *what: Any) -> None:
        if broken() == Breakage.RAISES:
            raise RuntimeError("This broadcast fails on purpose.")
        super()._broadcast(*what)


class BreakableStore(SQLiteStore):
    def _submit(self, work: Work[T], answer: Future[T] | asyncio.Future[T], *, can_wait: bool = False) -> None:
        _refuse()
        super()._submit(work, answer, can_wait=can_wait)

    async def _read(self, work: Callable[[Any], T]) -> T:
        _refuse()
        return await super()._read(work)


def _refuse() -> None:
    if broken() == Breakage.STORE:
        raise StoreUnavailable("The store fails on purpose. Try again in a moment.")


if __name__ == "__main__":
    for name, breakable in (("Hub", BreakableHub), ("SQLiteStore", BreakableStore)):
        assert hasattr(unstuck.app, name), f"unstuck.app no longer uses {name}, so nothing would break"
        setattr(unstuck.app, name, breakable)
    main()
