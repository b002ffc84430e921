"""Two servers' stores on one database."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.support.clock import Clock
from unstuck.store.postgres.store import PostgresStore


@pytest.fixture
async def store(postgres_url: str, clock: Clock) -> AsyncIterator[PostgresStore]:
    store = PostgresStore(postgres_url, clock=clock)
    await store.open()
    yield store
    await store.close()


@pytest.fixture
async def other(store: PostgresStore, clock: Clock) -> AsyncIterator[PostgresStore]:
    """Another server's store on the same database."""
    other = PostgresStore(store.url, clock=clock)
    await other.open()
    yield other
    await other.close()
