"""Holds the hub's configuration and its counters: plain numbers.

Must not know: what the numbers mean for a viewer.
See also: hub.py and heartbeat.py (where they are used), settings.py (what each setting means).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StreamConfig:
    """The settings of the same names (seconds, counts)."""

    heartbeat_s: float = 15.0
    interval_s: float = 0.1
    stream_life_s: float = 600.0
    broadcast_attempts: int = 3
    broadcast_pause_s: float = 0.5


@dataclass(slots=True)
class StreamStats:
    """Counts since the start, for operators."""

    opened: int = 0
    refused: int = 0  # streams, for lack of room
    broadcasts: int = 0
    broadcast_retries: int = 0
    broadcast_failures: int = 0
    rescues: int = 0  # viewers that a heartbeat found behind
