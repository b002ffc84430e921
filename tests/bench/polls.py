"""Asks a server for a job's status at a steady rate, from another process, and notes how long each answer took."""

from __future__ import annotations

import http.client
import threading
import time

EVERY_S = 0.02


class Polls:
    """While it is entered; `took_ms` is what was measured."""

    def __init__(self, port: int, path: str) -> None:
        self.took_ms: list[float] = []
        self._port = port
        self._path = path
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Polls:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        while not self._over.is_set():
            start = time.monotonic()
            connection.request("GET", self._path)
            answer = connection.getresponse()
            answer.read()
            assert answer.status == 200, answer.status
            took = time.monotonic() - start
            self.took_ms.append(took * 1e3)
            self._over.wait(max(EVERY_S - took, 0))
        connection.close()
