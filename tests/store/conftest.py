"""A store whose wall clock tests can set, as an operator sets a machine's clock, while time passes steadily."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.clock import Clock
from unstuck.store.sqlite import SQLiteStore


@pytest.fixture
def steady() -> Clock:
    """A monotonic clock, independent of `clock`."""
    return Clock(5.0)


@pytest.fixture
async def store_set(tmp_path: Path, clock: Clock, steady: Clock) -> AsyncIterator[SQLiteStore]:
    """A store that recognizes a jump of `clock`, because `steady` does not move with it."""
    store = SQLiteStore(tmp_path / "unstuck.db", clock=clock, steady=steady)
    await store.open()
    yield store
    await store.close()
