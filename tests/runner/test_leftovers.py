"""What attempts without a result have written is removed, also if the first try at that fails."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.support.waiting import soon
from unstuck.files.folder import DataFolder
from unstuck.files.local import LocalFiles
from unstuck.runner import leftovers
from unstuck.runner.leftovers import Leftovers


async def test_a_removal_that_fails_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leftovers, "PAUSE_S", 0.01)
    folder = DataFolder(tmp_path)
    for lease in (1, 2):
        output = folder.output("job", 0, lease)
        output.mkdir(parents=True)
        (output / "half").write_text("half")
    remove, failures = DataFolder.remove_output, [OSError("still written to"), OSError("again")]

    def fail_first(one: DataFolder, *key: object) -> None:
        if failures:
            raise failures.pop()
        remove(one, *key)  # type: ignore[arg-type]

    monkeypatch.setattr(DataFolder, "remove_output", fail_first)
    removing = Leftovers(LocalFiles(folder))
    running = asyncio.create_task(removing.run())
    removing.add(("job", 0, 1))
    removing.add(("job", 7, 1))  # it has written nothing
    await soon(lambda: not folder.output("job", 0, 1).exists())
    assert folder.output("job", 0, 2).exists(), "another lease may have a result"
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
