"""Results are sent in constant memory, however large they are and however slowly they are read."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from tests.support.server import Server, StartServer

MIB = 1024 * 1024
#: A kind that returns a sparse file of 100 MiB.
KIND = """
import unstuck
from pathlib import Path

@unstuck.kind("large", needs_file=False)
def large(file: Path | None, report: unstuck.Report) -> Path:
    path = report.output / "large.bin"
    with path.open("wb") as hollow:
        hollow.truncate(100 * 1024 * 1024)
    return path
"""


def peak(server: Server) -> int:
    assert server.process is not None
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


@pytest.mark.parametrize("what", ["the ZIP of all", "one file"])
def test_downloads_are_never_held_in_memory(start_server: StartServer, tmp_path: Path, what: str) -> None:
    app = tmp_path / "mine.py"
    app.write_text(KIND)
    server = start_server("--workers", "2", "--app", str(app))
    job = server.until_done(server.submit("large", total=3)["id"])
    assert job["state"] == "completed", job
    first = server.items(job["id"])[0]["links"]["result"]
    path, size = (job["links"]["results"], 300) if what == "the ZIP of all" else (first, 100)
    before = peak(server)
    taken = 0
    with httpx.stream("GET", f"{server.url}{path}", timeout=60) as answer:
        assert answer.status_code == 200
        pieces = answer.iter_raw(MIB)
        taken += len(next(pieces))
        # The download is not read meanwhile: whatever was sent ahead is buffered in the server or in the kernel.
        for _ in range(20):
            server.job(job["id"])
        taken += sum(map(len, pieces))
    assert taken >= size * MIB
    assert peak(server) - before < 30 * MIB
