"""Decides which state of a claimed item may follow which (`NEXT`), and which command reports it to the store.

Must not know: the store, clocks, or the event loop. Of a worker it knows only that it can stop a run.
See also: registry.py (all held items), assignment.py (a worker's items), jobs/decide.py (the store's rules).

    CLAIMED ──send──▶ SENT ──start──▶ RUNNING ──end──▶ ENDED
       ▲               │                 │
       └───────────take_back─────────────┘       any of the three ──release──▶ RELEASED, ──lose──▶ LOST

Rule 1. Every field is changed here and nowhere else. A transition that `NEXT` does not allow raises.
Rule 2. RUNNING is the latest that the runner knows. A worker may still return the item, not having started it.
Rule 3. A request (stop, time limit) does not change the state. The worker's next message shows its effect.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple, Protocol

from unstuck.files.protocol import LeaseKey as LeaseKey
from unstuck.jobs.job import Finish, Item, ItemState, JobError, Release, Report
from unstuck.store.protocol import WorkItem


class ClaimState(StrEnum):
    """The states of a claimed item."""

    CLAIMED = "claimed"  # prefetched: no worker has it
    SENT = "sent"  # with a worker, behind other items
    RUNNING = "running"  # its worker is working on it
    ENDED = "ended"  # its `Finish` is on the way to the store
    RELEASED = "released"  # its `Release` is on the way to the store
    LOST = "lost"  # the store refused its lease: another runner has it, or its job has ended


#: The states in which the runner is responsible for an item.
HELD = frozenset({ClaimState.CLAIMED, ClaimState.SENT, ClaimState.RUNNING})
_GIVEN_UP = frozenset({ClaimState.RELEASED, ClaimState.LOST})
_NONE: frozenset[ClaimState] = frozenset()

#: For each state, the states that may follow. `claimed → ended`: no worker knows the item's kind.
NEXT: Mapping[ClaimState, frozenset[ClaimState]] = {
    ClaimState.CLAIMED: _GIVEN_UP | {ClaimState.SENT, ClaimState.ENDED},
    ClaimState.SENT: _GIVEN_UP | {ClaimState.RUNNING, ClaimState.CLAIMED},
    ClaimState.RUNNING: _GIVEN_UP | {ClaimState.ENDED, ClaimState.CLAIMED},
    ClaimState.ENDED: _NONE,
    ClaimState.RELEASED: _NONE,
    ClaimState.LOST: _NONE,
}


class WrongTransitionError(Exception):
    """A step that the item's state does not allow: a defect in the runner."""


class Worker(Protocol):
    """The worker that an item was sent to, as far as the item uses it."""

    def stop(self, run_id: int) -> None:
        """Stop this run, if necessary by force."""

    def drop(self, run_id: int) -> None:
        """Stop this run at once; its outcome no longer counts."""


class Outcome(NamedTuple):
    """The outcome of the work on an item."""

    state: ItemState
    error: JobError | None = None
    message: str | None = None
    result: Any = None
    result_file: str | None = None


@dataclass(slots=True, eq=False)
class ClaimedItem:
    """A claimed item. `began_at` is monotonic, `started_at` in epoch seconds; both are 0 until the item runs."""

    work: WorkItem
    state: ClaimState = ClaimState.CLAIMED
    run_id: int = 0
    worker: Worker | None = None
    began_at: float = 0.0
    started_at: float = 0.0
    reported: bool = False  # there was a report that it runs
    stopped: bool = False  # it was asked to stop because its job is being stopped
    overtaken: bool = False  # a newer job went first
    exceeded_limit_s: float | None = None  # it was asked to stop because it took longer than this (seconds)

    @property
    def item(self) -> Item:
        return self.work.item

    @property
    def key(self) -> LeaseKey:
        item = self.work.item
        return self.work.job_id, item.index, item.lease

    @property
    def held(self) -> bool:
        return self.state in HELD

    # -- transitions

    def send(self, run_id: int, worker: Worker) -> None:
        """Give the item to this worker, as the run `run_id` (CLAIMED → SENT)."""
        self._become(ClaimState.SENT)
        self.run_id, self.worker = run_id, worker

    def start(self, began_at: float, started_at: float) -> None:
        """Note that its worker has started it (SENT → RUNNING)."""
        self._become(ClaimState.RUNNING)
        self.began_at, self.started_at = began_at, started_at

    def take_back(self) -> None:
        """Take it back from a worker that never started it (SENT or RUNNING → CLAIMED). `stopped` stays set."""
        self._become(ClaimState.CLAIMED)
        self.run_id, self.worker = 0, None
        self.began_at = self.started_at = 0.0
        self.reported, self.exceeded_limit_s = False, None

    def end(self, outcome: Outcome, now: float, pause_s: float = 0.0) -> Finish:
        """Return the command that ends it (RUNNING or CLAIMED → ENDED).

        `now` (epoch seconds) is its start if it has none; `pause_s` is the pause before another attempt (seconds).
        """
        self._become(ClaimState.ENDED)
        job_id, index, lease = self.key
        state, error, message, result, file = outcome
        return Finish(
            job_id, index, lease, state, self.started_at or now, error, message, result, file, pause_s
        )  # fmt: skip

    def release(self) -> Release:
        """Return the command that gives it back to the store as if it had not been claimed (→ RELEASED)."""
        self._become(ClaimState.RELEASED)
        return Release(*self.key)

    def lose(self) -> None:
        """Note that its lease is lost: no work on it counts any longer (→ LOST)."""
        self._become(ClaimState.LOST)
        if self.worker is not None:
            self.worker.drop(self.run_id)

    def _become(self, state: ClaimState) -> None:
        if state not in NEXT[self.state]:
            raise WrongTransitionError(self.key, self.state, state)
        self.state = state

    # -- requests and reports, which change no state

    def stop(self) -> None:
        """Ask its worker, if it has one, to stop it. Further calls do nothing."""
        if self.stopped or not self.held:
            return
        self.stopped = True
        if self.worker is not None:
            self.worker.stop(self.run_id)

    def exceed_limit(self, limit_s: float) -> None:
        """Ask its worker to stop it because it has run for `limit_s`, unless it is being stopped anyway."""
        if self.stopped or self.state is not ClaimState.RUNNING:
            return
        self.exceeded_limit_s = limit_s
        if self.worker is not None:
            self.worker.stop(self.run_id)

    def overtake(self) -> None:
        """Note that a newer job went first, which is allowed only once."""
        self.overtaken = True

    def report(self, fraction: float | None = None, message: str | None = None) -> Report:
        """Return the command that reports its progress; the first, without values, reports that it runs."""
        if self.state is not ClaimState.RUNNING:
            raise WrongTransitionError(self.key, self.state, "a report")
        self.reported = True
        return Report(*self.key, self.started_at, fraction, message)
