"""Simulates a network between one page and one server under virtual time, and breaks it on demand.

It behaves like TCP where that decides how long things take: connection attempts are repeated after 1, 2, 4 …
seconds, lost bytes are resent with pauses that double, and a server drops a client that has acknowledged nothing
for 20 s, without the client noticing. It must not know schedules, or the truth.
Next: virtual_stage.py, which breaks it; virtual_page.py and virtual_server.py, its two ends.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections import deque
from collections.abc import Callable, Mapping
from typing import Protocol

from tests.faults.answers import ANSWERS
from tests.faults.virtual_schedule import NETWORK, Fault
from tests.faults.wire import POLL, STREAM

#: The server's kernel gives up a connection after this much silence (TCP_USER_TIMEOUT in serve.py; seconds).
USER_TIMEOUT_S = 20.0
#: The first pause before lost bytes are resent, and before a lost connection attempt is repeated (seconds).
RESEND_S, CONNECT_S = 0.3, 1.0
LATENCY_S = (0.001, 0.08)
#: Faults that let nothing through while they last.
HOLES = ("black hole", "offline", "machine sleeps")
Log = Callable[[str], None]

#: An event, or the opening of a stream, which belongs to the block of the first one.
EVENT = re.compile(rb"(?s).+?\n\n|.+")


class Receiver(Protocol):
    """The client's end of a request."""

    def head(self, status: int, headers: Mapping[str, str]) -> None: ...
    def piece(self, data: bytes) -> None: ...
    def on_close(self, whole: bool) -> None: ...


class Connection:
    """A connection with its one request."""

    def __init__(
        self, net: Network, number: int, where: str, headers: Mapping[str, str], receiver: Receiver
    ) -> None:
        self.where, self.headers, self.receiver = where, headers, receiver
        self.name = f"{where} {number}"
        # Its own generator, so that what happens to one connection does not depend on the others.
        self.chance = random.Random(f"{net.seed} {number}")
        self.closed = False  # for the client
        self.dead = False  # half open: nothing passes any more, and neither end knows
        self.bytes_left: float | None = None  # until it is cut
        self.due = 0.0  # when the last item in transit arrives
        # Timers of the same instant fire in any order, so each takes the first item here.
        self.in_transit: deque[tuple[Callable[[], None], bool]] = deque()
        self.lost_at: float | None = None  # since when nothing passes
        self.to_resend: list[Callable[[], None]] = []  # calls that send what was lost again
        self.held_back: list[bytes] = []  # events that wait to be overtaken
        self.task: asyncio.Task[None] | None = None  # the server's
        self._net = net

    # -- the server's side
    def head(self, status: int, headers: Mapping[str, str]) -> None:
        self._net.deliver(self, lambda: self.receiver.head(status, headers))

    def send(self, data: bytes) -> None:
        self._net.send(self, data)

    def end(self) -> None:
        self._net.end(self)


class Network:
    """The network of one page. `serve` accepts a connection; it is None while the server is down."""

    def __init__(self, seed: int, deliver_to_page: Callable[[Callable[[], None]], None], log: Log) -> None:
        self.seed = seed
        self.serve: Callable[[Connection], asyncio.Task[None]] | None = None
        self.polls_pass = True
        self.requests: list[tuple[float, str]] = []  # every request: its time and path
        self.connections: set[Connection] = set()
        self._deliver_to_page = deliver_to_page
        self._log = log
        self._faults: list[Fault] = []
        self._loop = asyncio.get_running_loop()

    # -- the client's side

    def request(self, where: str, headers: Mapping[str, str], receiver: Receiver) -> Connection:
        connection = Connection(self, len(self.requests) + 1, where, headers, receiver)
        self.requests.append((self._loop.time(), where))
        self.connections.add(connection)
        if self._has_fault("offline", where):
            self._call_later(
                0.001, lambda: self.break_connection(connection)
            )  # a browser knows that it is offline
        else:
            self._call_later(self._latency(connection), lambda: self._connect(connection, CONNECT_S))
        return connection

    def abort(self, connection: Connection) -> None:
        """Close the connection on the client's side; the server notices if the network permits."""
        connection.closed = True
        self.connections.discard(connection)
        self._stop_serving(connection, USER_TIMEOUT_S if self._in_a_hole(connection) or connection.dead else 0.05)

    # -- faults come and go

    def strike(self, fault: Fault) -> None:
        self._faults.append(fault)
        for connection in self._affected(fault):
            if fault.kind in ("refused", "reset", *ANSWERS):
                self.break_connection(connection)
            elif fault.kind in ("half open", "offline"):
                self.kill_connection(connection)
            elif fault.kind == "cut":
                connection.bytes_left = fault.amount

    def heal(self, fault: Fault) -> None:
        self._faults.remove(fault)
        for connection in self._affected(fault):
            if fault.kind == "cut":
                connection.bytes_left = None
            elif fault.kind == "reordered":
                self._flush(connection)
            elif connection.lost_at is not None and not self._in_a_hole(connection):
                self._resend(connection)

    def break_connection(self, connection: Connection) -> None:
        """Reset the connection: bytes in transit are lost, and the client notices unless the RST is lost too."""
        self._stop_serving(connection, 0.0)
        if self._in_a_hole(connection):
            connection.dead = True
        else:
            connection.due = self._loop.time()
            connection.in_transit.clear()
            self.deliver(connection, lambda: connection.receiver.on_close(False), last=True)

    def kill_connection(self, connection: Connection) -> None:
        """Let nothing pass from now on, without either end noticing."""
        connection.dead = True
        self._stop_serving(connection, USER_TIMEOUT_S)

    # -- from the client to the server

    def _connect(self, connection: Connection, pause_s: float) -> None:
        if connection.closed or connection.dead:
            return
        answer = next(
            (fault.kind for fault in self._active_faults(connection.where) if fault.kind in ANSWERS), None
        )
        if self._in_a_hole(connection):
            self._call_later(pause_s, lambda: self._connect(connection, pause_s * 2))
        elif self._has_fault("half open", connection.where):
            self.kill_connection(connection)
        elif self.serve is None or self._refuses(connection.where):
            self.break_connection(connection)
        elif answer is not None:
            self._answer(connection, answer)
        else:
            cut = next((fault for fault in self._active_faults(connection.where) if fault.kind == "cut"), None)
            connection.bytes_left = cut.amount if cut else None
            connection.task = self.serve(connection)

    def _refuses(self, where: str) -> bool:
        return (
            self._has_fault("refused", where)
            or self._has_fault("reset", where)
            or (where == POLL and not self.polls_pass)
        )

    def _answer(self, connection: Connection, name: str) -> None:
        """Answer as a proxy or a login wall does, instead of the server."""
        head, _, body = ANSWERS[name].partition(b"\r\n\r\n")
        first, *rest = head.decode().split("\r\n")
        headers = {key.lower(): value for key, _, value in (one.partition(": ") for one in rest)}
        connection.head(int(first.split()[1]), headers)
        self.deliver(connection, lambda: connection.receiver.piece(body))
        connection.end()

    # -- from the server to the client

    def send(self, connection: Connection, data: bytes) -> None:
        for piece in EVENT.findall(data) if connection.where == STREAM else [data]:
            for altered in self._alter(connection, piece):
                self._send_piece(connection, altered)

    def _send_piece(self, connection: Connection, piece: bytes) -> None:
        if connection.bytes_left is None or connection.bytes_left > len(piece):
            connection.bytes_left = None if connection.bytes_left is None else connection.bytes_left - len(piece)
            self.deliver(connection, lambda: connection.receiver.piece(piece))
            return
        part = piece[: int(connection.bytes_left)]
        self.deliver(connection, lambda: connection.receiver.piece(part))
        self.deliver(connection, lambda: connection.receiver.on_close(False), last=True)
        connection.dead = True
        self._stop_serving(connection, 0.0)

    def _alter(self, connection: Connection, event: bytes) -> list[bytes]:
        """Return what an event of a stream turns into: it may be dropped, duplicated or reordered."""
        struck = {
            fault.kind
            for fault in self._active_faults(connection.where)
            if fault.kind in ("duplicated", "dropped", "reordered") and connection.chance.random() < fault.amount
        }
        if "dropped" in struck or (
            self._has_fault("heartbeats only", connection.where) and b"event: heartbeat" not in event
        ):
            return []
        events = [event, event] if "duplicated" in struck else [event]
        if "reordered" in struck and not connection.held_back:
            connection.held_back = events
            return []
        events, connection.held_back = events + connection.held_back, []
        return events

    def _flush(self, connection: Connection) -> None:
        held_back, connection.held_back = connection.held_back, []
        for piece in held_back:
            self._send_piece(connection, piece)

    def end(self, connection: Connection) -> None:
        """Send FIN after everything that was sent."""
        self._flush(connection)
        self.deliver(connection, lambda: connection.receiver.on_close(True), last=True)

    def deliver(self, connection: Connection, what: Callable[[], None], *, last: bool = False) -> None:
        """Deliver this to the client, after everything sent before it."""
        if connection.closed or connection.dead:
            return
        if connection.lost_at is not None or self._in_a_hole(connection):
            if connection.lost_at is None:
                lost_at = connection.lost_at = self._loop.time()
                self._call_later(USER_TIMEOUT_S, lambda: self._give_up(connection, lost_at))
            connection.to_resend.append(lambda: self.deliver(connection, what, last=last))
            return
        now = self._loop.time()
        connection.due = max(connection.due, now + self._latency(connection))
        for fault in self._active_faults(connection.where):
            if fault.kind == "late":
                connection.due = max(connection.due, now + fault.amount * connection.chance.uniform(0.5, 1.0))
            elif fault.kind == "bursts":
                since = connection.due - fault.start_s
                connection.due += -since % fault.amount
        connection.in_transit.append((what, last))
        self._loop.call_at(connection.due, lambda: self._arrive(connection))

    def _arrive(self, connection: Connection) -> None:
        if connection.in_transit and not connection.closed:
            what, last = connection.in_transit.popleft()
            if last:
                connection.closed = True
                self.connections.discard(connection)
            self._deliver_to_page(what)

    def _resend(self, connection: Connection) -> None:
        """Send lost bytes again now that packets pass, at the end of the current pause between TCP's attempts."""
        assert connection.lost_at is not None
        pause = RESEND_S
        at = connection.lost_at + pause
        while at < self._loop.time():
            pause *= 2
            at += pause
        self._loop.call_at(at, lambda: self._resend_now(connection))

    def _resend_now(self, connection: Connection) -> None:
        if connection.lost_at is None or connection.dead or self._in_a_hole(connection):
            return
        connection.lost_at = None
        to_resend, connection.to_resend = connection.to_resend, []
        for again in to_resend:
            again()

    def _give_up(self, connection: Connection, lost_at: float) -> None:
        if connection.lost_at == lost_at and not connection.closed:
            self._log(f"{connection.name}: given up by the server, silently")
            connection.dead = True
            self._stop_serving(connection, 0.0)

    # -- helpers

    def _stop_serving(self, connection: Connection, after_s: float) -> None:
        if connection.task is not None:
            self._loop.call_later(after_s, connection.task.cancel)

    def _affected(self, fault: Fault) -> list[Connection]:
        everything = fault.kind not in NETWORK
        # Sorted, since the order of a set differs from run to run.
        return sorted(
            (connection for connection in self.connections if everything or connection.where in fault.where),
            key=lambda connection: connection.name,
        )

    def _active_faults(self, where: str) -> list[Fault]:
        return [fault for fault in self._faults if fault.kind not in NETWORK or where in fault.where]

    def _has_fault(self, kind: str, where: str) -> bool:
        return any(fault.kind == kind for fault in self._active_faults(where))

    def _in_a_hole(self, connection: Connection) -> bool:
        return any(fault.kind in HOLES for fault in self._active_faults(connection.where))

    def _latency(self, connection: Connection) -> float:
        return connection.chance.uniform(*LATENCY_S)

    def _call_later(self, seconds: float, call: Callable[[], None]) -> None:
        self._loop.call_later(seconds, call)
