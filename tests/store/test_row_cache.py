"""The writer's cached rows always equal the rows in the database."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from tests.support.clock import Clock
from tests.support.jobs import finish, submitted
from unstuck.jobs.job import Cancel, Finish, Item, Job, Report
from unstuck.store.database_store import DatabaseStore
from unstuck.store.row_cache import MOST_ITEMS, RowCache
from unstuck.store.transaction import Transaction, Work


async def test_rolled_back_changes_are_not_cached(store: DatabaseStore) -> None:
    job_id = await submitted(store, 1)
    (claimed,) = await store.claim(1, 30.0)

    def broken(transaction: Transaction) -> None:
        transaction.apply(finish(claimed))
        transaction.flush()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await store._write(Work(broken))
    assert not (await store.snapshot(job_id)).job.done
    (job,) = await store.apply([finish(claimed)])
    assert isinstance(job, Job)
    assert job.done


async def test_a_cancel_and_later_commands_in_one_commit(store: DatabaseStore, clock: Clock) -> None:
    job_id = await submitted(store, 3)
    one, two = await store.claim(2, 30.0)
    said = Report(job_id, 1, two.item.lease, clock.now, 0.5, "so far")
    ends: list[Finish] = [finish(one), finish(two, "cancelled")]
    outcomes = await store.apply([said, Cancel(job_id), *ends])
    assert [type(outcome) for outcome in outcomes] == [Job] * 4
    items = await store.items(job_id)
    assert [item.state for item in items] == ["succeeded", "cancelled", "cancelled"]
    assert items[1].message is None, "the end had no message, so the earlier message is gone"
    assert (await store.snapshot(job_id)).job == outcomes[-1]


async def test_all_changed_columns_are_written(store: DatabaseStore, clock: Clock) -> None:
    job_id = await submitted(store, 2)
    (claimed,) = await store.claim(1, 30.0, "a worker")
    for fraction, message in ((0.25, "a"), (0.25, None), (0.5, "b")):
        clock.now += 1
        await store.apply([Report(job_id, 0, claimed.item.lease, clock.now, fraction, message)])
    item = await store.item(job_id, 0)
    assert item is not None
    assert item == replace(claimed.item, state=item.state, seq=5, progress=0.5, message="b", started_at=clock.now)
    assert item.state == "running"


def test_ended_items_are_dropped_and_a_full_cache_is_cleared() -> None:
    known = RowCache()
    held = Item(index=1, name="1", lease_until=1.0)
    known.update({}, {(1, 1): held, (1, 2): Item(index=2, name="2")})
    assert known.items == {(1, 1): held}
    known.update({}, {(1, 1): replace(held, lease_until=None)})
    assert known.items == {}
    known.update({}, {(1, index): held for index in range(MOST_ITEMS + 1)})
    known.update({}, {(2, 1): held})
    assert known.items == {(2, 1): held}
    known.check_version(1)
    assert known.items == {}
