"""A TCP proxy of our own that breaks what passes through it, on order.

It stands between a client and the real server, and treats streams and polls apart: each has a `Mode` from
one call of `set` to the next. Everything else (the page, its modules) passes. Whatever it leaves to chance
comes from a seed.

Each connection carries one request: the proxy asks the server to close after its answer, and tells the client
that this one will be closed. A stream is taken
apart at the ends of its events and sent on in HTTP chunks, one for each event, so that a cut in the middle
of one is a broken chunk for the browser too. Must not know: schedules, pages, or what is the truth.
"""

from __future__ import annotations

import asyncio
import math
import random
import socket
from dataclasses import dataclass
from enum import StrEnum

from tests.faults.answers import ANSWERS
from tests.faults.wire import (
    BOM,
    HOST,
    OTHER,
    POLL,
    STREAM,
    Asked,
    chunk,
    closed,
    header,
    one_answer_only,
    pieces,
    read_asked,
    reset,
    respelled,
    split_badly,
)

BOTH = (STREAM, POLL)
#: Longer than any line that a reader might have made room for.
HUGE_LINE = 5_000_000
#: So that parts of a chunk reach the reader one by one (seconds).
APART_S = 0.001


class Trouble(StrEnum):
    """What is done to a kind of request; `amount` in Mode says how much of it."""

    NONE = "none"
    REFUSE = "refuse"  # nobody listens, and what was open is reset; for all requests alike
    RESET = "reset"  # RST for what is open, and for each new request
    CUT = "cut"  # FIN after so many bytes of a body, in the middle of an event
    HALF_OPEN = "half open"  # accepted, and silent for ever: even after it is over
    BLACK_HOLE = "black hole"  # nothing gets through; what waited arrives when it is over
    BURSTS = "bursts"  # bytes are held back and released every so many seconds
    LATE = "late"  # each piece so many seconds late, give or take half of it
    ANSWER = "answer"  # open streams end, and each request gets the answer of this name
    DOUBLE = "double"  # each event, with this probability, twice
    REORDER = "reorder"  # … after its successor
    DROP = "drop"  # … not at all
    BEATS_ONLY = "beats only"  # no event but heartbeats
    RETRY = (
        "retry"  # each event says when to come back (`answer`, in ms), and each stream is cut after so many bytes
    )
    SPLIT = "split"  # the same events in other bytes, in parts that end where it hurts
    HUGE = "huge"  # each event, with this probability, with a line of 5 MB


@dataclass(frozen=True, slots=True)
class Mode:
    """What the network does from now on. `amount`: bytes, seconds or a probability (see Trouble)."""

    trouble: Trouble = Trouble.NONE
    amount: float = 0.0
    answer: str = ""


PASS = Mode()


#: What came from the server: when, of what kind, and the bytes.
Arrivals = asyncio.Queue[tuple[float, str, bytes]]


class _Line:
    """One connection of a client, with its one request."""

    def __init__(self, asked: Asked, writer: asyncio.StreamWriter, chance: random.Random) -> None:
        self.asked = asked
        self.chance = chance
        self.dead = False  # half open: nothing passes any more
        self.left = math.inf  # bytes until it is cut
        self.arrivals: Arrivals = asyncio.Queue()
        self.kept: list[bytes] = []  # events that wait to be overtaken
        self.begun = False  # an event was sent
        self._writer = writer

    @property
    def closed(self) -> bool:
        return self._writer.is_closing()

    async def send(self, data: bytes) -> None:
        if not self.closed:
            self._writer.write(data)
            await self._writer.drain()

    def close(self) -> None:
        """FIN, after what was written."""
        self._writer.close()

    def reset(self) -> None:
        reset(self._writer)


class Proxy:
    """Listens on a free port while it is entered (`async with`); `url` is where."""

    def __init__(self, target: int, seed: int = 0) -> None:
        self._target = target  # the server's port
        self._seed = seed
        self._modes = {STREAM: PASS, POLL: PASS, OTHER: PASS}
        self._lines: set[_Line] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._changed = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._place: socket.socket | None = None  # keeps the port while nobody listens
        self.port = 0
        #: What is answered here, by path: whole responses.
        self.own: dict[str, bytes] = {}
        #: Every request that came in, in order.
        self.asked: list[Asked] = []

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def was_asked(self, times: int) -> bool:
        return len(self.asked) >= times

    @property
    def open(self) -> list[Asked]:
        """The requests that are in flight, open streams among them."""
        return [line.asked for line in self._lines]

    async def __aenter__(self) -> Proxy:
        await self._listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._place is not None:
            self._place.close()
        if self._server is not None:
            self._server.close()
        for writer in self._writers:
            writer.transport.abort()  # each connection then ends as if its client had gone
        await asyncio.gather(*self._tasks)

    async def set(self, mode: Mode, *paths: str) -> None:
        """From now on this happens to these paths, without any to both; what is open is struck at once."""
        paths = paths or BOTH
        for path in paths:
            self._modes[path] = mode
        for line in [line for line in self._lines if line.asked.path in paths]:
            self._strike(line, mode)
        if any(one.trouble is Trouble.REFUSE for one in self._modes.values()):
            self._hang_up()
        elif self._server is None:
            await self._listen()
        self._changed.set()
        self._changed = asyncio.Event()

    # -- listening

    async def _listen(self) -> None:
        if self._place is not None:
            self._place.close()
            self._place = None
        self._server = await asyncio.start_server(self._accept, HOST, self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    def _hang_up(self) -> None:
        if self._server is None:
            return
        self._server.close()
        self._server = None
        self._place = socket.socket()
        self._place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._place.bind((HOST, self.port))  # bound without listening: connections are refused

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        try:
            await self._attend(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # one side went; browsers also open connections that they never use
        finally:
            await closed(writer)
            self._writers.discard(writer)
            self._tasks.discard(task)

    async def _attend(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        body = await reader.readexactly(int(header(head, "content-length") or 0))
        asked = read_asked(head)
        self.asked.append(asked)
        line = _Line(asked, writer, random.Random(f"{self._seed} {asked.path} {len(self.asked)}"))
        self._strike(line, self._modes[asked.path], new=True)
        self._lines.add(line)
        jobs = {asyncio.create_task(self._answer(line, head, body)), asyncio.create_task(_until_closed(reader))}
        try:
            done, _ = await asyncio.wait(jobs, return_when=asyncio.FIRST_COMPLETED)
            for job in done:
                job.result()
        finally:
            self._lines.discard(line)
            for job in jobs:
                job.cancel()
            await asyncio.gather(*jobs, return_exceptions=True)

    def _strike(self, line: _Line, mode: Mode, *, new: bool = False) -> None:
        """What a change of mode does to a connection that is there."""
        line.left = mode.amount if mode.trouble in (Trouble.CUT, Trouble.RETRY) else math.inf
        if mode.trouble is Trouble.HALF_OPEN:
            line.dead = True
        elif mode.trouble in (Trouble.RESET, Trouble.REFUSE):
            line.reset()
        elif mode.trouble is Trouble.ANSWER and not new:
            line.close()
        if not new:
            # An event must not wait for its successor beyond the fault; a next one may be long in coming.
            line.arrivals.put_nowait((asyncio.get_running_loop().time(), "flush", b""))

    # -- one request

    async def _answer(self, line: _Line, head: bytes, body: bytes) -> None:
        await self._let_through(line, -math.inf)
        if line.closed:
            return
        mode = self._modes[line.asked.path]
        said = (
            ANSWERS[mode.answer]
            if mode.trouble is Trouble.ANSWER
            else self.own.get(line.asked.target.split("?")[0])
        )
        if said is not None:
            await line.send(said)
            line.close()
            return
        try:
            reader, writer = await asyncio.open_connection(HOST, self._target)
        except ConnectionError:
            line.reset()  # the server is down, and so would its port be
            return
        try:
            writer.write(one_answer_only(head) + body)
            await self._relay(line, reader)
        finally:
            await closed(writer)

    async def _relay(self, line: _Line, reader: asyncio.StreamReader) -> None:
        """Pieces are taken when they come, and sent on when their time has come."""
        reading = asyncio.create_task(_take_in(reader, line.arrivals))
        try:
            kind = ""
            while kind not in ("end", "broken"):
                arrived, kind, data = await line.arrivals.get()
                await self._let_through(line, arrived)
                if kind == "head":
                    await line.send(one_answer_only(data))
                    continue
                events = self._treat(line, data) if kind == "event" else [data]
                if kind in ("end", "flush"):
                    events = [*(chunk(event) for event in line.kept), *events]
                    line.kept = []
                for out in events:
                    if not await self._send(line, out):
                        return
            line.close()
        finally:
            reading.cancel()

    async def _send(self, line: _Line, data: bytes) -> bool:
        """False where it was cut."""
        part = data[: int(min(line.left, len(data)))]
        line.left -= len(part)
        await line.send(part)
        if self._modes[line.asked.path].trouble is Trouble.SPLIT:
            await asyncio.sleep(APART_S)
        if line.left > 0:
            return True
        line.close()
        return False

    def _treat(self, line: _Line, event: bytes) -> list[bytes]:
        """What becomes of an event: itself in the best case."""
        mode = self._modes[line.asked.path]
        first, line.begun = not line.begun, True
        if mode.trouble is Trouble.SPLIT:
            return [chunk(part) for part in split_badly(BOM * first + respelled(event))]
        hit = mode.amount > line.chance.random()
        overtaken, line.kept = line.kept, []
        sent = [event]
        if mode.trouble is Trouble.REORDER and hit and not overtaken:
            line.kept, sent = sent, []
        elif mode.trouble is Trouble.DOUBLE and hit:
            sent = [event, event]
        elif mode.trouble is Trouble.BEATS_ONLY:
            sent = [event] if b"event: heartbeat\n" in event else []
        elif mode.trouble is Trouble.DROP and hit:
            sent = []
        elif mode.trouble is Trouble.RETRY:
            sent = [b"retry: %s\n" % mode.answer.encode() + event]
        elif mode.trouble is Trouble.HUGE and hit:
            sent = [event.replace(b"data: ", b"data: " + b" " * HUGE_LINE, 1)]
        return [chunk(one) for one in (*sent, *overtaken)]

    async def _let_through(self, line: _Line, arrived: float) -> None:
        """Return when a piece that arrived then may pass: at once, later, or never."""
        loop, draw = asyncio.get_running_loop(), line.chance.random()
        while True:
            changed = self._changed
            due = math.inf if line.dead else _due(self._modes[line.asked.path], arrived, draw)
            wait_s = due - loop.time()
            if wait_s <= 0:
                return
            try:
                await asyncio.wait_for(changed.wait(), None if wait_s == math.inf else wait_s)
            except TimeoutError:
                return


def _due(mode: Mode, arrived: float, draw: float) -> float:
    """When a piece that arrived then may pass."""
    if mode.trouble is Trouble.BLACK_HOLE:
        return math.inf
    if arrived == -math.inf:  # a request; only what comes back is late
        return arrived
    if mode.trouble is Trouble.LATE:
        return arrived + mode.amount * (0.5 + draw)
    if mode.trouble is Trouble.BURSTS:
        return math.ceil(arrived / mode.amount) * mode.amount
    return arrived


async def _take_in(reader: asyncio.StreamReader, arrivals: Arrivals) -> None:
    loop = asyncio.get_running_loop()
    try:
        async for kind, data in pieces(reader):
            arrivals.put_nowait((loop.time(), kind, data))
    except (asyncio.IncompleteReadError, ConnectionError):
        arrivals.put_nowait((loop.time(), "broken", b""))  # the server went away in the middle


async def _until_closed(reader: asyncio.StreamReader) -> None:
    while await reader.read(65_536):
        pass
