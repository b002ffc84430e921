"""Folders of any depth and content are removed; links are not followed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from unstuck.files.erase import empty, erase


def nest(folder: Path, depth: int) -> None:
    """Create nested folders, deeper than a path can be long."""
    home = os.open(".", os.O_RDONLY)
    try:
        os.chdir(folder)
        for _ in range(depth):
            os.mkdir("n" * 20)
            os.chdir("n" * 20)
        Path("file").write_text("x")
    finally:
        os.fchdir(home)
        os.close(home)


def test_a_folder_deeper_than_a_path_can_be_long(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    nest(folder, 1_500)
    erase(folder)
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_a_folder_is_removed_and_links_are_not_followed(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").write_text("x")
    folder = tmp_path / "folder"
    (folder / "inner").mkdir(parents=True)
    (folder / "inner" / "link").symlink_to(kept)
    (folder / "broken").symlink_to("missing")
    os.mkfifo(folder / "fifo")
    (folder / "locked").mkdir(mode=0)
    empty(folder)
    assert list(folder.iterdir()) == []
    assert (kept / "file").read_text() == "x"


def test_a_missing_folder_does_not_matter_and_a_link_is_refused(tmp_path: Path) -> None:
    erase(tmp_path / "missing")
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(OSError, match="link"):
        erase(tmp_path / "link")
