"""The thread that writes: takes the waiting requests, runs them in one transaction, and commits it.

It decides which requests share a commit, and how each caller is answered. Requests queue up while a commit waits
for the disk, so one fsync makes many changes durable. A caller is answered after the commit. If the database
fails, each caller of that transaction gets StoreUnavailable and nothing was changed; if one request fails in
another way, the others are run again without it. If the thread itself breaks, callers are refused until it runs
again.

A commit counts only if the database is still the file that was opened (database_file.py). On a full disk a reserve
is used for what is necessary (disk_reserve.py); requests that can wait, such as a submission, are refused until
there is room again.
It must not know the event loop, HTTP, or what a command means.
See also: transaction.py (what a request works with), sqlite.py (brings the answers back into the event loop).
"""

from __future__ import annotations

import logging
import queue
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from unstuck.errors import StoreUnavailable, UnstuckError
from unstuck.jobs.job import Job
from unstuck.store import rows
from unstuck.store.clock import Clock, Moment
from unstuck.store.database_file import DatabaseFile, DatabaseUnusableError
from unstuck.store.disk_reserve import DiskReserve, is_full
from unstuck.store.row_cache import RowCache
from unstuck.store.snapshot_cache import SnapshotCache
from unstuck.store.transaction import Transaction
from unstuck.supervision.supervisor import Loop

log = logging.getLogger("unstuck.store")

#: The messages of the StoreUnavailable that callers get.
FAILED = "The store cannot write now ({}); nothing was changed. Try again in a moment."
UNKNOWN = "The store cannot write now ({}), so it is not known whether this was kept. Check, then try again."
BROKEN = "The store's writer broke ({!r}), so it is not known whether this was kept. Check, then try again."

#: Why requests that can wait are refused, and the store is in trouble, while the reserve is used.
SHORT = "the disk is full; what is left is kept for ends, cancels and removals"

#: The most requests in one commit: bounds how long the first of them waits.
BATCH = 512


class Caller(Protocol):
    """The future that a caller in a thread or in an event loop waits for."""

    def cancelled(self) -> bool: ...

    def done(self) -> bool: ...


#: Called in the writer's thread after each commit, with each caller's result (or exception), and the jobs that
#: changed visibly.
AfterCommit = Callable[[list[tuple[Caller, Any]], dict[str, Job | None]], None]

#: SQLite errors that are the caller's mistake and say nothing about the state of the database.
_CALLER_ERRORS = (
    sqlite3.IntegrityError,
    sqlite3.DataError,
    sqlite3.ProgrammingError,
    sqlite3.InterfaceError,
    sqlite3.NotSupportedError,
)


@dataclass(slots=True)
class _Request:
    work: Callable[[Transaction], Any]
    caller: Caller
    can_wait: bool


@dataclass(slots=True)
class _Commit:
    """A transaction that is on disk but not yet in the caches."""

    transaction: Transaction
    outcomes: list[tuple[Caller, Any]]
    moment: Moment
    foreign: bool  # another process wrote in the meantime


class Writer:
    """Runs requests in its own thread, many in one commit. `loop` keeps the thread running."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        file: DatabaseFile,
        reserve: DiskReserve,
        clock: Clock,
        snapshots: SnapshotCache,
        after_commit: AfterCommit,
    ) -> None:
        self.loop = Loop("store writer")
        self._connection = connection
        self._file = file
        self._reserve = reserve
        self._clock = clock
        self._after_commit = after_commit
        self._rows = RowCache()
        self._snapshots = snapshots
        self._requests: queue.SimpleQueue[_Request | None] = queue.SimpleQueue()
        self._batch: list[_Request] = []
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None
        self._broken: BaseException | None = None
        #: Why the store cannot write, or only what is necessary, for the health endpoint; None if all is well.
        self.trouble: str | None = None

    def start(self) -> None:
        self._thread = self.loop.start_thread(lambda _: self._run(), self._ending)

    def submit(self, work: Callable[[Transaction], Any], caller: Caller, *, can_wait: bool = False) -> None:
        """Queue a request, to be answered after the commit. Raise StoreUnavailable while the thread is down.

        A request that `can_wait` is refused while the disk is full.
        """
        if (error := self._broken) is not None:
            raise _refusal(FAILED, error)
        self._requests.put(_Request(work, caller, can_wait))

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
        self._rows.clear()
        self._snapshots.clear()
        waiting, self._batch = self._batch, []
        while not self._requests.empty():
            if (request := self._requests.get_nowait()) is not None:
                waiting.append(request)
        self._after_commit([(one.caller, _refusal(BROKEN, error)) for one in waiting if not one.caller.done()], {})

    def _gather(self) -> tuple[list[_Request], bool]:
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

    def _serve(self, batch: list[_Request]) -> None:
        if self._reserve.short:  # before anything is refused for a disk that has room again
            self._reserve.fill()
        while True:
            if self._reserve.short:
                batch = self._refuse_those_that_can_wait(batch)
            if not batch:
                return
            try:
                commit = self._commit(batch)
            except Exception as error:  # noqa: BLE001 – every caller gets an answer
                self._rows.clear()
                self._snapshots.clear()  # only a read can tell whether the failed commit reached the disk
                if is_full(error, self._file.path) and self._reserve.release():
                    self._note_trouble(SHORT, error)
                    continue
                self._answer_failure(batch, self._explained(error))
            else:
                self._publish(commit)
            return

    def _refuse_those_that_can_wait(self, batch: list[_Request]) -> list[_Request]:
        refused = [
            (request.caller, StoreUnavailable(FAILED.format(SHORT))) for request in batch if request.can_wait
        ]
        if refused:
            self._after_commit(refused, {})
        return [request for request in batch if not request.can_wait]

    def _explained(self, error: Exception) -> Exception:
        """Return the cause of an error of SQLite, if that is in the files."""
        if isinstance(error, sqlite3.Error) and not isinstance(error, _CALLER_ERRORS):
            try:
                self._file.check(self._connection)
            except DatabaseUnusableError as cause:
                return cause
        return error

    def _answer_failure(self, batch: list[_Request], error: Exception) -> None:
        if isinstance(error, sqlite3.Error) and not isinstance(error, _CALLER_ERRORS):
            self._fail(batch, error)
        elif isinstance(error, DatabaseUnusableError):
            self._fail(batch, error, UNKNOWN if error.committed else FAILED)
        elif len(batch) == 1:
            self._after_commit([(batch[0].caller, error)], {})
        else:  # one request broke: run each one alone, so that the others succeed
            for request in batch:
                self._serve([request])

    def _publish(self, commit: _Commit) -> None:
        """Update the caches and answer the callers. The commit is durable, even if this breaks."""
        self._clock.commit(commit.moment)
        commit.transaction.after_commit()
        if commit.foreign or commit.moment.jump:
            self._snapshots.clear()
        if self.trouble is not None and not self._reserve.short:
            log.info("Store can write again: last_error=%s", self.trouble)
            self.trouble = None
        self._after_commit(commit.outcomes, commit.transaction.changed)

    def _commit(self, batch: list[_Request]) -> _Commit:
        connection = self._connection
        if self.trouble is None:
            self._file.check_name()
        else:
            self._file.check(connection)
        moment = self._clock.read()
        # IMMEDIATE: a transaction that first reads and then writes would fail at once beside another writer.
        connection.execute("BEGIN IMMEDIATE")
        try:
            foreign = self._rows.check_version(connection.execute("PRAGMA data_version").fetchone()[0])
            if moment.jump:
                self._rows.clear()
                rows.shift_times(connection, moment.jump)
                rows.add_clock_step(connection, moment.now, moment.jump)
            transaction = Transaction(connection, moment.now, self._rows, self._snapshots)
            outcomes = [(request.caller, _try(request.work, transaction)) for request in batch]
            transaction.finish()
            # After a failure a transaction has to prove that it can write: many have nothing to write.
            if self._file.mark_due or (self.trouble is not None and not self._reserve.short):
                self._file.write_mark(connection)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        try:
            self._file.check(connection)
        except DatabaseUnusableError as error:
            error.committed = True
            raise
        return _Commit(transaction, outcomes, moment, foreign)

    def _fail(self, batch: list[_Request], error: Exception, detail: str = FAILED) -> None:
        self._note_trouble(str(error), error)
        self._after_commit([(request.caller, _refusal(detail, error)) for request in batch], {})

    def _note_trouble(self, trouble: str, error: Exception) -> None:
        if self.trouble is None:
            log.error("Store cannot write; check the disk and its free space: error=%s", error, exc_info=error)
        self.trouble = trouble


def _try(work: Callable[[Transaction], Any], transaction: Transaction) -> Any:
    # A refusal is raised before anything is written, so the transaction can continue.
    try:
        return work(transaction)
    except UnstuckError as refusal:
        return refusal


def _refusal(detail: str, cause: BaseException) -> StoreUnavailable:
    refusal = StoreUnavailable(detail.format(cause))
    refusal.__cause__ = cause
    return refusal
