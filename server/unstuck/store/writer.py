"""The thread that writes: takes the waiting requests, runs them in one transaction, and commits it.

It decides which requests share a commit, and how each caller is answered. Requests queue up while a commit waits
for the disk, so one fsync makes many changes durable. A caller is answered after the commit. If the database
fails, each caller of that transaction gets StoreUnavailable and nothing was changed; if one request fails in
another way, the others are run again without it. If the thread itself breaks, callers are refused until it runs
again.

How a batch is committed, and what an error says about the database, is up to the subclass for that database.
It must not know SQL, the event loop, HTTP, or what a command means.
See also: transaction.py (what a request works with), sqlite_writer.py and postgres/writer.py (commit),
database_store.py (brings the answers back into the event loop).
"""

from __future__ import annotations

import logging
import queue
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from unstuck.errors import StoreUnavailable, UnstuckError
from unstuck.jobs.job import Job
from unstuck.store.row_cache import RowCache
from unstuck.store.snapshot_cache import SnapshotCache
from unstuck.store.transaction import Transaction, Work
from unstuck.supervision.supervisor import Loop

log = logging.getLogger("unstuck.store")

#: The messages of the StoreUnavailable that callers get.
FAILED = "The store cannot write now ({}); nothing was changed. Try again in a moment."
UNKNOWN = "The store cannot write now ({}), so it is not known whether this was kept. Check, then try again."
BROKEN = "The store's writer broke ({!r}), so it is not known whether this was kept. Check, then try again."

#: The most requests in one commit: bounds how long the first of them waits.
BATCH = 512


class Caller(Protocol):
    """The future that a caller in a thread or in an event loop waits for."""

    def cancelled(self) -> bool: ...

    def done(self) -> bool: ...


#: Called in the writer's thread after each commit, with each caller's result (or exception), and the jobs that
#: changed visibly.
AfterCommit = Callable[[list[tuple[Caller, Any]], dict[str, Job | None]], None]


@dataclass(slots=True)
class Request:
    """A caller's work, waiting for its commit."""

    work: Work[Any]
    caller: Caller
    can_wait: bool


@dataclass(slots=True)
class Commit:
    """A durable transaction that is not yet in the caches; `accept` puts it there."""

    outcomes: list[tuple[Caller, Any]]
    changed: dict[str, Job | None]
    accept: Callable[[], None]


class Writer(ABC):
    """Runs requests in its own thread, many in one commit. `loop` keeps the thread running."""

    def __init__(self, rows: RowCache, snapshots: SnapshotCache, after_commit: AfterCommit) -> None:
        self.loop = Loop("store writer")
        self._after_commit = after_commit
        self._rows = rows
        self._snapshots = snapshots
        self._requests: queue.SimpleQueue[Request | None] = queue.SimpleQueue()
        self._batch: list[Request] = []
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None
        self._broken: BaseException | None = None
        #: Why the store cannot write, or only what is necessary, for the health endpoint; None if all is well.
        self.trouble: str | None = None

    def start(self) -> None:
        self._thread = self.loop.start_thread(lambda _: self._run(), self._ending)

    def submit(self, work: Work[Any], caller: Caller, *, can_wait: bool = False) -> None:
        """Queue a request, to be answered after the commit. Raise StoreUnavailable while the thread is down.

        A request that `can_wait` is refused while the disk is full.
        """
        if (error := self._broken) is not None:
            raise refusal(FAILED, error)
        self._requests.put(Request(work, caller, can_wait))

    def stop(self) -> None:
        """Commit what is queued, then end the thread. Block until it has ended."""
        self._ending.set()
        self._requests.put(None)
        if self._thread is not None:
            self._thread.join()
        if self._broken is not None:
            self._refuse_all(self._broken)  # it will not be restarted

    def _run(self) -> None:
        """Serve requests until stopped."""
        self._broken = None
        try:
            last = False
            while not last:
                self._batch, last = self._gather()
                # Skip callers that were cancelled while queued.
                self._batch = [request for request in self._batch if not request.caller.cancelled()]
                if self._batch:
                    self._serve(self._batch)
        except BaseException as error:
            self._refuse_all(error)
            raise

    def _refuse_all(self, error: BaseException) -> None:
        """Refuse all waiting requests, and clear the caches: they may differ from the disk."""
        self._broken = error  # first: only requests already past the check in `submit` wait for the restart
        self.trouble = f"its writer broke ({error!r})"
        self._forget()
        waiting, self._batch = self._batch, []
        while not self._requests.empty():
            if (request := self._requests.get_nowait()) is not None:
                waiting.append(request)
        self._after_commit([(one.caller, refusal(BROKEN, error)) for one in waiting if not one.caller.done()], {})

    def _gather(self) -> tuple[list[Request], bool]:
        first = self._requests.get()
        if first is None:
            return [], True
        batch = [first]
        while len(batch) < BATCH:
            try:
                following = self._requests.get_nowait()
            except queue.Empty:
                break
            if following is None:
                return batch, True
            batch.append(following)
        return batch, False

    def _forget(self) -> None:
        self._rows.clear()
        self._snapshots.clear()

    def _answer_failure(self, batch: list[Request], error: Exception) -> None:
        if (detail := self._failure(error)) is not None:
            self._note_trouble(str(error), error)
            self._after_commit([(request.caller, refusal(detail, error)) for request in batch], {})
        elif len(batch) == 1:
            self._after_commit([(batch[0].caller, error)], {})
        else:  # one request broke: run each one alone, so that the others succeed
            for request in batch:
                self._serve([request])

    def _publish(self, commit: Commit) -> None:
        """Update the caches and answer the callers. The commit is durable, even if this breaks."""
        commit.accept()
        self._after_commit(commit.outcomes, commit.changed)

    def _note_recovery(self) -> None:
        if self.trouble is not None:
            log.info("Store can write again: last_error=%s", self.trouble)
            self.trouble = None

    def _note_trouble(self, trouble: str, error: Exception) -> None:
        if self.trouble is None:
            self._log_trouble(error)
        self.trouble = trouble

    @abstractmethod
    def _serve(self, batch: list[Request]) -> None:
        """Run the requests in one transaction, commit it, and answer their callers."""

    @abstractmethod
    def _log_trouble(self, error: Exception) -> None:
        """Log that the store cannot write, and what an operator has to look at."""

    @abstractmethod
    def _failure(self, error: Exception) -> str | None:
        """Return the message for callers if this is the database's failure, or None if it is one caller's."""


def run(request: Request, transaction: Transaction) -> tuple[Caller, Any]:
    """Run a request; return its caller and the outcome. A refusal leaves the transaction as it was."""
    # A refusal is raised before anything is written, so the transaction can continue.
    try:
        return request.caller, request.work.run(transaction)
    except UnstuckError as error:
        return request.caller, error


def refusal(detail: str, cause: BaseException) -> StoreUnavailable:
    """Return the refusal that a caller gets."""
    error = StoreUnavailable(detail.format(cause))
    error.__cause__ = cause
    return error
