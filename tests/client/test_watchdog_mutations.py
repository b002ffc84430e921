"""Removes one duty after another from the policy; each time, some script of tests/vectors must fail.

So the scripts cover every duty of PROTOCOL.md, section 5, whatever the code looks like. A mutation names a
constant, a timer, a handler, or an expression in a function, which must be found there exactly once.
Next: tests/vectors; `python -m tests.client.test_watchdog_mutations` prints which script notices which mutation.
"""

# ruff: noqa: E501 – one row, one line: a table is read across

from __future__ import annotations

import ast
import copy
import functools
import importlib
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import unstuck.client
from tests.client.vectors import play, scripts

#: The policy's modules, in the order of their imports.
MODULES = ("watch_state", "watch_step", "watchdog")
Trees = dict[str, ast.Module]


@dataclass(frozen=True)
class Constant:
    """Give the module-level constant `name` another value."""

    name: str
    value: int

    def apply(self, trees: Trees) -> None:
        def is_it(node: ast.AST) -> bool:
            return isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == self.name

        assignment = the_only([node for tree in trees.values() for node in tree.body if is_it(node)], self)
        assignment.value = ast.Constant(self.value)


@dataclass(frozen=True)
class NoTimer:
    """Remove the row for this deadline from TIMERS."""

    deadline: str

    def apply(self, trees: Trees) -> None:
        rows = table(trees, "TIMERS").elts
        rows.remove(the_only([row for row in rows if ast.unparse(row.elts[0]) == f"w.{self.deadline}"], self))


@dataclass(frozen=True)
class NoHandler:
    """Make HANDLERS ignore this event in this phase."""

    event: str
    phase: str

    def apply(self, trees: Trees) -> None:
        phases = handlers_of(trees, self.event, self)
        place = the_only([at for at, key in enumerate(phases.keys) if ast.literal_eval(key) == self.phase], self)
        del phases.keys[place], phases.values[place]


@dataclass(frozen=True)
class MoreHandler:
    """Make HANDLERS handle this event in one more phase, as while watching."""

    event: str
    phase: str

    def apply(self, trees: Trees) -> None:
        phases = handlers_of(trees, self.event, self)
        phases.keys.append(ast.Constant(self.phase))
        phases.values.append(phases.values[0])


@dataclass(frozen=True)
class Change:
    """Replace `code` (one expression or statement) in a function, or in a method of Step."""

    function: str
    code: str
    instead: str = "pass"

    def apply(self, trees: Trees) -> None:
        bodies = [tree.body for tree in trees.values()]
        bodies += [node.body for body in bodies for node in body if isinstance(node, ast.ClassDef)]
        functions = [node for body in bodies for node in body if isinstance(node, ast.FunctionDef)]
        function = the_only([node for node in functions if node.name == self.function], self)
        old, new = the_only(ast.parse(self.code).body, self), ast.parse(self.instead).body
        if isinstance(old, ast.Expr) and isinstance(new[0], ast.Expr):
            Replace(old.value, new[0].value, self).visit(function)
        else:
            Replace(old, new, self).visit(function)


class Replace(ast.NodeTransformer):
    """Replaces the one node that equals `old`, however it is formatted."""

    def __init__(self, old: ast.AST, new: Any, mutation: object) -> None:
        self.old, self.new, self.mutation, self.found = ast.dump(old), new, mutation, 0

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        self.generic_visit(node)
        assert self.found == 1, f"{self.mutation}: found {self.found} times"
        return node

    def generic_visit(self, node: ast.AST) -> Any:
        if ast.dump(node) == self.old:
            self.found += 1
            return self.new
        return super().generic_visit(node)


Mutation = Constant | NoTimer | NoHandler | MoreHandler | Change

#: {the duty that is lost: the mutation that removes it}
LOST: dict[str, Mutation] = {
    # a stream (re)opens
    "no catch-up poll when a stream opens": Change("on_stream_open", 'step.request_poll("reconnect")'),
    "no first poll while the first stream is slow": Change("on_start", 'step.plan_poll(w.FIRST_POLL_MS, "fallback")'),
    "a poll that never answers is waited for": NoTimer("poll_timeout_at"),
    # no first byte
    "a mute stream is waited for": NoTimer("stream_timeout_at"),
    "a mute spare is waited for": NoTimer("spare_timeout_at"),
    "an open stream counts as if it had sent an event": Change("first_event_due_at", "stream.first_event_at is not None", "stream.opened_at is not None"),
    "slow headers are charged to the events": Change("first_event_due_at", "stream.requested_at if stream.opened_at is None else stream.opened_at", "stream.requested_at"),
    # a heartbeat shows a higher seq
    "a higher seq in a heartbeat is ignored": Change("on_heartbeat", 'step.request_poll("behind")'),
    "every heartbeat polls": Change("on_heartbeat", 'event["seq"] > step.state.seq', 'event["seq"] >= step.state.seq'),
    # a heartbeat missed
    "a missed heartbeat does not poll": NoTimer("late_poll_at"),
    "a missed heartbeat polls again and again": Change("poll_needed_at", "state.confirmed_at is not None and state.confirmed_at >= at", "False"),
    "a missed heartbeat adds polls to failing ones": Change("poll_needed_at", "state.poll or state.poll_at is not None or at is None", "state.poll or at is None"),
    "a change that the stream did not bring opens no spare": Change("on_poll_answered", "step.suspect_stream()"),
    "a change that any poll brings opens a spare": Change("on_poll_answered", "w.is_late(state, step.now)", "w.is_live(state, step.now)"),
    "an old answer to a missed heartbeat opens a spare": Change("on_poll_answered", 'job["seq"] > state.seq and w.is_late(state, step.now)', "w.is_late(state, step.now)"),
    "not modified after a missed heartbeat opens a spare": Change("on_poll_answered", "stream_missed_it = False", "stream_missed_it = w.is_late(state, step.now)"),
    "a stream proven dead counts as live": Change("suspect_stream", "if stream := self.state.stream:\n    stream.suspect_at = self.now", "self.open_stream(even_if_live=True)"),
    "the interval that a heartbeat promises is ignored": Change("on_heartbeat", 'w.heartbeat_interval(event.get("next_ms"))', "w.HEARTBEAT_DEFAULT_MS"),
    "the interval of an earlier heartbeat stays in force": Change("on_heartbeat", 'w.heartbeat_interval(event.get("next_ms"))', 'w.heartbeat_interval(event["next_ms"]) if event.get("next_ms") else stream.heartbeat_ms'),
    "a heartbeat may promise an interval of zero": Constant("HEARTBEAT_MIN_MS", 0),
    "a heartbeat may promise an endless interval": Constant("HEARTBEAT_MAX_MS", 10**12),
    "all clients that miss a heartbeat poll at the same moment": Change("touch_stream", "self.random", "0.5"),
    "after a wake-up a missed heartbeat counts at once": Change("wake", "stream.late_at = grace_ends_at if network_back else max(stream.late_at, grace_ends_at)"),
    # two heartbeats missed
    "a silent stream is never suspected": NoTimer("replace_stream_at"),
    "a suspected stream does not poll": Change("replace_stream", 'step.request_poll("watchdog")'),
    "a suspected stream gets no spare": Change("replace_stream", "step.open_stream()"),
    "break before make": Change("open_stream", "state.spare = stream", "self.close_stream(state.stream)\nstate.stream = stream"),
    "one missed heartbeat is enough": Change("touch_stream", "stream.late_at + stream.heartbeat_ms + w.HEARTBEAT_SLACK_MS", "stream.late_at"),
    "three missed heartbeats are needed": Change("touch_stream", "stream.late_at + stream.heartbeat_ms + w.HEARTBEAT_SLACK_MS", "stream.late_at + 2 * stream.heartbeat_ms + w.HEARTBEAT_SLACK_MS"),
    "the old stream is forgotten, not closed": Change("touch_stream", "self.close_stream(state.spare)"),
    "a spare cannot take over": Change("touch_stream", "if stream is state.spare:\n    state.stream, state.spare = state.spare, state.stream"),
    "a spare is lost with the old stream": Change("lose_stream", "state.stream = state.spare", "state.stream = None"),
    # nothing received about the job for the silence limit
    "a stream that never mentions the job is trusted": NoTimer("silence_poll_at"),
    "heartbeats that do not name the job confirm it": Change("on_heartbeat", 'step.touch_stream(event) is None or event["seq"] is None', 'step.touch_stream(event) is None or (event["seq"] is None and (step.confirm() or True))'),
    "heartbeats that name the job confirm nothing": Change("on_heartbeat", "step.confirm()"),
    "silence is found after five minutes": Constant("SILENCE_LIMIT_MS", 300_000),
    "timers are set too far ahead": Constant("CHECK_EVERY_MS", 10**12),
    "silence polls have no back-off": Change("silence_poll_at", "poll_needed_at(state, silent_since + SILENCE_LIMIT_MS)", "None if state.poll else silent_since + SILENCE_LIMIT_MS"),
    # a stream is refused or breaks
    "a broken stream is not followed by a poll": Change("lose_stream", 'self.plan_poll(self.random * w.BREAK_SPREAD_MS, "fallback")'),
    "a broken stream is not reopened after a pause": Change("lose_stream", "state.reopen_at = now + w.stream_pause(state, self.random)"),
    "in an outage streams are opened as often as before": Change("stream_pause", "last_poll_unanswered(state)", "False"),
    "in an outage all streams are opened at the same time": Change("stream_pause", "0.75 + random / 4", "1"),
    "a stream still waits after the server is back": Change("on_poll_answered", "w.last_poll_unanswered(state)", "False"),
    "any trouble that ends brings the stream back at once": Change("on_poll_answered", "w.last_poll_unanswered(state)", "state.poll_failures > 0"),
    "a missing stream is not restored": Change("ensure_retry_planned", "state.reopen_at = now"),
    "pauses between streams do not grow": Change("stream_backoff", "2 ** min(failures, 10)", "2"),
    "pauses between streams grow forever": Constant("STREAM_BACKOFF_MAX_MS", 10**12),
    "no jitter between streams": Change("stream_backoff", "random", "1"),
    "no spread of the polls after a break": Change("lose_stream", "self.random * w.BREAK_SPREAD_MS", "w.BREAK_SPREAD_MS"),
    "a stream that lasted does not reset the back-off": Change("lose_stream", "1 if settled else state.stream_failures + 1", "state.stream_failures + 1"),
    "any event resets the back-off": Constant("STREAM_SETTLED_MS", 0),
    "no polls while there is no stream": Change("ensure_retry_planned", 'step.plan_poll(state.poll_after_ms, "fallback")'),
    "the server's pace is not kept": Change("ensure_retry_planned", "state.poll_after_ms", "w.POLL_AFTER_DEFAULT_MS"),
    "the server's pace has no upper bound": Constant("POLL_AFTER_MAX_MS", 10**12),
    "the server's pace has no lower bound": Constant("POLL_AFTER_MIN_MS", 0),
    "polls continue beside a live stream": Change("ensure_retry_planned", "not w.is_live(state, now)", "True"),
    "a planned poll survives a confirmation": Change("confirm", "state.poll_at = None"),
    "leaving is an error like any other": Change("on_leaving", "retry_ms * (1 + step.random)", "500"),
    "after leaving, all clients come back at once": Change("on_leaving", "retry_ms * (1 + step.random)", "retry_ms"),
    "after leaving, all clients poll at once": Change(
        "on_leaving", "step.random * (step.state.poll_after_ms - w.POLL_AFTER_MIN_MS)", "step.state.poll_after_ms"
    ),
    "leaving may ask for an endless pause": Constant("LEAVING_MAX_MS", 10**15),
    "leaving may ask for no pause": Change("on_leaving", 'max(w.STREAM_BACKOFF_MIN_MS, event["retry_ms"] or 0)', 'event["retry_ms"] or 0'),
    # page shown, network back, sleep
    "a page shown again does not poll": NoHandler("page_shown", "watching"),
    "the network's return does not poll": NoHandler("online", "watching"),
    "the network's return does not reopen": Change("wake", "state.reopen_at = now"),
    "sleep is not noticed": Change("step", "state.wake_at is not None and now_ms > state.wake_at + w.TIMER_LATE_MAX_MS", "False"),
    "a late timer of a hidden page is taken for sleep": Constant("TIMER_LATE_MAX_MS", 20_000),
    "a stream is suspected right after a sleep": Change("wake", "max(stream.suspect_at, grace_ends_at)", "stream.suspect_at"),
    "waking shortens a stream's life": Change("wake", "max(stream.suspect_at, grace_ends_at)", "grace_ends_at"),
    "waking proves that the stream is live": Constant("WAKE_GRACE_MS", 10**6),
    "a stream from before the network came back is trusted": Change("wake", "grace_ends_at if network_back else max(stream.suspect_at, grace_ends_at)", "max(stream.suspect_at, grace_ends_at)"),
    "the network's return opens no spare": Change("wake", "step.open_stream(even_if_live=True)"),
    "the network's return opens a stream while signed out": Change("wake", "network_back and not state.signed_out", "network_back"),
    "a spare waits until the stream is suspected": Change("wake", "step.open_stream(even_if_live=True)", "step.open_stream()"),
    # the status cannot be had
    "a failed poll is not repeated": Change("on_poll_failed", 'step.plan_poll(max(pause, asked), "fallback")'),
    "a failed poll is not repeated while a stream is live": Change("on_poll_failed", 'step.plan_poll(max(pause, asked), "fallback")', 'w.is_live(state, step.now) or step.plan_poll(max(pause, asked), "fallback")'),
    "failed polls are repeated at a constant pace": Change("backoff", "2 ** min(failures - 1, 10)", "1"),
    "pauses between polls grow forever": Constant("BACKOFF_MAX_MS", 10**12),
    "no jitter between polls": Change("backoff", "0.75 + random / 4", "1"),
    "trouble is not shown": Change("link_of", "state.browser_offline or state.poll_failures > 0", "state.browser_offline"),
    "Retry-After is ignored": Change("on_poll_failed", 'event.get("retry_after_ms") or 0', "0"),
    "Retry-After may ask for an endless pause": Constant("RETRY_AFTER_MAX_MS", 10**12),
    "Retry-After may shorten the pause": Change("on_poll_failed", "max(pause, asked)", "asked or pause"),
    "an answer does not end the back-off": Change("confirm", "state.poll_failures = 0"),
    # 404
    "a job that is not found is polled forever": Change("on_poll_failed", 'code in ("job_not_found", "invalid_job_id")', "False"),
    "an invalid id is polled forever": Change("on_poll_failed", 'code in ("job_not_found", "invalid_job_id")', 'code == "job_not_found"'),
    "gone is ignored": Change("on_gone", 'step.end("not_found")'),
    "a single 404 of a proxy is believed": Constant("NOT_FOUND_ANSWERS", 1),
    "a 404 of a proxy is never shown": Change("on_poll_failed", "state.not_found_answers += 1"),
    "no way back from not found": NoHandler("manual_check", "not_found"),
    # 401, 403
    "signed out is not noticed": Change("on_poll_failed", "state.signed_out = status in (401, 403)"),
    "a 403 counts as a temporary failure": Change("on_poll_failed", "status in (401, 403)", "status == 401"),
    "streams are opened while signed out": Change("ensure_retry_planned", "state.stream is None and state.reopen_at is None and not state.signed_out", "state.stream is None and state.reopen_at is None"),
    "a refused stream is reopened while signed out": Change("lose_stream", "none_requested and not state.signed_out", "none_requested"),
    "a planned stream is opened while signed out": Change("on_poll_failed", "state.reopen_at = None"),
    "a suspected stream gets spares while signed out": Change("replace_stream_at", "state.spare or state.reopen_at is not None or state.signed_out", "state.spare or state.reopen_at is not None"),
    "signed out is polled as often as any trouble": Constant("SIGNED_OUT_PAUSE_MS", 10_000),
    "signed out is never left": Change("confirm", "state.signed_out = False"),
    # the overall limit
    "never gives up": NoTimer("give_up_at"),
    "a confirmation does not move the limit": Change("confirm", "state.give_up_at = self.now + w.GIVE_UP_MS"),
    "time asleep counts towards the limit": Change("wake", "state.give_up_at = now + w.GIVE_UP_MS"),
    "giving up is not reported": Change("end", 'self.actions.append({"type": "end", "reason": phase, "elapsed_minutes": minutes})'),
    "after giving up, showing the page changes nothing": NoHandler("page_shown", "gave_up"),
    "after giving up, the network's return changes nothing": NoHandler("online", "gave_up"),
    "after giving up, a manual check changes nothing": NoHandler("manual_check", "gave_up"),
    "the minutes round half to even": Change("round_half_up", "return whole + (x - whole >= 0.5)", "return round(x)"),
    # done
    "done does not end the watch": Change("accept_job", 'self.end("ended")'),
    "the end leaves the stream open": Change("end", "self.close_stream(state.stream)"),
    "the end leaves the spare open": Change("end", "self.close_stream(state.spare)"),
    "the end leaves the poll in flight": Change("end", 'self.actions.append({"type": "abort_poll", "poll": state.poll.number})'),
    "the end leaves the timer set": Change("run_timers", "state.wake_at = None"),
    "the end can be undone": MoreHandler("job_answered", "ended"),
    # the truth
    "a lower seq of a stream is believed": Change("on_job", 'first_and_nothing_newer or job["seq"] >= seq or job["done"]', "True"),
    "the first job of a connection is not believed": Change("on_job", 'first_and_nothing_newer or job["seq"] >= seq or job["done"]', 'job["seq"] >= seq or job["done"]'),
    "the first job of a connection replaces a newer one": Change("on_job", "stream.seq_at_request == seq", "stream.seq_at_request is not None"),
    "a lower seq of a poll is believed": Constant("LOWER_SEQ_ANSWERS", 1),
    "a lower seq of a poll is never believed": Change("on_poll_answered", "state.lower_seq_answers += 1"),
    "lower answers need not be consecutive": Change("accept_job", "state.lower_seq_answers = 0"),
    "a final answer with a lower seq is not believed": Change("on_poll_answered", 'job["seq"] >= state.seq or job["done"] or state.lower_seq_answers >= w.LOWER_SEQ_ANSWERS', 'job["seq"] >= state.seq or state.lower_seq_answers >= w.LOWER_SEQ_ANSWERS'),
    "the answer of another call is ignored": Change("on_job_answered", 'step.accept_job(event["job"])'),
    "events of a closed stream are believed": Change("touch_stream", "w.stream_of(state, event)", "w.stream_of(state, event) or state.stream"),
    "the answer of an aborted poll is believed": Change("is_in_flight", 'state.poll is not None and state.poll.number == event["poll"]', "True"),
    "not modified confirms nothing": Change("on_poll_answered", "step.confirm()"),
    # patience
    "two polls in flight": Change("request_poll", "if state.poll:\n    state.poll_wanted = 'manual' if state.poll_wanted == 'manual' else reason\n    return"),
    "a poll requested during another is forgotten": Change("on_poll_answered", "step.request_poll(wanted)"),
    "a poll requested during a failing one is forgotten": Change("on_poll_failed", "step.request_poll(wanted)", 'step.plan_poll(w.BACKOFF_MIN_MS, "fallback")'),
    "a manual check is forgotten for another reason": Change("request_poll", "'manual' if state.poll_wanted == 'manual' else reason", "reason"),
    "polls are aborted after five seconds": Constant("TIMEOUT_MS", 5_000),
    "a server that does not answer is polled as seldom as one in trouble": Change("on_poll_failed", "status is None", "False"),
    "a server in trouble is polled as often as one that does not answer": Change("on_poll_failed", "status is None", "True"),
}  # fmt: skip


def the_only(found: list[Any], mutation: object) -> Any:
    """Return the only element; fail if what a mutation names does not exist, or exists twice."""
    assert len(found) == 1, f"{mutation}: found {len(found)} times"
    return found[0]


def table(trees: Trees, name: str) -> Any:
    """Return the literal that is assigned to this table in watchdog.py."""
    assignments = [node for node in trees["watchdog"].body if isinstance(node, ast.AnnAssign)]
    return the_only([node.value for node in assignments if ast.unparse(node.target) == name], name)


def handlers_of(trees: Trees, event: str, mutation: object) -> Any:
    """Return the phases of an event in HANDLERS, with their handlers."""
    handlers = table(trees, "HANDLERS")
    rows = zip(handlers.keys, handlers.values, strict=True)
    return the_only([phases for key, phases in rows if ast.literal_eval(key) == event], mutation)


@functools.cache
def source_trees() -> Trees:
    paths = {name: importlib.import_module(f"unstuck.client.{name}").__file__ for name in MODULES}
    return {name: ast.parse(Path(str(path)).read_text()) for name, path in paths.items()}


def mutated(mutation: Mutation) -> tuple[Callable[[], Any], Any]:
    """Return (WatchState, step) of a policy with this mutation; the policy itself is left alone."""
    trees = copy.deepcopy(source_trees())
    mutation.apply(trees)
    modules = {name: types.ModuleType(f"unstuck.client.{name}") for name in MODULES}
    with pytest.MonkeyPatch.context() as patch:
        for name, module in modules.items():
            patch.setitem(sys.modules, module.__name__, module)
            patch.setattr(unstuck.client, name, module)
            exec(compile(ast.fix_missing_locations(trees[name]), name, "exec"), vars(module))
    return modules["watch_state"].WatchState, modules["watchdog"].step


def noticed_by(mutation: Mutation) -> str | None:
    """Return the name of the first script that fails with this mutation, or None."""
    new_state, step = mutated(mutation)
    for script in scripts():
        if play(script, new_state(), step) is not None:
            return str(script["name"])
    return None


@pytest.mark.parametrize("lost", LOST)
def test_a_script_notices(lost: str) -> None:
    script = noticed_by(LOST[lost])
    print(f"{lost}: noticed by “{script}”")
    assert script is not None, f"no script fails although {lost}"


@pytest.mark.parametrize(
    "mutation",
    [
        Constant("NO_SUCH_MS", 1),
        NoTimer("no_such_at"),
        NoHandler("no_such_event", "watching"),
        NoHandler("items", "no_such_phase"),
        MoreHandler("no_such_event", "ended"),
        Change("no_such_function", "state.poll"),
        Change("request_poll", "no_such_name"),
    ],
    ids=repr,
)
def test_a_mutation_of_what_does_not_exist_fails_loudly(mutation: Mutation) -> None:
    with pytest.raises(AssertionError, match="found 0 times"):
        mutated(mutation)


if __name__ == "__main__":
    for lost, mutation in LOST.items():
        print(f"{lost:70} {noticed_by(mutation) or '— NOT NOTICED'}")
