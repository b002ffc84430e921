"""Renews the runner's leases in a thread, and sweeps the store for what is due by time.

Must not know: the event loop's work, workers, or what a lost lease does to an item.
See also: registry.py (which leases are ours), store/claims.py (the sweep).

It decides how often the store is swept; a failed sweep is repeated. It uses a thread because the event loop may be
blocked: by the host app that unstuck is mounted in, or by a moment's heavy work. Every sweep names our leases, and
renews them before any item is taken away. So a server that was suspended at any moment (SIGSTOP, a machine that
slept) loses nothing.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Sequence

from msgspec.structs import replace

from unstuck.errors import LeaseLost, StoreUnavailable, UnstuckError
from unstuck.jobs.job import HealthLimits, Job, Renew
from unstuck.runner.claimed_item import LeaseKey
from unstuck.runner.registry import ItemRegistry
from unstuck.store.protocol import WorkQueue
from unstuck.supervision.supervisor import Loop, Supervisor

log = logging.getLogger("unstuck.runner")

#: The longest delay before a deadline or a change of health is noticed (seconds).
LOOK_S = 1.0


class LeaseKeeper:
    """Renews leases once `start()` was called in the event loop; the supervisor keeps its thread running.

    `on_stopping` is called in the event loop with the jobs of our leases that are being stopped, and `on_lapsed`
    with each lease that has lapsed.
    """

    def __init__(
        self,
        store: WorkQueue,
        items: ItemRegistry,
        limits: HealthLimits,
        on_stopping: Callable[[Sequence[Job]], None] = lambda jobs: None,
        on_lapsed: Callable[[LeaseKey], None] = lambda key: None,
    ) -> None:
        self._store = store
        self._items = items
        self._limits = limits
        self._on_stopping = on_stopping
        self._on_lapsed = on_lapsed
        self._since = time.monotonic()
        self._look_s = min(LOOK_S, items.lease_s / 3)
        #: Items taken from runners that stopped renewing their leases, since the start.
        self.lapsed = 0

    def start(self, supervisor: Supervisor) -> Loop:
        """Start renewing. Items whose renewal is refused are marked as lost, in the calling event loop."""
        loop = asyncio.get_running_loop()

        def keep(ending: threading.Event) -> None:
            while not ending.wait(self._look_s):
                try:
                    refused, stopping, lapsed = self._sweep()
                except StoreUnavailable:  # the store has logged it
                    continue
                if refused:
                    loop.call_soon_threadsafe(self._items.lose, refused)
                if stopping:
                    loop.call_soon_threadsafe(self._on_stopping, stopping)
                for key in lapsed:
                    loop.call_soon_threadsafe(self._on_lapsed, key)

        return supervisor.run_in_thread("leases", keep)

    def _sweep(self) -> tuple[list[Renew], list[Job], Sequence[LeaseKey]]:
        """Sweep once; return the refused renewals, the jobs that are being stopped, and the lapsed leases."""
        renewals = self._items.renewals()
        limits = replace(self._limits, listening_s=time.monotonic() - self._since)
        result = self._store.sweep(limits, renewals)
        self.lapsed += len(result.lapsed)
        for job_id, index, _ in result.lapsed:
            log.warning("Item taken from a runner that stopped renewing its lease: job=%s item=%d", job_id, index)
        refused = [one for one, outcome in zip(renewals, result.renewed, strict=True) if _refused(one, outcome)]
        jobs = {outcome.id: outcome for outcome in result.renewed if isinstance(outcome, Job)}
        return refused, [job for job in jobs.values() if job.stopping], result.lapsed


def _refused(renew: Renew, outcome: object) -> bool:
    # A lease is also refused if the item's end was written meanwhile; the registry has already forgotten it.
    if isinstance(outcome, UnstuckError) and not isinstance(outcome, LeaseLost):
        log.info("Lease was not renewed: job=%s item=%d reason=%s", renew.job_id, renew.index, outcome.code)
    return isinstance(outcome, UnstuckError)
