"""Rate, ETA and percentage, with given times."""

from __future__ import annotations

import pytest

from unstuck.jobs.rate import Meter, advance, eta_seconds, percent, rate


def steady(items_per_second: float, seconds: int) -> Meter:
    meter = advance(Meter(), 0, 1000.0)
    for second in range(1, seconds + 1):
        meter = advance(meter, items_per_second, 1000.0 + second)
    return meter


@pytest.mark.parametrize("seconds", [1, 5, 60, 600])
def test_a_steady_rate_is_right_from_the_start(seconds: int) -> None:
    assert rate(steady(3.0, seconds), 1000.0 + seconds) == pytest.approx(3.0, rel=0.06)


def test_there_is_no_rate_before_any_progress() -> None:
    assert rate(Meter(), 5.0) is None
    assert rate(advance(Meter(), 0, 1.0), 1.1) is None
    assert rate(advance(Meter(), 0, 1.0), 100.0) is None


def test_the_rate_follows_changes_and_decays_in_silence() -> None:
    meter = steady(10.0, 60)
    for second in range(1, 41):
        meter = advance(meter, 1.0, 1060.0 + second)
    now = rate(meter, 1100.0)
    assert now is not None
    assert 1.0 < now < 3.0
    later = rate(meter, 1160.0)
    assert later is not None
    assert later < now / 4


def test_a_clock_set_back_does_no_harm() -> None:
    meter = advance(steady(2.0, 30), 1.0, 900.0)
    found = rate(meter, 900.0)
    assert found is not None
    assert 1.5 < found < 2.5


def test_no_eta_before_it_is_more_than_a_guess() -> None:
    meter = steady(2.0, 10)
    assert eta_seconds(meter, done=20, total=100, elapsed_s=10, now=1010.0) == pytest.approx(40, abs=3)
    assert eta_seconds(meter, done=20, total=100, elapsed_s=2.9, now=1010.0) is None
    assert eta_seconds(meter, done=0.5, total=100, elapsed_s=10, now=1010.0) is None
    assert eta_seconds(meter, done=20, total=None, elapsed_s=10, now=1010.0) is None
    assert eta_seconds(Meter(), done=20, total=100, elapsed_s=10, now=1010.0) is None


def test_percent_is_rounded_down_monotone_and_short_of_100() -> None:
    assert percent(done=11, total=25, shown=0.0) == 44.0
    assert percent(done=2, total=3, shown=0.0) == 66.6
    assert percent(done=25, total=25, shown=0.0) == 99.9
    assert percent(done=1, total=25, shown=44.0) == 44.0
    assert percent(done=1, total=None, shown=None) is None
