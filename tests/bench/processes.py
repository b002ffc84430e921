"""The processes of a measurement: starts each on a core, sends it orders, and measures its CPU and memory.

A program prints the paths of its streams and an empty line when it is ready, takes orders on stdin, and ends
when stdin does. It must not know what is measured.
"""

from __future__ import annotations

import json
import os
import resource
import select
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
CACHE = ROOT / ".cache" / "bench"
TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
#: Starting, an order and ending may each take this long (seconds).
PATIENCE_S = 120.0
#: The server has the first core and its viewers the last, if there are several.
CORES = sorted(os.sched_getaffinity(0))
SERVER_CORE, CLIENT_CORE = CORES[0], CORES[-1]


def raise_limits() -> int:
    """Raise the limit on open files as far as the system allows, and return it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as one:
        return int(one.getsockname()[1])


def compiled(source: str) -> Path:
    """Return the path of a C program, compiled if its source, beside this file, is newer."""
    path, made = Path(__file__).with_name(source), CACHE / Path(source).stem
    if not made.exists() or made.stat().st_mtime < path.stat().st_mtime:
        CACHE.mkdir(parents=True, exist_ok=True)
        subprocess.run(["cc", "-O2", "-o", made, path], check=True, timeout=PATIENCE_S)
    return made


class Program:
    """A process that takes orders, with its descendants; a context manager that ends it."""

    def __init__(
        self, command: Sequence[str | Path], core: int = SERVER_CORE, environ: Mapping[str, str] | None = None
    ) -> None:
        self._buffer = b""
        self._log = (CACHE / "log.txt").open("ab")
        # Through taskset, so that the core is set before the first thread starts.
        self.process = subprocess.Popen(
            ["taskset", "-c", str(core), *map(str, command)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            cwd=ROOT,
            env={**os.environ, **(environ or {})},
        )

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self._log.close()

    def send(self, order: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(order.encode() + b"\n")
        self.process.stdin.flush()

    def read_line(self, patience_s: float = PATIENCE_S) -> str:
        """Return the next line that the program prints; raise RuntimeError if there is none in time."""
        assert self.process.stdout is not None
        end = time.monotonic() + patience_s
        while b"\n" not in self._buffer:
            ready, _, _ = select.select([self.process.stdout], [], [], max(end - time.monotonic(), 0))
            more = os.read(self.process.stdout.fileno(), 65536) if ready else b""
            if not more:
                raise RuntimeError(f"{self.process.args!r} printed nothing more; see {CACHE / 'log.txt'}")
            self._buffer += more
        line, self._buffer = self._buffer.split(b"\n", 1)
        return line.decode()

    def ask(self, order: str, patience_s: float = PATIENCE_S) -> dict[str, Any]:
        self.send(order)
        return dict(json.loads(self.read_line(patience_s)))

    def paths(self) -> list[str]:
        """Wait until the program is ready, and return the paths that it prints."""
        found = []
        while line := self.read_line():
            found.append(line)
        return found

    def cpu(self) -> float:
        """Return the CPU seconds that the program and its descendants have used."""
        return sum(sum(map(int, fields[11:15])) / TICKS for fields in self._family())

    def memory(self) -> int:
        """Return the bytes that the program and its descendants have in memory."""
        return sum(int(fields[21]) * PAGE for fields in self._family())

    def _family(self) -> list[list[str]]:
        """Return /proc/PID/stat from the third field on, of the program and its descendants."""
        stats = {}
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                text = path.read_text()
            except OSError:
                continue  # it ended meanwhile
            stats[int(path.parent.name)] = text.rpartition(")")[2].split()
        family = {self.process.pid}
        while more := {pid for pid, fields in stats.items() if int(fields[1]) in family} - family:
            family |= more
        return [stats[pid] for pid in family if pid in stats]
