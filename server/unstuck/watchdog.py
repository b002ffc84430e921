"""What a client that watches a job does next: PROTOCOL.md, section 5, as a state machine.

The twin of frontend/watchdog.js, function by function and word by word, so that the two can be read side by
side; the rules in prose stand at the head of that file. Given (state, event, now_ms, random 0..1) it answers
(next state, actions). It must not know a clock, chance, the network or any other file: plain data in, plain
data out, so that both twins run the same JSON vectors (tests/vectors).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypedDict, cast

SECOND_MS = 1_000
HEARTBEAT_MS = 15 * SECOND_MS  # the server's default
BEATS_MISSED_MS = 2 * HEARTBEAT_MS + 5 * SECOND_MS  # two beats and what a slow network may add
SPEAK_WITHIN_MS = 10 * SECOND_MS  # asked for (or open) and still no event: broken or buffered
STREAM_BACKOFF_MIN_MS = 500
STREAM_BACKOFF_MAX_MS = 30 * SECOND_MS
STREAM_SETTLED_MS = 10 * SECOND_MS  # a stream that lived so long starts the back-off anew
LEAVING_MAX_MS = 60 * SECOND_MS  # a server may not send us away for longer
FIRST_POLL_MS = 1 * SECOND_MS  # the first stream is usually quicker; if not, ask
BREAK_SPREAD_MS = 1 * SECOND_MS  # when a server dies, its viewers do not all ask in one moment
POLL_TIMEOUT_MS = 10 * SECOND_MS  # aborting sooner made outages longer (measured)
AFTER_ABORT_MS = 10 * SECOND_MS  # requests queue behind older attempts in TCP back-off
POLL_BACKOFF_MIN_MS = 2 * SECOND_MS
POLL_BACKOFF_MAX_MS = 32 * SECOND_MS
POLL_AFTER_MIN_MS = 1 * SECOND_MS  # bounds for the server's poll_after_ms
POLL_AFTER_MAX_MS = 60 * SECOND_MS
POLL_AFTER_DEFAULT_MS = 5 * SECOND_MS
RETRY_AFTER_MAX_MS = 120 * SECOND_MS  # a server may not silence us for longer
SLOW_POLL_MS = 60 * SECOND_MS  # signed out, or a 404 that is not the server's own
SILENCE_LIMIT_MS = 60 * SECOND_MS
CHECK_EVERY_MS = 15 * SECOND_MS  # no timer is set further ahead than this
LATE_TIMER_MS = 75 * SECOND_MS  # hidden pages get timers up to 60 s late; beyond that the page slept
WAKE_GRACE_MS = 5 * SECOND_MS  # what came in during sleep is delivered within this
GIVE_UP_MS = 30 * 60 * SECOND_MS  # without any news of the job
GIVE_UP_GRACE_MS = 60 * SECOND_MS  # at least this long after waking
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
    heard_at: int | None
    job_seen: bool


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
    poll_not_before: int
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
        "poll_not_before": 0, "poll_failures": 0, "poll_after_ms": POLL_AFTER_DEFAULT_MS, "polling": False,
        "failure": None, "browser_offline": False, "signed_out": False, "not_found_answers": 0, "lower_answers": 0,
    }  # fmt: skip


@dataclass(slots=True)
class Turn:
    """One call of `step`: the state that it may change, and what it has decided so far."""

    s: State
    actions: list[Action]
    now: int
    random: float


def step(state: State, event: Event, now_ms: int, random: float) -> tuple[State, list[Action]]:
    """The one door: what follows from this event, now. ValueError for an event that does not exist."""
    rows = ON.get(event["type"])
    if rows is None:
        raise ValueError(f"watchdog: there is no event '{event['type']}'; it knows {', '.join(ON)}")
    s = state.copy()
    s["stream"] = state["stream"] and state["stream"].copy()
    s["spare"] = state["spare"] and state["spare"].copy()
    turn = Turn(s, [], now_ms, random)
    deed = next((deed for phases, deed in rows if state["phase"] in phases), None)
    slept = state["wake_at"] is not None and now_ms > state["wake_at"] + LATE_TIMER_MS
    if deed is not None:
        deed(turn, event)
    if slept and deed is not wake and s["phase"] == "watching":
        wake(turn, event)  # the first event after a sleep may be any
    keep_time(turn)
    if s["wake_at"] != state["wake_at"]:
        turn.actions.append({"type": "wake_at", "at_ms": s["wake_at"]})
    return s, turn.actions


def keep_time(t: Turn) -> None:
    """Do what is due, restore rule 1, and say when to look again."""
    s, now = t.s, t.now
    busy = True
    for _ in range(5):
        if not busy:
            break
        busy = False
        if watching(s) and s["stream"] is None and s["reopen_at"] is None and not s["signed_out"]:
            s["reopen_at"] = now
        if watching(s) and not lives(s, now) and s["poll"] is None and s["poll_at"] is None:
            plan_poll(t, s["poll_after_ms"], "fallback")
        for due, deed in DUE:
            at = due(s) if watching(s) else None
            if at is None or at > now:
                continue
            deed(t)
            busy = True
    s["link"] = link_of(s, now)
    if watching(s):
        dues = [at for due, _ in DUE if (at := due(s)) is not None]
        s["wake_at"] = max(now + 1, min(now + CHECK_EVERY_MS, *dues))
    else:
        s["wake_at"] = None


# --- what is true of a state


def watching(s: State) -> bool:
    return s["phase"] == "watching"


def lives(s: State, now: int) -> bool:
    doubt = doubt_at(s)
    return doubt is not None and now < doubt


def doubt_at(s: State) -> int | None:
    stream = s["stream"]
    return stream["heard_at"] + BEATS_MISSED_MS if stream and stream["heard_at"] is not None else None


def silent_at(s: State) -> int:
    return max(s["started_at"], s["news_at"] or 0) + SILENCE_LIMIT_MS


def mute_until(stream: Stream | None) -> int | None:
    if stream is None or stream["heard_at"] is not None:
        return None
    return (stream["asked_at"] if stream["opened_at"] is None else stream["opened_at"]) + SPEAK_WITHIN_MS


def link_of(s: State, now: int) -> str:
    if not watching(s):
        return "connecting" if s["phase"] == "new" else s["phase"]
    if s["signed_out"]:
        return "signed_out"
    if lives(s, now):
        return "catching_up" if s["poll"] and s["poll"]["reason"] in ("behind", "wake") else "live"
    if s["not_found_answers"] >= NOT_FOUND_ANSWERS:
        return "not_found"
    if s["browser_offline"] or s["poll_failures"] > 0:
        return "offline"
    if s["polling"]:
        return "polling"
    stream = s["stream"]
    opened = stream is not None and stream["opened_at"] is not None and stream["heard_at"] is None
    return "catching_up" if opened and s["news_at"] is not None else "connecting"


# --- beginning and ending


def begin(t: Turn, e: Event) -> None:
    """`job`: one that the caller already holds, such as the answer of its submission."""
    t.s["started_at"] = t.now
    watch(t)
    if e.get("job"):
        take(t, e["job"])
    if t.s["done"]:
        return
    open_stream(t)
    plan_poll(t, FIRST_POLL_MS, "fallback")


def resume(t: Turn, reason: str) -> None:
    watch(t)
    open_stream(t)
    ask_poll(t, reason)


def watch(t: Turn) -> None:
    t.s.update({
        "phase": "watching", "give_up_at": t.now + GIVE_UP_MS, "stream_failures": 0, "poll_failures": 0,
        "failure": None, "polling": False, "poll_not_before": 0, "not_found_answers": 0, "lower_answers": 0,
        "signed_out": False, "browser_offline": False,
    })  # fmt: skip


def end(t: Turn, phase: str) -> None:
    s, actions = t.s, t.actions
    if s["stream"]:
        actions.append({"type": "close_stream", "stream": s["stream"]["number"]})
    if s["spare"]:
        actions.append({"type": "close_stream", "stream": s["spare"]["number"]})
    if s["poll"]:
        actions.append({"type": "abort_poll", "poll": s["poll"]["number"]})
    s.update({
        "phase": phase, "stream": None, "spare": None, "poll": None, "poll_at": None, "poll_wanted": None,
        "reopen_at": None,
    })  # fmt: skip
    minutes = half_up((t.now - s["started_at"]) / (60 * SECOND_MS))
    actions.append({"type": "end", "reason": phase, "elapsed_minutes": minutes})


# --- the truth about the job


def take(t: Turn, job: Standing) -> None:
    """Hold this job and show it."""
    t.s["seq"] = job["seq"]
    t.s["lower_answers"] = 0
    asked = job.get("poll_after_ms")
    asked = POLL_AFTER_DEFAULT_MS if asked is None else asked
    t.s["poll_after_ms"] = min(POLL_AFTER_MAX_MS, max(POLL_AFTER_MIN_MS, asked))
    t.actions.append({"type": "show"})
    news(t)
    if not job["done"]:
        return
    t.s["done"] = True
    end(t, "ended")


def news(t: Turn) -> None:
    """The state of the job is confirmed: what was planned to find it out is needless."""
    t.s.update({
        "news_at": t.now, "give_up_at": t.now + GIVE_UP_MS, "poll_at": None, "poll_failures": 0, "failure": None,
        "not_found_answers": 0, "signed_out": False,
    })  # fmt: skip


# --- streams


def open_stream(t: Turn) -> None:
    s, now = t.s, t.now
    s["reopen_at"] = None
    if lives(s, now) or s["spare"] or (s["stream"] and s["stream"]["heard_at"] is None):
        return
    stream: Stream = {
        "number": s["next_stream"], "asked_at": now, "opened_at": None, "spoke_at": None, "heard_at": None,
        "job_seen": False,
    }  # fmt: skip
    s["next_stream"] += 1
    if s["stream"]:
        s["spare"] = stream
    else:
        s["stream"] = stream
    t.actions.append({"type": "open_stream", "stream": stream["number"]})


def find_stream(s: State, number: int | None) -> Stream | None:
    return next((one for one in (s["stream"], s["spare"]) if one and one["number"] == number), None)


def on_stream_open(t: Turn, e: Event) -> None:
    stream = find_stream(t.s, e["stream"])
    if stream is None:
        return
    stream["opened_at"] = t.now
    t.s["poll_not_before"] = 0
    ask_poll(t, "reconnect")


def hear(t: Turn, e: Event) -> Stream | None:
    """A stream has spoken: it is the stream from now on. Answers None for one that was given up before."""
    s, now = t.s, t.now
    if s["spare"] and s["spare"]["number"] == e["stream"]:
        s["stream"], s["spare"] = s["spare"], s["stream"]
    stream = s["stream"]
    if stream is None or stream["number"] != e["stream"]:
        return None
    if s["spare"]:
        t.actions.append({"type": "close_stream", "stream": s["spare"]["number"]})
    stream["opened_at"] = now if stream["opened_at"] is None else stream["opened_at"]
    stream["spoke_at"] = now if stream["spoke_at"] is None else stream["spoke_at"]
    stream["heard_at"] = now
    s.update({"spare": None, "reopen_at": None, "poll_not_before": 0, "polling": False, "signed_out": False})
    return stream


def on_job(t: Turn, e: Event) -> None:
    stream = hear(t, e)
    if stream is None:
        return
    first = not stream["job_seen"]
    stream["job_seen"] = True
    if first or e["job"]["seq"] >= t.s["seq"] or e["job"]["done"]:
        take(t, e["job"])


def on_heartbeat(t: Turn, e: Event) -> None:
    """`seq` of this job, None where the beat does not name it."""
    if hear(t, e) is None or e["seq"] is None:
        return
    news(t)
    if e["seq"] > t.s["seq"]:
        ask_poll(t, "behind")


def on_leaving(t: Turn, e: Event) -> None:
    stream = hear(t, e)
    if stream is None:
        return
    t.actions.append({"type": "close_stream", "stream": stream["number"]})
    retry = min(LEAVING_MAX_MS, max(STREAM_BACKOFF_MIN_MS, e["retry_ms"] or 0))
    t.s.update({"stream": None, "stream_failures": 0, "reopen_at": half_up(t.now + retry * (1 + t.random))})


def on_gone(t: Turn, e: Event) -> None:
    if hear(t, e) is not None:
        end(t, "not_found")


def lose_stream(t: Turn, number: int | None) -> None:
    """A stream broke, was refused, or never spoke."""
    s, now = t.s, t.now
    lost = find_stream(s, number)
    if lost is None:
        return
    t.actions.append({"type": "close_stream", "stream": lost["number"]})
    main = lost is s["stream"]
    if main:
        s["stream"] = s["spare"]
    s["spare"] = None
    settled = lost["spoke_at"] is not None and now - lost["spoke_at"] >= STREAM_SETTLED_MS
    s["stream_failures"] = 1 if settled else s["stream_failures"] + 1
    alone = s["stream"] is None or s["stream"]["heard_at"] is not None
    if alone and not s["signed_out"]:
        s["reopen_at"] = now + stream_backoff(s["stream_failures"], t.random)
    if main and s["poll_failures"] == 0:
        plan_poll(t, t.random * BREAK_SPREAD_MS, "fallback")


def stream_backoff(failures: int, random: float) -> int:
    """Full jitter: anything between the shortest pause and a limit that doubles."""
    limit = min(STREAM_BACKOFF_MAX_MS, STREAM_BACKOFF_MIN_MS * 2 ** min(failures, 10))
    return half_up(STREAM_BACKOFF_MIN_MS + random * (limit - STREAM_BACKOFF_MIN_MS))


# --- polls


def ask_poll(t: Turn, reason: str) -> None:
    s, now = t.s, t.now
    s["poll_at"] = None
    if s["poll"]:
        s["poll_wanted"] = "manual" if s["poll_wanted"] == "manual" else reason
    elif now < s["poll_not_before"] and reason != "manual":
        plan_poll(t, 0, reason)
    else:
        s["poll"] = {"number": s["next_poll"], "reason": reason, "asked_at": now}
        s["next_poll"] += 1
        t.actions.append({"type": "poll", "poll": s["poll"]["number"], "reason": reason})


def plan_poll(t: Turn, delay: float, reason: str) -> None:
    s = t.s
    at = max(half_up(t.now + delay), s["poll_not_before"])
    if s["poll"] or (s["poll_at"] is not None and s["poll_at"] <= at):
        return
    s.update({"poll_at": at, "poll_reason": reason})


def settle_poll(t: Turn, e: Event) -> tuple[bool, str | None]:
    """The poll in flight is over; (False, …) where the answer belongs to one that was aborted."""
    s = t.s
    if not s["poll"] or s["poll"]["number"] != e["poll"]:
        return False, None
    wanted = s["poll_wanted"]
    s.update({"poll": None, "poll_wanted": None})
    return True, wanted


def on_poll_answered(t: Turn, e: Event) -> None:
    """Without a `job` where nothing was modified."""
    s = t.s
    settled, wanted = settle_poll(t, e)
    if not settled:
        return
    job = e.get("job")
    if job and job["seq"] < s["seq"]:
        s["lower_answers"] += 1
    if job and (job["seq"] >= s["seq"] or job["done"] or s["lower_answers"] >= LOWER_ANSWERS):
        take(t, job)
    if not watching(s):
        return
    s["polling"] = not lives(s, t.now)
    news(t)
    if wanted:
        ask_poll(t, wanted)


def on_poll_failed(t: Turn, e: Event) -> None:
    """`status` None where nothing was answered; `code` and `retry_after_ms` where they are known."""
    s = t.s
    settled, wanted = settle_poll(t, e)
    if not settled:
        return
    status, code = e["status"], e.get("code")
    s["failure"] = {"status": status, "code": code}
    if code in ("job_not_found", "invalid_job_id"):
        return end(t, "not_found")
    if status in (404, 410):
        s["not_found_answers"] += 1
    s["signed_out"] = status in (401, 403)
    s["poll_failures"] += 1
    if s["signed_out"]:
        s["reopen_at"] = None
    if wanted and wanted != "watchdog":  # a sign of life came after this one was asked
        s["poll_not_before"] = 0
        return ask_poll(t, wanted)
    if s["signed_out"] or s["not_found_answers"] >= NOT_FOUND_ANSWERS:
        return plan_poll(t, SLOW_POLL_MS, "fallback")
    asked = min(RETRY_AFTER_MAX_MS, e.get("retry_after_ms") or 0)
    return plan_poll(t, max(poll_backoff(s["poll_failures"], t.random), asked), "fallback")


def abort_poll(t: Turn) -> None:
    s = t.s
    if not s["poll"]:
        return
    t.actions.append({"type": "abort_poll", "poll": s["poll"]["number"]})
    s["poll_not_before"] = t.now + AFTER_ABORT_MS
    on_poll_failed(t, {"poll": s["poll"]["number"], "status": None, "code": "timeout"})


def poll_backoff(failures: int, random: float) -> float:
    """2, 4, 8, 16, 32, 32 … seconds, each up to a quarter shorter."""
    return min(POLL_BACKOFF_MAX_MS, POLL_BACKOFF_MIN_MS * 2 ** min(failures - 1, 10)) * (0.75 + random / 4)


# --- the page and the person


def wake(t: Turn, _: Event) -> None:
    s, now = t.s, t.now
    if s["poll"] and now - s["poll"]["asked_at"] >= POLL_TIMEOUT_MS:
        abort_poll(t)
    s.update({"poll_not_before": 0, "stream_failures": 0, "browser_offline": False})
    s["give_up_at"] = max(s["give_up_at"], now + GIVE_UP_GRACE_MS)
    stream = s["stream"]
    if stream and stream["heard_at"] is not None:
        stream["heard_at"] = max(stream["heard_at"], now - BEATS_MISSED_MS + WAKE_GRACE_MS)
    if s["reopen_at"] is not None:
        s["reopen_at"] = now
    ask_poll(t, "wake")


def on_manual_check(t: Turn, _: Event) -> None:
    if t.s["reopen_at"] is not None:
        t.s["reopen_at"] = t.now
    ask_poll(t, "manual")


def on_told(t: Turn, e: Event) -> None:
    """The answer of another call, such as cancel."""
    if e["job"]["seq"] >= t.s["seq"] or e["job"]["done"]:
        take(t, e["job"])


def on_offline(t: Turn, _: Event) -> None:
    t.s["browser_offline"] = True


def half_up(x: float) -> int:
    """Rounds as JavaScript does; Python's own rounds half to even."""
    whole = math.floor(x)
    return whole + (x - whole >= 0.5)


# --- the tables
WATCHING = ("watching",)
RESTING = ("gave_up", "not_found")
Deed = Callable[[Turn, Event], object]
WAKE_UP: tuple[tuple[str, ...], Deed] = (("gave_up",), lambda t, e: resume(t, "wake"))

#: What happens on which event, and in which phases it counts at all; elsewhere it is ignored.
ON: dict[str, list[tuple[tuple[str, ...], Deed]]] = {
    "start":             [(("new",), begin)],
    "stream_open":       [(WATCHING, on_stream_open)],
    "job":               [(WATCHING, on_job)],
    "items":             [(WATCHING, hear)],
    "heartbeat":         [(WATCHING, on_heartbeat)],
    "leaving":           [(WATCHING, on_leaving)],
    "gone":              [(WATCHING, on_gone)],
    "stream_error":      [(WATCHING, lambda t, e: lose_stream(t, e["stream"]))],
    "poll_ok":           [(WATCHING, on_poll_answered)],
    "poll_not_modified": [(WATCHING, on_poll_answered)],
    "poll_failed":       [(WATCHING, on_poll_failed)],
    "told":              [(WATCHING, on_told)],
    "page_shown":        [(WATCHING, wake), WAKE_UP],
    "online":            [(WATCHING, wake), WAKE_UP],
    "offline":           [(WATCHING, on_offline)],
    "manual_check":      [(WATCHING, on_manual_check), (RESTING, lambda t, e: resume(t, "manual"))],
    "tick":              [(WATCHING, lambda t, e: None)],
}  # fmt: skip


def doubt(t: Turn) -> None:
    ask_poll(t, "watchdog")
    open_stream(t)


#: What becomes due by the passing of time alone, in this order. Every deed moves its own due time.
DUE: list[tuple[Callable[[State], int | None], Callable[[Turn], object]]] = [
    (lambda s: s["give_up_at"],                                                    lambda t: end(t, "gave_up")),
    (lambda s: s["poll"] and s["poll"]["asked_at"] + POLL_TIMEOUT_MS,              abort_poll),
    (lambda s: mute_until(s["stream"]),  lambda t: lose_stream(t, cast(Stream, t.s["stream"])["number"])),
    (lambda s: mute_until(s["spare"]),   lambda t: lose_stream(t, cast(Stream, t.s["spare"])["number"])),
    (lambda s: s["reopen_at"],                                                     open_stream),
    (lambda s: None if s["spare"] or s["reopen_at"] is not None else doubt_at(s),  doubt),
    (lambda s: None if s["poll"] else s["poll_at"],                 lambda t: ask_poll(t, t.s["poll_reason"])),
    (lambda s: None if s["poll"] or s["poll_at"] is not None else silent_at(s),  # a stream may live and not speak
                                                                    lambda t: ask_poll(t, "watchdog")),
]  # fmt: skip
