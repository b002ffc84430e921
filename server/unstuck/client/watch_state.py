"""The state of a client that watches a job: its shape, the times it goes by, and what is true of it.

The twin of frontend/watch.js, as watchdog.py is that of watchdog.js, with the same names and figures. Plain data:
a state can be written as JSON and read again. It must not know a clock, chance, the network or what happens next.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypedDict

SECOND_MS = 1_000
HEARTBEAT_MS = 15 * SECOND_MS  # the next beat, where the last one did not say when it comes
BEAT_MIN_MS = 1 * SECOND_MS  # bounds for what it says
BEAT_MAX_MS = 30 * SECOND_MS
BEAT_LATE_MS = 2 * SECOND_MS  # what a slow network may add to one beat, and again to the second
BEAT_SPREAD_MS = 2 * SECOND_MS  # when a path dies, its viewers do not all ask in one moment
SPEAK_WITHIN_MS = 10 * SECOND_MS  # asked for (or open) and still no event: broken or buffered
STREAM_BACKOFF_MIN_MS = 500
STREAM_BACKOFF_MAX_MS = 30 * SECOND_MS
STREAM_UNANSWERED_MS = 60 * SECOND_MS  # while polls are not answered either, places in the pool are for them
STREAM_SETTLED_MS = 10 * SECOND_MS  # a stream that lived so long starts the back-off anew
LEAVING_MAX_MS = 60 * SECOND_MS  # a server may not send us away for longer
FIRST_POLL_MS = 1 * SECOND_MS  # the first stream is usually quicker; if not, ask
BREAK_SPREAD_MS = 1 * SECOND_MS  # when a server dies, its viewers do not all ask in one moment
POLL_TIMEOUT_MS = 10 * SECOND_MS  # aborting sooner made outages longer (measured)
POLL_BACKOFF_MIN_MS = 2 * SECOND_MS
POLL_BACKOFF_MAX_MS = 10 * SECOND_MS
UNANSWERED_MAX_MS = 4 * SECOND_MS  # nobody is there to be spared, and nothing tells when somebody is
POLL_AFTER_MIN_MS = 1 * SECOND_MS  # bounds for the server's poll_after_ms
POLL_AFTER_MAX_MS = 60 * SECOND_MS
POLL_AFTER_DEFAULT_MS = 5 * SECOND_MS
RETRY_AFTER_MAX_MS = 120 * SECOND_MS  # a server may not silence us for longer
SLOW_POLL_MS = 60 * SECOND_MS  # signed out
SILENCE_LIMIT_MS = 60 * SECOND_MS
CHECK_EVERY_MS = 15 * SECOND_MS  # no timer is set further ahead than this
LATE_TIMER_MS = 75 * SECOND_MS  # hidden pages get timers up to 60 s late; beyond that the page slept
WAKE_GRACE_MS = 5 * SECOND_MS  # what came in during sleep is delivered within this
GIVE_UP_MS = 30 * 60 * SECOND_MS  # without any news of the job, and without a sleep
NOT_FOUND_ANSWERS = 3  # a proxy without a backend also says 404, so do not believe one
LOWER_ANSWERS = 2

#: The part of a job that the policy looks at: `seq`, `done`, and perhaps `poll_after_ms`.
Standing = Mapping[str, Any]
#: `{"type": …}` and what belongs to it; frontend/wire.d.ts lists them all.
Event = Mapping[str, Any]
Action = dict[str, Any]


class Stream(TypedDict):
    number: int
    asked_at: int
    opened_at: int | None
    spoke_at: int | None
    beat_ms: int  # the next beat was promised within this
    late_at: int | None  # a beat is missed, unless a word comes before; None before the first word
    doubt_at: int | None  # and a second one
    held_before: int | None  # the seq held when it was asked for; None after its first job


class Poll(TypedDict):
    number: int
    reason: str
    asked_at: int


class State(TypedDict):
    phase: str
    link: str
    seq: int
    done: bool
    started_at: int
    news_at: int | None
    give_up_at: int
    wake_at: int | None
    stream: Stream | None
    spare: Stream | None
    next_stream: int
    stream_failures: int
    reopen_at: int | None
    poll: Poll | None
    next_poll: int
    poll_at: int | None
    poll_reason: str
    poll_wanted: str | None
    poll_failures: int
    poll_after_ms: float
    polling: bool
    failure: dict[str, Any] | None
    browser_offline: bool
    signed_out: bool
    not_found_answers: int
    lower_answers: int


def new_state() -> State:
    return {
        "phase": "new", "link": "connecting", "seq": -1, "done": False, "started_at": 0, "news_at": None,
        "give_up_at": 0, "wake_at": None,
        "stream": None, "spare": None, "next_stream": 1, "stream_failures": 0, "reopen_at": None,
        "poll": None, "next_poll": 1, "poll_at": None, "poll_reason": "fallback", "poll_wanted": None,
        "poll_failures": 0, "poll_after_ms": POLL_AFTER_DEFAULT_MS, "polling": False,
        "failure": None, "browser_offline": False, "signed_out": False, "not_found_answers": 0, "lower_answers": 0,
    }  # fmt: skip


def watching(s: State) -> bool:
    return s["phase"] == "watching"


def lives(s: State, now: int) -> bool:
    doubt = doubt_at(s)
    return doubt is not None and now < doubt


def doubt_at(s: State) -> int | None:
    return s["stream"]["doubt_at"] if s["stream"] else None


def late_at(s: State) -> int | None:
    return s["stream"]["late_at"] if s["stream"] else None


def unasked(s: State, at: int | None) -> int | None:
    """This time, unless a poll is under way or planned, or the state of the job was confirmed since."""
    if s["poll"] or s["poll_at"] is not None or at is None:
        return None
    return None if s["news_at"] is not None and s["news_at"] >= at else at


def late(s: State, now: int) -> bool:
    """A beat was missed, and the stream is not doubted yet."""
    at = late_at(s)
    return at is not None and at <= now and lives(s, now)


def silent_at(s: State) -> int:
    return max(s["started_at"], s["news_at"] or 0) + SILENCE_LIMIT_MS


def mute_until(stream: Stream | None) -> int | None:
    if stream is None or stream["spoke_at"] is not None:
        return None
    return (stream["asked_at"] if stream["opened_at"] is None else stream["opened_at"]) + SPEAK_WITHIN_MS


def link_of(s: State, now: int) -> str:
    if not watching(s):
        return "connecting" if s["phase"] == "new" else s["phase"]
    if s["signed_out"]:
        return "signed_out"
    if lives(s, now):
        return "catching_up" if s["poll"] and s["poll"]["reason"] in ("behind", "late", "wake") else "live"
    if s["not_found_answers"] >= NOT_FOUND_ANSWERS:
        return "not_found"
    if s["browser_offline"] or s["poll_failures"] > 0:
        return "offline"
    if s["polling"]:
        return "polling"
    stream = s["stream"]
    opened = stream is not None and stream["opened_at"] is not None and stream["spoke_at"] is None
    return "catching_up" if opened and s["news_at"] is not None else "connecting"


def stream_of(s: State, e: Event) -> Stream | None:
    return next((one for one in (s["stream"], s["spare"]) if one and one["number"] == e["stream"]), None)


def unanswered(s: State) -> bool:
    """Nobody answered the last poll, neither well nor badly."""
    return s["failure"] is not None and s["failure"]["status"] is None


def beats_missed(beat_ms: int, now: int, random: float) -> tuple[int, int]:
    """When the next beat is late, and when a second one is, if nothing is heard from now on."""
    late = now + beat_ms + BEAT_LATE_MS + half_up(random * BEAT_SPREAD_MS)
    return late, late + beat_ms + BEAT_LATE_MS


def promised(next_ms: float | None) -> int:
    """The time within which the next beat comes, as the last one said."""
    return HEARTBEAT_MS if next_ms is None else half_up(min(BEAT_MAX_MS, max(BEAT_MIN_MS, next_ms)))


def stream_pause(s: State, random: float) -> int:
    """Until the next stream is tried."""
    if unanswered(s):
        return half_up(STREAM_UNANSWERED_MS * (0.75 + random / 4))
    return stream_backoff(s["stream_failures"], random)


def stream_backoff(failures: int, random: float) -> int:
    """Full jitter: anything between the shortest pause and a limit that doubles."""
    limit = min(STREAM_BACKOFF_MAX_MS, STREAM_BACKOFF_MIN_MS * 2 ** min(failures, 10))
    return half_up(STREAM_BACKOFF_MIN_MS + random * (limit - STREAM_BACKOFF_MIN_MS))


def poll_backoff(failures: int, limit: int, random: float) -> float:
    """2, 4, 8 … seconds up to the limit, each up to a quarter shorter."""
    pause: int = min(limit, POLL_BACKOFF_MIN_MS * 2 ** min(failures - 1, 10))
    return pause * (0.75 + random / 4)


def half_up(x: float) -> int:
    """Rounds as JavaScript does; Python's own rounds half to even."""
    whole = math.floor(x)
    return whole + (x - whole >= 0.5)
