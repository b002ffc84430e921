"""Encodes jobs, items, heartbeats and farewells as Server-Sent Events. Pure.

Must not know: which viewer is sent what.
See also: encoded.py (a change, encoded once for all its viewers), PROTOCOL.md section 4 (the events' fields).

Text is ASCII-escaped JSON on one `data:` line, so that no line separator, not even U+2028, can be mistaken for the
end of a line.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import msgspec

from unstuck import wire
from unstuck.jobs.snapshot import rfc3339

_fast = msgspec.json.Encoder().encode
_escaping = json.JSONEncoder(ensure_ascii=True, separators=(",", ":"), allow_nan=False).encode


def event(name: str, data: wire.Answer, event_id: int | None = None) -> bytes:
    """Encode one event. Without `event_id` a client's `Last-Event-ID` stays as it is."""
    head = (
        b"id: %d\nevent: %b\n" % (event_id, name.encode())
        if event_id is not None
        else b"event: " + name.encode() + b"\n"
    )
    return b"%bdata: %b\n\n" % (head, _json(data))


def _json(data: wire.Answer) -> bytes:
    """Encode as ASCII. msgspec writes UTF-8 in a sixth of the time, and most data is ASCII anyway."""
    encoded = _fast(data)
    return encoded if encoded.isascii() else _escaping(msgspec.to_builtins(data)).encode("ascii")


def opening(comment: str, retry_ms: int) -> bytes:
    """Encode the start of a stream: the delay before a reconnect, and a comment for people who read along.

    Both belong to the block of the first event. In a block of their own, without data, several client libraries
    see an event without data.
    """
    lines = "".join(f": {line}\n" for line in comment.splitlines())
    return f"retry: {retry_ms}\n{lines}".encode("ascii")


def heartbeat(now: float, seqs: Mapping[str, int], next_s: float) -> bytes:
    """Encode a heartbeat with the seq of every job on the stream; the next one comes within `next_s` seconds."""
    beat = wire.HeartbeatEvent(server_time=rfc3339(now), jobs=dict(seqs), next_s=round(next_s, 3))
    return event("heartbeat", beat)


def leaving(reason: str, retry_ms: int) -> bytes:
    """Encode that the server closes this stream on purpose; the client reconnects after `retry_ms`."""
    return event("leaving", wire.LeavingEvent(reason=reason, retry_ms=retry_ms))


def gone(job_id: str, code: str = "job_not_found") -> bytes:
    """Encode that the job does not exist (any more)."""
    return event("gone", wire.GoneEvent(job_id=job_id, code=code))


def items(job_id: str, seq: int, changed: Sequence[wire.Item], *, more: bool) -> bytes:
    """Encode items that changed; with `more` there are others, to be fetched from `/items?after_seq=…`."""
    return event("items", wire.ItemsEvent(job_id=job_id, seq=seq, items=list(changed), more=more))
