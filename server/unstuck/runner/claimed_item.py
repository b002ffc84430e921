"""One claimed item as a state machine, from its claim until the runner has nothing more to do with it.

Decides: which state may follow which (`NEXT`), and which command tells the store.
Must not know: the store, clocks, the event loop; of a worker only that it can stop a run.
Read on: registry.py (all that are held), assignment.py (those of one worker), jobs/decide.py (the store's rules).

    CLAIMED ──send──▶ SENT ──start──▶ RUNNING ──end──▶ ENDED
       ▲               │                 │
       └───────────take_back─────────────┘       any of the three ──release──▶ RELEASED, ──lose──▶ LOST

Rule 1. Every field is changed here and nowhere else; a transition that `NEXT` does not allow raises.
Rule 2. RUNNING is what was last heard. A worker may still hand such an item back: it had not begun after all.
Rule 3. A wish (stop, time limit) changes no state. What becomes of it, the worker's next message shows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, Protocol

from unstuck.jobs.job import Finish, Item, ItemState, JobError, Release, Report
from unstuck.store.protocol import WorkItem

#: What identifies a claim: the job, the item's index, the number of the lease.
LeaseKey = tuple[str, int, int]


class ClaimState(StrEnum):
    CLAIMED = "claimed"  # prefetched: no worker has it
    SENT = "sent"  # with a worker, behind other items
    RUNNING = "running"  # the item that its worker is at
    ENDED = "ended"  # its `Finish` is on the way to the store
    RELEASED = "released"  # its `Release` is on the way to the store
    LOST = "lost"  # the store refused its lease: another runner has it, or its job is over


#: While an item is in one of these, the runner answers for it.
HELD = frozenset({ClaimState.CLAIMED, ClaimState.SENT, ClaimState.RUNNING})
_GIVEN_UP = frozenset({ClaimState.RELEASED, ClaimState.LOST})
_NONE: frozenset[ClaimState] = frozenset()

#: From each state, the states that may follow. `claimed → ended`: no worker knows the item's kind.
NEXT: Mapping[ClaimState, frozenset[ClaimState]] = {
    ClaimState.CLAIMED: _GIVEN_UP | {ClaimState.SENT, ClaimState.ENDED},
    ClaimState.SENT: _GIVEN_UP | {ClaimState.RUNNING, ClaimState.CLAIMED},
    ClaimState.RUNNING: _GIVEN_UP | {ClaimState.ENDED, ClaimState.CLAIMED},
    ClaimState.ENDED: _NONE,
    ClaimState.RELEASED: _NONE,
    ClaimState.LOST: _NONE,
}


class WrongTransitionError(Exception):
    """A defect in the runner: it treats an item in a way that the item's state does not allow."""


class Worker(Protocol):
    """The worker that an item was sent to, as the item uses it."""

    def stop(self, run_id: int) -> None:
        """Stop this run, in the end by force."""

    def drop(self, run_id: int) -> None:
        """Stop this run at once: its outcome counts no more."""


class Outcome(NamedTuple):
    """How the work on an item ended."""

    state: ItemState
    error: JobError | None = None
    message: str | None = None
    result: Mapping[str, object] | None = None
    result_file: str | None = None


@dataclass(slots=True, eq=False)
class ClaimedItem:
    """`began_at` is monotonic and `started_at` epoch seconds; both are 0 before the item runs."""

    work: WorkItem
    state: ClaimState = ClaimState.CLAIMED
    run_id: int = 0
    worker: Worker | None = None
    began_at: float = 0.0
    started_at: float = 0.0
    reported: bool = False  # the store was told that it runs
    stopped: bool = False  # it was asked to stop, since its job is being stopped
    overtaken: bool = False  # a newer job went first
    exceeded_limit_s: float | None = None  # it was asked to stop, since it took longer than this

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
        """CLAIMED → SENT: it is with this worker, as the run `run_id`."""
        self._become(ClaimState.SENT)
        self.run_id, self.worker = run_id, worker

    def start(self, began_at: float, started_at: float) -> None:
        """SENT → RUNNING: its worker has come to it."""
        self._become(ClaimState.RUNNING)
        self.began_at, self.started_at = began_at, started_at

    def take_back(self) -> None:
        """SENT or RUNNING → CLAIMED: its worker never began it. A stop that was asked for stays asked for."""
        self._become(ClaimState.CLAIMED)
        self.run_id, self.worker = 0, None
        self.began_at = self.started_at = 0.0
        self.reported, self.exceeded_limit_s = False, None

    def end(self, outcome: Outcome, now: float, pause_s: float = 0.0) -> Finish:
        """RUNNING (or CLAIMED) → ENDED. `now` (epoch seconds) is its start, where it has none."""
        self._become(ClaimState.ENDED)
        job_id, index, lease = self.key
        state, error, message, result, file = outcome
        return Finish(
            job_id, index, lease, state, self.started_at or now, error, message, result, file, pause_s
        )  # fmt: skip

    def release(self) -> Release:
        """→ RELEASED: it goes back to the store as if it had not been claimed."""
        self._become(ClaimState.RELEASED)
        return Release(*self.key)

    def lose(self) -> None:
        """→ LOST: nothing that is done to it counts any more."""
        self._become(ClaimState.LOST)
        if self.worker is not None:
            self.worker.drop(self.run_id)

    def _become(self, state: ClaimState) -> None:
        if state not in NEXT[self.state]:
            raise WrongTransitionError(self.key, self.state, state)
        self.state = state

    # -- what changes no state

    def stop(self) -> None:
        """Have it stopped, once; no worker is asked about an item that none has."""
        if self.stopped or not self.held:
            return
        self.stopped = True
        if self.worker is not None:
            self.worker.stop(self.run_id)

    def exceed_limit(self, limit_s: float) -> None:
        """Have it stopped, since it has run for `limit_s`; an item that is being stopped anyway is left alone."""
        if self.stopped or self.state is not ClaimState.RUNNING:
            return
        self.exceeded_limit_s = limit_s
        if self.worker is not None:
            self.worker.stop(self.run_id)

    def overtake(self) -> None:
        """Remember that a newer job went first; it may only once."""
        self.overtaken = True

    def report(self, fraction: float | None = None, message: str | None = None) -> Report:
        """The command that says how far it is; a first one without both says that it runs."""
        if self.state is not ClaimState.RUNNING:
            raise WrongTransitionError(self.key, self.state, "a report")
        self.reported = True
        return Report(*self.key, self.started_at, fraction, message)
