"""The hub's configuration and its counters: plain figures.

Must not know: what the figures mean for a viewer. Read on in hub.py and heartbeat.py; the settings are in
settings.py.
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
    refused: int = 0  # streams, for want of room
    broadcasts: int = 0
    broadcast_retries: int = 0
    broadcast_failures: int = 0
    rescues: int = 0  # viewers that a heartbeat found behind
