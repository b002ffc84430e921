"""Rate, ETA and percentage, with given times."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unstuck.jobs.rate import (
    ETA_SILENCE_S,
    LONGEST_ETA_S,
    PERCENT_BEFORE_DONE,
    Meter,
    advance,
    average,
    eta_seconds,
    percent,
    rate,
)
from unstuck.wire.mapping import MOST

anything = st.floats() | st.sampled_from([0.0, -1.0, 1e-320, 1e9, 1e308, -1e308])
#: Any history of reports: how much was done, and how the clock moved meanwhile, in either direction.
histories = st.lists(st.tuples(st.floats(0, 1e15), st.floats(-1e6, 1e6)), max_size=12)


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


@pytest.mark.parametrize("silent_s", [61.0, 900.0, 14_300.0, 1e6, 1e12])
def test_there_is_no_eta_in_silence(silent_s: float) -> None:
    meter = steady(1.0, 3)
    assert eta_seconds(meter, done=3, total=10, elapsed_s=silent_s, now=1003.0 + silent_s) is None
    told = advance(meter, 0.0, 1003.0 + silent_s - 1)  # a sign of life is no progress
    assert eta_seconds(told, done=3, total=10, elapsed_s=silent_s, now=1003.0 + silent_s) is None
    soon = eta_seconds(meter, done=3, total=10, elapsed_s=3 + ETA_SILENCE_S / 2, now=1003.0 + ETA_SILENCE_S / 2)
    assert soon is not None


def test_an_eta_of_more_than_thirty_days_is_none() -> None:
    meter = steady(1.0, 60)
    assert eta_seconds(meter, done=60, total=MOST, elapsed_s=60, now=1060.0) is None
    assert eta_seconds(meter, done=60, total=1_000_000, elapsed_s=60, now=1060.0) is not None


def checked(meter: Meter, done: float, total: int | None, now: float) -> None:
    for found in (rate(meter, now), average(done, now)):
        assert found is None or 0 < found <= MOST
    eta = eta_seconds(meter, done=done, total=total, elapsed_s=now, now=now)
    assert eta is None or 0 <= eta <= LONGEST_ETA_S


@given(histories, st.none() | st.integers(0, MOST), st.floats(0, 1e12))
def test_any_history_gives_an_estimate_of_use_or_none(
    history: list[tuple[float, float]], total: int | None, silent_s: float
) -> None:
    meter, done, now, shown = advance(Meter(), 0.0, 1e9), 0.0, 1e9, 0.0
    for items, step in history:
        now += step
        done += items
        meter = advance(meter, items, now)
        checked(meter, done, total, now)
        if done <= MOST:
            percentage = percent(done=done, total=total, shown=shown)
            assert percentage is not None
            assert shown <= percentage <= PERCENT_BEFORE_DONE
            shown = percentage
    checked(meter, done, total, now + silent_s)


@given(st.builds(Meter, anything, anything, st.none() | anything), st.integers(0, MOST), anything)
def test_any_stored_meter_gives_an_estimate_of_use_or_none(meter: Meter, total: int, now: float) -> None:
    if not math.isnan(now):
        checked(meter, 5.0, total, now)
