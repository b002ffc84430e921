"""The database goes away and comes back, or ends connections: nothing is lost, and callers learn what happened."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from tests.support.clock import Clock
from tests.support.jobs import submitted
from tests.support.postgres import Cluster
from tests.support.waiting import soon
from unstuck.errors import StoreUnavailable
from unstuck.jobs.job import Cancel, State
from unstuck.store.postgres.connection import PostgresConnection
from unstuck.store.postgres.store import PostgresStore
from unstuck.store.protocol import Changes

#: Ends every connection of a store to the database.
CUT = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = 'unstuck'
"""


def cut(store: PostgresStore) -> None:
    with psycopg.connect(store.url, autocommit=True) as connection:
        connection.execute(CUT)


async def test_lost_connections_are_replaced_and_missed_notices_are_made_known(
    store: PostgresStore, other: PostgresStore
) -> None:
    job_id = await submitted(store, 1)
    await store.snapshot(job_id)
    told: list[Changes] = []
    store.on_commit(told.append)
    cut(store)
    assert (await store.snapshot(job_id)).job.state is State.QUEUED
    await store.apply([Cancel(job_id)])
    await soon(lambda: None in told)
    assert store.cached_snapshot(job_id) is None
    told.clear()
    other_id = await submitted(other, 1)
    await soon(lambda: any(other_id in (changes or {}) for changes in told))


async def test_callers_are_refused_while_the_database_is_down(own_postgres: Cluster, clock: Clock) -> None:
    with own_postgres.database() as name:
        store = PostgresStore(own_postgres.url(name), clock=clock)
        await store.open()
        job_id = await submitted(store, 1)
        with own_postgres.down():
            with pytest.raises(StoreUnavailable, match="nothing was changed"):
                await store.apply([Cancel(job_id)])
            with pytest.raises(StoreUnavailable, match="cannot be read now"):
                await store.snapshot(job_id)
            assert store.trouble is not None
        await store.apply([Cancel(job_id)])
        assert store.trouble is None
        assert (await store.snapshot(job_id)).job.state is State.CANCELLED
        await store.close()


@pytest.mark.parametrize("committed", [True, False])
async def test_a_commit_whose_answer_was_lost_is_settled(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch, *, committed: bool
) -> None:
    job_id = await submitted(store, 1)
    execute: Any = PostgresConnection.execute
    lost: list[str] = []

    def losing(self: PostgresConnection, sql: str, *values: Any) -> Any:
        if sql != "COMMIT" or lost:
            return execute(self, sql, *values)
        lost.append(sql)
        if committed:
            execute(self, sql)
        self.close()
        raise psycopg.OperationalError("the answer was lost")

    monkeypatch.setattr(PostgresConnection, "execute", losing)
    await store.apply([Cancel(job_id)])
    job = (await store.snapshot(job_id)).job
    assert lost
    assert (job.state, job.seq) == (State.CANCELLED, 2), "it was applied once"
