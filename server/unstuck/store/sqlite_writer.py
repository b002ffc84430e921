"""Commits the batches of the SQLite store.

A commit counts only if the database is still the file that was opened (database_file.py). On a full disk a reserve
is used for what is necessary (disk_reserve.py); requests that can wait, such as a submission, are refused until
there is room again.
It must not know what a command means.
See also: writer.py (the thread, and who shares a commit).
"""

from __future__ import annotations

import logging
import sqlite3

from unstuck.errors import StoreUnavailable
from unstuck.store import clock_steps
from unstuck.store.clock import Clock
from unstuck.store.database_file import DatabaseFile, DatabaseUnusableError
from unstuck.store.disk_reserve import DiskReserve, is_full
from unstuck.store.row_cache import RowCache
from unstuck.store.snapshot_cache import SnapshotCache
from unstuck.store.sqlite_connection import SQLiteConnection
from unstuck.store.transaction import Transaction
from unstuck.store.writer import FAILED, UNKNOWN, AfterCommit, Commit, Request, Writer, run

log = logging.getLogger("unstuck.store")

#: Why requests that can wait are refused, and the store is in trouble, while the reserve is used.
SHORT = "the disk is full; what is left is kept for ends, cancels and removals"

#: SQLite errors that are the caller's mistake and say nothing about the state of the database.
_CALLER_ERRORS = (
    sqlite3.IntegrityError,
    sqlite3.DataError,
    sqlite3.ProgrammingError,
    sqlite3.InterfaceError,
    sqlite3.NotSupportedError,
)


class SQLiteWriter(Writer):
    """The writer of one database file."""

    def __init__(
        self,
        connection: SQLiteConnection,
        file: DatabaseFile,
        reserve: DiskReserve,
        clock: Clock,
        snapshots: SnapshotCache,
        after_commit: AfterCommit,
    ) -> None:
        super().__init__(RowCache(), snapshots, after_commit)
        self._connection = connection
        self._file = file
        self._reserve = reserve
        self._clock = clock

    def _serve(self, batch: list[Request]) -> None:
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
                self._forget()  # only a read can tell whether the failed commit reached the disk
                if is_full(error, self._file.path) and self._reserve.release():
                    self._note_trouble(SHORT, error)
                    continue
                self._answer_failure(batch, self._explained(error))
            else:
                self._publish(commit)
            return

    def _refuse_those_that_can_wait(self, batch: list[Request]) -> list[Request]:
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

    def _log_trouble(self, error: Exception) -> None:
        log.error("Store cannot write; check the disk and its free space: error=%s", error, exc_info=error)

    def _failure(self, error: Exception) -> str | None:
        if isinstance(error, sqlite3.Error) and not isinstance(error, _CALLER_ERRORS):
            return FAILED
        if isinstance(error, DatabaseUnusableError):
            return UNKNOWN if error.committed else FAILED
        return None

    def _commit(self, batch: list[Request]) -> Commit:
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
                clock_steps.shift_times(connection, moment.jump)
                clock_steps.add_clock_step(connection, moment.now, moment.jump)
            transaction = Transaction(connection, moment.now, self._rows, self._snapshots)
            outcomes = [run(request, transaction) for request in batch]
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

        def accept() -> None:
            self._clock.commit(moment)
            transaction.after_commit()
            if foreign or moment.jump:  # foreign: another process wrote in the meantime
                self._snapshots.clear()
            if not self._reserve.short:
                self._note_recovery()

        return Commit(outcomes, transaction.changed, accept)
