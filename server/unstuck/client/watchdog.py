"""What a client that watches a job does next: PROTOCOL.md, section 5, as a state machine.

The twin of frontend/watchdog.js, function by function and word by word, so that the two can be read side by
side; the rules in prose stand at the head of that file, shapes and figures in watch.py. Given (state, event,
now_ms, random 0..1) it answers (next state, actions). It must not know a clock, chance or the network: plain
data in, plain data out, so that both twins run the same JSON vectors (tests/vectors).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from unstuck.client import watch_state as w
from unstuck.client.watch_state import Action, Event, Standing, State, Stream, half_up, lives, watching


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
    slept = state["wake_at"] is not None and now_ms > state["wake_at"] + w.LATE_TIMER_MS
    if deed:
        deed(turn, event)
    if slept and deed is not wake and watching(s):
        wake(turn, event)  # the first event after a sleep may be any
    keep_time(turn)
    if s["wake_at"] != state["wake_at"]:
        turn.actions.append({"type": "wake_at", "at_ms": s["wake_at"]})
    return s, turn.actions


def keep_time(t: Turn) -> None:
    """Do what is due, restore rule 1, and say when to look again."""
    s, now = t.s, t.now
    for _ in range(5):
        busy = False
        if watching(s) and s["stream"] is None and s["reopen_at"] is None and not s["signed_out"]:
            s["reopen_at"] = now
        if watching(s) and not lives(s, now) and s["poll"] is None and s["poll_at"] is None:
            plan_poll(t, s["poll_after_ms"], "fallback")
        for due, deed in DUE:
            at = due(s) if watching(s) else None
            if at is not None and at <= now:
                deed(t)
                busy = True
        if not busy:
            break
    s["link"] = w.link_of(s, now)
    if watching(s):
        dues = [at for due, _ in DUE if (at := due(s)) is not None]
        s["wake_at"] = max(now + 1, min(now + w.CHECK_EVERY_MS, *dues))
    else:
        s["wake_at"] = None


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
    plan_poll(t, w.FIRST_POLL_MS, "fallback")


def resume(t: Turn, reason: str) -> None:
    watch(t)
    open_stream(t)
    ask_poll(t, reason)


def watch(t: Turn) -> None:
    t.s.update({
        "phase": "watching", "give_up_at": t.now + w.GIVE_UP_MS, "stream_failures": 0, "poll_failures": 0,
        "failure": None, "polling": False, "not_found_answers": 0, "lower_answers": 0,
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
    minutes = half_up((t.now - s["started_at"]) / (60 * w.SECOND_MS))
    actions.append({"type": "end", "reason": phase, "elapsed_minutes": minutes})


# --- the truth about the job
def take(t: Turn, job: Standing) -> None:
    """Hold this job and show it."""
    t.s.update({"seq": job["seq"], "lower_answers": 0})
    asked = job.get("poll_after_ms")
    asked = w.POLL_AFTER_DEFAULT_MS if asked is None else asked
    t.s["poll_after_ms"] = min(w.POLL_AFTER_MAX_MS, max(w.POLL_AFTER_MIN_MS, asked))
    t.actions.append({"type": "show"})
    news(t)
    if not job["done"]:
        return
    t.s["done"] = True
    end(t, "ended")


def news(t: Turn) -> None:
    """The state of the job is confirmed: what was planned to find it out is needless."""
    t.s.update({
        "news_at": t.now, "give_up_at": t.now + w.GIVE_UP_MS, "poll_at": None, "poll_failures": 0, "failure": None,
        "not_found_answers": 0, "signed_out": False,
    })  # fmt: skip


def on_told(t: Turn, e: Event) -> None:
    if e["job"]["seq"] >= t.s["seq"] or e["job"]["done"]:
        take(t, e["job"])


# --- streams
def open_stream(t: Turn, trusted: bool = True) -> None:
    """`trusted`: whether a stream that lives is enough."""
    s, now = t.s, t.now
    s["reopen_at"] = None
    if (trusted and lives(s, now)) or s["spare"] or (s["stream"] and s["stream"]["spoke_at"] is None):
        return
    stream: Stream = {
        "number": s["next_stream"], "asked_at": now, "opened_at": None, "spoke_at": None,
        "beat_ms": w.HEARTBEAT_MS, "late_at": None, "doubt_at": None, "held_before": s["seq"],
    }  # fmt: skip
    s["next_stream"] += 1
    if s["stream"]:
        s["spare"] = stream
    else:
        s["stream"] = stream
    t.actions.append({"type": "open_stream", "stream": stream["number"]})


def on_stream_open(t: Turn, e: Event) -> None:
    if stream := w.stream_of(t.s, e):
        stream["opened_at"] = t.now
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
    stream["late_at"], stream["doubt_at"] = w.beats_missed(stream["beat_ms"], now, t.random)
    s.update({"spare": None, "reopen_at": None, "polling": False, "signed_out": False})
    return stream


def on_job(t: Turn, e: Event) -> None:
    stream = hear(t, e)
    if stream is None:
        return
    first = stream["held_before"] == t.s["seq"]
    stream["held_before"] = None
    if first or e["job"]["seq"] >= t.s["seq"] or e["job"]["done"]:
        take(t, e["job"])


def on_heartbeat(t: Turn, e: Event) -> None:
    """`seq` of this job, None where the beat does not name it; `next_ms` where it says when the next one comes."""
    if stream := w.stream_of(t.s, e):
        stream["beat_ms"] = w.promised(e.get("next_ms"))
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
    retry = min(w.LEAVING_MAX_MS, max(w.STREAM_BACKOFF_MIN_MS, e["retry_ms"] or 0))
    t.s.update({"stream": None, "stream_failures": 0, "reopen_at": half_up(t.now + retry * (1 + t.random))})


def on_gone(t: Turn, e: Event) -> None:
    if hear(t, e):
        end(t, "not_found")


def lose_stream(t: Turn, lost: Stream | None) -> None:
    """A stream broke, was refused, or never spoke."""
    s, now = t.s, t.now
    if lost is None:
        return
    t.actions.append({"type": "close_stream", "stream": lost["number"]})
    main = lost is s["stream"]
    if main:
        s["stream"] = s["spare"]
    s["spare"] = None
    settled = lost["spoke_at"] is not None and now - lost["spoke_at"] >= w.STREAM_SETTLED_MS
    s["stream_failures"] = 1 if settled else s["stream_failures"] + 1
    alone = s["stream"] is None or s["stream"]["spoke_at"] is not None
    if alone and not s["signed_out"]:
        s["reopen_at"] = now + w.stream_pause(s, t.random)
    if main and s["poll_failures"] == 0:
        plan_poll(t, t.random * w.BREAK_SPREAD_MS, "fallback")


# --- polls
def ask_poll(t: Turn, reason: str) -> None:
    s, now = t.s, t.now
    s["poll_at"] = None
    if s["poll"]:
        s["poll_wanted"] = "manual" if s["poll_wanted"] == "manual" else reason
    else:
        number = s["next_poll"]
        s.update({"poll": {"number": number, "reason": reason, "asked_at": now}, "next_poll": number + 1})
        t.actions.append({"type": "poll", "poll": number, "reason": reason})


def plan_poll(t: Turn, delay: float, reason: str) -> None:
    s = t.s
    at = half_up(t.now + delay)
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
    if w.unanswered(s) and s["reopen_at"] is not None:
        s["reopen_at"] = t.now  # the network is back
    job = e.get("job")
    silent = job and job["seq"] > s["seq"] and w.late(s, t.now)
    s["lower_answers"] += bool(job and job["seq"] < s["seq"])
    if job and (job["seq"] >= s["seq"] or job["done"] or s["lower_answers"] >= w.LOWER_ANSWERS):
        take(t, job)
    if not watching(s):
        return
    if silent:
        distrust(t)
    s["polling"] = not lives(s, t.now)
    news(t)
    if wanted:
        ask_poll(t, wanted)


def on_poll_failed(t: Turn, e: Event) -> None:
    """`status` None where nothing was answered; `code` and `retry_after_ms` where they are known."""
    s = t.s
    settled, wanted = settle_poll(t, e)
    if not settled:
        return None
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
    if wanted:
        return ask_poll(t, wanted)
    if s["signed_out"]:
        return plan_poll(t, w.SLOW_POLL_MS, "fallback")
    asked = min(w.RETRY_AFTER_MAX_MS, e.get("retry_after_ms") or 0)
    limit = w.UNANSWERED_MAX_MS if status is None else w.POLL_BACKOFF_MAX_MS
    return plan_poll(t, max(w.poll_backoff(s["poll_failures"], limit, t.random), asked), "fallback")


def abort_poll(t: Turn) -> None:
    if poll := t.s["poll"]:
        t.actions.append({"type": "abort_poll", "poll": poll["number"]})
        on_poll_failed(t, {"poll": poll["number"], "status": None, "code": "timeout"})


def distrust(t: Turn) -> None:
    """The stream missed a beat, and a poll brought what it should have brought: no need to wait for a second."""
    if stream := t.s["stream"]:
        stream["doubt_at"] = t.now
    open_stream(t)


def on_doubt(t: Turn) -> None:
    ask_poll(t, "watchdog")
    open_stream(t)


# --- the page and the person
def wake(t: Turn, e: Event) -> None:
    s, now = t.s, t.now
    network_back = e["type"] == "online"
    s.update({"stream_failures": 0, "browser_offline": False})
    s["give_up_at"] = now + w.GIVE_UP_MS
    stream, until = s["stream"], now + w.WAKE_GRACE_MS
    if stream and stream["late_at"] is not None and stream["doubt_at"] is not None:
        stream["late_at"] = until if network_back else max(stream["late_at"], until)
        stream["doubt_at"] = until if network_back else max(stream["doubt_at"], until)
    if s["reopen_at"] is not None:
        s["reopen_at"] = now
    ask_poll(t, "wake")
    if network_back and not s["signed_out"]:
        open_stream(t, trusted=False)


def on_manual_check(t: Turn, _: Event) -> None:
    if t.s["reopen_at"] is not None:
        t.s["reopen_at"] = t.now
    ask_poll(t, "manual")


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
    "stream_error":      [(WATCHING, lambda t, e: lose_stream(t, w.stream_of(t.s, e)))],
    "poll_ok":           [(WATCHING, on_poll_answered)],
    "poll_not_modified": [(WATCHING, on_poll_answered)],
    "poll_failed":       [(WATCHING, on_poll_failed)],
    "told":              [(WATCHING, on_told)],  # the answer of another call, such as cancel
    "page_shown":        [(WATCHING, wake), WAKE_UP],
    "online":            [(WATCHING, wake), WAKE_UP],
    "offline":           [(WATCHING, lambda t, e: t.s.update({"browser_offline": True}))],
    "manual_check":      [(WATCHING, on_manual_check), (RESTING, lambda t, e: resume(t, "manual"))],
    "tick":              [(WATCHING, lambda t, e: None)],
}  # fmt: skip


#: What becomes due by the passing of time alone, in this order. Every deed moves its own due time.
DUE: list[tuple[Callable[[State], int | None], Callable[[Turn], object]]] = [
    (lambda s: s["give_up_at"], lambda t: end(t, "gave_up")),
    (lambda s: s["poll"] and s["poll"]["asked_at"] + w.POLL_TIMEOUT_MS, abort_poll),
    (lambda s: w.mute_until(s["stream"]), lambda t: lose_stream(t, t.s["stream"])),
    (lambda s: w.mute_until(s["spare"]), lambda t: lose_stream(t, t.s["spare"])),
    (lambda s: s["reopen_at"], open_stream),
    (lambda s: None if s["spare"] or s["reopen_at"] is not None or s["signed_out"] else w.doubt_at(s), on_doubt),
    (lambda s: w.unasked(s, w.late_at(s)), lambda t: ask_poll(t, "late")),
    (lambda s: None if s["poll"] else s["poll_at"], lambda t: ask_poll(t, t.s["poll_reason"])),
    # The stream may live and yet not speak of this job.
    (lambda s: w.unasked(s, w.silent_at(s)), lambda t: ask_poll(t, "watchdog")),
]
