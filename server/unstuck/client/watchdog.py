"""Decides what a client that watches a job does next: section 5 of PROTOCOL.md as a state machine.

It must not know a clock, randomness or the network: (state, event, now_ms, random 0..1) → (state, actions).
Next: frontend/client/watchdog.js, the same in JavaScript, with the rules in prose; watch_step.py; tests/vectors.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

from unstuck.client import watch_state as w
from unstuck.client.watch_state import PollReason, WatchAction, WatchEvent, WatchState
from unstuck.client.watch_step import Step


def step(state: WatchState, event: WatchEvent, now_ms: int, random: float) -> tuple[WatchState, list[WatchAction]]:
    """Return the next state and the actions that follow from an event; `state` itself does not change.

    Raises ValueError for an unknown event type.
    """
    handlers = HANDLERS.get(event["type"])
    if handlers is None:
        raise ValueError(f"watchdog: unknown event '{event['type']}'; the events are {', '.join(HANDLERS)}")
    after = copy.copy(state)
    after.stream, after.spare = copy.copy(state.stream), copy.copy(state.spare)
    current = Step(after, now_ms, random)
    handler = handlers.get(state.phase)
    slept = state.wake_at is not None and now_ms > state.wake_at + w.TIMER_LATE_MAX_MS
    if handler is not None:
        handler(current, event)
    if slept and handler is not wake and after.phase == "watching":
        wake(current, event)  # any event may be the first after a sleep
    run_timers(current)
    if after.wake_at != state.wake_at:
        current.actions.append({"type": "wake_at", "at_ms": after.wake_at})
    return after, current.actions


def run_timers(step: Step) -> None:
    """Run the timers that are due, and set the time of the next one."""
    state, now = step.state, step.now
    for _ in range(5):  # a timer's handler may make another timer due
        ensure_retry_planned(step)
        ran = False
        for due, handler in TIMERS:
            at = due(state) if state.phase == "watching" else None
            if at is not None and at <= now:
                handler(step)
                ran = True
        if not ran:
            break
    state.link = w.link_of(state, now)
    if state.phase == "watching":
        dues = [at for due, _ in TIMERS if (at := due(state)) is not None]
        state.wake_at = max(now + 1, min(now + w.CHECK_EVERY_MS, *dues))
    else:
        state.wake_at = None


def ensure_retry_planned(step: Step) -> None:
    """Rule 1: plan a stream if there is none, and a poll if no stream is live."""
    state, now = step.state, step.now
    if state.phase != "watching":
        return
    if state.stream is None and state.reopen_at is None and not state.signed_out:
        state.reopen_at = now
    if not w.is_live(state, now) and state.poll is None and state.poll_at is None:
        step.plan_poll(state.poll_after_ms, "fallback")


# --- beginning and ending
def on_start(step: Step, event: WatchEvent) -> None:
    """Start watching; `job` is one that the caller already holds, such as the answer to its submission."""
    step.state.started_at = step.now
    step.begin_watching()
    if event.get("job"):
        step.accept_job(event["job"])
    if step.state.done:
        return
    step.open_stream()
    step.plan_poll(w.FIRST_POLL_MS, "fallback")


def on_job_answered(step: Step, event: WatchEvent) -> None:
    """Accept the job from the answer to another request, such as a cancel."""
    if event["job"]["seq"] >= step.state.seq or event["job"]["done"]:
        step.accept_job(event["job"])


def resume_on_wake(step: Step, _: WatchEvent) -> None:
    resume(step, "wake")


def resume_on_request(step: Step, _: WatchEvent) -> None:
    resume(step, "manual")


def resume(step: Step, reason: PollReason) -> None:
    """Watch again after the watch ended before the job was done."""
    step.begin_watching()
    step.open_stream()
    step.request_poll(reason)


def give_up(step: Step) -> None:
    step.end("gave_up")


# --- streams
def on_stream_open(step: Step, event: WatchEvent) -> None:
    if stream := w.stream_of(step.state, event):
        stream.opened_at = step.now
        step.request_poll("reconnect")


def on_job(step: Step, event: WatchEvent) -> None:
    stream = step.touch_stream(event)
    if stream is None:
        return
    job, seq = event["job"], step.state.seq
    first_and_nothing_newer = stream.seq_at_request == seq
    stream.seq_at_request = None
    if first_and_nothing_newer or job["seq"] >= seq or job["done"]:  # rule 2
        step.accept_job(job)


def on_items(step: Step, event: WatchEvent) -> None:
    step.touch_stream(event)


def on_heartbeat(step: Step, event: WatchEvent) -> None:
    """Note that the stream is alive, and poll if it is behind.

    `seq` is this job's, or None if the heartbeat does not name the job; `next_ms`, if present, is the time until
    the next heartbeat.
    """
    if stream := w.stream_of(step.state, event):
        stream.heartbeat_ms = w.heartbeat_interval(event.get("next_ms"))
    if step.touch_stream(event) is None or event["seq"] is None:
        return
    step.confirm()
    if event["seq"] > step.state.seq:
        step.request_poll("behind")


def on_leaving(step: Step, event: WatchEvent) -> None:
    """Close the stream as the server asks, and reopen it after `retry_ms`, spread to twice that.

    The first poll meanwhile is spread too: all viewers of that server plan one at this moment.
    """
    stream = step.touch_stream(event)
    if stream is None:
        return
    step.close_stream(stream)
    retry_ms = min(w.LEAVING_MAX_MS, max(w.STREAM_BACKOFF_MIN_MS, event["retry_ms"] or 0))
    step.state.stream = None
    step.state.stream_failures = 0
    step.state.reopen_at = w.round_half_up(step.now + retry_ms * (1 + step.random))
    spread_ms = step.random * (step.state.poll_after_ms - w.POLL_AFTER_MIN_MS)
    step.plan_poll(w.POLL_AFTER_MIN_MS + spread_ms, "fallback")


def on_gone(step: Step, event: WatchEvent) -> None:
    if step.touch_stream(event):
        step.end("not_found")


def on_stream_error(step: Step, event: WatchEvent) -> None:
    step.lose_stream(w.stream_of(step.state, event))


def lose_mute_stream(step: Step) -> None:
    step.lose_stream(step.state.stream)


def lose_mute_spare(step: Step) -> None:
    step.lose_stream(step.state.spare)


def reopen_stream(step: Step) -> None:
    step.open_stream()


def replace_stream(step: Step) -> None:
    """Poll and open a spare, because the stream in use has missed two heartbeats."""
    step.request_poll("watchdog")
    step.open_stream()


# --- polls
def on_poll_answered(step: Step, event: WatchEvent) -> None:
    """Accept what a poll found; the event has no `job` if nothing was modified."""
    state = step.state
    if not w.is_in_flight(state, event):
        return
    wanted = step.finish_poll()
    if w.last_poll_unanswered(state) and state.reopen_at is not None:
        state.reopen_at = step.now  # the network is back
    stream_missed_it = False
    if job := event.get("job"):
        stream_missed_it = job["seq"] > state.seq and w.is_late(state, step.now)
        if job["seq"] < state.seq:
            state.lower_seq_answers += 1
        if job["seq"] >= state.seq or job["done"] or state.lower_seq_answers >= w.LOWER_SEQ_ANSWERS:  # rule 2
            step.accept_job(job)
    if state.phase != "watching":
        return
    if stream_missed_it:
        step.suspect_stream()
    state.polling = not w.is_live(state, step.now)
    step.confirm()
    if wanted:
        step.request_poll(wanted)


def on_poll_failed(step: Step, event: WatchEvent) -> None:
    """Plan the next poll after a failed one, or end the watch if the job does not exist.

    `status` is None if there was no answer; `code` and `retry_after_ms` may be missing.
    """
    state = step.state
    if not w.is_in_flight(state, event):
        return
    wanted = step.finish_poll()
    status, code = event["status"], event.get("code")
    state.failure = w.WatchFailure(status, code)
    if code in ("job_not_found", "invalid_job_id"):
        step.end("not_found")
        return
    if status in (404, 410):
        state.not_found_answers += 1
    state.signed_out = status in (401, 403)
    state.poll_failures += 1
    if state.signed_out:
        state.reopen_at = None
    if wanted:
        step.request_poll(wanted)
    elif state.signed_out:
        step.plan_poll(w.SIGNED_OUT_PAUSE_MS, "fallback")
    else:
        limit = w.BACKOFF_UNANSWERED_MS if status is None else w.BACKOFF_MAX_MS
        pause = w.backoff(state.poll_failures, limit, step.random)
        asked = min(w.RETRY_AFTER_MAX_MS, event.get("retry_after_ms") or 0)
        step.plan_poll(max(pause, asked), "fallback")


def abort_poll(step: Step) -> None:
    if poll := step.state.poll:
        step.actions.append({"type": "abort_poll", "poll": poll.number})
        on_poll_failed(step, {"poll": poll.number, "status": None, "code": "timeout"})


def poll_late(step: Step) -> None:
    step.request_poll("late")


def poll_as_planned(step: Step) -> None:
    step.request_poll(step.state.poll_reason)


def poll_silence(step: Step) -> None:
    """Poll after a long silence, because even a live stream may never mention this job."""
    step.request_poll("watchdog")


# --- the page and the user
def wake(step: Step, event: WatchEvent) -> None:
    """Rule 7: check everything after the page was shown, the network came back, or the machine slept."""
    state, now = step.state, step.now
    network_back = event["type"] == "online"
    state.stream_failures = 0
    state.browser_offline = False
    state.give_up_at = now + w.GIVE_UP_MS
    stream, grace_ends_at = state.stream, now + w.WAKE_GRACE_MS
    if stream and stream.late_at is not None and stream.suspect_at is not None:
        stream.late_at = grace_ends_at if network_back else max(stream.late_at, grace_ends_at)
        stream.suspect_at = grace_ends_at if network_back else max(stream.suspect_at, grace_ends_at)
    if state.reopen_at is not None:
        state.reopen_at = now
    step.request_poll("wake")
    if network_back and not state.signed_out:
        step.open_stream(even_if_live=True)


def on_offline(step: Step, _: WatchEvent) -> None:
    step.state.browser_offline = True


def on_manual_check(step: Step, _: WatchEvent) -> None:
    if step.state.reopen_at is not None:
        step.state.reopen_at = step.now
    step.request_poll("manual")


# --- the tables
#: Event → phase → handler. In a phase that is not listed the event is ignored.
HANDLERS: dict[str, dict[str, Callable[[Step, WatchEvent], None]]] = {
    "start": {"new": on_start},
    "stream_open": {"watching": on_stream_open},
    "job": {"watching": on_job},
    "items": {"watching": on_items},
    "heartbeat": {"watching": on_heartbeat},
    "leaving": {"watching": on_leaving},
    "gone": {"watching": on_gone},
    "stream_error": {"watching": on_stream_error},
    "poll_ok": {"watching": on_poll_answered},
    "poll_not_modified": {"watching": on_poll_answered},
    "poll_failed": {"watching": on_poll_failed},
    "job_answered": {"watching": on_job_answered},
    "page_shown": {"watching": wake, "gave_up": resume_on_wake},
    "online": {"watching": wake, "gave_up": resume_on_wake},
    "offline": {"watching": on_offline},
    "manual_check": {"watching": on_manual_check, "gave_up": resume_on_request, "not_found": resume_on_request},
    "tick": {},  # runs the timers only
}

#: Deadline and handler, in the order in which they run. Every handler moves its own deadline.
TIMERS: list[tuple[Callable[[WatchState], int | None], Callable[[Step], None]]] = [
    (w.give_up_at, give_up),
    (w.poll_timeout_at, abort_poll),
    (w.stream_timeout_at, lose_mute_stream),
    (w.spare_timeout_at, lose_mute_spare),
    (w.reopen_at, reopen_stream),
    (w.replace_stream_at, replace_stream),
    (w.late_poll_at, poll_late),
    (w.planned_poll_at, poll_as_planned),
    (w.silence_poll_at, poll_silence),
]
