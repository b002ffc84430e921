"""Commits the batches of the PostgreSQL store, and notifies the other servers of what changed.

It decides what is locked and in which order: first the keys of submissions, then the jobs by their row numbers. A
batch that failed without a trace, by a deadlock or a lost connection, is run once more. If the connection is lost
while a commit is on its way, the database is asked whether the transaction was committed.
It must not know what a command means, or how notices are received.
See also: ../writer.py (the thread, and who shares a commit), transaction.py (versions), listener.py (receives).
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Collection, Iterator

import psycopg

from unstuck.store.postgres import statements
from unstuck.store.postgres.clock import DatabaseClock
from unstuck.store.postgres.connection import PostgresConnection, one_line
from unstuck.store.postgres.transaction import PostgresTransaction, VersionedRows
from unstuck.store.snapshot_cache import SnapshotCache
from unstuck.store.writer import FAILED, UNKNOWN, AfterCommit, Commit, Request, Writer, run

log = logging.getLogger("unstuck.store")

#: How often and after which pause (seconds) the database is asked about a commit whose answer was lost.
ASKED, PAUSE_S = 20, 0.25
#: The ids in one notice: it has less than 8,000 bytes.
NOTICE_IDS = 200

#: Errors after which the same batch may succeed.
_PASSING = (psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure)


class CommitUnknownError(Exception):
    """The connection was lost during a commit, and the database does not answer."""


class PostgresWriter(Writer):
    """The writer of one server. `connect` opens a connection, and `tag` marks this server's notices."""

    _rows: VersionedRows

    def __init__(
        self,
        connect: Callable[[], PostgresConnection],
        clock: DatabaseClock,
        tag: str,
        snapshots: SnapshotCache,
        after_commit: AfterCommit,
    ) -> None:
        super().__init__(VersionedRows(), snapshots, after_commit)
        self._connect = connect
        self._connection: PostgresConnection | None = None
        self._clock = clock
        self._tag = tag
        self._lost = False  # the connection of the last commit

    def stop(self) -> None:
        super().stop()
        if self._connection is not None:
            self._connection.close()

    def _serve(self, batch: list[Request]) -> None:
        for is_last in (False, True):
            try:
                commit = self._commit(batch)
            except Exception as error:  # noqa: BLE001 – every caller gets an answer
                self._forget()  # only a read can tell whether the failed commit was kept
                if is_last or not self._may_pass(error):
                    self._answer_failure(batch, error)
                    return
            else:
                self._publish(commit)
                return

    def _may_pass(self, error: Exception) -> bool:
        """Return whether nothing was changed and the batch may succeed now. A lost connection can be replaced."""
        return isinstance(error, _PASSING) or (self._lost and isinstance(error, psycopg.Error))

    def _commit(self, batch: list[Request]) -> Commit:
        self._lost = False
        connection = self._connected()
        with self._transaction(connection):
            transaction, number = self._begin(connection, batch)
            outcomes = [run(request, transaction) for request in batch]
            transaction.finish()
            if transaction.changed:
                self._notify(connection, transaction.changed)
            if self.trouble is not None:  # after a failure it has to prove that it can write
                connection.execute(statements.WRITE_MARK)
            self._end(connection, number)

        def accept() -> None:
            transaction.after_commit()
            self._note_recovery()

        return Commit(outcomes, transaction.changed, accept)

    def _connected(self) -> PostgresConnection:
        if self._connection is None or self._connection.closed:
            self._connection = self._connect()
        return self._connection

    @contextlib.contextmanager
    def _transaction(self, connection: PostgresConnection) -> Iterator[None]:
        """Undo what an error leaves; a connection on which that fails is closed."""
        try:
            connection.execute("BEGIN")
            yield
        except BaseException:
            try:
                connection.execute("ROLLBACK")
            except psycopg.Error:
                connection.close()
                self._lost = True
            raise

    def _begin(self, connection: PostgresConnection, batch: list[Request]) -> tuple[PostgresTransaction, str]:
        """Lock what the batch names; return the transaction, and its number for `_settle`."""
        transaction = PostgresTransaction(connection, self._clock.estimate(), self._rows, self._snapshots)
        jobs = {job_id for request in batch for job_id in request.work.jobs}
        for request in batch:
            if request.work.find is not None:
                jobs.update(request.work.find(connection, transaction.now))
        if keys := [key for request in batch for key in request.work.keys]:
            connection.execute(statements.LOCK_KEYS, (keys,))
        transaction.lock(jobs)
        transaction.load([one for request in batch for one in request.work.items])
        found = connection.execute(statements.NOW).fetchone()
        assert found is not None
        now, number, transaction.version = found
        transaction.now = self._clock.set(now)
        return transaction, number

    def _notify(self, connection: PostgresConnection, job_ids: Collection[str]) -> None:
        names = list(job_ids)
        for first in range(0, len(names), NOTICE_IDS):
            connection.execute(statements.NOTIFY, (" ".join([self._tag, *names[first : first + NOTICE_IDS]]),))

    def _end(self, connection: PostgresConnection, number: str) -> None:
        try:
            connection.execute("COMMIT")
        except psycopg.OperationalError as error:
            if not connection.closed or not self._settle(number, error):
                raise

    def _settle(self, number: str, lost: psycopg.Error) -> bool:
        """Return whether the transaction of this number was committed. Raise CommitUnknownError."""
        for _ in range(ASKED):
            with contextlib.suppress(psycopg.Error):
                found = self._connected().execute("SELECT pg_xact_status(%s::xid8)", (number,)).fetchone()
                if found is not None and found[0] in {"committed", "aborted"}:
                    return bool(found[0] == "committed")
            time.sleep(PAUSE_S)
        raise CommitUnknownError(one_line(lost)) from lost

    def _log_trouble(self, error: Exception) -> None:
        log.error("Store cannot write; check the database: error=%s", error, exc_info=error)

    def _failure(self, error: Exception) -> str | None:
        if isinstance(error, CommitUnknownError):
            return UNKNOWN
        return FAILED if isinstance(error, psycopg.Error) and not _is_callers(error) else None


def _is_callers(error: psycopg.Error) -> bool:
    """Return whether this says nothing about the database: a value that it does not take, or a mistake of ours."""
    if isinstance(error, psycopg.ProgrammingError):
        return error.sqlstate is None
    return isinstance(error, psycopg.DataError | psycopg.IntegrityError)
