"""When the hub speaks, and what it counts. Plain figures; what they mean for a viewer is decided in hub.py."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StreamConfig:
    """When the hub speaks; seconds, see settings.py."""

    heartbeat_s: float = 15.0
    interval_s: float = 0.1
    stream_life_s: float = 600.0
    broadcast_attempts: int = 3
    broadcast_pause_s: float = 0.5


@dataclass(slots=True)
class StreamStats:
    """What an operator wants to know of the streams, since the start."""

    opened: int = 0
    refused: int = 0  # for want of room
    broadcasts: int = 0
    broadcast_retries: int = 0
    broadcast_failures: int = 0
    rescues: int = 0  # viewers that a heartbeat found without the newest truth
