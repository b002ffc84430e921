"""Receives the notices of other servers, in a thread of its own.

It decides when it is not known what was missed: whenever it listens again after it lost the database.
It must not know what a change means, or what is cached.
See also: writer.py (sends the notices), store.py (what follows from one).
"""

from __future__ import annotations

import logging
import select
import socket
import threading
from collections.abc import Callable
from typing import Protocol

import psycopg

from unstuck.store.postgres.connection import PostgresConnection, one_line
from unstuck.store.postgres.schema import NAME
from unstuck.supervision.backoff import Backoff
from unstuck.supervision.supervisor import Loop

log = logging.getLogger("unstuck.store")

#: Pauses before the next attempt to reach the database (seconds).
PAUSE = Backoff(0.05, 2.0)
#: How long it waits for a notice before it asks the database for a sign of life (seconds).
IDLE_S = 10.0


class Subscriber(Protocol):
    """The receiver of notices; the listener calls it in its own thread."""

    def on_notices(self, connection: PostgresConnection, job_ids: list[str]) -> None:
        """Another server changed these jobs, visibly."""

    def on_gap(self) -> None:
        """Notices may have been missed: another server may have changed any job."""


class Listener:
    """Listens to all servers but the one that sends with `tag`."""

    def __init__(self, connect: Callable[[], PostgresConnection], tag: str, subscriber: Subscriber) -> None:
        self.loop = Loop("store listener")
        #: Whether notices arrive now.
        self.listening = False
        self._connect = connect
        self._tag = tag
        self._subscriber = subscriber
        self._ending = threading.Event()
        self._wake, self._woken = socket.socketpair()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Listen from now on. Raise psycopg.Error if the database cannot be reached."""
        connection = self._listen()
        self.listening = True
        self._thread = self.loop.start_thread(lambda _: self._run(connection), self._ending)

    def stop(self) -> None:
        self._ending.set()
        self._wake.send(b".")
        if self._thread is not None:
            self._thread.join()
        self._wake.close()
        self._woken.close()

    def _listen(self) -> PostgresConnection:
        connection = self._connect()
        try:
            connection.execute(f"LISTEN {NAME}")
        except BaseException:
            connection.close()
            raise
        return connection

    def _run(self, connection: PostgresConnection) -> None:
        failures = 0
        while not self._ending.is_set():
            try:
                if connection.closed:
                    connection = self._listen()
                if not self.listening:
                    self._subscriber.on_gap()
                    failures, self.listening = 0, True
                    log.info("Store receives notices of other servers again")
                self._receive(connection)
            except psycopg.Error as error:
                if self.listening:
                    log.warning("Store receives no notices of other servers: error=%s", one_line(error))
                self.listening = False
                connection.close()
                failures += 1
                self._ending.wait(PAUSE.pause_s(failures, 1.0))
            except BaseException:
                self.listening = False
                connection.close()
                raise
        connection.close()

    def _receive(self, connection: PostgresConnection) -> None:
        """Wait for notices, and pass on those of other servers."""
        job_ids: dict[str, None] = {}
        for notice in connection.notifies(timeout=0):
            tag, *names = notice.payload.split(" ")
            if tag != self._tag:
                job_ids.update(dict.fromkeys(names))
        if job_ids:
            self._subscriber.on_notices(connection, list(job_ids))
        elif not select.select([connection.fileno(), self._woken.fileno()], [], [], IDLE_S)[0]:
            connection.execute("SELECT 1")
