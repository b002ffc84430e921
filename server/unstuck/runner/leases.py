"""Keeps what a runner holds: one thread that renews its leases, and does for the store what is due by time.

A thread, because the event loop may be blocked: by the host app that unstuck is mounted in, or by a moment's
heavy work. With every sweep it says what is its own, and that is renewed before anything is taken from anybody:
so a server that stood still for a while (SIGSTOP, a machine that slept), at whatever moment, loses nothing.
Knows the Store protocol alone.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence

from unstuck.errors import LeaseLost, StoreUnavailable, UnstuckError
from unstuck.jobs.job import HealthLimits, Renew
from unstuck.store.protocol import Store
from unstuck.supervision.supervisor import Loop, Supervisor

log = logging.getLogger("unstuck.runner")

#: How late a deadline or an alarm may be (seconds).
LOOK_S = 1.0


class LeaseKeeper:
    """`start()` it in the event loop; from then on its thread is the supervisor's."""

    def __init__(self, store: Store, limits: HealthLimits, lease_s: float) -> None:
        self._store = store
        self._alarms = limits
        self._look_s = min(LOOK_S, lease_s / 3)
        #: Items taken from runners that gave no sign of life, since the start.
        self.lapsed = 0

    def start(
        self,
        supervisor: Supervisor,
        held: Callable[[], list[Renew]],
        lost: Callable[[Sequence[Renew]], None],
    ) -> Loop:
        """From now on renew what `held` says, and call `lost` in the event loop with what was taken away."""
        loop = asyncio.get_running_loop()

        def keep(ending: threading.Event) -> None:
            while not ending.wait(self._look_s):
                try:
                    gone = self._sweep(held)
                except StoreUnavailable:  # the store has logged it
                    continue
                if gone:
                    loop.call_soon_threadsafe(lost, gone)

        return supervisor.run_in_thread("leases", keep)

    def _sweep(self, held: Callable[[], list[Renew]]) -> list[Renew]:
        renewals = held()
        result = self._store.sweep(self._alarms, renewals)
        self.lapsed += len(result.lapsed)
        for job_id, index in result.lapsed:
            log.warning("item %d of job %s was taken from a runner that gave no sign of life", index, job_id)
        return [one for one, outcome in zip(renewals, result.renewed, strict=True) if _refused(outcome)]


def _refused(outcome: object) -> bool:
    # An item that ended while this was on its way is refused as well; its runner no longer holds it.
    if isinstance(outcome, UnstuckError) and not isinstance(outcome, LeaseLost):
        log.info("a lease was not renewed: %s", outcome)
    return isinstance(outcome, UnstuckError)
