"""A crowd that one server sends away comes to the others no faster than they can take it.

The long form is `scripts/faults --return 1000000`.
"""

from __future__ import annotations

import pytest

from tests.faults import virtual_return
from tests.faults.virtual_return import play_return


def test_a_crowd_comes_back_within_what_a_core_can_take() -> None:
    found = play_return(viewers=16_000, servers=2)
    assert found.connects_per_s < 1_100
    assert found.polls_per_s < 1_200
    assert found.core < 0.5
    assert found.last_s < 2 * 8 + 1


def test_without_the_spread_it_would_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(virtual_return, "return_ms", lambda _: (500, 3_000))
    assert play_return(viewers=16_000, servers=2).connects_per_s > 1_500
