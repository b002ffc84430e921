"""A database that cannot be used is refused at the start, in one sentence that says what to do."""

from __future__ import annotations

import asyncio

import psycopg
import pytest

from tests.support.postgres import Cluster
from unstuck.errors import CannotStart
from unstuck.store.postgres.store import PostgresStore


async def refused(url: str) -> str:
    with pytest.raises(CannotStart) as refusal:
        await PostgresStore(url).open()
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


async def test_a_url_that_is_none_and_a_server_that_is_not_there() -> None:
    assert "postgresql://USER@HOST/DATABASE" in await refused("no url")
    away = await refused("postgresql://me:secret@127.0.0.1:1/jobs")
    assert "jobs on 127.0.0.1 cannot be reached" in away
    assert "secret" not in away


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("synchronous_commit=off", "synchronous_commit is off"),
        ("default_transaction_read_only=on", "is read-only"),
    ],
)
async def test_a_database_that_could_lose_or_refuse_what_is_stored(
    postgres: Cluster, database: str, setting: str, said: str
) -> None:
    name, value = setting.split("=")
    postgres.run(f"ALTER DATABASE {database} SET {name} = {value}")
    assert said in await refused(postgres.url(database))


async def test_a_newer_schema(postgres: Cluster, database: str) -> None:
    url = postgres.url(database)
    store = PostgresStore(url)
    await store.open()
    await store.close()
    with psycopg.connect(url) as connection:
        connection.execute("UPDATE unstuck.schema_version SET version = 99")
    assert "newer version of unstuck (schema 99" in await refused(url)


async def test_a_user_without_rights(postgres: Cluster, database: str) -> None:
    postgres.run(f"ALTER DATABASE {database} OWNER TO postgres; REVOKE CREATE ON DATABASE {database} FROM PUBLIC")
    assert "the right to create the schema unstuck" in await refused(postgres.url(database))


async def test_servers_that_start_at_once_create_the_tables_once(postgres: Cluster, database: str) -> None:
    stores = [PostgresStore(postgres.url(database)) for _ in range(3)]
    await asyncio.gather(*(store.open() for store in stores))
    assert len({store.identity for store in stores}) == 1
    await asyncio.gather(*(store.close() for store in stores))
