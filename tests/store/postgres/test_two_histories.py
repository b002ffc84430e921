"""Two PostgreSQL stores on one database under any history that Hypothesis generates, taking turns at random."""

from __future__ import annotations

import os
import random

import psycopg
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import rule, run_state_machine_as_test

from tests.store.histories import AnyHistory
from tests.support.postgres import EMPTY_STORE
from unstuck.store.database_store import DatabaseStore
from unstuck.store.postgres.store import PostgresStore


class HistoryOfTwo(AnyHistory):
    """Two servers; each question and each command goes to one of them."""

    url: str

    def __init__(self) -> None:
        super().__init__()
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(EMPTY_STORE)
        self.chance = random.Random(0)
        self.stores = [self.open(), self.open()]

    @property
    def store(self) -> DatabaseStore:  # type: ignore[override]
        return self.chance.choice(self.stores)

    def open(self) -> PostgresStore:
        store = PostgresStore(self.url, clock=self.clock)
        self.run(store.open())
        return store

    def close(self) -> None:
        for store in self.stores:
            self.run(store.close())

    @rule()
    def restarted(self) -> None:
        store = self.stores.pop(0)
        self.run(store.close())
        self.stores.append(self.open())


def test_any_history_of_two_servers(postgres_url: str) -> None:
    HistoryOfTwo.url = postgres_url
    run_state_machine_as_test(
        HistoryOfTwo,
        settings=settings(
            max_examples=int(os.environ.get("HISTORIES", "4")),
            derandomize="HISTORIES" not in os.environ,
            stateful_step_count=40,
            deadline=None,
            database=None,
            phases=[Phase.generate],  # a failure is told at once: to shrink it takes minutes
            suppress_health_check=list(HealthCheck),
        ),
    )
