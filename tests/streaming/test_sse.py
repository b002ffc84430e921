"""Bytes of events, and labels made harmless for headers and file names."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unstuck import wire
from unstuck.jobs import labels as names
from unstuck.jobs.snapshot import rfc3339
from unstuck.streaming import sse

NASTY = [
    'a\nevent: done\ndata: {"state":"done"}\n\n',
    "a\r\rdata: x",
    "a\r\nid: 7",
    "a\u2028b\u2029c\x85d\x0be\x0cf\x1cg",
    "\u202egnp.exe",
    "nul\0byte",
    "../../etc/passwd",
    "con",
    "x" * 300,
    "<img src=x onerror=alert(1)>.png",
]


def test_a_stream_begins_within_the_block_of_its_first_event() -> None:
    """Several client libraries see an event without data in a block that has none."""
    opening = sse.opening("what this is\nand how it ends", 1_500)
    assert opening == b"retry: 1500\n: what this is\n: and how it ends\n"
    blocks = (opening + sse.heartbeat(0.0, {}, 15.0)).split(b"\n\n")
    assert [b"\ndata: " in block for block in blocks] == [True, False]
    assert blocks[-1] == b""


@pytest.mark.parametrize("name", NASTY)
def test_any_text_stays_inside_its_event(name: str) -> None:
    data = sse.event("gone", wire.GoneEvent(job_id="j", code=name), 7)
    assert data.isascii()
    assert data.count(b"\n") == 4
    assert b"\r" not in data
    head, event, body, *rest = data.split(b"\n")
    assert (head, event, rest) == (b"id: 7", b"event: gone", [b"", b""])
    assert json.loads(body.removeprefix(b"data: ")) == {"job_id": "j", "code": name}
    # A client that splits lines at any Unicode line separator gets the same lines.
    assert data.decode().splitlines() == data.decode().split("\n")[:-1]


@given(st.floats(0, 2**33) | st.integers(0, 2**33) | st.integers(0, 2**33).map(lambda whole: whole + 0.9999996))
def test_times_are_formatted_as_by_datetime(at: float) -> None:
    iso = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
    assert rfc3339(at) == iso.replace("+00:00", "Z")


def test_a_heartbeat_does_not_set_the_last_event_id() -> None:
    assert b"id:" not in sse.heartbeat(0.0, {"a": 1}, 5.0).split(b"data:")[0]


@pytest.mark.parametrize(
    ("name", "suffix"),
    [("a.csv", ".csv"), ("A.TAR.GZ", ".gz"), ("none", ""), ("a.b/c", ""), ("x." + "y" * 11, ""), ("e.p\0g", "")],
)
def test_only_a_plain_ending_is_kept(name: str, suffix: str) -> None:
    assert names.suffix(name) == suffix


def test_labels_are_unchanged_but_never_empty() -> None:
    assert names.label("Bericht \u202e (1).csv") == "Bericht \u202e (1).csv"
    assert names.label("") == names.label("  \n") == "unnamed"
    assert names.label("a\ud800b") == "a?b"


def test_content_disposition_cannot_be_split() -> None:
    header = names.content_disposition('ü"; filename=x\r\nSet-Cookie: a=b.png')
    assert "\r" not in header
    assert "\n" not in header
    assert header.isascii()
    assert header.startswith('attachment; filename="')
