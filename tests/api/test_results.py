"""Results: sent in constant memory, and whole even if some of their files are gone."""

from __future__ import annotations

import io
import json
import shutil
import struct
import subprocess
import zipfile
import zlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO, cast

import httpx
import pytest
from msgspec.structs import replace

from tests.support.jobs import finish, submitted
from tests.support.server import Server, StartServer
from unstuck.api import results
from unstuck.api.context import Services
from unstuck.api.zip_stream import Names, ZipStream
from unstuck.files import local
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


def bytes_read(server: Server) -> int:
    assert server.process is not None
    return int(Path(f"/proc/{server.process.pid}/io").read_text().split()[1])


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


def test_a_small_archive_tells_its_length(small: Server, start_server: StartServer, tmp_path: Path) -> None:
    job = small.until_done(small.submit("small", items=["a", "b", "c"])["id"])
    url = f"{small.url}{job['links']['results']}"
    whole, head = httpx.get(url), httpx.head(url)
    assert head.headers["content-length"] == whole.headers["content-length"] == str(len(whole.content))
    app = tmp_path / "mine.py"
    app.write_text(KIND)
    server = start_server("--workers", "1", "--app", str(app))
    job = server.until_done(server.submit("large", total=3)["id"])
    before = bytes_read(server)
    head = httpx.head(f"{server.url}{job['links']['results']}", timeout=60)
    assert (head.status_code, head.headers.get("content-length")) == (200, None)
    assert bytes_read(server) - before < 200 * MIB, "only the first file of three, for its checksum"
    with httpx.stream("GET", f"{server.url}{job['links']['results']}") as answer:
        assert answer.headers["transfer-encoding"] == "chunked"


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
    assert whole == {"it.txt": b"a", "it (2).txt": b"b", "it (3).txt": b"c"}
    assert [(item["file"], item.get("missing")) for item in listed] == [(name, None) for name in whole]
    lose(next((small.data / "files" / job["id"] / "out").glob("1-*/it.txt")))
    lost = [0, 1, 2] if lose is lose_folder else [1]
    entries, listed = archive_of(small, job)
    note = entries.pop("missing.txt").decode()
    kept = [content for n, content in enumerate(whole.values()) if n not in lost]
    assert entries == dict(zip(whole, kept, strict=False))
    assert [item.get("file") is None for item in listed] == [index in lost for index in range(3)]
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
    assert b"item 0: it cannot be read" in entries["missing.txt"]
    assert entries["it.txt"] == b"b"
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
    pieces = results._zip(
        cast(Services, SimpleNamespace(store=store, files=local.LocalFiles(folder))), job_id, 1.0
    )
    got = await anext(pieces) + await anext(pieces)
    await store.remove(job_id)
    folder.remove(job_id)
    got += b"".join([piece async for piece in pieces])
    with zipfile.ZipFile(io.BytesIO(got)) as archive:
        assert archive.testzip() is None
        assert archive.read("it.txt") == b"0"
        assert b"The job was removed while this was being sent" in archive.read("missing.txt")
        assert json.loads(archive.read("results.json")) == []


#: A kind whose result file has the name of its item, in which / stands for %.
NAMED = """
import unstuck
from pathlib import Path

@unstuck.kind("named", needs_file=False)
def named(file: Path | None, report: unstuck.Report) -> Path:
    path = report.output / report.name.replace("%", "/").rpartition("/")[2]
    path.write_text(report.name)
    return path
"""


def test_an_archive_as_people_expect_it(start_server: StartServer, tmp_path: Path) -> None:
    """Names as they are, dates, modes, and the way from an item to its file; Info-ZIP and zipfile read it."""
    (tmp_path / "mine.py").write_text(NAMED)
    server = start_server("--workers", "1", "--app", str(tmp_path / "mine.py"))
    given = [
        "my photo (1).jpg",
        "My Photo (1).JPG",
        "né.txt",
        "ne\u0301.txt",
        "con.txt",
        "results.json",
        "a:b?.txt",
    ]
    job = server.until_done(server.submit("named", items=given)["id"])
    answer = httpx.get(f"{server.url}{job['links']['results']}")
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        listed = json.loads(archive.read("results.json"))
        names = [item["file"] for item in listed]
        assert names == [
            "my photo (1).jpg", "My Photo (1) (2).JPG", "né.txt", "ne\u0301 (2).txt", "_con.txt",
            "results (2).json", "a_b_.txt",
        ]  # fmt: skip
        assert [archive.read(name).decode() for name in names] == given
        for entry in archive.infolist():
            age = datetime.now(UTC) - datetime(*entry.date_time, tzinfo=UTC)
            assert timedelta(seconds=-2) <= age < timedelta(minutes=5)
            assert entry.external_attr >> 16 == 0o100644
            assert (entry.compress_type, entry.flag_bits & 0x08) == (zipfile.ZIP_STORED, 0)
    (tmp_path / "all.zip").write_bytes(answer.content)
    if shutil.which("unzip"):
        subprocess.run(["unzip", "-tqq", tmp_path / "all.zip"], check=True, capture_output=True)
    assert [name for name, _ in read_forward(io.BytesIO(answer.content))] == [*names, "results.json"]


def read_forward(stream: BinaryIO) -> Iterator[tuple[str, bytes]]:
    """Read an archive from front to back, strictly: each header says all, or the data tell their own end."""
    while (head := stream.read(30))[:4] == b"PK\3\4":
        _, flags, method, _, _, crc, packed, size, name_size, extra_size = struct.unpack("<5H3L2H", head[4:])
        name, extra = stream.read(name_size).decode(), stream.read(extra_size)
        if method == 0:
            assert not flags & 0x08
            assert packed == size
            content = stream.read(size)
        else:
            assert method == 8
            unpacker = zlib.decompressobj(-15)
            content = b""
            while not unpacker.eof:
                content += unpacker.decompress(stream.read(1))
            assert flags & 0x08
            assert struct.pack("<HH", 1, 16) in extra  # the sizes below have 8 bytes
            mark, crc, packed, size = struct.unpack("<4sLQQ", stream.read(24))
            assert mark == b"PK\7\10"
        assert (zlib.crc32(content), len(content)) == (crc, size)
        yield name, content
    assert head[:4] == b"PK\1\2"


@pytest.mark.parametrize("limit", [0, local.CHECKSUM_BYTES])
async def test_large_files_are_sent_without_being_read_before(
    store: SQLiteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    monkeypatch.setattr(local, "CHECKSUM_BYTES", limit)
    folder = DataFolder(tmp_path)
    job_id = await submitted(store, 2)
    contents = [bytes(range(256)) * 100, b""]
    for claimed, content in zip(await store.claim(2, 30.0), contents, strict=True):
        output = folder.output(job_id, claimed.item.index, claimed.item.lease)
        output.mkdir(parents=True)
        (output / "it").write_bytes(content)
        await store.apply([replace(finish(claimed), result=None, result_file="it")])
    services = cast(Services, SimpleNamespace(store=store, files=local.LocalFiles(folder)))
    whole = b"".join([piece async for piece in results._zip(services, job_id, 1e9)])
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        assert archive.testzip() is None
        assert [archive.read(name) for name in ("it", "it (2)")] == contents
        assert archive.getinfo("it").compress_type == (0 if limit else 8)
    assert [content for _, content in read_forward(io.BytesIO(whole))][:2] == contents


def test_archives_beyond_the_limits_of_zip() -> None:
    """More than 65,535 entries, and offsets and sizes beyond 4 GiB, which are told in ZIP64."""
    stream, pieces = ZipStream(), []
    for number in range(70_000):
        pieces += [stream.begin(f"{number}", 1e9, (1, zlib.crc32(b"x"))), stream.pack(b"x"), stream.finish()]
    whole = b"".join(pieces) + stream.end()
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        assert len(archive.namelist()) == 70_000
        assert archive.read("69999") == b"x"
    stream = ZipStream()
    head = stream.begin("large", 1e9, (5 * 2**30, 7))
    stream._sent(cast(bytes, range(5 * 2**30)))
    stream._missing = 0
    stream.begin("after", 1e9, (0, 0))
    directory = stream.end()
    assert struct.pack("<HHQQ", 1, 16, 5 * 2**30, 5 * 2**30) in head
    assert struct.pack("<HHQQ", 1, 16, 5 * 2**30, 5 * 2**30) in directory
    assert struct.pack("<HHQ", 1, 8, 5 * 2**30 + len(head)) in directory
    assert b"PK\6\6" in directory


@pytest.mark.parametrize(
    ("at", "shown"),
    [
        (-1e300, (1980, 1, 1, 0, 0, 0)),
        (0.0, (1980, 1, 1, 0, 0, 0)),
        (1e9, (2001, 9, 9, 1, 46, 40)),
        (5e9, (2107, 12, 31, 23, 59, 58)),
        (float("inf"), (2107, 12, 31, 23, 59, 58)),
    ],
)
def test_a_time_beyond_what_a_zip_can_name(at: float, shown: tuple[int, ...]) -> None:
    stream = ZipStream()
    whole = stream.begin("it", at, (0, 0)) + stream.finish() + stream.end()
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        assert archive.getinfo("it").date_time == shown


def test_a_thousand_equal_names_are_told_apart() -> None:
    names = Names()
    made = [names.unique("it.txt") for _ in range(1000)]
    assert made[:3] == ["it.txt", "it (2).txt", "it (3).txt"]
    assert len(set(made)) == 1000
    assert names.unique("it (2).txt") == "it (2) (2).txt"
