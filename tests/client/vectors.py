"""Plays the scripts of tests/vectors on the Python watchdog.

It must not know what is right: that is up to the scripts.
Next: tests/vectors/README.md, the format; tests/frontend/vectors.test.js, the same in JavaScript.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from unstuck.client.watch_state import WatchAction, WatchEvent, WatchState

FOLDER = Path(__file__).parents[1] / "vectors"
Policy = Callable[[WatchState, WatchEvent, int, float], tuple[WatchState, list[WatchAction]]]


def scripts() -> list[dict[str, Any]]:
    return [one for path in sorted(FOLDER.glob("*.json")) for one in json.loads(path.read_text())]


def play(script: dict[str, Any], state: WatchState, step: Policy) -> str | None:
    """Return the first deviation from the script, or None."""
    for place, wanted in enumerate(script["steps"], 1):
        did: list[dict[str, Any]] = []
        random = wanted.get("random", 0.5)
        if "event" in wanted:
            state, did = step(state, wanted["event"], wanted["at_ms"], random)
        else:
            while state.wake_at is not None and (now := state.wake_at) <= wanted["until_ms"]:
                state, actions = step(state, {"type": "tick"}, now, random)
                did += [{"at_ms": now, **action} for action in actions]
        did = [action for action in did if action["type"] != "wake_at"]
        ending = wanted.get("ends_with")
        if (did[-len(ending) :] if ending else did) != (ending or wanted["expect"]):
            return f"step {place}, {wanted}: did {did}"
        fields = {**wanted.get("state", {}), **({"link": wanted["link"]} if "link" in wanted else {})}
        held = msgspec.to_builtins(state)
        seen = {name: held[name] for name in fields}
        if seen != fields:
            return f"step {place}, {wanted}: the state holds {seen}"
    return None
