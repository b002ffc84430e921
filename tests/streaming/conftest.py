"""A hub over a real store."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.streaming.readers import QUICK
from tests.support.clock import Clock
from unstuck.store.sqlite import SQLiteStore
from unstuck.streaming.hub import Hub


@pytest.fixture
async def hub(store: SQLiteStore, clock: Clock) -> AsyncIterator[Hub]:
    hub = Hub(store, QUICK, clock=clock)
    yield hub
    await hub.close()
