"""The timeline of a job: what happened to it, for "what happened to my job?".

Decides: which changes are worth an entry. `entries_between` derives them from two states of a job and of an item.
The ordinary start and end of an item are not stored: `item_entries` derives them from the items if there are few.
So a job of ten thousand successful files has half a dozen entries. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

import msgspec

from unstuck.jobs.job import Item, ItemState, Job


class What(StrEnum):
    """What happened."""

    SUBMITTED = "submitted"
    STATE = "state"  # the job's, with the new one
    HEALTH = "health"  # the job's, with the new one
    CANCEL_REQUESTED = "cancel_requested"
    STOPPED = "stopped"  # a limit or a person ends the job, with the reason
    ATTEMPT_FAILED = "attempt_failed"  # of an item that is tried again
    GIVEN_BACK = "given_back"  # an item, by its runner, not started
    ITEM_FAILED = "item_failed"  # for good
    RESCUED = "rescued"  # running items were taken from their workers on request
    ITEM_STARTED = "item_started"  # derived from the item, as its end is
    WEBHOOK = "webhook"  # an attempt to deliver the webhook, and its outcome
    ITEM_ENDED = "item_ended"  # with its state, where it did not fail


class Entry(msgspec.Struct, frozen=True):
    """One line of a timeline; `at` in epoch seconds, `index` and the rest where it is about an item."""

    at: float
    what: What
    text: str | None = None
    index: int | None = None
    attempt: int | None = None
    worker: str | None = None
    name: str | None = None  # the item's; not stored, but added when it is read


def submitted_entry(job: Job) -> Entry:
    """The first entry of every job."""
    return Entry(job.created_at, What.SUBMITTED, f"retry of {job.retry_of}" if job.retry_of else None)


def entries_between(before: Job, after: Job, now: float, was: Item | None, item: Item | None) -> list[Entry]:
    """Return what happened at `now`, when `before` became `after` and the item `was` became `item`."""
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
            continue  # it never ran, or rests between two attempts, of which its failed ones are remembered
        about = (item.index, item.attempt, item.worker, item.name)
        found.append(Entry(item.started_at, What.ITEM_STARTED, None, *about))
        if item.finished_at is not None and item.state is not ItemState.FAILED:
            found.append(Entry(item.finished_at, What.ITEM_ENDED, item.state.value, *about))
    return found


def merge(remembered: Iterable[Entry], item_entries: Iterable[Entry]) -> list[Entry]:
    """Merge both, oldest first. At one instant an item's entry precedes what it did to the job."""
    return sorted([*item_entries, *remembered], key=lambda entry: entry.at)


def _ended(now: float, was: Item, item: Item) -> Entry | None:
    """Return the end of an attempt that the item's own row does not show."""
    if item.state is was.state and item.lease_until is was.lease_until:
        return None  # most of what happens is a report
    if item.state is ItemState.FAILED and was.state is not ItemState.FAILED:
        what, text = What.ITEM_FAILED, item.error.message if item.error else item.message
    elif was.lease_until is None or item.lease_until is not None or item.state is not ItemState.PENDING:
        return None
    elif item.attempt < was.attempt:
        what, text = What.GIVEN_BACK, None
    else:
        what, text = What.ATTEMPT_FAILED, item.message
    return Entry(now, what, text, item.index, was.attempt, was.worker)
