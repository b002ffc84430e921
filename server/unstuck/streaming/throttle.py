"""Decides how the size of an audience slows what each of its members is sent or asks for. Pure.

Must not know: jobs, viewers, or a clock; it is given only numbers.
See also: hub.py (where it is asked), PROTOCOL.md section 4 (what clients see of it).

What a server can send and answer in a second is bounded, however many watch. A job with few viewers is sent as
often as the settings allow. With thousands a viewer's share shrinks instead of the whole server falling behind.
"""

from __future__ import annotations

#: Up to FEW viewers a job keeps its interval. From there it grows evenly, to LONGEST_S at MANY viewers: at most
#: about 10,000 to 20,000 events a second for one job, a fifth of a core.
FEW, MANY = 1_000, 10_000
LONGEST_S = 1.0
#: Clients that return, or poll, together: so many a second take a quarter of a core.
CLIENTS_PER_S = 1_000
#: Clients that are sent away return after a random time from the first to the second (milliseconds), to the last
#: if they are many.
RETURN_MS = (500, 3_000)
LONGEST_RETURN_MS = 60_000
#: The longest pause between the polls of a client (milliseconds).
LONGEST_POLL_MS = 15_000


def interval_s(shortest_s: float, viewers: int) -> float:
    """Return the time between two events of a job with so many viewers (seconds)."""
    if viewers <= FEW:
        return shortest_s
    return max(shortest_s, LONGEST_S * min((viewers - FEW) / (MANY - FEW), 1.0))


def return_ms(leaving: int) -> tuple[int, int]:
    """Return the range from which each of so many clients that are sent away draws its return (milliseconds)."""
    soonest, latest = RETURN_MS
    return soonest, max(latest, min(leaving * 1_000 // CLIENTS_PER_S, LONGEST_RETURN_MS))


def poll_ms(streams: int) -> int:
    """Return the least pause between the polls of a client of a server with so many streams (milliseconds)."""
    return min(streams * 1_000 // CLIENTS_PER_S, LONGEST_POLL_MS)
