"""The advice of each message about a data folder or a database that cannot be used: followed, it loses nothing."""

from __future__ import annotations

import contextlib
import re
import shlex
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from tests.support.command import refused_to_start, unstuck
from tests.support.contents import contents
from tests.support.machine import mounted
from tests.support.server import Server, StartServer
from unstuck.store import schema

#: A kind with a result file for each input.
KIND = """
import unstuck
from pathlib import Path

@unstuck.kind("copy")
def copy(file: Path, report: unstuck.Report) -> Path:
    path = report.output / "copy.txt"
    path.write_bytes(file.read_bytes())
    return path
"""


class Kept:
    """A data folder with a job that is done, whose results must survive."""

    def __init__(self, start_server: StartServer, tmp_path: Path, data: str = "data") -> None:
        self._start, self._app = start_server, tmp_path / "mine.py"
        self._app.write_text(KIND)
        self.data = tmp_path / data
        server = self.start()
        job = server.until_done(server.submit("copy", {"a": b"first", "b": b"second"})["id"])
        assert job["state"] == "completed"
        self.job_id = str(job["id"])
        server.stop()
        self.database = self.data / "unstuck.db"

    def start(self, data: str | None = None) -> Server:
        return self._start("--workers", "1", "--app", str(self._app), data=data or self.data.name)

    def refusal(self, data: Path | None = None) -> str:
        return " ".join(refused_to_start("serve", "--port", "0", "--data", str(data or self.data)).split())

    def is_whole(self) -> None:
        """Start the server and check that it has the job with its results."""
        server = self.start()
        job = server.job(self.job_id)
        found = [httpx.get(f"{server.url}{item['links']['result']}").content for item in server.items(job["id"])]
        assert found == [b"first", b"second"]
        again = httpx.post(f"{server.url}/api/jobs/{self.job_id}/retry", json={"only": "all"})
        assert server.until_done(again.json()["id"])["state"] == "completed"
        server.stop()


@pytest.fixture
def kept(start_server: StartServer, tmp_path: Path) -> Kept:
    return Kept(start_server, tmp_path)


def damage(database: Path) -> None:
    with database.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (database.stat().st_size - 4096))


def follow(message: str, backup: Path) -> None:
    """Run the `unstuck restore` that the message names, with this backup."""
    command = re.search(r"(?<=with: )unstuck restore BACKUP --data \S+", message)
    assert command, message
    run = unstuck(*shlex.split(command[0].replace("BACKUP", str(backup)))[1:])
    assert run.returncode == 0, run.stderr


def test_damaged_with_a_backup(kept: Kept, tmp_path: Path) -> None:
    backup = tmp_path / "backup"
    assert unstuck("backup", str(backup), "--data", str(kept.data)).returncode == 0
    damage(kept.database)
    damaged = kept.database.read_bytes()
    message = kept.refusal()
    assert "Restore it from a backup" in message
    follow(message, backup)
    kept.is_whole()
    assert next(kept.data.glob("before-restore-*/unstuck.db")).read_bytes() == damaged


def test_damaged_without_a_backup(kept: Kept, tmp_path: Path) -> None:
    """The jobs are gone, but not their files: they are of use again once the database is mended."""
    sound = kept.database.read_bytes()
    damage(kept.database)
    message = kept.refusal()
    assert "move unstuck.db and its unstuck.db-wal and -shm to another folder" in message
    aside = tmp_path / "aside"
    aside.mkdir()
    for path in kept.data.glob("unstuck.db*"):
        path.rename(aside / path.name)
    before = contents(kept.data / "files")
    for _ in range(2):
        server = kept.start()
        assert httpx.get(f"{server.url}/api/jobs/{kept.job_id}").status_code == 404
        new = server.until_done(server.submit("copy", {"a": b"new"})["id"])
        assert new["state"] == "completed"
        server.stop()
        assert before.items() <= contents(kept.data / "files").items()
        assert "so none of them is removed" in server.log.read_text()
    for path in kept.data.glob("unstuck.db*"):
        path.unlink()
    kept.database.write_bytes(sound)
    kept.is_whole()


def test_newer(kept: Kept) -> None:
    def stamp(version: int) -> None:
        with closing(sqlite3.connect(kept.database)) as connection:
            connection.execute(f"PRAGMA user_version = {version}")

    stamp(schema.VERSION + 1)
    before = contents(kept.data / "files"), kept.database.read_bytes()
    assert "Upgrade with: pip install -U unstuck" in kept.refusal()
    assert (contents(kept.data / "files"), kept.database.read_bytes()) == before
    stamp(schema.VERSION)  # the newer version opens it
    kept.is_whole()


def test_held_by_another_program(kept: Kept) -> None:
    other = sqlite3.connect(kept.database, isolation_level=None)
    try:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        message = kept.refusal()
    finally:
        other.close()
    assert "Another program holds it: end that program" in message
    assert "Restore" not in message
    kept.is_whole()


def test_used_by_another_server(kept: Kept) -> None:
    server = kept.start()
    assert "Stop that server, or name another folder" in kept.refusal()
    server.stop()
    kept.is_whole()


def test_not_a_folder(kept: Kept, tmp_path: Path) -> None:
    place = tmp_path / "file"
    place.write_text("mine")
    assert "name another folder with --data" in kept.refusal(place)
    assert place.read_text() == "mine"
    kept.is_whole()


def test_the_database_of_another_program(kept: Kept, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    with closing(sqlite3.connect(theirs / "unstuck.db")) as connection:
        connection.execute("CREATE TABLE mine (a)")
    before = (theirs / "unstuck.db").read_bytes()
    assert "Name another folder with --data" in kept.refusal(theirs)
    assert (theirs / "unstuck.db").read_bytes() == before
    kept.is_whole()


@pytest.fixture
def small(start_server: StartServer, tmp_path: Path) -> Iterator[Kept]:
    """The same on a disk of its own, with 16 MiB."""
    with mounted(tmp_path / "disk", "rw,size=16m"):
        yield Kept(start_server, tmp_path, "disk")


def remount(disk: Path, mode: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{mode}", str(disk)], check=True)


def test_read_only(small: Kept) -> None:
    remount(small.data, "ro")
    try:
        message = small.refusal()
    finally:
        remount(small.data, "rw")
    assert "Read-only file system" in message
    assert "Restore" not in message
    small.is_whole()


def fill(disk: Path) -> Path:
    """Write a file until the disk is full, and return it."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(65536)):
            pass
    return filler


def test_full(small: Kept) -> None:
    (small.data / "reserve").unlink()  # with it, the server starts on a full disk too
    filler = fill(small.data)
    message = small.refusal()
    assert "Free some space" in message
    assert "Restore" not in message
    filler.unlink()
    small.is_whole()


def test_full_before_the_first_start(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "rw,size=64k"):
        (tmp_path / "disk" / "mine").write_text("mine")
        message = refused_to_start("serve", "--port", "0", "--data", str(tmp_path / "disk"))
        assert "Free some space" in " ".join(message.split())
        assert (tmp_path / "disk" / "mine").read_text() == "mine"
