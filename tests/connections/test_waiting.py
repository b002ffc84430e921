"""How long connections wait for their clients, and which of them makes room."""

from __future__ import annotations

from unstuck.connections.waiting import HEAD_S, HEADS_AT_ONCE, WRITE_S, Waiting


class Time:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class Silent:
    """A connection that notes what becomes of it."""

    def __init__(self) -> None:
        self.fate = ""

    def on_overdue(self) -> None:
        self.fate = "overdue"

    def make_way(self) -> None:
        self.fate = "made way"


def test_each_wait_has_its_limit_and_is_counted_from_its_beginning() -> None:
    time = Time()
    waiting = Waiting(10, clock=time)
    idle, head, reader = Silent(), Silent(), Silent()
    for one in (idle, head, reader):
        waiting.opened(one, 1)
    waiting.request_has_come(reader)
    waiting.for_reader(reader)
    time.now += HEAD_S - 1
    waiting.for_rest_of_head(head)
    waiting.close_overdue()
    time.now += 1
    waiting.for_rest_of_head(head)  # another byte: it keeps its place
    waiting.close_overdue()
    assert [one.fate for one in (idle, head, reader)] == ["overdue", "", ""]
    time.now += HEAD_S - 1
    waiting.close_overdue()
    assert [one.fate for one in (idle, head, reader)] == ["overdue", "overdue", ""]
    time.now += WRITE_S
    waiting.close_overdue()
    assert reader.fate == "overdue"
    assert len(waiting) == 0


def test_a_setting_for_slower_readers_of_streams_holds_here_too() -> None:
    time = Time()
    waiting = Waiting(10, write_s=3 * WRITE_S, clock=time)
    reader = Silent()
    waiting.for_reader(reader)
    time.now += 2 * WRITE_S
    waiting.close_overdue()
    assert reader.fate == ""
    waiting.reader_is_back(reader)
    assert len(waiting) == 0


def test_the_connection_that_has_waited_longest_makes_room() -> None:
    waiting = Waiting(2)
    first, second, third, fourth = (Silent() for _ in range(4))
    waiting.opened(first, 1)
    waiting.opened(second, 2)
    waiting.opened(third, 3)
    assert [one.fate for one in (first, second, third)] == ["made way", "", ""]
    waiting.request_has_come(third)  # which is worked on, and makes no room
    waiting.for_rest_of_head(second)
    waiting.opened(fourth, 3)
    assert [one.fate for one in (second, third, fourth)] == ["made way", "", ""]


def test_a_connection_is_let_in_if_none_waits() -> None:
    waiting = Waiting(1)
    one = Silent()
    waiting.opened(one, 50)
    assert one.fate == ""


def test_when_answers_end_there_are_no_more_connections_than_allowed() -> None:
    waiting = Waiting(1)
    first, second = Silent(), Silent()
    waiting.for_request(first, 2)
    assert first.fate == "made way"
    waiting.for_request(second, 1)
    assert second.fate == ""


def test_unfinished_heads_are_few() -> None:
    waiting = Waiting(10**6)
    heads = [Silent() for _ in range(HEADS_AT_ONCE + 2)]
    for one in heads:
        waiting.opened(one, 1)
        waiting.for_rest_of_head(one)
    assert [one.fate for one in heads[:3]] == ["made way", "made way", ""]
    assert len(waiting) == HEADS_AT_ONCE
