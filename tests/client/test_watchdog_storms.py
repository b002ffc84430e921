"""However and however quickly the server fails, the policy neither storms it nor stops asking."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest

from unstuck.client.watch_state import CHECK_EVERY_MS, HEARTBEAT_DEFAULT_MS, WatchState
from unstuck.client.watchdog import step

MINUTES = 10
#: Most streams opened in ten minutes; the pauses allow about forty-five.
STREAMS_OPENED = 90
#: Most polls that are refused: one every 8.75 s once the pauses have grown, and some that streams cause.
REFUSED = 130
#: Most polls that get no answer: one every 3.5 s on average, and some that streams cause.
UNANSWERED = 220
STREAMS = ("refused", "breaks", "mute", "silent", "heartbeats without the job")
POLLS = (None, 200, 401, 404, 429, 503)


class World:
    """A server that always fails at once and in the same way; its first stream may work."""

    def __init__(self, streams: str, polls: int | None, *, lived: bool) -> None:
        self.streams, self.polls = streams, polls
        self.chance = random.Random(f"{streams} {polls} {lived}")
        self.state = WatchState()
        self.now = 0
        self.asked = {"poll": 0, "open_stream": 0}
        self.living: set[int] = set()
        self.lived = lived

    def on(self, event: dict[str, Any]) -> None:
        self.state, actions = step(self.state, event, self.now, self.chance.random())
        if self.state.phase == "watching":
            assert self.state.wake_at is not None
            assert self.now < self.state.wake_at <= self.now + CHECK_EVERY_MS
        for action in actions:
            if action["type"] in self.asked:
                self.asked[action["type"]] += 1
            if action["type"] == "poll":
                self.on({"type": "poll_failed", "poll": action["poll"], "status": self.polls})
            elif action["type"] == "open_stream":
                self.open(action["stream"])
            elif action["type"] == "close_stream":
                self.living.discard(action["stream"])

    def open(self, number: int) -> None:
        if self.lived or self.streams in ("silent", "heartbeats without the job"):
            self.lived = False
            self.on({"type": "stream_open", "stream": number})
            self.on({"type": "job", "stream": number, "job": {"seq": 1, "done": False}})
            self.living.add(number)
        elif self.streams == "breaks":
            self.on({"type": "stream_open", "stream": number})
        if self.streams in ("refused", "breaks") and number not in self.living:
            self.on({"type": "stream_error", "stream": number})

    def heartbeat(self) -> None:
        for number in list(self.living) if self.streams == "heartbeats without the job" else []:
            self.on({"type": "heartbeat", "stream": number, "seq": None})
            self.on({"type": "items", "stream": number})


@pytest.mark.parametrize("lived", [False, True])
@pytest.mark.parametrize(("streams", "polls"), list(itertools.product(STREAMS, POLLS)))
def test_no_storm(streams: str, polls: int | None, lived: bool) -> None:
    world = World(streams, polls, lived=lived)
    world.on({"type": "start"})
    heartbeat_at = HEARTBEAT_DEFAULT_MS
    while world.state.phase == "watching" and world.now < MINUTES * 60_000:
        assert world.state.wake_at is not None
        world.now = min(world.state.wake_at, heartbeat_at)
        if world.now == heartbeat_at:
            heartbeat_at += HEARTBEAT_DEFAULT_MS
            world.heartbeat()
        world.on({"type": "tick"})
        assert world.asked["open_stream"] <= STREAMS_OPENED, world.asked
        assert world.asked["poll"] <= (UNANSWERED if polls is None else REFUSED), world.asked
    if streams != "heartbeats without the job":
        assert world.asked["poll"] >= MINUTES - 1
