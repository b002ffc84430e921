"""The state of a client that watches a job: its fields, its deadlines, and what they mean.

It decides nothing, and must not know a clock, randomness or the network.
Next: watch_step.py and watchdog.py, which change it; frontend/client/watch-state.js, the same in JavaScript.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

SECOND_MS = 1_000
HEARTBEAT_DEFAULT_MS = 15 * SECOND_MS  # until the next heartbeat, unless the last one said otherwise
HEARTBEAT_MIN_MS = 1 * SECOND_MS  # bounds for the interval that a heartbeat announces
HEARTBEAT_MAX_MS = 30 * SECOND_MS
HEARTBEAT_SLACK_MS = 2 * SECOND_MS  # what a slow network may add to each heartbeat
HEARTBEAT_SPREAD_MS = 2 * SECOND_MS  # when a network path dies, its viewers must not all poll at once
FIRST_EVENT_TIMEOUT_MS = 10 * SECOND_MS  # a stream without an event for this long is broken or buffered
STREAM_BACKOFF_MIN_MS = 500
STREAM_BACKOFF_MAX_MS = 30 * SECOND_MS
STREAM_PAUSE_UNANSWERED_MS = 60 * SECOND_MS  # while polls go unanswered, they need the connections more
STREAM_SETTLED_MS = 10 * SECOND_MS  # a stream that lasted this long resets the back-off
LEAVING_MAX_MS = 60 * SECOND_MS  # a server cannot send a client away for longer
FIRST_POLL_MS = 1 * SECOND_MS  # the first stream is usually faster; if it is not, poll
BREAK_SPREAD_MS = 1 * SECOND_MS  # when a server dies, its viewers must not all poll at once
TIMEOUT_MS = 10 * SECOND_MS  # aborting sooner made outages longer (measured)
BACKOFF_MIN_MS = 2 * SECOND_MS
BACKOFF_MAX_MS = 10 * SECOND_MS
BACKOFF_UNANSWERED_MS = 4 * SECOND_MS  # no server to protect, and only a poll finds it again
POLL_AFTER_MIN_MS = 1 * SECOND_MS  # bounds for the server's poll_after_ms
POLL_AFTER_MAX_MS = 60 * SECOND_MS
POLL_AFTER_DEFAULT_MS = 5 * SECOND_MS
RETRY_AFTER_MAX_MS = 120 * SECOND_MS  # a server cannot silence a client for longer
SIGNED_OUT_PAUSE_MS = 60 * SECOND_MS
SILENCE_LIMIT_MS = 60 * SECOND_MS
CHECK_EVERY_MS = 15 * SECOND_MS  # no timer is set further ahead than this
TIMER_LATE_MAX_MS = 75 * SECOND_MS  # timers of hidden pages fire up to 60 s late; later means sleep
WAKE_GRACE_MS = 5 * SECOND_MS  # events that arrived during sleep are delivered within this time
GIVE_UP_MS = 30 * 60 * SECOND_MS  # without any confirmation of the job's state; sleep does not count
NOT_FOUND_ANSWERS = 3  # a proxy without a backend also answers 404, so one answer proves nothing
LOWER_SEQ_ANSWERS = 2

Phase = Literal["new", "watching", "ended", "not_found", "gave_up"]
Link = Literal[
    "connecting", "live", "catching_up", "polling", "offline", "signed_out", "not_found", "gave_up", "ended"
]
PollReason = Literal["reconnect", "late", "watchdog", "behind", "wake", "fallback", "manual"]

#: The part of a job that the policy reads: `seq`, `done`, and optionally `poll_after_ms`.
Standing = Mapping[str, Any]
#: `{"type": …}` and its fields; frontend/wire.d.ts lists them all.
WatchEvent = Mapping[str, Any]
WatchAction = dict[str, Any]


class WatchStream(msgspec.Struct):
    """One event stream, from its request until it is closed."""

    number: int
    requested_at: int
    seq_at_request: int | None  # the seq held when it was requested; None after its first job
    opened_at: int | None = None
    first_event_at: int | None = None
    heartbeat_ms: int = HEARTBEAT_DEFAULT_MS  # the next heartbeat is promised within this time
    late_at: int | None = None  # from then on one heartbeat counts as missed; None before the first event
    suspect_at: int | None = None  # from then on two


class WatchPoll(msgspec.Struct, frozen=True):
    """The poll in flight."""

    number: int
    reason: PollReason
    requested_at: int


class WatchFailure(msgspec.Struct, frozen=True):
    """Why the last poll failed; `status` is None if it got no answer."""

    status: int | None
    code: str | None


class WatchState(msgspec.Struct):
    """Everything that the policy remembers; times are milliseconds of the caller's clock."""

    phase: Phase = "new"
    link: Link = "connecting"
    seq: int = -1  # the highest seq held
    done: bool = False
    started_at: int = 0
    confirmed_at: int | None = None  # when the job's state was last confirmed, by a stream or a poll
    give_up_at: int = 0
    wake_at: int | None = None
    stream: WatchStream | None = None  # the stream in use
    spare: WatchStream | None = None  # replaces `stream` once it has sent an event
    next_stream: int = 1
    stream_failures: int = 0
    reopen_at: int | None = None
    poll: WatchPoll | None = None
    next_poll: int = 1
    poll_at: int | None = None
    poll_reason: PollReason = "fallback"
    poll_wanted: PollReason | None = None  # requested while another poll was in flight
    poll_failures: int = 0
    poll_after_ms: float = POLL_AFTER_DEFAULT_MS
    polling: bool = False  # the last poll was answered, and no stream has sent an event since
    failure: WatchFailure | None = None
    browser_offline: bool = False
    signed_out: bool = False
    not_found_answers: int = 0
    lower_seq_answers: int = 0


# --- streams
def suspect_at(state: WatchState) -> int | None:
    """Return the time at which the stream in use has missed two heartbeats."""
    return state.stream.suspect_at if state.stream else None


def late_at(state: WatchState) -> int | None:
    """Return the time at which the stream in use has missed one heartbeat."""
    return state.stream.late_at if state.stream else None


def is_live(state: WatchState, now: int) -> bool:
    """Return whether the stream in use has sent an event and is not suspected of being dead."""
    at = suspect_at(state)
    return at is not None and now < at


def is_late(state: WatchState, now: int) -> bool:
    """Return whether the stream in use has missed a heartbeat but is not yet suspected."""
    at = late_at(state)
    return at is not None and at <= now and is_live(state, now)


def stream_of(state: WatchState, event: WatchEvent) -> WatchStream | None:
    """Return the stream that an event came from, or None if that stream has been closed."""
    for stream in (state.stream, state.spare):
        if stream is not None and stream.number == event["stream"]:
            return stream
    return None


# --- polls
def is_in_flight(state: WatchState, event: WatchEvent) -> bool:
    """Return whether the event answers the poll in flight, and not one that was aborted."""
    return state.poll is not None and state.poll.number == event["poll"]


def last_poll_unanswered(state: WatchState) -> bool:
    """Return whether the last poll got no answer at all, not even an error."""
    return state.failure is not None and state.failure.status is None


# --- deadlines: the time at which each timer of the policy fires, or None while it is not set
def give_up_at(state: WatchState) -> int:
    return state.give_up_at


def poll_timeout_at(state: WatchState) -> int | None:
    return state.poll.requested_at + TIMEOUT_MS if state.poll else None


def stream_timeout_at(state: WatchState) -> int | None:
    return first_event_due_at(state.stream)


def spare_timeout_at(state: WatchState) -> int | None:
    return first_event_due_at(state.spare)


def first_event_due_at(stream: WatchStream | None) -> int | None:
    """Return the time at which a stream that has sent no event counts as broken, or None.

    The timeout starts with its headers, or with its request while there are none, so that slow headers do not
    count against its events.
    """
    if stream is None or stream.first_event_at is not None:
        return None
    since = stream.requested_at if stream.opened_at is None else stream.opened_at
    return since + FIRST_EVENT_TIMEOUT_MS


def reopen_at(state: WatchState) -> int | None:
    return state.reopen_at


def replace_stream_at(state: WatchState) -> int | None:
    """Return when a spare must be opened, or None if there is one, one is planned, or it would be refused."""
    if state.spare or state.reopen_at is not None or state.signed_out:
        return None
    return suspect_at(state)


def late_poll_at(state: WatchState) -> int | None:
    """Return when a missed heartbeat calls for a poll, or None."""
    return poll_needed_at(state, late_at(state))


def planned_poll_at(state: WatchState) -> int | None:
    return None if state.poll else state.poll_at


def silence_poll_at(state: WatchState) -> int | None:
    """Return when the silence limit calls for a poll, or None."""
    silent_since = max(state.started_at, state.confirmed_at or 0)
    return poll_needed_at(state, silent_since + SILENCE_LIMIT_MS)


def poll_needed_at(state: WatchState, at: int | None) -> int | None:
    """Return `at`, or None if a poll is in flight or planned, or the job's state was confirmed since."""
    if state.poll or state.poll_at is not None or at is None:
        return None
    return None if state.confirmed_at is not None and state.confirmed_at >= at else at


# --- what is shown
def link_of(state: WatchState, now: int) -> Link:
    if state.phase != "watching":
        return "connecting" if state.phase == "new" else state.phase
    if state.signed_out:
        return "signed_out"
    if is_live(state, now):
        return "catching_up" if state.poll and state.poll.reason in ("behind", "late", "wake") else "live"
    if state.not_found_answers >= NOT_FOUND_ANSWERS:
        return "not_found"
    if state.browser_offline or state.poll_failures > 0:
        return "offline"
    if state.polling:
        return "polling"
    stream = state.stream
    awaits_event = stream is not None and stream.opened_at is not None and stream.first_event_at is None
    return "catching_up" if awaits_event and state.confirmed_at is not None else "connecting"


# --- pauses and intervals, milliseconds
def heartbeat_interval(next_ms: float | None) -> int:
    """Return the time until the next heartbeat, as the last one announced it, within bounds."""
    if next_ms is None:
        return HEARTBEAT_DEFAULT_MS
    return round_half_up(min(HEARTBEAT_MAX_MS, max(HEARTBEAT_MIN_MS, next_ms)))


def stream_pause(state: WatchState, random: float) -> int:
    """Return the pause before the next stream is opened."""
    if last_poll_unanswered(state):
        return round_half_up(STREAM_PAUSE_UNANSWERED_MS * (0.75 + random / 4))
    return stream_backoff(state.stream_failures, random)


def stream_backoff(failures: int, random: float) -> int:
    """Return a pause with full jitter, between the shortest one and a limit that doubles with each failure."""
    limit = min(STREAM_BACKOFF_MAX_MS, STREAM_BACKOFF_MIN_MS * 2 ** min(failures, 10))
    return round_half_up(STREAM_BACKOFF_MIN_MS + random * (limit - STREAM_BACKOFF_MIN_MS))


def backoff(failures: int, limit: int, random: float) -> float:
    """Return a pause of 2, 4, 8 … seconds up to the limit, shortened at random by up to a quarter."""
    pause: int = min(limit, BACKOFF_MIN_MS * 2 ** min(failures - 1, 10))
    return pause * (0.75 + random / 4)


def round_half_up(x: float) -> int:
    """Round half up, as JavaScript does; Python's `round` rounds half to even."""
    whole = math.floor(x)
    return whole + (x - whole >= 0.5)
