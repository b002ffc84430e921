"""Takes one duty after the other out of the policy; each time some script of tests/vectors must fail.

So the scripts hold every duty of PROTOCOL.md, section 5, and not only the code as it happens to be. The list
can be read: `python -m tests.client.test_watchdog_mutations`.
"""

# ruff: noqa: E501 – one row, one line: a table is read across

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import pytest

from tests.client.vectors import play, scripts
from unstuck.client import watch_state as watch
from unstuck.client import watchdog

#: What is lost, the text that stands in watchdog.py or watch.py exactly once, what stands there instead.
LOST: list[tuple[str, str, str]] = [
    # a stream (re)opens
    ("no catch-up poll when a stream opens", 'ask_poll(t, "reconnect")', "pass"),
    ("no first poll while the first stream is slow", "    plan_poll(t, w.FIRST_POLL_MS", "    0 and plan_poll(t, w.FIRST_POLL_MS"),
    ("a poll that never answers is waited for", '+ w.POLL_TIMEOUT_MS, abort_poll', "+ 10**9, abort_poll"),
    # no first byte
    ("a mute stream is waited for", 'mute_until(s["stream"])', "mute_until(None)"),
    ("a mute spare is waited for", 'mute_until(s["spare"])', "mute_until(None)"),
    ("an open stream counts as one that has spoken", 'if stream is None or stream["spoke_at"] is not None:', 'if stream is None or stream["opened_at"] is not None:'),
    ("slow headers are charged to the events", '(stream["asked_at"] if stream["opened_at"] is None else stream["opened_at"])', 'stream["asked_at"]'),
    # a heartbeat shows a higher seq
    ("a higher seq in a beat is ignored", 'ask_poll(t, "behind")', "pass"),
    ("every beat asks", 'if e["seq"] > t.s["seq"]', 'if e["seq"] >= t.s["seq"]'),
    # a heartbeat missed
    ("a missed beat is not asked about", "w.unasked(s, w.late_at(s))", "None"),
    ("a missed beat is asked about again and again", 's["news_at"] is not None and s["news_at"] >= at', "False"),
    ("a missed beat adds polls to those that fail", 'if s["poll"] or s["poll_at"] is not None or at is None:', 'if s["poll"] or at is None:'),
    ("news that the stream did not bring opens no spare", "    if silent:\n        distrust(t)\n", ""),
    ("news of any poll opens a spare", 'job["seq"] > s["seq"] and w.late(s, t.now)', 'job["seq"] > s["seq"] and lives(s, t.now)'),
    ("any answer to a missed beat opens a spare", 'job and job["seq"] > s["seq"] and w', "w"),
    ("a stream that is proven dead counts as one that lives", '        stream["doubt_at"] = t.now\n    open_stream(t)', "        open_stream(t, trusted=False)"),
    ("what a beat promises does not count", '= w.promised(e.get("next_ms"))', "= w.HEARTBEAT_MS"),
    ("the promise of an earlier beat counts on", '= w.promised(e.get("next_ms"))', '= w.promised(e["next_ms"]) if e.get("next_ms") else stream["beat_ms"]'),
    ("a beat may promise the next one for no time", "max(BEAT_MIN_MS, next_ms)", "next_ms"),
    ("a beat may promise the next one for ever", "min(BEAT_MAX_MS, max(BEAT_MIN_MS, next_ms))", "max(BEAT_MIN_MS, next_ms)"),
    ("all who miss a beat ask in one moment", "random * BEAT_SPREAD_MS", "0.5 * BEAT_SPREAD_MS"),
    ("after a wake-up a missed beat counts at once", 'stream["late_at"] = until if network_back else max(stream["late_at"], until)', "pass"),
    # two heartbeats missed
    ("silence of a stream raises no doubt", "else w.doubt_at(s), on_doubt)", "else None, on_doubt)"),
    ("doubt does not poll", 'def on_doubt(t: Turn) -> None:\n    ask_poll(t, "watchdog")', "def on_doubt(t: Turn) -> None:"),
    ("doubt opens no spare", "\n    open_stream(t)\n\n\n# --- the page", "\n\n\n# --- the page"),
    ("break before make", '        s["spare"] = stream\n', '        t.actions.append({"type": "close_stream", "stream": s["stream"]["number"]})\n        s["stream"] = stream\n'),
    ("one missed beat is enough", "return late, late + beat_ms + BEAT_LATE_MS", "return late, late"),
    ("three missed beats are needed", "return late, late + beat_ms", "return late, late + 2 * beat_ms"),
    ("the old stream is forgotten, not closed", '        t.actions.append({"type": "close_stream", "stream": s["spare"]["number"]})\n    stream["opened_at"]', '        pass\n    stream["opened_at"]'),
    ("a spare cannot take over", 's["stream"], s["spare"] = s["spare"], s["stream"]', "pass"),
    ("a spare is lost with the old stream", 's["stream"] = s["spare"]\n', 's["stream"] = None\n'),
    # nothing received about the job for the silence limit
    ("a stream that does not speak of the job is trusted", "w.unasked(s, w.silent_at(s))", "None"),
    ("beats without news count as news", 'e["seq"] is None:\n        return\n    news(t)\n    if e["seq"]', 'e["seq"] is None:\n        return news(t)\n    news(t)\n    if e["seq"]'),
    ("beats with news count for nothing", '        return\n    news(t)\n    if e["seq"]', '        return\n    if e["seq"]'),
    ("silence is found after five minutes", "SILENCE_LIMIT_MS = 60", "SILENCE_LIMIT_MS = 300"),
    ("timers are set far ahead", "min(now + w.CHECK_EVERY_MS, *dues)", "min(*dues)"),
    ("silence polls know no back-off", "w.unasked(s, w.silent_at(s))", 'None if s["poll"] else w.silent_at(s)'),
    # a stream is refused or breaks
    ("a broken stream is not followed by a poll", 'if main and s["poll_failures"] == 0:', "if False:"),
    ("a broken stream is not reopened", 's["reopen_at"] = now + w.stream_pause', '_ = now + w.stream_pause'),
    ("in an outage streams are tried as often as ever", "    if unanswered(s):\n", "    if False:\n"),
    ("in an outage all streams are tried at the same time", "STREAM_UNANSWERED_MS * (0.75 + random / 4)", "STREAM_UNANSWERED_MS"),
    ("a stream waits on after the network is back", 'w.unanswered(s) and s["reopen_at"]', 'False and s["reopen_at"]'),
    ("any trouble that ends brings the stream back at once", 'w.unanswered(s) and s["reopen_at"]', 's["poll_failures"] > 0 and s["reopen_at"]'),
    ("nothing restores a stream that is missing", 's["reopen_at"] is None and not s["signed_out"]:', "False:"),
    ("pauses between streams do not grow", "STREAM_BACKOFF_MIN_MS * 2 ** min(failures, 10)", "STREAM_BACKOFF_MIN_MS * 2"),
    ("pauses between streams grow for ever", "STREAM_BACKOFF_MAX_MS = 30", "STREAM_BACKOFF_MAX_MS = 3000"),
    ("no jitter between streams", "STREAM_BACKOFF_MIN_MS + random *", "STREAM_BACKOFF_MIN_MS + 1 *"),
    ("no spread of the polls after a break", "t.random * w.BREAK_SPREAD_MS", "w.BREAK_SPREAD_MS"),
    ("a long life does not start the pauses anew", '1 if settled else', ""),
    ("any word starts the pauses anew", ">= w.STREAM_SETTLED_MS", ">= 0"),
    ("no polls while there is no stream", 'plan_poll(t, s["poll_after_ms"], "fallback")', "pass"),
    ("the server's pace is not kept", 'plan_poll(t, s["poll_after_ms"]', "plan_poll(t, w.POLL_AFTER_DEFAULT_MS"),
    ("the server's pace has no upper bound", "min(w.POLL_AFTER_MAX_MS, max(w.POLL_AFTER_MIN_MS, asked))", "max(w.POLL_AFTER_MIN_MS, asked)"),
    ("the server's pace has no lower bound", "max(w.POLL_AFTER_MIN_MS, asked))", "asked)"),
    ("polls go on beside a live stream", 'not lives(s, now) and s["poll"] is None', 's["poll"] is None'),
    ("what was planned survives the news", '"poll_at": None, "poll_failures": 0, "failure": None,\n        "not', '"poll_failures": 0, "failure": None,\n        "not'),
    ("leaving is an error like any other", "retry * (1 + t.random)", "500"),
    ("leaving brings all back at once", "retry * (1 + t.random)", "retry"),
    ("leaving may be for ever", "min(w.LEAVING_MAX_MS, max(w.STREAM_BACKOFF_MIN_MS, e[\"retry_ms\"] or 0))", 'max(w.STREAM_BACKOFF_MIN_MS, e["retry_ms"] or 0)'),
    ("leaving may be for no time", "max(w.STREAM_BACKOFF_MIN_MS, e[\"retry_ms\"] or 0))", 'e["retry_ms"] or 0)'),
    # page shown, network back, sleep
    ("a page shown again asks nothing", '"page_shown":        [(WATCHING, wake)', '"page_shown":        [(WATCHING, on_stream_open) for _ in ()] + [((), wake)'),
    ("the network's return asks nothing", '"online":            [(WATCHING, wake)', '"online":            [((), wake)'),
    ("the network's return does not reopen", 's["reopen_at"] = now\n    ask_poll(t, "wake")', 'pass\n    ask_poll(t, "wake")'),
    ("sleep is not noticed", "slept = state", "slept = False and state"),
    ("a late timer of a hidden page is taken for sleep", "LATE_TIMER_MS = 75", "LATE_TIMER_MS = 20"),
    ("false alarm after a sleep", 'else max(stream["doubt_at"], until)', 'else stream["doubt_at"]'),
    ("waking shortens a stream's life", 'else max(stream["doubt_at"], until)', "else until"),
    ("waking proves that the stream lives", "now + w.WAKE_GRACE_MS", "now + 10**6"),
    ("a stream of before the network came back is trusted", 'stream["doubt_at"] = until if network_back else max', 'stream["doubt_at"] = max'),
    ("the network's return opens no spare", 'if network_back and not s["signed_out"]:', 'if False:'),
    ("the network's return opens a stream while signed out", 'if network_back and not s["signed_out"]:', 'if network_back:'),
    ("a spare waits until the stream is doubted", '(trusted and lives(s, now))', 'lives(s, now)'),
    # the status cannot be had
    ("a failed poll is not repeated", 'return plan_poll(t, max(w.poll_backoff', 'return None and plan_poll(t, max(w.poll_backoff'),
    ("a failed poll is not repeated while a stream lives", '    asked = min(w.RETRY', '    if lives(s, t.now):\n        return None\n    asked = min(w.RETRY'),
    ("failed polls are repeated at one pace", "POLL_BACKOFF_MIN_MS * 2 ** min(failures - 1, 10)", "POLL_BACKOFF_MIN_MS"),
    ("pauses between polls grow for ever", "POLL_BACKOFF_MAX_MS = 10", "POLL_BACKOFF_MAX_MS = 1000"),
    ("no jitter between polls", "pause * (0.75 + random / 4)", "pause"),
    ("trouble is not said", 'or s["poll_failures"] > 0:', ":"),
    ("Retry-After is ignored", 'e.get("retry_after_ms") or 0', "0"),
    ("Retry-After may be for ever", "min(w.RETRY_AFTER_MAX_MS, ", "("),
    ("Retry-After may shorten the pause", "max(w.poll_backoff(s[\"poll_failures\"], limit, t.random), asked)", 'asked or w.poll_backoff(s["poll_failures"], limit, t.random)'),
    ("an answer does not end the back-off", '"poll_at": None, "poll_failures": 0, ', '"poll_at": None, '),
    # 404
    ("a job that is not found is asked for for ever", 'if code in ("job_not_found", "invalid_job_id"):', "if False:"),
    ("an id that cannot be read is asked for for ever", '("job_not_found", "invalid_job_id")', '("job_not_found",)'),
    ("gone is ignored", 'end(t, "not_found")\n\n\ndef lose', "pass\n\n\ndef lose"),
    ("one 404 of a proxy is believed", "NOT_FOUND_ANSWERS = 3", "NOT_FOUND_ANSWERS = 1"),
    ("a 404 of a proxy is never said", 's["not_found_answers"] += 1', "pass"),
    ("no way back from not found", 'RESTING = ("gave_up", "not_found")', 'RESTING = ("gave_up",)'),
    # 401, 403
    ("signed out is not noticed", 's["signed_out"] = status in (401, 403)', "pass"),
    ("403 is taken for a passing trouble", "in (401, 403)", "in (401,)"),
    ("streams are opened while signed out", 's["reopen_at"] is None and not s["signed_out"]:', 's["reopen_at"] is None:'),
    ("a refused stream is reopened while signed out", 'if alone and not s["signed_out"]:', "if alone:"),
    ("a planned stream is opened while signed out", '    if s["signed_out"]:\n        s["reopen_at"] = None\n', ""),
    ("a doubted stream gets spares while signed out", ' or s["signed_out"] else w.doubt_at(s)', " else w.doubt_at(s)"),
    ("signed out is asked as often as any trouble", '    if s["signed_out"]:\n        return plan', '    if False:\n        return plan'),
    ("signed out for ever", '"not_found_answers": 0, "signed_out": False,\n    })  # fmt: skip\n\n\ndef on_told', '"not_found_answers": 0,\n    })  # fmt: skip\n\n\ndef on_told'),
    # the overall limit
    ("never gives up", '(lambda s: s["give_up_at"], ', "(lambda s: None, "),
    ("news does not move the limit", '"give_up_at": t.now + w.GIVE_UP_MS, "poll_at"', '"poll_at"'),
    ("slept time counts", '    s["give_up_at"] = now + w.GIVE_UP_MS\n', ""),
    ("giving up says nothing", 'actions.append({"type": "end"', '_ = ({"type": "end"'),
    ("giving up is for good", 'WAKE_UP: tuple[tuple[str, ...], Deed] = (("gave_up",)', "WAKE_UP: tuple[tuple[str, ...], Deed] = (()"),
    ("the minutes round half to even", "return whole + (x - whole >= 0.5)", "return round(x)"),
    # done
    ("done does not end the watch", 'end(t, "ended")', "pass"),
    ("the end leaves the stream open", '    if s["stream"]:\n        actions', "    if False:\n        actions"),
    ("the end leaves the spare open", '    if s["spare"]:\n        actions', "    if False:\n        actions"),
    ("the end leaves the poll in flight", '    if s["poll"]:\n        actions', "    if False:\n        actions"),
    ("the end leaves the timer set", '    else:\n        s["wake_at"] = None', "    else:\n        pass"),
    ("the end can be undone", '"told":              [(WATCHING, on_told)]', '"told":              [((*WATCHING, "ended"), on_told)]'),
    # the truth
    ("a lower seq of a stream is believed", 'if first or e["job"]["seq"] >= t.s["seq"] or', "if True or"),
    ("the first job of a connection is not believed", "if first or e", "if e"),
    ("the first job of a connection is believed against newer news", 'stream["held_before"] == t.s["seq"]', 'stream["held_before"] is not None'),
    ("a lower seq of a poll is believed", "LOWER_ANSWERS = 2", "LOWER_ANSWERS = 1"),
    ("a lower seq of a poll is never believed", 's["lower_answers"] += bool(job and job["seq"] < s["seq"])', "pass"),
    ("lower answers need not follow each other", '"lower_answers": 0})', "})"),
    ("an end of a poll with a lower seq is not believed", 'or job["done"] or s["lower', 'or s["lower'),
    ("the answer of another call is not shown", '        take(t, e["job"])\n\n\n# --- streams', "        pass\n\n\n# --- streams"),
    ("what a closed stream says is believed", 'if stream is None or stream["number"] != e["stream"]:', "if stream is None:"),
    ("what an aborted poll says is believed", 'if not s["poll"] or s["poll"]["number"] != e["poll"]:', 'if not s["poll"] and False:'),
    ("not modified is no news", 's["polling"] = not lives(s, t.now)\n    news(t)', 's["polling"] = not lives(s, t.now)'),
    # patience
    ("two polls in flight", '    if s["poll"]:\n        s["poll_wanted"]', '    if False:\n        s["poll_wanted"]'),
    ("what was asked for during a poll is forgotten", "    if wanted:\n        ask_poll(t, wanted)", "    pass"),
    ("what was asked for during a failing poll is forgotten", "    if wanted:\n        return ask", "    if False:\n        return ask"),
    ("a person's question is forgotten for another", '"manual" if s["poll_wanted"] == "manual" else reason', "reason"),
    ("polls are aborted after five seconds", "POLL_TIMEOUT_MS = 10", "POLL_TIMEOUT_MS = 5"),
    ("who does not answer at all is asked as seldom as who is in trouble", "if status is None else", "if False else"),
    ("who is in trouble is asked as often as who does not answer at all", "if status is None else", "if True else"),
]  # fmt: skip


def without(snippet: str, instead: str) -> tuple[Any, Any]:
    """(new_state, step) of a policy in which `instead` stands for `snippet`."""
    sources = {module.__name__: Path(str(module.__file__)).read_text() for module in (watch, watchdog)}
    assert sum(text.count(snippet) for text in sources.values()) == 1, f"must stand there once: {snippet}"
    made = {name: types.ModuleType(name) for name in sources}
    for name, text in sources.items():
        text = text.replace(snippet, instead)
        kept = {known: sys.modules.get(known) for known in made}
        parent = sys.modules["unstuck.client"]
        sys.modules.update(made)
        parent.watch_state = made["unstuck.client.watch_state"]  # type: ignore[attr-defined]
        try:
            exec(compile(text, name, "exec"), made[name].__dict__)
        finally:
            sys.modules.update({known: module for known, module in kept.items() if module is not None})
            parent.watch_state = watch  # type: ignore[attr-defined]
    return made["unstuck.client.watch_state"].new_state, made["unstuck.client.watchdog"].step


def noticed_by(snippet: str, instead: str) -> str | None:
    """The first script that fails without this, or None."""
    new_state, step = without(snippet, instead)
    for script in scripts():
        try:
            if play(script, new_state(), step) is not None:
                return str(script["name"])
        except (TypeError, KeyError, RecursionError):  # a mutated policy may break down; that is noticed too
            return str(script["name"])
    return None


@pytest.mark.parametrize(("lost", "snippet", "instead"), LOST, ids=[lost for lost, _, _ in LOST])
def test_it_is_noticed(lost: str, snippet: str, instead: str) -> None:
    script = noticed_by(snippet, instead)
    print(f"{lost}: noticed by “{script}”")
    assert script is not None, f"no script fails although {lost}"


if __name__ == "__main__":
    for lost, snippet, instead in LOST:
        print(f"{lost:60} {noticed_by(snippet, instead) or '— NOT NOTICED'}")
