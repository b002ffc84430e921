"""The decoder of event streams, with the cases of the HTML standard and of the tests that browsers share."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unstuck.client.sse_decoder import ServerSentEvent, SSEDecoder

LONE_CR = b"event: a\rdata: 1\rdata: 2\rid: 7\r\rdata: 3\r\r"


def message(data: str, event: str = "message", last_id: str = "") -> ServerSentEvent:
    return ServerSentEvent(event, data, last_id)


def decoded(*pieces: bytes) -> list[ServerSentEvent]:
    decoder = SSEDecoder()
    return [event for piece in pieces for event in decoder.feed(piece)]


@pytest.mark.parametrize(
    ("stream", "events"),
    [
        # the examples of the standard
        (b"data: YHOO\ndata: +2\ndata: 10\n\n", [message("YHOO\n+2\n10")]),
        (
            b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n",
            [message("first event", last_id="1"), message("second event"), message(" third event")],
        ),
        (b"data\n\ndata\ndata\n\ndata:", [message(""), message("\n")]),
        (b"data:test\n\ndata: test\n\n", [message("test"), message("test")]),
        # line ends
        (b"data: a\n\n", [message("a")]),
        (b"data: a\r\r", [message("a")]),
        (b"data: a\r\n\r\n", [message("a")]),
        (b"data: a\r\n\r", [message("a")]),
        (b"data: a\r\r\n", [message("a")]),
        (b"data: a\n\r", [message("a")]),
        (b"data: a\rdata: b\ndata: c\r\n\n", [message("a\nb\nc")]),
        (LONE_CR, [message("1\n2", "a", "7"), message("3", last_id="7")]),
        ("data: a\u2028b\u0085c\x0b\x0cd\x1ce\n\n".encode(), [message("a\u2028b\u0085c\x0b\x0cd\x1ce")]),
        # a byte order mark
        (b"\xef\xbb\xbfdata: a\n\n", [message("a")]),
        (b"\xef\xbb\xbf\xef\xbb\xbfdata: a\n\ndata: b\n\n", [message("b")]),
        (b"data: a\n\n\xef\xbb\xbfdata: b\n\ndata: c\n\n", [message("a"), message("c")]),
        # fields
        (b"event: x\ndata: a\n\ndata: b\n\n", [message("a", "x"), message("b")]),
        (b"event: x\n\ndata: a\n\n", [message("a")]),
        (b"event: x\nevent: y\ndata: a\n\n", [message("a", "y")]),
        (b"event:\ndata: a\n\n", [message("a")]),
        (b" data: a\nData: b\ndata : c\nDATA: d\n\n", []),
        (b"data:\xc2\xa0a\ndata:\tb\n\n", [message("\xa0a\n\tb")]),
        (b"data: a:b: c\n\n", [message("a:b: c")]),
        (b":data: a\n:\n: \ndata: b\n\n", [message("b")]),
        (b"data: \x00\n\n", [message("\x00")]),
        (b"data: \xff\xfe\n\n", [message("\ufffd\ufffd")]),
        # ids
        (b"id: 1\n\ndata: a\n\n", [message("a", last_id="1")]),
        (b"id: 1\ndata: a\n\nid: 2\x00\ndata: b\n\n", [message("a", last_id="1"), message("b", last_id="1")]),
        (b"id: 1\ndata: a\n\nid:\ndata: b\n\n", [message("a", last_id="1"), message("b")]),
        ("id: …\ndata: a\n\n".encode(), [message("a", last_id="…")]),
        # the end of the stream
        (b"data: a", []),
        (b"data: a\n", []),
        (b"event: x\ndata: a\nid: 1", []),
        (b"", []),
        (b"\n\n\r\r\r\n", []),
    ],
)
def test_streams_as_the_standard_has_them(stream: bytes, events: list[ServerSentEvent]) -> None:
    assert decoded(stream) == events
    assert decoded(*(stream[at : at + 1] for at in range(len(stream)))) == events
    for at in range(len(stream)):
        assert decoded(stream[:at], b"", stream[at:]) == events


def test_a_lone_cr_ends_an_event_at_once() -> None:
    decoder = SSEDecoder()
    assert list(decoder.feed(b"data: a\r\r")) == [message("a")]
    assert list(decoder.feed(b"\ndata: b\r")) == []
    assert list(decoder.feed(b"\n\r")) == [message("b")]
    assert list(decoder.feed(b"\n")) == []


@pytest.mark.parametrize(
    ("text", "retry_ms"),
    [("3000", 3000), ("0", 0), ("007", 7), ("", None), ("1x", None), ("-1", None), ("1.5", None), ("²", None)],
)
def test_retry_has_digits_only(text: str, retry_ms: int | None) -> None:
    decoder = SSEDecoder()
    list(decoder.feed(f"retry: {text}\n\n".encode()))
    assert decoder.retry_ms == retry_ms


def test_an_id_counts_from_the_blank_line_on() -> None:
    decoder = SSEDecoder()
    list(decoder.feed(b"id: 1\n"))
    assert decoder.last_event_id == ""
    list(decoder.feed(b"\n"))
    assert decoder.last_event_id == "1"


lines = st.lists(
    st.sampled_from(
        [b"data: a", b"data", b"event: x", b"id: 1", b"id: \x00", b": c", b"retry: 1", b"", b"\xef\xbb\xbf"]
    )
)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(lines, st.sampled_from([b"\n", b"\r", b"\r\n"]), st.lists(st.integers(0, 200), max_size=6))
def test_neither_line_ends_nor_pieces_matter(parts: list[bytes], end: bytes, cuts: list[int]) -> None:
    stream = b"".join(part + end for part in parts)
    places = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    pieces = [stream[start:stop] for start, stop in pairwise(places)]
    assert decoded(*pieces) == decoded(b"".join(part + b"\n" for part in parts))


def test_a_long_line_in_many_pieces_is_not_copied_again_and_again() -> None:
    pieces = [b"data: ", *[b"x" * 1_000] * 10_000, b"\n\n"]
    assert decoded(*pieces) == [message("x" * 10_000_000)]


@given(st.lists(st.binary(max_size=30), max_size=8))
@settings(max_examples=200, deadline=None, derandomize=True)
def test_any_bytes_are_decoded(pieces: list[bytes]) -> None:
    assert decoded(*pieces) == decoded(b"".join(pieces))
