"""Each kind of store, and a store whose wall clock tests can set while time passes steadily."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.support.clock import Clock
from tests.support.postgres import EMPTY_STORE, Cluster
from unstuck.store.database_store import DatabaseStore
from unstuck.store.postgres.store import PostgresStore
from unstuck.store.sqlite import SQLiteStore


@pytest.fixture(scope="session")
def shared_database(postgres: Cluster) -> Iterator[tuple[str, psycopg.Connection[Any]]]:
    """The URL of a database that tests use one after the other, and a connection.

    To create a database for each test would take longer than the test.
    """
    with postgres.database() as name, psycopg.connect(postgres.url(name), autocommit=True) as connection:
        yield postgres.url(name), connection


@pytest.fixture
def postgres_url(shared_database: tuple[str, psycopg.Connection[Any]]) -> str:
    """The URL of a database without any job."""
    url, connection = shared_database
    connection.execute(EMPTY_STORE)
    return url


@pytest.fixture(params=["sqlite", "postgres"])
async def store(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> AsyncIterator[DatabaseStore]:
    """A store of each kind; the room `sqlite` has the tests of one kind."""
    store: DatabaseStore
    if request.param == "sqlite":
        store = SQLiteStore(tmp_path / "unstuck.db", clock=clock)
    else:
        store = PostgresStore(request.getfixturevalue("postgres_url"), clock=clock)
    await store.open()
    yield store
    await store.close()


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
