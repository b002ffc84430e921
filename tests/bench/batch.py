"""Measures a batch of files through `checksum`, beside what one would write by hand.

    python -m tests.bench.batch [ROUNDS [SCALE]]

Small files: a real server with a viewer, from the first claim to the end of the job, beside `Pool.map` of
multiprocessing over the same files with as many processes, and beside `Pool.imap_unordered`, which hands out one
file at a time, as showing progress requires. Large files: beside as many `sha256sum` at a time. All alternate in
one run; the results are medians and ratios. The upload, and starting server and pool, are not counted.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import httpx

from tests.support.server import Server

#: At scale 1: the number and size of small files, and of large files.
SMALL, SMALL_BYTES = 10_000, 4_096
LARGE, LARGE_BYTES = 5, 128 * 1024 * 1024
WORKERS = 2


def measure(rounds: int = 3, scale: float = 1.0) -> dict[str, float]:
    """Return medians of the seconds that each took, ratios of ours to the others, and our files per second."""
    small = max(int(SMALL * scale), 100)
    found: dict[str, list[float]] = {}

    def note(name: str, seconds: float) -> None:
        found.setdefault(name, []).append(seconds)

    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder) / "data", "--workers", str(WORKERS)).start()
        try:
            for _ in range(rounds):
                files = _job(server, note, "ours_s", [os.urandom(SMALL_BYTES) for _ in range(small)])
                _pools(files, note)
                files = _job(
                    server, note, "ours_large_s", [os.urandom(int(LARGE_BYTES * scale)) for _ in range(LARGE)]
                )
                note("sha256sum_s", _sha256sum(files))
        finally:
            server.stop()
    medians = {name: statistics.median(seconds) for name, seconds in found.items()}
    ratios = {
        "over_pool_map": medians["ours_s"] / medians["pool_map_s"],
        "over_pool_imap": medians["ours_s"] / medians["pool_imap_s"],
        "over_sha256sum": medians["ours_large_s"] / medians["sha256sum_s"],
        "files_per_s": small / medians["ours_s"],
    }
    return {name: round(value, 3) for name, value in (medians | ratios).items()}


def _job(server: Server, note: Callable[[str, float], None], name: str, contents: list[bytes]) -> list[Path]:
    """Run a job over these files with a viewer, note its seconds, and return the paths of the stored files."""
    job = server.submit("checksum", {f"{index}.bin": content for index, content in enumerate(contents)})
    before = _cpu_s(server)
    watching = threading.Thread(target=_watch, args=(server.url + job["links"]["events"],))
    watching.start()
    watching.join()
    note(name.replace("_s", "_server_cpu_s"), _cpu_s(server) - before)
    job = server.job(job["id"])
    assert (job["state"], job["progress"]["succeeded"]) == ("completed", len(contents))
    began, ended = (datetime.fromisoformat(job[name]) for name in ("started_at", "finished_at"))
    note(name, (ended - began).total_seconds())
    return sorted((server.data / "files" / job["id"] / "in").iterdir())


def _watch(url: str) -> None:
    with httpx.stream("GET", url, timeout=600) as answer:
        for _ in answer.iter_raw():
            pass


def _cpu_s(server: Server) -> float:
    """Return the CPU seconds of the server process, without its workers."""
    assert server.process is not None
    fields = Path(f"/proc/{server.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def digest(path: Path) -> str:
    """Return a file's SHA-256; the work of a pool's processes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _pools(files: list[Path], note: Callable[[str, float], None]) -> None:
    with multiprocessing.get_context("spawn").Pool(WORKERS) as pool:
        pool.map(digest, files[:WORKERS])  # so that all have started
        began = time.perf_counter()
        assert len(pool.map(digest, files)) == len(files)
        note("pool_map_s", time.perf_counter() - began)
        began = time.perf_counter()
        assert sum(1 for _ in pool.imap_unordered(digest, files)) == len(files)
        note("pool_imap_s", time.perf_counter() - began)


def _sha256sum(files: list[Path]) -> float:
    began = time.perf_counter()
    command = ["xargs", "-0", "-n1", f"-P{WORKERS}", "sha256sum"]
    names = b"\0".join(os.fsencode(path) for path in files)
    subprocess.run(command, input=names, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began


def main(rounds: str = "3", scale: str = "1") -> None:
    """Measure and print JSON."""
    print(json.dumps(measure(int(rounds), float(scale)), indent=2))


if __name__ == "__main__":
    main(*sys.argv[1:])
