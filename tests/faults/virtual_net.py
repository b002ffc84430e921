"""Simulates a network between one page and one server under virtual time, and breaks it on demand.

It behaves like TCP where that decides how long things take: connection attempts come after 1, 2, 4 … seconds, lost
bytes are sent again with pauses that double, and a server drops a client that has acknowledged nothing for 20 s,
without the client noticing. It must not know schedules, or the truth.
Next: virtual_stage.py, which breaks it; virtual_page.py and virtual_server.py, its two ends.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable, Mapping
from typing import Protocol

from tests.faults.answers import ANSWERS
from tests.faults.virtual_schedule import NETWORK, Fault
from tests.faults.wire import POLL, STREAM

#: Silence after which the server's kernel gives a connection up (serve.py).
USER_TIMEOUT_S = 20.0
#: The first pause before lost bytes are sent again, and before a lost attempt at a connection is.
RESEND_S, CONNECT_S = 0.3, 1.0
LATENCY_S = (0.001, 0.08)
#: Faults that let nothing through while they last.
HOLES = ("black hole", "offline", "machine sleeps")
Tell = Callable[[str], None]


class Receiver(Protocol):
    """The client's end of a request."""

    def head(self, status: int, headers: Mapping[str, str]) -> None: ...
    def piece(self, data: bytes) -> None: ...
    def over(self, whole: bool) -> None: ...


class Line:
    """One connection with its one request."""

    def __init__(
        self, net: Network, number: int, where: str, asked: Mapping[str, str], receiver: Receiver
    ) -> None:
        self.where, self.asked, self.receiver = where, asked, receiver
        self.name = f"{where} {number}"
        # Its own generator, so that the fate of one line does not depend on the others.
        self.chance = random.Random(f"{net.seed} {number}")
        self.closed = False  # for the client
        self.dead = False  # half open: nothing passes any more, and neither end knows
        self.left: float | None = None  # bytes until it is cut
        self.due = 0.0  # when the last item under way arrives
        # Timers of the same instant ring in any order, so each takes the first item here.
        self.under_way: deque[tuple[Callable[[], None], bool]] = deque()
        self.lost_at: float | None = None  # since when nothing passes
        self.held: list[Callable[[], None]] = []  # to be sent again
        self.kept: list[bytes] = []  # events that wait to be overtaken
        self.task: asyncio.Task[None] | None = None  # the server's
        self._net = net

    # The server's side:
    def head(self, status: int, headers: Mapping[str, str]) -> None:
        self._net.carry(self, lambda: self.receiver.head(status, headers))

    def send(self, data: bytes) -> None:
        self._net.send(self, data)

    def end(self) -> None:
        self._net.end(self)


class Network:
    """The network of one page. `serve` accepts a connection; it is None while the server is down."""

    def __init__(self, seed: int, arrive_in_page: Callable[[Callable[[], None]], None], tell: Tell) -> None:
        self.seed = seed
        self.serve: Callable[[Line], asyncio.Task[None]] | None = None
        self.polls_pass = True
        self.asked: list[tuple[float, str]] = []  # every request: when, and for what
        self.lines: set[Line] = set()
        self._arrive_in_page = arrive_in_page
        self._tell = tell
        self._faults: list[Fault] = []
        self._loop = asyncio.get_running_loop()

    # -- the client's side

    def ask(self, where: str, asked: Mapping[str, str], receiver: Receiver) -> Line:
        line = Line(self, len(self.asked) + 1, where, asked, receiver)
        self.asked.append((self._loop.time(), where))
        self.lines.add(line)
        if self._is("offline", where):
            self._later(0.001, lambda: self.break_line(line))  # a browser knows that much itself
        else:
            self._later(self._latency(line), lambda: self._connect(line, CONNECT_S))
        return line

    def abort(self, line: Line) -> None:
        """The client closes it; the server notices if the network lets it."""
        line.closed = True
        self.lines.discard(line)
        self._let_go(line, USER_TIMEOUT_S if self._hole(line) or line.dead else 0.05)

    # -- faults come and go

    def strike(self, fault: Fault) -> None:
        self._faults.append(fault)
        for line in self._struck(fault):
            if fault.kind in ("refused", "reset", *ANSWERS):
                self.break_line(line)
            elif fault.kind in ("half open", "offline"):
                self.kill_line(line)
            elif fault.kind == "cut":
                line.left = fault.amount

    def heal(self, fault: Fault) -> None:
        self._faults.remove(fault)
        for line in self._struck(fault):
            if fault.kind == "cut":
                line.left = None
            elif fault.kind == "reordered":
                self._flush(line)
            elif line.lost_at is not None and not self._hole(line):
                self._resend(line)

    def break_line(self, line: Line) -> None:
        """RST: bytes under way are lost, and the client notices unless the RST is lost too."""
        self._let_go(line, 0.0)
        if self._hole(line):
            line.dead = True
        else:
            line.due = self._loop.time()
            line.under_way.clear()
            self.carry(line, lambda: line.receiver.over(False), last=True)

    def kill_line(self, line: Line) -> None:
        """Nothing passes any more, and neither end is told."""
        line.dead = True
        self._let_go(line, USER_TIMEOUT_S)

    # -- the way there

    def _connect(self, line: Line, pause_s: float) -> None:
        if line.closed or line.dead:
            return
        answer = next((fault.kind for fault in self._on(line.where) if fault.kind in ANSWERS), None)
        if self._hole(line):
            self._later(pause_s, lambda: self._connect(line, pause_s * 2))
        elif self._is("half open", line.where):
            self.kill_line(line)
        elif self.serve is None or self._refuses(line.where):
            self.break_line(line)
        elif answer is not None:
            self._answer(line, answer)
        else:
            cut = next((fault for fault in self._on(line.where) if fault.kind == "cut"), None)
            line.left = cut.amount if cut else None
            line.task = self.serve(line)

    def _refuses(self, where: str) -> bool:
        return self._is("refused", where) or self._is("reset", where) or (where == POLL and not self.polls_pass)

    def _answer(self, line: Line, name: str) -> None:
        """Answer as a proxy or a login wall does, instead of the server."""
        head, _, body = ANSWERS[name].partition(b"\r\n\r\n")
        first, *rest = head.decode().split("\r\n")
        headers = {key.lower(): value for key, _, value in (one.partition(": ") for one in rest)}
        line.head(int(first.split()[1]), headers)
        self.carry(line, lambda: line.receiver.piece(body))
        line.end()

    # -- the way back

    def send(self, line: Line, data: bytes) -> None:
        pieces = [piece + b"\n\n" for piece in data.split(b"\n\n") if piece] if line.where == STREAM else [data]
        for piece in pieces:
            for changed in self._changed(line, piece):
                self._send_piece(line, changed)

    def _send_piece(self, line: Line, piece: bytes) -> None:
        if line.left is None or line.left > len(piece):
            line.left = None if line.left is None else line.left - len(piece)
            self.carry(line, lambda: line.receiver.piece(piece))
            return
        part = piece[: int(line.left)]
        self.carry(line, lambda: line.receiver.piece(part))
        self.carry(line, lambda: line.receiver.over(False), last=True)
        line.dead = True
        self._let_go(line, 0.0)

    def _changed(self, line: Line, event: bytes) -> list[bytes]:
        """One event of a stream as the faults leave it: dropped, doubled or reordered."""
        struck = {
            fault.kind
            for fault in self._on(line.where)
            if fault.kind in ("doubled", "dropped", "reordered") and line.chance.random() < fault.amount
        }
        if "dropped" in struck or (self._is("beats only", line.where) and b"event: heartbeat" not in event):
            return []
        events = [event, event] if "doubled" in struck else [event]
        if "reordered" in struck and not line.kept:
            line.kept = events
            return []
        events, line.kept = events + line.kept, []
        return events

    def _flush(self, line: Line) -> None:
        kept, line.kept = line.kept, []
        for piece in kept:
            self._send_piece(line, piece)

    def end(self, line: Line) -> None:
        """FIN, after everything that was sent."""
        self._flush(line)
        self.carry(line, lambda: line.receiver.over(True), last=True)

    def carry(self, line: Line, what: Callable[[], None], *, last: bool = False) -> None:
        """Bring this to the client, after all that went before it."""
        if line.closed or line.dead:
            return
        if line.lost_at is not None or self._hole(line):
            if line.lost_at is None:
                lost_at = line.lost_at = self._loop.time()
                self._later(USER_TIMEOUT_S, lambda: self._give_up(line, lost_at))
            line.held.append(lambda: self.carry(line, what, last=last))
            return
        now = self._loop.time()
        line.due = max(line.due, now + self._latency(line))
        for fault in self._on(line.where):
            if fault.kind == "late":
                line.due = max(line.due, now + fault.amount * line.chance.uniform(0.5, 1.0))
            elif fault.kind == "bursts":
                since = line.due - fault.start_s
                line.due += -since % fault.amount
        line.under_way.append((what, last))
        self._loop.call_at(line.due, lambda: self._arrive(line))

    def _arrive(self, line: Line) -> None:
        if line.under_way and not line.closed:
            what, last = line.under_way.popleft()
            if last:
                line.closed = True
                self.lines.discard(line)
            self._arrive_in_page(what)

    def _resend(self, line: Line) -> None:
        """The hole is gone; the next attempt at sending comes when the pause that doubles is over."""
        assert line.lost_at is not None
        pause = RESEND_S
        at = line.lost_at + pause
        while at < self._loop.time():
            pause *= 2
            at += pause
        self._loop.call_at(at, lambda: self._sent_again(line))

    def _sent_again(self, line: Line) -> None:
        if line.lost_at is None or line.dead or self._hole(line):
            return
        line.lost_at = None
        held, line.held = line.held, []
        for again in held:
            again()

    def _give_up(self, line: Line, lost_at: float) -> None:
        if line.lost_at == lost_at and not line.closed:
            self._tell(f"{line.name}: given up by the server, unheard")
            line.dead = True
            self._let_go(line, 0.0)

    # -- small things

    def _let_go(self, line: Line, after_s: float) -> None:
        if line.task is not None:
            self._loop.call_later(after_s, line.task.cancel)

    def _struck(self, fault: Fault) -> list[Line]:
        everything = fault.kind not in NETWORK
        # By name: the order of a set is another one each time.
        return sorted(
            (line for line in self.lines if everything or line.where in fault.where), key=lambda line: line.name
        )

    def _on(self, where: str) -> list[Fault]:
        return [fault for fault in self._faults if fault.kind not in NETWORK or where in fault.where]

    def _is(self, kind: str, where: str) -> bool:
        return any(fault.kind == kind for fault in self._on(where))

    def _hole(self, line: Line) -> bool:
        return any(fault.kind in HOLES for fault in self._on(line.where))

    def _latency(self, line: Line) -> float:
        return line.chance.uniform(*LATENCY_S)

    def _later(self, seconds: float, call: Callable[[], None]) -> None:
        self._loop.call_later(seconds, call)
