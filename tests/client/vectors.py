"""Plays the scripts of tests/vectors on a Python watchdog; what such a script says is in their README."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1] / "vectors"
Step = Callable[[Any, dict[str, Any], int, float], tuple[Any, list[dict[str, Any]]]]


def scripts() -> list[dict[str, Any]]:
    return [one for path in sorted(FOLDER.glob("*.json")) for one in json.loads(path.read_text())]


def play(script: dict[str, Any], state: Any, step: Step) -> str | None:
    """The first thing that is not as the script wants it, or None."""
    for place, wanted in enumerate(script["steps"], 1):
        did: list[dict[str, Any]] = []
        random = wanted.get("random", 0.5)
        if "event" in wanted:
            state, did = step(state, wanted["event"], wanted["at_ms"], random)
        else:
            while state["wake_at"] is not None and (now := state["wake_at"]) <= wanted["until_ms"]:
                state, actions = step(state, {"type": "tick"}, now, random)
                did += [{"at_ms": now, **action} for action in actions]
        did = [action for action in did if action["type"] != "wake_at"]
        ending = wanted.get("ends_with")
        if (did[-len(ending) :] if ending else did) != (ending or wanted["expect"]):
            return f"step {place}, {wanted}: did {did}"
        fields = {**wanted.get("state", {}), **({"link": wanted["link"]} if "link" in wanted else {})}
        seen = {name: state[name] for name in fields}
        if seen != fields:
            return f"step {place}, {wanted}: the state holds {seen}"
    return None
