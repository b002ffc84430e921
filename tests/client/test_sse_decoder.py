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


#: Cases of the public SSE contract tests, written with LF.
CONTRACT = {
    "one line": ("data: Hello\n\n", [message("Hello")]),
    "one and two lines": ("data: 1\n\ndata: 2\ndata: 3\n\n", [message("1"), message("2\n3")]),
    "an empty first line": ("data:\ndata: 2\ndata: 3\n\n", [message("\n2\n3")]),
    "an empty line within": ("data: 1\ndata:\ndata: 3\n\n", [message("1\n\n3")]),
    "an empty last line": ("data: 1\ndata\n\n", [message("1\n")]),
    "more blank lines": ("data: 1\n\n\ndata: 2\n\n\n\n", [message("1"), message("2")]),
    "empty data": ("data:\n\n", [message("")]),
    "type and id": ("event: greeting\nid: abc\ndata: Hello\n\n", [message("Hello", "greeting", "abc")]),
    "reverse order": ("data: Hello\nid: abc\nevent: greeting\n\n", [message("Hello", "greeting", "abc")]),
    "an unknown field": ("event: greeting\ncolor: blue\ndata: Hello\n\n", [message("Hello", "greeting")]),
    "no space": ("event:greeting\ndata:Hello\n\n", [message("Hello", "greeting")]),
    "two spaces": ("event:  greeting\ndata:  Hello\n\n", [message(" Hello", " greeting")]),
    "no colon": ("data\n\ndata\ndata\n\n", [message(""), message("\n")]),
    "an id with NULL": ("id: a\0bc\ndata: Hello\n\n", [message("Hello")]),
    "an id that persists": (
        "id: a\ndata: 1\n\ndata: 2\n\n",
        [message("1", last_id="a"), message("2", last_id="a")],
    ),
    "an id made empty": ("id: a\ndata: 1\n\nid: \ndata: 2\n\n", [message("1", last_id="a"), message("2")]),
    "comments": (":Hello\n:World\ndata: 1\n\n:\n: data: 2\n\n", [message("1")]),
    "several bytes": ("data: €豆腐\n\n", [message("€豆腐")]),
    "a BOM": ("\ufeffevent: greeting\nid: abc\ndata: Hello\n\n", [message("Hello", "greeting", "abc")]),
    "a BOM before a comment": ("\ufeff:comment\ndata: Hello\n\n", [message("Hello")]),
    "a BOM before empty data": ("\ufeffdata:\n\n", [message("")]),
    "a BOM in data": ("\ufeffdata: \ufeff1\n\ndata: \ufeff2\n\n", [message("\ufeff1"), message("\ufeff2")]),
    "many": ("".join(f"data: {n}\n\n" for n in range(100)), [message(str(n)) for n in range(100)]),
}


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(("text", "events"), CONTRACT.values(), ids=CONTRACT)
def test_streams_as_the_contract_tests_have_them(text: str, events: list[ServerSentEvent], end: str) -> None:
    stream = text.replace("\n", end).encode()
    assert decoded(stream) == events
    for size in (1, 2, 3):
        assert decoded(*(stream[at : at + size] for at in range(0, len(stream), size))) == events
    for at in range(len(stream)):
        assert decoded(stream[:at], stream[at:]) == events


def test_a_line_end_whose_halves_come_apart() -> None:
    pieces = (b"data: Hello\r", b"\ndata: World\r", b"\n\r\ndata: OK\r", b"\n", b"\r", b"\n")
    assert decoded(*pieces) == [message("Hello\nWorld"), message("OK")]


def test_events_that_share_pieces() -> None:
    assert decoded(b"data: test", b"test\n\ndata:", b"test\n\n") == [message("testtest"), message("test")]


def test_huge_events() -> None:
    huge = "x" * (5 * 2**20)
    whole, half = f"data: {huge}\n\n".encode(), f"data: {huge}".encode()
    assert decoded(whole) == [message(huge)]
    assert decoded(half, huge.encode() + b"\n\n") == [message(huge + huge)]


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
