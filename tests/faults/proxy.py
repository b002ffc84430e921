"""A TCP proxy that breaks what passes through it, on demand.

It sits between a client and the real server. Streams and polls each have their own `Mode`, from one call of
`set` to the next; everything else (the page, its modules) passes. All randomness comes from a seed.

Each connection carries one request: the proxy asks the server to close after its response, and tells the client
that the connection will be closed. A stream is split at the ends of its events and forwarded in HTTP chunks, one
for each event, so that a cut in the middle of an event is a broken chunk for the browser too.

It must not know schedules, pages, or what is true.
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
    Request,
    chunk,
    closed,
    header,
    parse_request,
    pieces,
    reset,
    respelled,
    split_badly,
    with_connection_close,
)

BOTH = (STREAM, POLL)
#: Longer than any line that a reader might have a buffer for.
HUGE_LINE = 5_000_000
#: Pause between the parts of a chunk, so that they reach the reader one by one (seconds).
APART_S = 0.001


class Trouble(StrEnum):
    """What happens to a kind of request; `amount` in Mode says how much of it."""

    NONE = "none"
    REFUSE = "refuse"  # the port is closed and open connections are reset, for all requests alike
    RESET = "reset"  # RST on open connections and on each new request
    CUT = "cut"  # FIN after `amount` bytes of a body, in the middle of an event
    HALF_OPEN = "half open"  # accepted, then silent forever, even after the fault has ended
    BLACK_HOLE = "black hole"  # nothing gets through; what was held back arrives when the fault ends
    BURSTS = "bursts"  # bytes are held back and released every `amount` seconds
    LATE = "late"  # each piece is `amount` seconds late, give or take half of that
    ANSWER = "answer"  # open streams end, and each request gets the canned response `answer`
    DUPLICATE = "duplicate"  # each event is sent twice, with probability `amount`
    REORDER = "reorder"  # … or after its successor
    DROP = "drop"  # … or not at all
    HEARTBEATS_ONLY = "heartbeats only"  # no events but heartbeats
    RETRY = "retry"  # each event sets `retry:` to `answer` (ms), and each stream is cut after `amount` bytes
    SPLIT = "split"  # the same events in other bytes, split inside characters and line ends
    HUGE = "huge"  # each event, with probability `amount`, gets a line of 5 MB


@dataclass(frozen=True, slots=True)
class Mode:
    """How the network behaves from now on; `amount` is in bytes, seconds or a probability (see Trouble)."""

    trouble: Trouble = Trouble.NONE
    amount: float = 0.0
    answer: str = ""


PASS = Mode()


#: Pieces from the server: when each arrived, its kind, and its bytes.
Arrivals = asyncio.Queue[tuple[float, str, bytes]]


class _Connection:
    """A client's connection, with its one request."""

    def __init__(self, request: Request, writer: asyncio.StreamWriter, chance: random.Random) -> None:
        self.request = request
        self.chance = chance
        self.dead = False  # half open: nothing passes any more
        self.bytes_left = math.inf  # until it is cut
        self.arrivals: Arrivals = asyncio.Queue()
        self.held_back: list[bytes] = []  # events that wait to be overtaken
        self.started = False  # an event was sent
        self._writer = writer

    @property
    def closed(self) -> bool:
        return self._writer.is_closing()

    async def send(self, data: bytes) -> None:
        if not self.closed:
            self._writer.write(data)
            await self._writer.drain()

    def close(self) -> None:
        """Send FIN after everything that was written."""
        self._writer.close()

    def reset(self) -> None:
        reset(self._writer)


class Proxy:
    """A proxy that listens on a free port, at `url`, while entered (`async with`)."""

    def __init__(self, target: int, seed: int = 0) -> None:
        self._target = target  # the server's port
        self._seed = seed
        self._modes = {STREAM: PASS, POLL: PASS, OTHER: PASS}
        self._connections: set[_Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._changed = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._placeholder: socket.socket | None = None  # keeps the port while refusing
        self.port = 0
        #: Whole responses that the proxy sends itself, by path.
        self.canned: dict[str, bytes] = {}
        #: Every request received, in order.
        self.requests: list[Request] = []

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def has_received(self, times: int) -> bool:
        return len(self.requests) >= times

    @property
    def open(self) -> list[Request]:
        """The requests in flight, including open streams."""
        return [connection.request for connection in self._connections]

    async def __aenter__(self) -> Proxy:
        await self._listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._placeholder is not None:
            self._placeholder.close()
        if self._server is not None:
            self._server.close()
        for writer in self._writers:
            writer.transport.abort()  # each connection then ends as if its client had left
        await asyncio.gather(*self._tasks)

    async def set(self, mode: Mode, *paths: str) -> None:
        """Apply this mode to these paths (default: both) from now on, and to open connections at once."""
        paths = paths or BOTH
        for path in paths:
            self._modes[path] = mode
        for connection in [connection for connection in self._connections if connection.request.path in paths]:
            self._strike(connection, mode)
        if any(one.trouble is Trouble.REFUSE for one in self._modes.values()):
            self._stop_listening()
        elif self._server is None:
            await self._listen()
        self._changed.set()
        self._changed = asyncio.Event()

    # -- listening

    async def _listen(self) -> None:
        if self._placeholder is not None:
            self._placeholder.close()
            self._placeholder = None
        self._server = await asyncio.start_server(self._accept, HOST, self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    def _stop_listening(self) -> None:
        if self._server is None:
            return
        self._server.close()
        self._server = None
        self._placeholder = socket.socket()
        self._placeholder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._placeholder.bind((HOST, self.port))  # bound without listening: connections are refused

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        try:
            await self._serve(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # one side left; browsers also open connections that they never use
        finally:
            await closed(writer)
            self._writers.discard(writer)
            self._tasks.discard(task)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        body = await reader.readexactly(int(header(head, "content-length") or 0))
        request = parse_request(head)
        self.requests.append(request)
        chance = random.Random(f"{self._seed} {request.path} {len(self.requests)}")
        connection = _Connection(request, writer, chance)
        self._strike(connection, self._modes[request.path], new=True)
        self._connections.add(connection)
        tasks = {
            asyncio.create_task(self._answer(connection, head, body)),
            asyncio.create_task(_until_closed(reader)),
        }
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            self._connections.discard(connection)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _strike(self, connection: _Connection, mode: Mode, *, new: bool = False) -> None:
        """Apply a change of mode to an open connection."""
        connection.bytes_left = mode.amount if mode.trouble in (Trouble.CUT, Trouble.RETRY) else math.inf
        if mode.trouble is Trouble.HALF_OPEN:
            connection.dead = True
        elif mode.trouble in (Trouble.RESET, Trouble.REFUSE):
            connection.reset()
        elif mode.trouble is Trouble.ANSWER and not new:
            connection.close()
        if not new:
            # An event must not wait for its successor beyond the fault; the next one may be a long time off.
            connection.arrivals.put_nowait((asyncio.get_running_loop().time(), "flush", b""))

    # -- one request

    async def _answer(self, connection: _Connection, head: bytes, body: bytes) -> None:
        await self._wait_to_pass(connection, -math.inf)
        if connection.closed:
            return
        mode = self._modes[connection.request.path]
        response = (
            ANSWERS[mode.answer]
            if mode.trouble is Trouble.ANSWER
            else self.canned.get(connection.request.target.split("?")[0])
        )
        if response is not None:
            await connection.send(response)
            connection.close()
            return
        try:
            reader, writer = await asyncio.open_connection(HOST, self._target)
        except ConnectionError:
            connection.reset()  # the server is down, so its port would be closed
            return
        try:
            writer.write(with_connection_close(head) + body)
            await self._relay(connection, reader)
        finally:
            await closed(writer)

    async def _relay(self, connection: _Connection, reader: asyncio.StreamReader) -> None:
        """Read pieces as they arrive, and forward each when it is due."""
        reading = asyncio.create_task(_read_pieces(reader, connection.arrivals))
        try:
            kind = ""
            while kind not in ("end", "broken"):
                arrived, kind, data = await connection.arrivals.get()
                await self._wait_to_pass(connection, arrived)
                if kind == "head":
                    await connection.send(with_connection_close(data))
                    continue
                events = self._alter(connection, data) if kind == "event" else [data]
                if kind in ("end", "flush"):
                    events = [*(chunk(event) for event in connection.held_back), *events]
                    connection.held_back = []
                for out in events:
                    if not await self._send(connection, out):
                        return
            connection.close()
        finally:
            reading.cancel()

    async def _send(self, connection: _Connection, data: bytes) -> bool:
        """Send this, and return False if the connection was cut."""
        part = data[: int(min(connection.bytes_left, len(data)))]
        connection.bytes_left -= len(part)
        await connection.send(part)
        if self._modes[connection.request.path].trouble is Trouble.SPLIT:
            await asyncio.sleep(APART_S)
        if connection.bytes_left > 0:
            return True
        connection.close()
        return False

    def _alter(self, connection: _Connection, event: bytes) -> list[bytes]:
        """Return the chunks that an event turns into under the current mode."""
        mode = self._modes[connection.request.path]
        first, connection.started = not connection.started, True
        if mode.trouble is Trouble.SPLIT:
            return [chunk(part) for part in split_badly(BOM * first + respelled(event))]
        hit = mode.amount > connection.chance.random()
        overtaken, connection.held_back = connection.held_back, []
        sent = [event]
        if mode.trouble is Trouble.REORDER and hit and not overtaken:
            connection.held_back, sent = sent, []
        elif mode.trouble is Trouble.DUPLICATE and hit:
            sent = [event, event]
        elif mode.trouble is Trouble.HEARTBEATS_ONLY:
            sent = [event] if b"event: heartbeat\n" in event else []
        elif mode.trouble is Trouble.DROP and hit:
            sent = []
        elif mode.trouble is Trouble.RETRY:
            sent = [b"retry: %s\n" % mode.answer.encode() + event]
        elif mode.trouble is Trouble.HUGE and hit:
            sent = [event.replace(b"data: ", b"data: " + b" " * HUGE_LINE, 1)]
        return [chunk(one) for one in (*sent, *overtaken)]

    async def _wait_to_pass(self, connection: _Connection, arrived: float) -> None:
        """Wait until a piece that arrived then may pass: not at all, for a while, or forever."""
        loop, draw = asyncio.get_running_loop(), connection.chance.random()
        while True:
            changed = self._changed
            mode = self._modes[connection.request.path]
            due = math.inf if connection.dead else _release_time(mode, arrived, draw)
            wait_s = due - loop.time()
            if wait_s <= 0:
                return
            try:
                await asyncio.wait_for(changed.wait(), None if wait_s == math.inf else wait_s)
            except TimeoutError:
                return


def _release_time(mode: Mode, arrived: float, draw: float) -> float:
    """Return when a piece that arrived then may pass."""
    if mode.trouble is Trouble.BLACK_HOLE:
        return math.inf
    if arrived == -math.inf:  # a request; only responses are late
        return arrived
    if mode.trouble is Trouble.LATE:
        return arrived + mode.amount * (0.5 + draw)
    if mode.trouble is Trouble.BURSTS:
        return math.ceil(arrived / mode.amount) * mode.amount
    return arrived


async def _read_pieces(reader: asyncio.StreamReader, arrivals: Arrivals) -> None:
    loop = asyncio.get_running_loop()
    try:
        async for kind, data in pieces(reader):
            arrivals.put_nowait((loop.time(), kind, data))
    except (asyncio.IncompleteReadError, ConnectionError):
        arrivals.put_nowait((loop.time(), "broken", b""))  # the server went away in the middle of a response


async def _until_closed(reader: asyncio.StreamReader) -> None:
    while await reader.read(65_536):
        pass
