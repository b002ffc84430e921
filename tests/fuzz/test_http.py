"""Random requests leave nothing; `python -m tests.fuzz.http --minutes 60` is the long form."""

from __future__ import annotations

from tests.fuzz.http import play


def test_random_requests_leave_nothing() -> None:
    told: list[str] = []
    assert play(seed=1, count=150, say=told.append) == []
    assert told[0].startswith("150 requests")
