"""Measures viewers that open a stream and never read: the memory of server and kernel for each.

The kernel's share is what `ss` reports for the server's end of each connection; the reader's end is small and not
counted. The job changes fast enough that each viewer leaves about a megabyte unread.
"""

from __future__ import annotations

import re
import shutil
import socket
import subprocess

from tests.bench.figures import Samples, Table, log
from tests.bench.peers import BARE, OURS, PEERS, RunningServer, Start, available, ours
from tests.bench.viewers import Viewers

READERS = 100
RATE = 200
SECONDS = 5.0
#: Long enough that no viewer is dropped during the measurement; the default is 15 s.
PATIENT = {"send_timeout_s": "600", "interval_s": "0.005"}


def measure(rounds: int, scale: float) -> Table:
    """Return a row for each server."""
    # The bare C server waits for its slowest reader, so there is nothing to measure.
    starts, _, _ = available([name for name in PEERS if name != BARE] if scale >= 1 else [])
    samples = Samples()
    for turn in range(rounds):
        for name, start in {OURS: ours(1, **PATIENT), **starts}.items():
            _once(samples, name, start)
        log(f"  stalled: round {turn + 1} of {rounds}")
    return samples.medians()


def _once(samples: Samples, name: str, start: Start) -> None:
    with start() as server:
        with Viewers(server.port, server.paths, READERS) as watching:
            server.publish(RATE, 20, 1_000)
            watching.window(1.0)
        before = server.program.memory()
        readers = [_stalled(server) for _ in range(READERS)]
        with Viewers(server.port, server.paths, 1) as watching:
            server.publish(RATE, 0, 1_000)
            unread = watching.window(SECONDS).bytes
            user = (server.program.memory() - before) / READERS
        kernel = _kernel_memory(server.port) / READERS if shutil.which("ss") else float("nan")
        for one in readers:
            one.close()
    samples.add(
        name,
        KiB_of_the_server=user / 1024,
        KiB_of_the_kernel=kernel / 1024,
        KiB_together=(user + kernel) / 1024,
        KiB_not_read=unread / 1024,
    )


def _stalled(server: RunningServer) -> socket.socket:
    one = socket.create_connection(("127.0.0.1", server.port))
    one.sendall(f"GET {server.paths[0]} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n\r\n".encode())
    return one


def _kernel_memory(port: int) -> int:
    """Return the bytes that the kernel holds for the server's connections: `ss` shows them as `w`, `f` and `r`."""
    output = subprocess.run(["ss", "-tmnH", "sport", "=", f":{port}"], capture_output=True, text=True, check=True)
    found = re.findall(r"skmem:\(r(\d+),rb\d+,t\d+,tb\d+,f(\d+),w(\d+)", output.stdout)
    return sum(int(part) for one in found for part in one)
