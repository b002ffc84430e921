"""The timeline of a job, which answers "what happened to my job?".

It decides which changes are worth an entry: `entries_between` derives entries from two states of a job and of an
item. The ordinary start and end of an item are not stored; `item_entries` derives them from the items if there are
few. So a job of ten thousand successful files has half a dozen entries.
It must not know clocks or stores.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

import msgspec

from unstuck.jobs.job import Count, Item, ItemState, Job


class What(StrEnum):
    """The kinds of entries."""

    SUBMITTED = "submitted"
    STATE = "state"  # of the job; the text is the new state
    HEALTH = "health"  # of the job; the text is the new health
    CANCEL_REQUESTED = "cancel_requested"
    STOPPED = "stopped"  # a limit or a person ended the job; the text is the reason
    ATTEMPT_FAILED = "attempt_failed"  # of an item that will be tried again
    GIVEN_BACK = "given_back"  # an item was returned by its runner; the attempt does not count
    ITEM_FAILED = "item_failed"  # permanently
    RESCUED = "rescued"  # running items were taken from their workers on request
    ITEM_STARTED = "item_started"  # derived from the item, like its end
    WEBHOOK = "webhook"  # a delivery attempt and its outcome
    ITEM_ENDED = "item_ended"  # the text is its state; failures have ITEM_FAILED


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """One line of a timeline; `at` is in epoch seconds. The fields that do not apply are None.

    `what` is one of What; a store may hold other words.
    """

    at: float
    what: str
    text: str | None = None
    index: Count | None = None
    attempt: Count | None = None
    worker: str | None = None
    name: str | None = None  # of the item; not stored, but added on reading


def submitted_entry(job: Job) -> Entry:
    """Return the first entry of every job."""
    return Entry(job.created_at, What.SUBMITTED, f"retry of {job.retry_of}" if job.retry_of else None)


def entries_between(before: Job, after: Job, now: float, was: Item | None, item: Item | None) -> list[Entry]:
    """Return the entries for a change at `now`: of the job from `before` to `after`, of an item from `was`."""
    found: list[Entry] = []
    if was is not None and item is not None and (ended := _ended(now, was, item)):
        found.append(ended)
    if after.cancel_requested and not before.cancel_requested:
        found.append(Entry(now, What.CANCEL_REQUESTED))
    if after.error is not None and before.error is None:
        found.append(Entry(now, What.STOPPED, f"{after.error.code}: {after.error.message}"))
    if after.health is not before.health:
        found.append(Entry(now, What.HEALTH, after.health))
    if after.state is not before.state:
        found.append(Entry(now, What.STATE, after.state))
    return found


def item_entries(items: Iterable[Item]) -> list[Entry]:
    """Derive entries from items: when the last attempt started, and how it ended."""
    found: list[Entry] = []
    for item in items:
        if item.started_at is None or item.state is ItemState.PENDING:
            continue  # it never ran, or waits for its next attempt; failed attempts are stored
        about = (item.index, item.attempt, item.worker, item.name)
        found.append(Entry(item.started_at, What.ITEM_STARTED, None, *about))
        if item.finished_at is not None and item.state is not ItemState.FAILED:
            found.append(Entry(item.finished_at, What.ITEM_ENDED, item.state.value, *about))
    return found


def merge(stored: Iterable[Entry], item_entries: Iterable[Entry]) -> list[Entry]:
    """Merge stored and derived entries, oldest first; at the same instant an item's entry precedes its job's."""
    return sorted([*item_entries, *stored], key=lambda entry: entry.at)


def _ended(now: float, was: Item, item: Item) -> Entry | None:
    """Return an entry for the end of an attempt that the item's own row does not show, or None."""
    if item.state is was.state and item.lease_until is was.lease_until:
        return None  # most changes are reports of progress
    if item.state is ItemState.FAILED and was.state is not ItemState.FAILED:
        what, text = What.ITEM_FAILED, item.error.message if item.error else item.message
    elif was.lease_until is None or item.lease_until is not None or item.state is not ItemState.PENDING:
        return None
    elif item.attempt < was.attempt:
        what, text = What.GIVEN_BACK, None
    else:
        what, text = What.ATTEMPT_FAILED, item.message
    return Entry(now, what, text, item.index, was.attempt, was.worker)
