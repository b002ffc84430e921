"""The SQLite store under any history that Hypothesis generates, with crashes in the middle of a write.

A crash is a copy of the files, taken in the middle of a write or right after it, that is then opened: exactly what
a killed process leaves behind.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import rule

from tests.store.histories import AnyHistory
from unstuck.jobs.job import Item
from unstuck.store.sqlite import SQLiteStore

#: A disk in memory if there is one: the order of events matters here, not the disk.
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


class AnyHistoryOfAFile(AnyHistory):
    """A store in a file."""

    store: SQLiteStore

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(dir=MEMORY))
        self.files = 0
        self.store = self.open(self.folder / "0.db")

    def open(self, path: Path) -> SQLiteStore:
        store = SQLiteStore(path, clock=self.clock)
        self.run(store.open())
        return store

    def close(self) -> None:
        super().close()
        shutil.rmtree(self.folder)

    @rule(acknowledged=st.booleans())
    def killed(self, acknowledged: bool) -> None:
        """Crash in the middle of a write, or right after its answer."""
        job, items = self.new_job(3)
        copies: list[Path] = []

        def in_the_middle() -> Iterator[Item]:
            yield items[0]
            copies.append(self.copied())  # in the writer's thread, in its open transaction
            yield from items[1:]

        self.run(self.store.create(job, in_the_middle()))
        copies.append(self.copied())
        self.run(self.store.close())
        self.store = self.open(copies[acknowledged])
        found = self.run(self.read_all()).get(job.id)
        assert (found is not None) == acknowledged
        assert found is None or [item.name for item in found.items] == ["0", "1", "2"]

    def copied(self) -> Path:
        """Copy the database and its log; the log first, so that anything appended meanwhile is left out."""
        self.files += 1
        copy = self.folder / f"{self.files}.db"
        for end in ("-wal", ""):
            shutil.copy(f"{self.store.path}{end}", f"{copy}{end}")
        return copy

    @rule()
    def restarted(self) -> None:
        self.run(self.store.close())
        self.store = self.open(self.store.path)


TestAnyHistory = AnyHistoryOfAFile.TestCase
#: The same histories every time, so that a failure is due to a change; `scripts/crash --histories` takes others.
TestAnyHistory.settings = settings(
    max_examples=int(os.environ.get("HISTORIES", "25")),
    derandomize="HISTORIES" not in os.environ,
    stateful_step_count=40,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
