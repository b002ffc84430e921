"""However the world answers, and however quickly, the policy never storms a server and never falls asleep."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest

from unstuck.client.watch_state import CHECK_EVERY_MS, new_state
from unstuck.client.watchdog import step

MINUTES = 10
#: Streams in ten minutes; what the pauses allow is about forty-five.
STREAMS_OPENED = 90
#: Polls that are refused: one every 8.75 s once the pauses have grown, and some that streams ask for.
REFUSED = 130
#: Polls where nobody answers: one every 3.5 s on average, and some that streams ask for.
UNANSWERED = 220
STREAMS = ("refused", "breaks", "mute", "silent", "beats without news")
POLLS = (None, 200, 401, 404, 429, 503)


class World:
    """Answers at once, and always in the same way, after a stream that may have lived for a moment."""

    def __init__(self, streams: str, polls: int | None, *, lived: bool) -> None:
        self.streams, self.polls = streams, polls
        self.chance = random.Random(f"{streams} {polls} {lived}")
        self.state: Any = new_state()
        self.now = 0
        self.asked = {"poll": 0, "open_stream": 0}
        self.living: set[int] = set()
        self.lived = lived

    def on(self, event: dict[str, Any]) -> None:
        self.state, actions = step(self.state, event, self.now, self.chance.random())
        if self.state["phase"] == "watching":
            assert self.now < self.state["wake_at"] <= self.now + CHECK_EVERY_MS
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
        if self.lived or self.streams in ("silent", "beats without news"):
            self.lived = False
            self.on({"type": "stream_open", "stream": number})
            self.on({"type": "job", "stream": number, "job": {"seq": 1, "done": False}})
            self.living.add(number)
        elif self.streams == "breaks":
            self.on({"type": "stream_open", "stream": number})
        if self.streams in ("refused", "breaks") and number not in self.living:
            self.on({"type": "stream_error", "stream": number})

    def beat(self) -> None:
        for number in list(self.living) if self.streams == "beats without news" else []:
            self.on({"type": "heartbeat", "stream": number, "seq": None})
            self.on({"type": "items", "stream": number})


@pytest.mark.parametrize("lived", [False, True])
@pytest.mark.parametrize(("streams", "polls"), list(itertools.product(STREAMS, POLLS)))
def test_no_storm(streams: str, polls: int | None, lived: bool) -> None:
    world = World(streams, polls, lived=lived)
    world.on({"type": "start"})
    beat = 15_000
    while world.state["phase"] == "watching" and world.now < MINUTES * 60_000:
        world.now = min(world.state["wake_at"], beat)
        if world.now == beat:
            beat += 15_000
            world.beat()
        world.on({"type": "tick"})
        assert world.asked["open_stream"] <= STREAMS_OPENED, world.asked
        assert world.asked["poll"] <= (UNANSWERED if polls is None else REFUSED), world.asked
    if streams != "beats without news":
        assert world.asked["poll"] >= MINUTES - 1
