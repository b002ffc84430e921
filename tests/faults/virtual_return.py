"""Plays the return of a crowd under virtual time: one of several servers stops, and its viewers go to the others.

    scripts/faults --return 1000000 --servers 20

Each viewer follows the clients' own policy, and the server's own rules say when it returns and how often it polls.
Counted are the requests that reach the servers that are left. It must not know how the policy decides, or how a
server answers.
See also: client/watchdog.py (the policy), streaming/throttle.py (the rules).
"""

from __future__ import annotations

import argparse
import heapq
import random
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from unstuck.client.watch_state import WatchEvent, WatchState
from unstuck.client.watchdog import step
from unstuck.streaming.throttle import poll_ms, return_ms

#: What a request costs a server (seconds of its core): a stream with its first event, and a poll.
CONNECT_S, POLL_S = 0.000_23, 0.000_2
#: How long the answer to a request takes (milliseconds).
LATENCY_MS = 20
#: When the server stops (milliseconds).
LEAVES_AT_MS = 5_000
#: A viewer that has no stream after this long has failed (milliseconds).
PATIENCE_MS = 180_000


@dataclass(frozen=True, slots=True)
class Return:
    """The load on one server that is left; times in seconds."""

    viewers: int
    servers: int
    connects_per_s: float  # in the worst second
    polls_per_s: float
    core: float  # share of a core in the worst second
    last_s: float  # until the last viewer had a stream again


def play_return(viewers: int, servers: int, seed: int = 1) -> Return:
    """Stop one of `servers` that share `viewers` evenly, and return the load of each that is left."""
    chance = random.Random(seed)
    crowd = viewers // servers
    connects: Counter[int] = Counter()
    polls: Counter[int] = Counter()
    last_ms = 0
    for _ in range(crowd):
        retry_ms = chance.randint(*return_ms(crowd))
        last_ms = max(last_ms, _play_viewer(chance, retry_ms, poll_ms(crowd), connects, polls))
    left = servers - 1
    seconds = connects.keys() | polls.keys()
    return Return(
        viewers=viewers,
        servers=servers,
        connects_per_s=max(connects.values()) / left,
        polls_per_s=max(polls.values(), default=0) / left,
        core=max(connects[at] * CONNECT_S + polls[at] * POLL_S for at in seconds) / left,
        last_s=last_ms / 1_000,
    )


def _play_viewer(
    chance: random.Random, retry_ms: int, pause_ms: int, connects: Counter[int], polls: Counter[int]
) -> int:
    """Play one viewer from `leaving` until its next stream is live; count its requests, and return how long."""
    job = {"seq": 1, "done": False, "poll_after_ms": max(2_000, pause_ms)}
    state = WatchState()
    events: list[tuple[int, int, WatchEvent]] = [(0, 0, {"type": "start", "job": job})]
    events += [(1, 1, {"type": "stream_open", "stream": 1}), (2, 2, {"type": "job", "stream": 1, "job": job})]
    leaves_at = LEAVES_AT_MS
    events.append((leaves_at, 3, {"type": "leaving", "stream": 1, "retry_ms": retry_ms}))
    number = len(events)
    while events:
        at, _, event = heapq.heappop(events)
        state, actions = step(state, event, at, chance.random())
        for action in actions:
            if action["type"] == "poll":
                polls[(at - leaves_at) // 1_000] += at >= leaves_at
                heapq.heappush(
                    events, (at + LATENCY_MS, number, {"type": "poll_ok", "poll": action["poll"], "job": job})
                )
                number += 1
            elif action["type"] == "open_stream" and action["stream"] > 1:
                connects[(at - leaves_at) // 1_000] += 1
                return at - leaves_at
        if at > leaves_at + PATIENCE_MS:
            break
        if state.wake_at is not None and (not events or state.wake_at < events[0][0]):
            heapq.heappush(events, (max(state.wake_at, at), number, {"type": "tick"}))
            number += 1
    raise RuntimeError(f"a viewer that was to return after {retry_ms} ms did not")


def main(argv: Sequence[str]) -> int:
    """Return 1 if a server would have needed more than a core."""
    parser = argparse.ArgumentParser(prog="scripts/faults --return", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("viewers", type=int, metavar="VIEWERS", help="viewers of all servers together")
    parser.add_argument("--servers", type=int, default=20, metavar="N", help="servers [default: 20]")
    options = parser.parse_args(argv)
    found = play_return(options.viewers, options.servers)
    print(
        f"{found.viewers:,} viewers on {found.servers} servers, one stops: each of the others takes at most "
        f"{found.connects_per_s:,.0f} streams and {found.polls_per_s:,.0f} polls a second, "
        f"{found.core:.2f} of a core; all are back after {found.last_s:.0f} s"
    )
    return 0 if found.core <= 1 else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
