"""A receiver of webhooks: a real HTTP server in threads, which answers as a test says and keeps the requests."""

from __future__ import annotations

import base64
import re
import socket
import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.support.documents import PROTOCOL

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()

#: In place of a status: take the request and never answer.
SILENCE = 0


@dataclass(frozen=True)
class Received:
    path: str
    headers: Mapping[str, str]  # names in lower case
    body: bytes


@dataclass(frozen=True)
class Answer:
    """An answer to give; with `forever` its body never ends."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    forever: bool = False


@dataclass(frozen=True)
class Tls:
    """TLS contexts for the receiver `hook.example`, and for a client that trusts its certificate."""

    receiver: ssl.SSLContext
    trusting: ssl.SSLContext


class Receiver:
    """Gives each of `answers` in turn, and then the last one again and again. Must be closed."""

    def __init__(self, *answers: int | Answer, tls: ssl.SSLContext | None = None, port: int = 0) -> None:
        self.received: list[Received] = []
        self.names: list[str | None] = []  # server names requested in TLS handshakes
        self.sent = 0  # bytes sent of endless bodies
        self._answers = [one if isinstance(one, Answer) else Answer(one) for one in answers or (200,)]
        self._closed = threading.Event()
        self._server = _Server(("127.0.0.1", port), self._handler())
        self._tls = tls is not None
        if tls is not None:
            tls.sni_callback = lambda _, name, __: self.names.append(name)
            self._server.socket = tls.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def url(self, path: str = "/hook", host: str = "127.0.0.1") -> str:
        return f"{'https' if self._tls else 'http'}://{host}:{self.port}{path}"

    def close(self) -> None:
        self._closed.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            timeout = 30

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): text for name, text in self.headers.items()}
                receiver.received.append(Received(self.path, headers, body))
                answer = receiver._answers[min(len(receiver.received), len(receiver._answers)) - 1]
                if answer.status == SILENCE:
                    receiver._closed.wait()
                    return
                self.send_response(answer.status)
                for name, text in answer.headers.items():
                    self.send_header(name, text)
                if not answer.forever:
                    self.send_header("Content-Length", "0")
                self.end_headers()
                while answer.forever and not receiver._closed.is_set():
                    self.wfile.write(b"x" * 1024)
                    receiver.sent += 1024

            def log_message(self, *_: object) -> None:
                pass

        return Handler


#: The type of the fixture `receive`.
Receive = Callable[..., Receiver]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, *_: object) -> None:
        pass  # some tests disconnect on purpose


def closed_port() -> int:
    """Return a port on which nothing listens."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def verified(received: Received, secret: str = SECRET) -> dict[str, Any]:
    """Verify and return the message with the example code in PROTOCOL.md."""
    (code,) = (one for one in re.findall(r"```python\n(.*?)```", PROTOCOL, re.DOTALL) if "def message" in one)
    names: dict[str, Any] = {}
    exec(code, names)
    return dict(names["message"](secret, received.headers, received.body))
