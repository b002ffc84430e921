"""The registry of claimed items: leases are renewed until the end is written; a refused lease loses its item."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator

import pytest

from unstuck.jobs.job import Finish, Item, ItemState, Release, Renew
from unstuck.runner.claimed_item import ClaimedItem, Outcome
from unstuck.runner.registry import ItemRegistry
from unstuck.store.protocol import WorkItem

SUCCEEDED = Outcome(ItemState.SUCCEEDED)


def claimed(index: int = 0, job_id: str = "job") -> ClaimedItem:
    return ClaimedItem(WorkItem(job_id, "checksum", {}, Item(index=index, name="a", size=0, lease=1)))


def test_a_lease_is_renewed_until_the_end_of_its_item_is_written() -> None:
    registry, ended, released = ItemRegistry(30.0), claimed(0), claimed(1)
    registry.add([ended, released])
    both = [Renew("job", 0, 1, 30.0), Renew("job", 1, 1, 30.0)]
    assert registry.renewals() == both
    commands: list[Finish | Release] = [ended.end(SUCCEEDED, 1.0), released.release()]
    for command in commands:
        registry.retire(command)
    assert (len(registry), registry.held()) == (0, [])
    assert sorted(registry.renewals(), key=lambda renew: renew.index) == both
    registry.forget(commands)
    assert registry.renewals() == []


def test_a_refused_lease_loses_its_item_once_and_only_its_own() -> None:
    registry, item = ItemRegistry(30.0), claimed()
    registry.add([item])
    registry.lose([Renew("job", 0, 2, 30.0), Renew("other", 0, 1, 30.0)])
    assert item.state == "claimed"
    for _ in range(2):
        registry.lose([Renew("job", 0, 1, 30.0)])
        assert (item.state, len(registry), registry.renewals()) == ("lost", 0, [])


def test_a_lease_refused_after_the_end_changes_nothing() -> None:
    """The end was written between the list of renewals and the sweep."""
    registry, item = ItemRegistry(30.0), claimed()
    registry.add([item])
    end = item.end(SUCCEEDED, 1.0)
    registry.retire(end)
    registry.lose([Renew("job", 0, 1, 30.0)])
    assert item.state == "ended"


def test_the_items_of_a_job() -> None:
    registry = ItemRegistry(30.0)
    items = [claimed(0), claimed(1), claimed(0, "other")]
    registry.add(items)
    assert registry.of_job("job") == items[:2]


@pytest.fixture
def hasty_threads() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("hasty_threads")
def test_an_ended_item_is_renewed_until_its_end_is_written() -> None:
    registry, missing, over = ItemRegistry(30.0), 0, threading.Event()
    registry.add([claimed(0)])

    def watch() -> None:
        nonlocal missing
        while not over.is_set():
            missing += len(registry.renewals()) < 2

    always = claimed(1)
    registry.add([always])
    watching = threading.Thread(target=watch)
    watching.start()
    for _ in range(20_000):
        command = (item := claimed(0)).end(SUCCEEDED, 1.0)
        registry.retire(command)
        registry.add([item])
        registry.forget([command])
    over.set()
    watching.join()
    assert missing == 0
