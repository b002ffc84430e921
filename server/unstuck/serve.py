"""Serves the app with uvicorn: with our own listening socket, our own farewell, and an end in bounded time.

Must not know: routes, jobs.
See also: app.py (what is served), streaming/direct.py (how streams are written).

- The socket is ours, so that connections accepted from it inherit `TCP_USER_TIMEOUT`: a viewer that vanishes
  silently is dropped after 20 s, and so is one whose receive window stays closed.
- On SIGTERM uvicorn waits for open streams before it ends the lifespan. So the signal itself makes the hub say
  farewell, and streams that are still open are cut after `shutdown_s`.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import socket
import ssl
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.server import ServerState

from unstuck.api.context import Services
from unstuck.api.root_path import at_root_path
from unstuck.app import running
from unstuck.connections.http1 import LimitedProtocol
from unstuck.connections.tls import Handshake
from unstuck.connections.waiting import Waiting
from unstuck.errors import CannotStart
from unstuck.settings import Settings
from unstuck.streaming.direct import CONNECTION_KEY, Connection
from unstuck.streaming.memory import trim_periodically
from unstuck.streaming.open_files import raise_limit, room_for_connections

log = logging.getLogger("unstuck")

#: Silence after which the kernel drops a connection that has something to send (milliseconds).
USER_TIMEOUT_MS = 20_000
#: What the kernel may hold for a viewer that does not read (bytes; Linux doubles it for its own needs).
SEND_BUFFER_BYTES = 64 * 1024
BACKLOG = 4096
#: New objects before the youngest generation is collected, and collections of one generation before the next. With
#: 20 instead of 3, collecting the middle one blocked the loop for 60 to 70 ms while 5,000 viewers came; now 34.
GC_THRESHOLDS = (20_000, 3, 100)


class Server(uvicorn.Server):
    """The uvicorn server inside the running app, which says farewell at the signal, not after the streams."""

    def __init__(
        self, config: uvicorn.Config, app: Starlette, ready: Callable[[], None], waiting: Waiting
    ) -> None:
        super().__init__(config)
        self._app = app
        self._waiting = waiting
        self._ready = ready
        self._loop: asyncio.AbstractEventLoop | None = None

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Start everything, serve, and stop everything. Raises CannotStart."""
        self._loop = asyncio.get_running_loop()
        # Not in uvicorn's lifespan, which turns every failure into a traceback and exit code 3.
        async with running(self._app):
            self._ready()
            services: Services = self._app.state.services
            services.supervisor.run("memory", lambda: trim_periodically(self._viewers))
            services.supervisor.run("connections", self._waiting.watch)
            await super().serve(sockets)

    def _viewers(self) -> int:
        services: Services | None = self._app.state.services
        return 0 if services is None else services.hub.streams

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # Unlike uvicorn's, this does not raise the signal again afterwards: that would end the process before the
        # runner has released its items.
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._announce_leaving, signal.Signals(sig).name)
        self.force_exit = self.should_exit
        self.should_exit = True

    def _announce_leaving(self, signal_name: str) -> None:
        services: Services | None = getattr(self._app.state, "services", None)
        if services is not None:
            log.info("Server is stopping: signal=%s streams=%d", signal_name, services.hub.streams)
            services.hub.announce_leaving("the server is stopping")


def listen(settings: Settings) -> socket.socket:
    """Return the listening socket, bound to the address. Raises CannotStart if that is not available."""
    try:
        found = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:  # UnicodeError: no name could have this form
        why = error.strerror if isinstance(error, OSError) else error
        raise CannotStart(
            f"There is no address {settings.host!r} to listen on ({why}). Give another one with --host."
        ) from error
    family, kind, protocol, _, address = found[0]
    listener = socket.socket(family, kind, protocol)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS)
    try:
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise CannotStart(
            f"Port {settings.port} on {settings.host} is not available ({error.strerror}). Stop the program that "
            "uses it, or choose another with --port."
        ) from error
    listener.listen(BACKLOG)
    listener.setblocking(False)
    return listener


def check_tls(settings: Settings) -> None:
    """Raise CannotStart if the certificate and its key cannot be used."""
    if not settings.tls_cert:
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(settings.tls_cert, settings.tls_key)
    except (OSError, ssl.SSLError) as error:
        raise CannotStart(
            f"The certificate {settings.tls_cert} with the key {settings.tls_key} cannot be used "
            f"({error.strerror or error}). Both must be readable PEM files that belong together."
        ) from error


def run(
    app: Starlette, settings: Settings, listener: socket.socket, ready: Callable[[], None] = lambda: None
) -> None:
    """Serve until a signal comes. Blocks; `ready` is called once requests are answered."""
    raise_limit()
    waiting = Waiting(room_for_connections(), write_s=settings.send_timeout_s)
    works = direct_writes_work()
    protocols = _Protocols(waiting, http2=_http2(settings))
    served = at_root_path(app, settings.root_path)
    config = uvicorn.Config(
        _with_connection(served) if works else served,
        http=protocols if works else "httptools",  # type: ignore[arg-type]
        ws="none",
        lifespan="off",
        access_log=settings.log_level == "debug",
        log_level="debug" if settings.log_level == "debug" else "warning",
        log_config=None,
        server_header=False,
        backlog=BACKLOG,
        ssl_certfile=settings.tls_cert or None,
        ssl_keyfile=settings.tls_key or None,
        timeout_graceful_shutdown=max(round(settings.shutdown_s), 1),
    )
    config.load()
    if works:  # the connections make their handshakes themselves; uvicorn listens for plain ones
        protocols.tls, config.ssl = config.ssl, None
    gc.collect()
    gc.freeze()  # objects that exist now stay; scanning them again and again was half the cost of a new stream
    gc.set_threshold(*GC_THRESHOLDS)
    Server(config, app, ready, waiting).run([listener])


def direct_writes_work() -> bool:
    """Return whether uvicorn works as streaming/direct.py and connections/ expect; if not, log a warning.

    Plays one response through the protocol. Call it outside of an event loop. If it returns false, uvicorn serves
    as it is.
    """
    failure: Exception | None = None
    body = b""
    try:
        body = asyncio.run(_play_direct_writes())
    except Exception as error:  # noqa: BLE001 – logged below, with what follows from it
        failure = error
    if body == b"1\r\na\r\n1\r\nb\r\n1\r\nc\r\n0\r\n\r\n":
        return True
    log.warning(
        "Streams take the plain path, since this version of uvicorn does not send them as expected: nothing is "
        "lost, but many viewers cost more CPU time, there is no HTTP/2, and heads and idle connections have no "
        "limits; install an older uvicorn or a newer unstuck: uvicorn=%s",
        uvicorn.__version__,
        exc_info=failure,
    )
    return False


async def _play_direct_writes() -> bytes:
    """Return the body of a response whose second chunk is written past uvicorn, to the transport."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        connection_of(send).transport.write(b"1\r\nb\r\n")
        await send({"type": "http.response.body", "body": b"c", "more_body": False})

    config = uvicorn.Config(app, http="httptools", ws="none", lifespan="off", log_config=None, access_log=False)
    config.load()
    protocol = _Protocols(Waiting(1), http2=False)(config, ServerState(), {})
    transport = _TransportInMemory()
    protocol.connection_made(transport)
    protocol.data_received(b"GET / HTTP/1.1\r\nHost: unstuck\r\n\r\n")
    await asyncio.gather(*protocol.tasks)
    protocol.connection_lost(None)
    return transport.written.partition(b"\r\n\r\n")[2]


class _TransportInMemory(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.written = b""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return False

    def close(self) -> None: ...


def connection_of(send: Send) -> Connection:
    """Return the connection behind the `send` that uvicorn gives to the outermost app: a method of its request."""
    return Connection(send, send.__self__.transport)  # type: ignore[attr-defined]


def _with_connection(app: ASGIApp) -> ASGIApp:
    """Wrap the app, so that each HTTP/1.1 request's connection is in its scope, for streaming/direct.py.

    HTTP/1.0 has no chunks, and the streams of HTTP/2 share a connection.
    """

    async def with_connection(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["http_version"] != "1.1":
            await app(scope, receive, send)
            return
        connection = scope[CONNECTION_KEY] = connection_of(send)
        try:
            await app(scope, receive, send)
            if connection.serve_until_disconnect is not None:
                await connection.serve_until_disconnect(receive)
        finally:
            connection.close()
            # Otherwise each closed connection stays in a cycle (its `send` refers to the scope) until a garbage
            # collection, which is rare: 5,000 viewers left 58 MiB behind, and the next 5,000 made it 79.
            del scope[CONNECTION_KEY]

    return with_connection


class _Protocols:
    """Creates the protocol of each connection, as uvicorn calls its protocol class."""

    def __init__(self, waiting: Waiting, *, http2: bool) -> None:
        self.alpn_protocols: list[str] | None = None
        self.tls: ssl.SSLContext | None = None
        self._waiting = waiting
        self._http2 = http2
        if http2:
            from unstuck.connections.http2 import ALPN  # an extra

            self.alpn_protocols = ALPN

    def __call__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> Any:
        made = partial(self._made, config, server_state, app_state, _loop)
        if self.tls is None:
            return made()
        return Handshake(self._waiting, server_state.connections, self.tls, made)

    def _made(self, *of_connection: Any) -> Any:
        http1 = partial(LimitedProtocol, self._waiting, *of_connection)
        if not self._http2:
            return http1()
        from unstuck.connections.http2 import LimitedHttp2, Negotiated

        return Negotiated(http1, partial(LimitedHttp2, self._waiting, *of_connection))


def _http2(settings: Settings) -> bool:
    """Return whether HTTP/2 is spoken: with TLS, if zttp is installed."""
    if not settings.tls_cert:
        return False
    try:
        import zttp  # type: ignore[import-not-found,import-untyped,unused-ignore]  # noqa: F401
    except ImportError:
        log.warning("HTTP/2 is off, so browsers open at most six streams; pip install 'unstuck[http2]' adds it")
        return False
    return True
