"""The lock of the data folder: held by another server, or not to be had at all."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

import pytest

from unstuck.errors import CannotStart
from unstuck.files.folder import DataFolder


def test_a_folder_that_another_server_holds(tmp_path: Path) -> None:
    first, second = DataFolder(tmp_path), DataFolder(tmp_path)
    first.open()
    with pytest.raises(CannotStart, match=rf"in use by another unstuck server \(process {os.getpid()}\)"):
        second.open()
    # A host app with several processes meets this too, and has no command line.
    with pytest.raises(CannotStart) as refusal:
        second.open()
    for way_out in ("--data, UNSTUCK_DATA or create_app(data=…)", "run it with one", "`unstuck serve` beside it"):
        assert way_out in str(refusal.value)
    assert refusal.value.__suppress_context__, "one error, not two"
    first.close()
    second.open()
    second.close()


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOTSUP, errno.EIO])
def test_a_file_system_without_locks(tmp_path: Path, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no other server to stop, so the advice must be another one."""

    def flock(descriptor: int, operation: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(CannotStart, match=r"cannot be locked \(.*\).*--data") as refusal:
        DataFolder(tmp_path).open()
    assert "another unstuck server" not in str(refusal.value)
