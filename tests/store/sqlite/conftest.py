"""The store of this room: SQLite, on a real file."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.clock import Clock
from unstuck.store.sqlite import SQLiteStore


@pytest.fixture
async def store(tmp_path: Path, clock: Clock) -> AsyncIterator[SQLiteStore]:
    store = SQLiteStore(tmp_path / "unstuck.db", clock=clock)
    await store.open()
    yield store
    await store.close()
