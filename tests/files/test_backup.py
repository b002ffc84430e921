"""`unstuck backup` and `restore`: consistent beside a running server, and nothing is lost by a restore."""

from __future__ import annotations

import os
import shutil
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from tests.support.command import unstuck
from tests.support.contents import contents
from tests.support.editions import EDITIONS, JOB, made_by
from tests.support.machine import mounted
from tests.support.server import Server, StartServer
from tests.support.waiting import eventually
from unstuck.errors import CannotStart
from unstuck.files import marks
from unstuck.files.backup import back_up, restore
from unstuck.files.folder import DataFolder
from unstuck.store.connection import open_checked

#: A kind with a result file for each input, beside which it leaves a link and a pipe.
KIND = """
import os
import unstuck
from pathlib import Path

@unstuck.kind("copy")
def copy(file: Path, report: unstuck.Report) -> Path:
    path = report.output / "copy.txt"
    path.write_bytes(file.read_bytes())
    (report.output / "link").symlink_to("/etc/hostname")
    os.mkfifo(report.output / "pipe")
    return path
"""


def copying(start_server: StartServer, tmp_path: Path, data: str = "data") -> Server:
    app = tmp_path / "mine.py"
    app.write_text(KIND)
    return start_server("--workers", "2", "--app", str(app), data=data)


def results(server: Server, job_id: str) -> list[bytes]:
    found = []
    for item in server.items(job_id):
        answer = httpx.get(f"{server.url}{item['links']['result']}", timeout=30)
        assert answer.status_code == 200, answer.text
        found.append(answer.content)
    return found


def done(server: Server, *texts: str) -> str:
    job = server.submit("copy", {f"{n}.txt": text.encode() for n, text in enumerate(texts)})
    assert server.until_done(job["id"])["state"] == "completed"
    return str(job["id"])


def told(*words: str) -> str:
    run = unstuck(*words, COLUMNS="200")
    assert run.returncode == 0, run.stderr
    return run.stdout


def refused(*words: str) -> str:
    run = unstuck(*words, COLUMNS="200")
    assert run.returncode == 2, run.stdout
    assert run.stderr.startswith("unstuck: "), run.stderr
    return run.stderr


def test_a_backup_beside_a_running_server_restores_everything(start_server: StartServer, tmp_path: Path) -> None:
    server = copying(start_server, tmp_path)
    first = done(server, "a", "b")
    retried = httpx.post(f"{server.url}/api/jobs/{first}/retry", json={"only": "all"}).json()["id"]
    server.until_done(retried)
    waiting = server.submit("rehearsal", total=500, options={"seconds": 0.2})["id"]
    backup = tmp_path / "backup"
    assert "backed up 3 jobs" in told("backup", str(backup), "--data", str(server.data))
    assert {path.name for path in backup.iterdir()} == {"unstuck.db", "files", "identity"}
    assert all(path.lstat().st_mode & 0o077 == 0 for path in (backup, *backup.rglob("*")) if not path.is_symlink())
    shared = [next((backup / "files" / job_id / "in").iterdir()) for job_id in (first, retried)]
    assert os.path.samefile(*shared), "a retry shares its inputs in the backup too"
    later = done(server, "only in the first")
    server.stop()

    assert "restored 3 jobs" in told("restore", str(backup), "--data", str(tmp_path / "other"))
    again = copying(start_server, tmp_path, "other")
    assert results(again, first) == results(again, retried) == [b"a", b"b"]
    assert again.job(waiting)["state"] in ("queued", "running")
    again.until(waiting, lambda job: job["progress"]["processed"] >= 1)
    assert httpx.get(f"{again.url}/api/jobs/{later}").status_code == 404
    assert "is not the one that the files belong to" not in again.log.read_text()


def test_a_restore_keeps_what_it_replaces(start_server: StartServer, tmp_path: Path) -> None:
    server = copying(start_server, tmp_path)
    first = done(server, "a")
    backup = tmp_path / "backup"
    told("backup", str(backup), "--data", str(server.data))
    later = done(server, "later")
    theirs = server.data / "files" / "thesis.txt"
    theirs.write_text("thesis")
    assert "in use by another unstuck server" in refused("restore", str(backup), "--data", str(server.data))
    server.stop()
    before = contents(server.data)
    said = told("restore", str(backup), "--data", str(server.data))
    aside, below = next(server.data.glob("before-restore-*")), next(server.data.glob("files/before-restore-*"))
    assert str(aside) in said
    assert str(below) in said
    assert (aside / "unstuck.db").read_bytes() == before["unstuck.db"]
    kept = {f"files/{name}": content for name, content in contents(below).items()}
    assert kept == {name: before[name] for name in before if first in name or later in name}
    assert theirs.read_text() == "thesis"
    again = copying(start_server, tmp_path)
    assert results(again, first) == [b"a"]
    assert httpx.get(f"{again.url}/api/jobs/{later}").status_code == 404
    again.stop()
    # The way back: what was set aside is whole.
    for path in (server.data / "unstuck.db", server.data / "identity", *(server.data / "files").glob("*-*-*-*-*")):
        if not path.name.startswith("before"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    for path in (*aside.iterdir(), *below.iterdir()):
        path.rename((server.data if path.parent == aside else server.data / "files") / path.name)
    back = copying(start_server, tmp_path)
    assert (results(back, first), results(back, later)) == ([b"a"], [b"later"])


def test_a_backup_while_jobs_come_and_go(start_server: StartServer, tmp_path: Path) -> None:
    """A job that is removed while it is copied is no error, and every other one is whole."""
    server = copying(start_server, tmp_path)
    kept = [done(server, f"kept {n}") for n in range(5)]
    ending = threading.Event()

    def churn() -> None:
        while not ending.is_set():
            job_id = done(server, "gone")
            httpx.delete(f"{server.url}/api/jobs/{job_id}", timeout=30)

    churning = threading.Thread(target=churn)
    churning.start()
    try:
        for number in range(5):
            told("backup", str(tmp_path / f"backup-{number}"), "--data", str(server.data))
    finally:
        ending.set()
        churning.join()
    for number in range(5):
        with closing(sqlite3.connect(tmp_path / f"backup-{number}" / "unstuck.db")) as copy:
            assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            named = {row[0] for row in copy.execute("SELECT id FROM jobs")}
        assert named >= set(kept)
        for n, job_id in enumerate(kept):
            found = list((tmp_path / f"backup-{number}" / "files" / job_id / "out").glob("*/copy.txt"))
            assert [path.read_text() for path in found] == [f"kept {n}"]


def small_folder(root: Path, job_id: str = JOB.id) -> DataFolder:
    """Return a data folder with a database of one job and its input, without a server."""
    root.mkdir(exist_ok=True)
    made_by("4", root / "unstuck.db")
    with closing(open_checked(root / "unstuck.db")) as connection:
        identity = str(connection.execute("SELECT id FROM identity").fetchone()[0])
    folder = DataFolder(root)
    folder.identity = identity
    folder.begin(job_id)
    folder.keep(job_id)
    folder.input(job_id, "00000.csv").write_text("input")
    marks.write_identity(folder.mark, identity)
    return folder


def test_targets_that_hold_something_are_refused(tmp_path: Path) -> None:
    data = small_folder(tmp_path / "data").root
    full = tmp_path / "full"
    full.mkdir()
    (full / "mine").write_text("mine")
    link = tmp_path / "link"
    link.symlink_to(data)
    for target, words in (
        (full, "not empty"),
        (full / "mine", "cannot be used"),
        (data, "inside the data folder"),
        (data / "files" / "backup", "inside the data folder"),
        (link / "backup", "inside the data folder"),
    ):
        before = contents(tmp_path)
        with pytest.raises(CannotStart, match=words):
            back_up(data, target)
        assert contents(tmp_path) == before
    with pytest.raises(CannotStart, match="There is no database"):
        back_up(full, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_backup_that_fails_leaves_nothing(tmp_path: Path) -> None:
    folder = small_folder(tmp_path / "data")
    folder.input(JOB.id, "00001.csv").write_bytes(bytes(2_000_000))
    with mounted(tmp_path / "small", "rw,size=1m"):
        for target in (tmp_path / "small", tmp_path / "small" / "new"):
            with pytest.raises(CannotStart, match="No space left"):
                back_up(folder.root, target)
            assert contents(tmp_path / "small") == {}
        back_up(folder.root, tmp_path / "backup")
        with pytest.raises(CannotStart, match="no room"):
            restore(tmp_path / "backup", tmp_path / "small")
        assert set(contents(tmp_path / "small")) == {"lock"}


def test_the_holes_of_a_file_take_no_room(tmp_path: Path) -> None:
    folder = small_folder(tmp_path / "data")
    size = 2**40
    for name, places in (("hole", ()), ("ends", (0, size - 3)), ("middle", (2**30,))):
        with folder.inputs(JOB.id).joinpath(name).open("wb") as file:
            file.truncate(size)
            for place in places:
                file.seek(place)
                file.write(b"end")
    with folder.inputs(JOB.id).joinpath("comb").open("wb") as file:
        for block in range(64):
            file.seek(block * 8192)
            file.write(b"%4d" % block * 1024)
    comb = folder.inputs(JOB.id).joinpath("comb").read_bytes()
    back_up(tmp_path / "data", tmp_path / "backup")
    restore(tmp_path / "backup", tmp_path / "restored")
    kept = DataFolder(tmp_path / "restored").inputs(JOB.id)
    for name, place in (("hole", 2**20), ("ends", size - 3), ("ends", 0), ("middle", 2**30)):
        with kept.joinpath(name).open("rb") as file:
            file.seek(place)
            assert file.read(3) == (bytes(3) if name == "hole" else b"end")
            about = os.fstat(file.fileno())
            assert (about.st_size, about.st_blocks * 512 < 2**20) == (size, True)
    assert kept.joinpath("comb").read_bytes() == comb


def test_a_damaged_database_is_not_backed_up(tmp_path: Path) -> None:
    data = small_folder(tmp_path / "data").root
    with (data / "unstuck.db").open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 8192)
    with pytest.raises(CannotStart, match="Restore it from a backup"):
        back_up(data, tmp_path / "backup")
    assert not (tmp_path / "backup").exists()


def test_incomplete_and_mixed_backups_are_refused(tmp_path: Path) -> None:
    backup, other = tmp_path / "backup", tmp_path / "other"
    back_up(small_folder(tmp_path / "a").root, backup)
    back_up(small_folder(tmp_path / "b").root, other)
    shutil.copy(other / "identity", backup / "identity")
    with pytest.raises(CannotStart, match="belong to another database"):
        restore(backup, tmp_path / "new")
    (backup / "identity").unlink()
    with pytest.raises(CannotStart, match="no complete backup"):
        restore(backup, tmp_path / "new")
    with (other / "unstuck.db").open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 8192)
    with pytest.raises(CannotStart, match="Restore another one"):
        restore(other, tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("edition", EDITIONS)
def test_a_folder_of_an_older_version_can_be_backed_up(edition: str, tmp_path: Path) -> None:
    """As one does before an upgrade: the folder stays as it is, and the backup is up to date."""
    data, job_id = tmp_path / "data", JOB.id
    (data / "files" / job_id / "in").mkdir(parents=True)
    (data / "files" / job_id / "in" / "00000.csv").write_text("input")
    made_by(edition, data / "unstuck.db")
    before = contents(data)
    back_up(data, tmp_path / "backup")
    assert {name: text for name, text in contents(data).items() if "db-" not in name} == before
    restore(tmp_path / "backup", tmp_path / "new")
    assert DataFolder(tmp_path / "new").input(job_id, "00000.csv").read_text() == "input"


def test_a_backup_on_a_medium_that_can_only_be_read(tmp_path: Path) -> None:
    data = small_folder(tmp_path / "data").root
    with mounted(tmp_path / "medium"):
        back_up(data, tmp_path / "medium" / "backup")
        if os.system(f"mount -o remount,ro {tmp_path / 'medium'}") != 0:
            pytest.skip("needs the right to mount a file system")
        restore(tmp_path / "medium" / "backup", tmp_path / "new")
    assert contents(tmp_path / "new" / "files") == contents(data / "files")


def test_a_restore_that_was_cut_off_is_finished_by_another_one(tmp_path: Path) -> None:
    backup = tmp_path / "backup"
    back_up(small_folder(tmp_path / "data").root, backup)
    data = small_folder(tmp_path / "other").root
    before = contents(data)
    shutil.rmtree(data / "files" / JOB.id)
    (data / "files" / JOB.id).write_text("a user's file, where a job's folder has to be")
    with pytest.raises(CannotStart, match="was cut off"):
        restore(backup, data)
    (data / "files" / JOB.id).unlink()
    assert not (data / "unstuck.db").exists()
    with pytest.raises(CannotStart, match="unstuck restore BACKUP"):
        DataFolder(data).open()
    with pytest.raises(CannotStart, match="was cut off"):
        back_up(data, tmp_path / "second")
    restore(backup, data)
    folder = DataFolder(data)
    folder.open()
    folder.close()
    assert next(data.glob("before-restore-*/unstuck.db")).read_bytes() == before["unstuck.db"]
    assert folder.input(JOB.id, "00000.csv").read_text() == "input"


def test_what_root_restores_belongs_to_the_owner_of_the_folder(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    back_up(small_folder(tmp_path / "data").root, tmp_path / "backup")
    data = tmp_path / "theirs"
    data.mkdir()
    os.chown(data, 65534, 65534)
    restore(tmp_path / "backup", data)
    assert {path.lstat().st_uid for path in data.rglob("*")} == {65534}


def test_the_server_uses_no_half_restored_folder(start_server: StartServer, tmp_path: Path) -> None:
    server = start_server("--workers", "1")
    server.stop()
    (server.data / "restoring").touch()
    assert "Run it again with: unstuck restore" in refused("serve", "--port", "0", "--data", str(server.data))
    (server.data / "restoring").unlink()
    assert eventually(lambda: start_server("--workers", "1").get("/api/health/ready"))["status"] == "ok"
