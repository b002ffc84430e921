"""A job, its items, a heartbeat or a farewell as the bytes of a Server-Sent Event.

Pure. The bytes are made once for each change and shared by all viewers. Text is ASCII-escaped JSON on one
`data:` line, so that no line separator, not even U+2028, can be taken for the end of a line.
Event names are PROTOCOL.md section 4.
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
    """One event. Without `event_id` a client's `Last-Event-ID` stays as it is."""
    head = (
        b"id: %d\nevent: %b\n" % (event_id, name.encode())
        if event_id is not None
        else b"event: " + name.encode() + b"\n"
    )
    return b"%bdata: %b\n\n" % (head, _json(data))


def _json(data: wire.Answer) -> bytes:
    """As ASCII. msgspec writes UTF-8, in a sixth of the time; most of what there is to say is ASCII anyway."""
    encoded = _fast(data)
    return encoded if encoded.isascii() else _escaping(msgspec.to_builtins(data)).encode("ascii")


def opening(words: str, retry_ms: int) -> bytes:
    """The first bytes of a stream: when to come back, and a comment for people who read along."""
    comment = "".join(f": {line}\n" for line in words.splitlines())
    return f"retry: {retry_ms}\n{comment}\n".encode("ascii")


def heartbeat(now: float, seqs: Mapping[str, int], next_s: float) -> bytes:
    """A sign of life, with the seq of every job on the stream; the next one comes after `next_s` at the latest."""
    said = wire.HeartbeatEvent(server_time=rfc3339(now), jobs=dict(seqs), next_s=round(next_s, 3))
    return event("heartbeat", said)


def leaving(reason: str, retry_ms: int) -> bytes:
    """The server closes this stream on purpose; come back after `retry_ms`."""
    return event("leaving", wire.LeavingEvent(reason=reason, retry_ms=retry_ms))


def gone(job_id: str, code: str = "job_not_found") -> bytes:
    """This job does not exist (any more)."""
    return event("gone", wire.GoneEvent(job_id=job_id, code=code))


def items(job_id: str, seq: int, changed: Sequence[wire.Item], *, more: bool) -> bytes:
    """Items that changed; `more` says that there are others: fetch `/items?after_seq=…`."""
    return event("items", wire.ItemsEvent(job_id=job_id, seq=seq, items=list(changed), more=more))
