"""Removes what attempts without a result have written, as soon as they have ended.

A full disk comes back by this alone: the output that filled it is gone before the item's next attempt.
It must not know why an attempt ended.
See also: runner.py (says which attempts), files/protocol.py (where their output is).
"""

from __future__ import annotations

import asyncio
import logging

from unstuck.files.protocol import WorkFiles
from unstuck.runner.claimed_item import LeaseKey

log = logging.getLogger("unstuck.runner")

#: Attempts at one removal, and the pause between them (seconds): a program that the work left behind may still be
#: writing, until it is killed with its worker.
ATTEMPTS = 5
PAUSE_S = 1.0


class Leftovers:
    """The outputs to remove; `run()` removes them until cancelled."""

    def __init__(self, files: WorkFiles) -> None:
        self._files = files
        self._failures: dict[LeaseKey, int] = {}  # the outputs, each with its failed removals
        self._due = asyncio.Event()

    def add(self, key: LeaseKey) -> None:
        """Remove the output of this lease soon. No work on it continues."""
        self._failures.setdefault(key, 0)
        self._due.set()

    async def run(self) -> None:
        while True:
            if self._failures:
                await asyncio.sleep(PAUSE_S)
            else:
                await self._due.wait()
            self._due.clear()
            await self.remove()

    async def remove(self) -> None:
        """Try once to remove all of them."""
        due = list(self._failures)
        if not due:
            return
        for key, error in zip(due, await self._files.remove_outputs(due), strict=True):
            self._failures[key] += 1
            if error is None or self._failures[key] == ATTEMPTS:
                del self._failures[key]
            if error is not None:
                job_id, index, _ = key
                log.warning("Output cannot be removed: job=%s item=%d error=%s", job_id, index, error)
