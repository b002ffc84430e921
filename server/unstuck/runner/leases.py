"""Keeps the runner's leases: one thread that renews them, and does for the store what is due by time.

Decides: how often the store is swept, and that a failed sweep is tried again.
Must not know: the event loop's work, workers, what a lost lease does to an item.
Read on: registry.py (which leases are ours), store/claims.py (the sweep).

A thread, because the event loop may be blocked: by the host app that unstuck is mounted in, or by a moment's heavy
work. Every sweep says which leases are ours, and they are renewed before any item is taken away: so a server that
stood still for a while (SIGSTOP, a machine that slept), at any moment, loses nothing.
"""

from __future__ import annotations

import asyncio
import logging
import threading

from unstuck.errors import LeaseLost, StoreUnavailable, UnstuckError
from unstuck.jobs.job import HealthLimits, Renew
from unstuck.runner.registry import ItemRegistry
from unstuck.store.protocol import WorkQueue
from unstuck.supervision.supervisor import Loop, Supervisor

log = logging.getLogger("unstuck.runner")

#: How late a deadline or a change of health may be noticed (seconds).
LOOK_S = 1.0


class LeaseKeeper:
    """`start()` it in the event loop; from then on its thread is the supervisor's."""

    def __init__(self, store: WorkQueue, items: ItemRegistry, limits: HealthLimits) -> None:
        self._store = store
        self._items = items
        self._limits = limits
        self._look_s = min(LOOK_S, items.lease_s / 3)
        #: Items taken from runners that gave no sign of life, since the start.
        self.lapsed = 0

    def start(self, supervisor: Supervisor) -> Loop:
        """Renew from now on; items whose lease was refused are lost, in the event loop that this is called in."""
        loop = asyncio.get_running_loop()

        def keep(ending: threading.Event) -> None:
            while not ending.wait(self._look_s):
                try:
                    refused = self._sweep()
                except StoreUnavailable:  # the store has logged it
                    continue
                if refused:
                    loop.call_soon_threadsafe(self._items.lose, refused)

        return supervisor.run_in_thread("leases", keep)

    def _sweep(self) -> list[Renew]:
        """Sweep once; the renewals that were refused."""
        renewals = self._items.renewals()
        result = self._store.sweep(self._limits, renewals)
        self.lapsed += len(result.lapsed)
        for job_id, index in result.lapsed:
            log.warning("item %d of job %s was taken from a runner that gave no sign of life", index, job_id)
        return [renew for renew, outcome in zip(renewals, result.renewed, strict=True) if _refused(outcome)]


def _refused(outcome: object) -> bool:
    # The lease of an item whose end was written meanwhile is refused as well; the registry knows it no more.
    if isinstance(outcome, UnstuckError) and not isinstance(outcome, LeaseLost):
        log.info("a lease was not renewed: %s", outcome)
    return isinstance(outcome, UnstuckError)
