"""Asks a server all the time, from outside, whether it is alive and ready, and writes down each answer.

A process of its own with a plain HTTP client, so that nothing of the siege delays it: `python -m
tests.siege.witness URL FILE`, until it is terminated. The file has one JSON object per line; times are those of
the system's monotonic clock, which all processes share.
It must not know what is done to the server. See also: judge.py (whether the answers were true).
"""

from __future__ import annotations

import http.client
import json
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TextIO
from urllib.parse import urlsplit

LIVE, READY = "/api/health/live", "/api/health/ready"
#: Between an answer and the next request, and until a request counts as not answered (seconds).
PAUSE_S, PATIENCE_S = 0.2, 15.0


@dataclass(frozen=True)
class Answer:
    """What the server answered; `status` is 0 if it did not, and `troubles` then say why."""

    path: str
    sent: float
    answered: float
    status: int
    troubles: tuple[str, ...] = ()


def ask(url: str, path: str) -> Answer:
    """Send one request on a new connection."""
    where, sent = urlsplit(url), time.monotonic()
    connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=PATIENCE_S)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body, status = json.loads(answer.read()), answer.status
    except (OSError, http.client.HTTPException, ValueError) as error:
        return Answer(path, sent, time.monotonic(), 0, (repr(error),))
    finally:
        connection.close()
    return Answer(path, sent, time.monotonic(), status, tuple(body.get("troubles", ())))


def answers_in(path: Path) -> Iterator[Answer]:
    """Yield what a witness has written, without a line that it was just writing."""
    for line in path.read_text().splitlines(keepends=True):
        if line.endswith("\n"):
            fields = json.loads(line)
            yield Answer(**{**fields, "troubles": tuple(fields["troubles"])})


def _ask_always(url: str, path: str, file: TextIO) -> None:
    while True:
        file.write(json.dumps(asdict(ask(url, path))) + "\n")
        time.sleep(PAUSE_S)


def main(url: str, path: str) -> None:
    """Ask until the process is terminated."""
    with open(path, "a", buffering=1) as file:
        threading.Thread(target=_ask_always, args=(url, LIVE, file), daemon=True).start()
        _ask_always(url, READY, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
