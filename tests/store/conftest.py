"""A store whose clock is set while time passes steadily: as when an operator sets the clock of a machine."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.clock import Clock
from unstuck.store.sqlite import SQLiteStore


@pytest.fixture
def steady() -> Clock:
    """Time that passes, whatever `clock` is set to."""
    return Clock(5.0)


@pytest.fixture
async def store_set(tmp_path: Path, clock: Clock, steady: Clock) -> AsyncIterator[SQLiteStore]:
    """A store that sees a jump of `clock` for what it is: `steady` did not move with it."""
    one = SQLiteStore(tmp_path / "unstuck.db", clock=clock, steady=steady)
    await one.open()
    yield one
    await one.close()
