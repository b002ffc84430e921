"""The real server, whose broadcasts or store can be made to fail while it runs: `python -m tests.faults.breakable
serve …` is `unstuck serve`, but what the file named by BREAKAGE says is broken. Without that file all is well.

The app is put together by unstuck.app as ever; only the two classes that it is made of are exchanged here for
ones with a single fault each. Must not know: who breaks it, and for how long.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

import unstuck.app
from unstuck.cli.commands import main
from unstuck.errors import StoreUnavailable
from unstuck.jobs.job import Job
from unstuck.store.sqlite import SQLiteStore
from unstuck.streaming.hub import Hub

T = TypeVar("T")
VARIABLE = "BREAKAGE"


class Breakage(StrEnum):
    RAISES = "raises"  # each attempt at a broadcast
    DEAF = "deaf"  # no commit reaches the hub, and nothing says so
    STORE = "store"  # nothing can be read or written


def broken() -> str:
    try:
        return Path(os.environ[VARIABLE]).read_text()
    except FileNotFoundError:
        return ""


class BreakableHub(Hub):
    def on_commit(self, changed: Mapping[str, Job | None]) -> None:
        if broken() != Breakage.DEAF:
            super().on_commit(changed)

    def _broadcast(self, *what: Any) -> None:
        if broken() == Breakage.RAISES:
            raise RuntimeError("this broadcast was told to fail")
        super()._broadcast(*what)


class BreakableStore(SQLiteStore):
    def _submit(self, work: Callable[[Any], T], answer: Future[T] | asyncio.Future[T]) -> None:
        _refuse()
        super()._submit(work, answer)

    async def _read(self, work: Callable[[Any], T]) -> T:
        _refuse()
        return await super()._read(work)


def _refuse() -> None:
    if broken() == Breakage.STORE:
        raise StoreUnavailable("The store was told to fail. Try again in a moment.")


if __name__ == "__main__":
    for name, ours in (("Hub", BreakableHub), ("SQLiteStore", BreakableStore)):
        assert hasattr(unstuck.app, name), f"unstuck.app is no longer made of {name}: nothing would break"
        setattr(unstuck.app, name, ours)
    main()
