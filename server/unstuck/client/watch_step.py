"""The moves of the watching policy: how one step can change the state, and the actions that follow.

It must not know which event or timer calls for a move, or a clock, randomness or the network.
Next: watchdog.py, which decides; watch_state.py; frontend/client/watch-step.js, the same in JavaScript.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from unstuck.client import watch_state as w
from unstuck.client.watch_state import PollReason, Standing, WatchAction, WatchEvent, WatchState, WatchStream


@dataclass(slots=True)
class Step:
    """One call of `watchdog.step`: the state being changed, and the actions decided so far."""

    state: WatchState
    now: int
    random: float
    actions: list[WatchAction] = field(default_factory=list)

    # --- beginning and ending

    def begin_watching(self) -> None:
        """Start watching, with every count of failures at zero."""
        state = self.state
        state.phase = "watching"
        state.give_up_at = self.now + w.GIVE_UP_MS
        state.stream_failures = 0
        state.poll_failures = 0
        state.failure = None
        state.polling = False
        state.not_found_answers = 0
        state.lower_seq_answers = 0
        state.signed_out = False
        state.browser_offline = False

    def end(self, phase: Literal["ended", "not_found", "gave_up"]) -> None:
        """Close every stream and poll, and report why the watch ended."""
        state = self.state
        if state.stream:
            self.close_stream(state.stream)
        if state.spare:
            self.close_stream(state.spare)
        if state.poll:
            self.actions.append({"type": "abort_poll", "poll": state.poll.number})
        state.phase = phase
        state.stream = None
        state.spare = None
        state.poll = None
        state.poll_at = None
        state.poll_wanted = None
        state.reopen_at = None
        minutes = w.round_half_up((self.now - state.started_at) / (60 * w.SECOND_MS))
        self.actions.append({"type": "end", "reason": phase, "elapsed_minutes": minutes})

    # --- the job

    def accept_job(self, job: Standing) -> None:
        """Hold this job, show it, and end the watch if it is done."""
        state = self.state
        state.seq = job["seq"]
        state.lower_seq_answers = 0
        asked = job.get("poll_after_ms")
        asked = w.POLL_AFTER_DEFAULT_MS if asked is None else asked
        state.poll_after_ms = min(w.POLL_AFTER_MAX_MS, max(w.POLL_AFTER_MIN_MS, asked))
        self.actions.append({"type": "show"})
        self.confirm()
        if job["done"]:
            state.done = True
            self.end("ended")

    def confirm(self) -> None:
        """Record that the state held is current: cancel the planned poll, and count failures from zero."""
        state = self.state
        state.confirmed_at = self.now
        state.give_up_at = self.now + w.GIVE_UP_MS
        state.poll_at = None
        state.poll_failures = 0
        state.failure = None
        state.not_found_answers = 0
        state.signed_out = False

    # --- streams

    def open_stream(self, even_if_live: bool = False) -> None:
        """Open a stream, as a spare if one is in use already.

        Do nothing while another has yet to send its first event, or while one is live, unless `even_if_live`.
        """
        state = self.state
        state.reopen_at = None
        live = w.is_live(state, self.now)
        awaits_event = state.stream is not None and state.stream.first_event_at is None
        if (live and not even_if_live) or state.spare or awaits_event:
            return
        stream = WatchStream(state.next_stream, requested_at=self.now, seq_at_request=state.seq)
        state.next_stream += 1
        if state.stream:
            state.spare = stream
        else:
            state.stream = stream
        self.actions.append({"type": "open_stream", "stream": stream.number})

    def close_stream(self, stream: WatchStream) -> None:
        self.actions.append({"type": "close_stream", "stream": stream.number})

    def touch_stream(self, event: WatchEvent) -> WatchStream | None:
        """Put the stream that sent an event in use, and return it; return None if it has been closed."""
        state, now = self.state, self.now
        stream = w.stream_of(state, event)
        if stream is None:
            return None
        if stream is state.spare:
            state.stream, state.spare = state.spare, state.stream
        if state.spare:
            self.close_stream(state.spare)
        if stream.opened_at is None:
            stream.opened_at = now
        if stream.first_event_at is None:
            stream.first_event_at = now
        spread = w.round_half_up(self.random * w.HEARTBEAT_SPREAD_MS)
        stream.late_at = now + stream.heartbeat_ms + w.HEARTBEAT_SLACK_MS + spread
        stream.suspect_at = stream.late_at + stream.heartbeat_ms + w.HEARTBEAT_SLACK_MS
        state.spare = None
        state.reopen_at = None
        state.polling = False
        state.signed_out = False
        return stream

    def lose_stream(self, lost: WatchStream | None) -> None:
        """Drop a stream that broke, was refused or never sent an event.

        Open another after a pause, and poll meanwhile.
        """
        state, now = self.state, self.now
        if lost is None:
            return
        self.close_stream(lost)
        was_in_use = lost is state.stream
        if was_in_use:
            state.stream = state.spare
        state.spare = None
        settled = lost.first_event_at is not None and now - lost.first_event_at >= w.STREAM_SETTLED_MS
        state.stream_failures = 1 if settled else state.stream_failures + 1
        none_requested = state.stream is None or state.stream.first_event_at is not None
        if none_requested and not state.signed_out:
            state.reopen_at = now + w.stream_pause(state, self.random)
        if was_in_use and state.poll_failures == 0:
            self.plan_poll(self.random * w.BREAK_SPREAD_MS, "fallback")

    def suspect_stream(self) -> None:
        """Suspect the late stream without waiting for a second missed heartbeat: a poll found what it missed."""
        if stream := self.state.stream:
            stream.suspect_at = self.now
        self.open_stream()

    # --- polls

    def request_poll(self, reason: PollReason) -> None:
        """Poll now, or as soon as the poll in flight has finished."""
        state = self.state
        state.poll_at = None
        if state.poll:
            state.poll_wanted = "manual" if state.poll_wanted == "manual" else reason
            return
        state.poll = w.WatchPoll(state.next_poll, reason, requested_at=self.now)
        state.next_poll += 1
        self.actions.append({"type": "poll", "poll": state.poll.number, "reason": reason})

    def plan_poll(self, delay_ms: float, reason: PollReason) -> None:
        """Plan a poll after a delay, unless one is in flight or planned for sooner."""
        state = self.state
        at = w.round_half_up(self.now + delay_ms)
        if state.poll or (state.poll_at is not None and state.poll_at <= at):
            return
        state.poll_at = at
        state.poll_reason = reason

    def finish_poll(self) -> PollReason | None:
        """Clear the poll in flight, and return the reason for another if one was requested meanwhile."""
        wanted = self.state.poll_wanted
        self.state.poll = None
        self.state.poll_wanted = None
        return wanted
