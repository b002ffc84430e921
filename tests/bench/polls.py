"""Polls a job's status at a steady rate, from a thread of the benchmark, and records how long each poll took."""

from __future__ import annotations

import http.client
import threading
import time

EVERY_S = 0.02


class Polls:
    """Polls while entered; `took_ms` has the duration of each poll."""

    def __init__(self, port: int, path: str) -> None:
        self.took_ms: list[float] = []
        self._port = port
        self._path = path
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Polls:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        while not self._stopped.is_set():
            start = time.monotonic()
            connection.request("GET", self._path)
            answer = connection.getresponse()
            answer.read()
            assert answer.status == 200, answer.status
            took = time.monotonic() - start
            self.took_ms.append(took * 1e3)
            self._stopped.wait(max(EVERY_S - took, 0))
        connection.close()
