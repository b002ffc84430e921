"""Results: sent in constant memory, and whole even if some of their files are gone."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import zipfile
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest
from msgspec.structs import replace

from tests.support.jobs import finish, submitted
from tests.support.server import Server, StartServer
from unstuck.api import results
from unstuck.api.context import Services
from unstuck.files.folder import DataFolder
from unstuck.store.sqlite import SQLiteStore

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


#: A kind with a small result file for each item.
SMALL = """
import unstuck
from pathlib import Path

@unstuck.kind("small", needs_file=False)
def small(file: Path | None, report: unstuck.Report) -> Path:
    path = report.output / "it.txt"
    path.write_text(report.name)
    return path
"""


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("small")
    (folder / "mine.py").write_text(SMALL)
    server = Server(folder / "data", "--workers", "1", "--app", str(folder / "mine.py")).start()
    yield server
    server.stop()


def archive_of(server: Server, job: dict[str, Any]) -> tuple[dict[str, bytes], list[dict[str, Any]]]:
    """Return the content of each entry of the ZIP but results.json, and results.json."""
    answer = httpx.get(f"{server.url}{job['links']['results']}", timeout=60)
    assert answer.status_code == 200
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        entries = {name: archive.read(name) for name in archive.namelist()}
    return entries, json.loads(entries.pop("results.json"))


def test_entries_are_dated_and_readable(small: Server) -> None:
    """Each was of 1980, and of its owner alone once it was unpacked."""
    job = small.until_done(small.submit("small", items=["a"])["id"])
    with zipfile.ZipFile(io.BytesIO(httpx.get(f"{small.url}{job['links']['results']}").content)) as archive:
        file, listing = archive.infolist()
    finished = datetime.fromisoformat(small.items(job["id"])[0]["finished_at"]).replace(tzinfo=None)
    assert abs(datetime(*file.date_time) - finished) <= timedelta(seconds=2)  # a ZIP counts every other second
    assert listing.date_time >= file.date_time
    assert [entry.external_attr >> 16 for entry in (file, listing)] == [0o100644, 0o100644]


@pytest.mark.parametrize(("at", "year"), [(0.0, 1980), (1e10, 2107), (1_800_000_000.0, 2027)])
def test_dates_that_a_zip_cannot_hold(at: float, year: int) -> None:
    assert results._head("a", at).date_time[0] == year


def vanish(path: Path) -> None:
    path.unlink()


def become_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("/etc/hostname")


def lose_folder(path: Path) -> None:
    shutil.rmtree(path.parents[1])


@pytest.mark.parametrize("lose", [vanish, become_link, lose_folder])
def test_a_missing_file_is_left_out_and_named(small: Server, lose: Callable[[Path], None]) -> None:
    job = small.until_done(small.submit("small", items=["a", "b", "c"])["id"])
    whole, listed = archive_of(small, job)
    assert whole == {f"0000{n + 1}-it.txt": name.encode() for n, name in enumerate("abc")}
    assert [item.get("missing") for item in listed] == [None] * 3
    lose(next((small.data / "files" / job["id"] / "out").glob("1-*/it.txt")))
    lost = [0, 1, 2] if lose is lose_folder else [1]
    entries, listed = archive_of(small, job)
    note = entries.pop("missing.txt").decode()
    assert entries == {name: content for n, (name, content) in enumerate(whole.items()) if n not in lost}
    assert [index for index, item in enumerate(listed) if "missing" in item] == lost
    assert [f"item {index}: " in note for index in range(3)] == [index in lost for index in range(3)]
    assert [item["state"] for item in listed] == ["succeeded"] * 3


def test_a_file_that_cannot_be_read_is_named(small: Server) -> None:
    """The memory of a process reads as a file whose first byte cannot be read."""
    job = small.until_done(small.submit("small", items=["a", "b"])["id"])
    path = next((small.data / "files" / job["id"] / "out").glob("0-*/it.txt"))
    assert small.process is not None
    bind = ["mount", "--bind", f"/proc/{small.process.pid}/mem", str(path)]
    if subprocess.run(bind, capture_output=True, check=False).returncode != 0:
        pytest.skip("needs the right to mount a file")
    try:
        entries, listed = archive_of(small, job)
    finally:
        subprocess.run(["umount", str(path)], check=True)
    assert b"item 0: its end cannot be read" in entries["missing.txt"]
    assert entries["00002-it.txt"] == b"b"
    assert ["missing" in item for item in listed] == [True, False]


async def test_a_job_that_is_removed_meanwhile_leaves_a_whole_archive(
    store: SQLiteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "PAGE_ITEMS", 1)
    folder = DataFolder(tmp_path)
    job_id = await submitted(store, 3)
    for claimed in await store.claim(3, 30.0):
        index, lease = claimed.item.index, claimed.item.lease
        folder.output(job_id, index, lease).mkdir(parents=True)
        (folder.output(job_id, index, lease) / "it.txt").write_text(f"{index}")
        await store.apply([replace(finish(claimed), result=None, result_file="it.txt")])
    pieces = results._zip(cast(Services, SimpleNamespace(store=store, folder=folder)), job_id)
    got = await anext(pieces)
    await store.remove(job_id)
    folder.remove(job_id)
    got += b"".join([piece async for piece in pieces])
    with zipfile.ZipFile(io.BytesIO(got)) as archive:
        assert archive.testzip() is None
        assert archive.read("00001-it.txt") == b"0"
        assert b"The job was removed while this was being sent" in archive.read("missing.txt")
        assert json.loads(archive.read("results.json")) == []
