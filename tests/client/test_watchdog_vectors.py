"""The client's policy does what the scripts say, and does the same in Python and JavaScript."""

from __future__ import annotations

import copy
import json
import random
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.client.vectors import play, scripts
from unstuck.client import watch_state
from unstuck.client.watch_state import WatchState
from unstuck.client.watchdog import HANDLERS, step

ROOT = Path(__file__).parents[2]
NODE = shutil.which("node")


@pytest.mark.parametrize("script", scripts(), ids=lambda script: script["name"])
def test_script(script: dict[str, Any]) -> None:
    assert play(script, WatchState(), step) is None


def test_every_duty_has_scripts_and_script_names_are_unique() -> None:
    table = (ROOT / "PROTOCOL.md").read_text().split("\n## 5. ")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (?!situation|---)(.*?) \|", table, re.MULTILINE)
    assert {script["duty"] for script in scripts()} == {*rows, "the truth", "patience"}
    names = [script["name"] for script in scripts()]
    assert len(set(names)) == len(names) >= 60
    assert all(script["why"] for script in scripts())


def test_an_unknown_event_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match=r"unknown event 'nonsense'.*heartbeat"):
        step(WatchState(), {"type": "nonsense"}, 0, 0)


def test_a_state_is_plain_data_and_step_does_not_mutate_it() -> None:
    state, _ = step(WatchState(), {"type": "start"}, 0, 0.5)
    state, _ = step(state, {"type": "job", "stream": 1, "job": {"seq": 1, "done": False}}, 1, 0.5)
    before = copy.deepcopy(state)
    assert msgspec.json.decode(msgspec.json.encode(before), type=WatchState) == before
    for event in ({"type": "tick"}, {"type": "page_shown"}, {"type": "heartbeat", "stream": 1, "seq": 9}):
        step(state, event, 9_999_999, 0.5)
        assert state == before


def test_both_languages_have_the_same_constants() -> None:
    client = ROOT / "frontend" / "client"
    source = "".join((client / name).read_text() for name in ("watch-state.js", "request-policy.js"))
    theirs = dict(re.findall(r"^export const ([A-Z_]+) = (.*?);", source, re.MULTILINE))
    del theirs["CLICK_PAUSE_MS"]  # Python has no buttons
    ours = {name: value for name, value in vars(watch_state).items() if name.isupper()}
    assert theirs.keys() == ours.keys()
    for name, value in theirs.items():
        assert eval(value, dict(ours)) == ours[name], name


# --- the same in both languages for any sequence of events


class Fate:
    """Draws random events: mostly ones that fit the state, some that come too late or never should."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.now = self.chance.choice([0, 1_000_000])
        self.seq = 1

    def next(self, state: WatchState) -> tuple[dict[str, Any], int, float]:
        """Return an event, its time, and the random number for the step."""
        pick = self.chance.random()
        if pick < 0.35 and state.wake_at is not None:
            self.now = max(self.now, state.wake_at)
        else:
            self.now += self.chance.choice([0, 1, 90, 450, 1_501, 7_777, 20_000, 80_000, 400_000])
        chance = self.chance.choice([0.0, 0.5, 1 - 2**-53, self.chance.random()])
        return self.event(state), self.now, chance

    def event(self, state: WatchState) -> dict[str, Any]:
        draw = self.chance
        if state.phase == "new":
            return {"type": "start", "job": draw.choice([None, None, self.job()])}
        kind = draw.choice([*HANDLERS, *["tick"] * 8, "job", "heartbeat", "stream_open", "poll_ok", "poll_failed"])
        event: dict[str, Any] = {"type": kind}
        if kind in ("stream_open", "job", "items", "heartbeat", "leaving", "gone", "stream_error"):
            event["stream"] = state.next_stream - draw.choice([1, 1, 1, 2])
        if kind in ("poll_ok", "poll_failed", "poll_not_modified"):
            event["poll"] = state.next_poll - draw.choice([1, 1, 1, 2])
        if kind in ("job", "poll_ok", "job_answered"):
            event["job"] = self.job()
        if kind == "heartbeat":
            event["seq"] = draw.choice([None, self.seq, self.seq + 1])
            event["next_ms"] = draw.choice([None, 0, 5_000, 5_000, 333.5, 7_500.5, 1e12])
        if kind == "leaving":
            event["retry_ms"] = draw.choice([0, 3, 503, 2_001, 1e12])
        if kind == "gone" and draw.random() < 0.9:
            event["type"] = "items"
        if kind == "poll_failed":
            event["status"] = draw.choice([None, 200, 500, 503, 429, 404, 410, 401, 403])
            event["code"] = draw.choice([None, None, "timeout"] + ["job_not_found"] * (draw.random() < 0.1))
            event["retry_after_ms"] = draw.choice([None, 0, 2_500, 1e9])
        return event

    def job(self) -> dict[str, Any]:
        self.seq += self.chance.choice([0, 1, 1, 5])
        seq = self.seq - self.chance.choice([0, 0, 0, 1, 3])
        after = self.chance.choice([None, 1, 1_500, 2_000.5, 1e9])
        return {"seq": seq, "done": self.chance.random() < 0.01, "poll_after_ms": after}


def test_both_languages_agree_on_thousands_of_random_steps() -> None:
    played: list[tuple[list[tuple[dict[str, Any], int, float]], list[Any]]] = []
    for seed in range(150):
        fate, state, steps, seen = Fate(seed), WatchState(), [], []
        for _ in range(40):
            drawn = fate.next(state)
            state, actions = step(state, *drawn)
            steps.append(drawn)
            seen.append([msgspec.to_builtins(state), actions])
        played.append((steps, seen))
    assert NODE is not None, "install Node 18 or newer: the twin in JavaScript is tested with it"
    answer = subprocess.run(
        [NODE, str(Path(__file__).with_name("play.mjs"))],
        input=json.dumps([steps for steps, _ in played]), capture_output=True, text=True, check=True,
    )  # fmt: skip
    for seed, ((steps, ours), theirs) in enumerate(zip(played, json.loads(answer.stdout), strict=True)):
        for place, (mine, other) in enumerate(zip(ours, theirs, strict=True)):
            assert mine == other, f"seed {seed}, step {place}: {steps[place]}"
