"""`unstuck prune --orphans`: lists files that a lost database left behind, and removes them only when told to."""

from __future__ import annotations

import os
import time
from pathlib import Path
from uuid import uuid4

import pytest

from tests.support.command import unstuck
from tests.support.contents import contents
from tests.support.server import StartServer


def prune(data: Path, *more: str) -> tuple[int, str]:
    run = unstuck("prune", "--orphans", "--data", str(data), *more, COLUMNS="200")
    return run.returncode, run.stdout + run.stderr


def age(path: Path) -> None:
    """Make everything below `path` look two days old."""
    then = time.time() - 2 * 86_400
    for one in (*path.rglob("*"), path):
        os.utime(one, (then, then), follow_symlinks=False)


def test_files_of_a_lost_database(start_server: StartServer, tmp_path: Path) -> None:
    server = start_server("--workers", "1")
    lost = [server.until_done(server.submit("checksum", {"a": b"x"})["id"])["id"] for _ in range(2)]
    server.stop()
    for path in server.data.glob("unstuck.db*"):
        path.unlink()
    server = start_server("--workers", "1")
    kept = server.until_done(server.submit("checksum", {"a": b"x"})["id"])["id"]
    code, said = prune(server.data)
    assert (code, "in use by another unstuck server" in said) == (2, True)
    server.stop()

    files, elsewhere = server.data / "files", tmp_path / "elsewhere"
    for job_id in (*lost, kept):
        age(files / job_id)
    elsewhere.mkdir()
    (elsewhere / ".unstuck").write_bytes((files / lost[0] / ".unstuck").read_bytes())
    (files / str(uuid4())).symlink_to(elsewhere)
    (files / "thesis.txt").write_text("thesis")
    (files / str(uuid4()) / "in").mkdir(parents=True)
    os.utime(files / lost[1] / "in")  # written to a moment ago
    before = contents(tmp_path)
    for more in ((), ("--dry-run", "--yes")):
        code, said = prune(server.data, *more)
        assert code == 0
        lines = said.splitlines()
        assert lines[0].startswith(lost[0])
        assert lines[0].endswith("of another database")
        assert lines[1:] == [
            "left alone: 1 folder written to within a day",
            "left alone: 1 folder without a mark of unstuck; remove them by hand",
            "would remove 1 folder; --yes removes permanently",
        ]
    after = contents(tmp_path)
    assert {name for name in before if after.get(name, 0) != before[name]} <= {"data/lock", "data/unstuck.db-shm"}
    code, said = prune(server.data, "--yes")
    assert (code, said.splitlines()[-1]) == (0, "removed 1 folder")
    gone = {name for name in before if name not in contents(tmp_path)}
    assert gone == {name for name in before if name.startswith(f"data/files/{lost[0]}")}
    again = start_server("--workers", "1")
    assert again.job(kept)["state"] == "completed"


def test_without_a_database_nothing_is_an_orphan(tmp_path: Path) -> None:
    code, said = prune(tmp_path / "nowhere")
    assert (code, "There is no database in" in said) == (2, True)
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((), "--older-than DURATION"),
        (("--orphans", "--older-than", "3d"), "without --older-than"),
        (("--older-than", "3d", "--yes"), "with --orphans only"),
        (("--older-than", "3d", "--data", "x"), "with --orphans only"),
    ],
)
def test_mistakes(words: tuple[str, ...], expected: str) -> None:
    run = unstuck("prune", *words, COLUMNS="200")
    assert run.returncode == 2
    assert expected in run.stderr
