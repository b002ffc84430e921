"""Rate, ETA and percentage of a job: how progress is averaged, and when an estimate is worth showing.

Work is counted in items; half an item counts as 0.5. The rate is an exponential average (MEMORY_S), divided by the
time actually observed, so it is right from the first second. Every report passes through here, so comparisons
replace `min` and `max`, which take 0.1 µs.
It must not know clocks, jobs or stores: it is pure arithmetic on its arguments.
"""

from __future__ import annotations

import math

import msgspec

from unstuck.wire.mapping import MOST

#: Seconds after which an observation weighs 1/e. A shorter memory jumps at every large file; a longer one lags.
MEMORY_S = 20.0
#: An ETA is shown only after this many seconds: earlier ones are guesses that jump.
ETA_AFTER_S = 3.0
#: … and only once this share of the work, or this many items, is done.
ETA_AFTER_SHARE = 0.02
ETA_AFTER_ITEMS = 3
#: After this many seconds without any progress, 95 % of what was observed is forgotten, and there is no ETA.
ETA_SILENCE_S = 3 * MEMORY_S
#: The longest ETA (seconds): thirty days. A longer one is not an estimate that anyone can use.
LONGEST_ETA_S = 30 * 86_400.0
#: The shortest time from which a rate is computed (seconds).
LEAST_SPAN_S = 0.5
#: The highest percentage of an unfinished job.
PERCENT_BEFORE_DONE = 99.9


class Meter(msgspec.Struct, frozen=True):
    """The decayed past: weighted work (items), weighted time (seconds), and the last progress (epoch seconds)."""

    work: float = 0.0
    span: float = 0.0
    at: float | None = None


def advance(meter: Meter, items: float, now: float) -> Meter:
    """Return the meter after `items` more (≥ 0) at `now` (epoch seconds). The first call starts it."""
    if meter.at is None:
        return Meter(work=max(items, 0.0), span=0.0, at=now)
    if not items > 0.0:
        return meter  # what decays in two steps decays as in one, and `at` is to say when the last progress came
    work, span = _decayed(meter, now)
    return Meter(work + items, span, now if now > meter.at else meter.at)


def rate(meter: Meter, now: float) -> float | None:
    """Return items per second, or None while unknown. The rate falls while nothing arrives."""
    if meter.at is None:
        return None
    work, span = _decayed(meter, now)
    return None if span < LEAST_SPAN_S else average(work, span)


def average(items: float, seconds: float) -> float | None:
    """Return items per second, or None if there were none, no time passed, or the number is beyond any count."""
    if not (seconds > 0.0 and items > 0.0):
        return None
    found = items / seconds
    return found if 0.0 < found <= MOST else None


def eta_seconds(meter: Meter, *, done: float, total: int | None, elapsed_s: float, now: float) -> int | None:
    """Return the whole seconds until `total` items are done, or None while that would be a guess.

    The rate decays while there is no progress. So it must neither be a divisor after a long silence, when it says
    nothing, nor lead to more than LONGEST_ETA_S.
    """
    if meter.at is None or now - meter.at > ETA_SILENCE_S:
        return None
    if total is None or total <= 0 or elapsed_s < ETA_AFTER_S:
        return None
    if done < ETA_AFTER_ITEMS and done / total < ETA_AFTER_SHARE:
        return None
    speed = rate(meter, now)
    rest = max(total - done, 0.0)
    if speed is None or not rest <= speed * LONGEST_ETA_S:
        return None
    return math.ceil(rest / speed)


def percent(*, done: float, total: int | None, shown: float | None) -> float | None:
    """Return the percentage of an unfinished job in tenths, rounded down; never below `shown`, never 100."""
    if total is None or total <= 0:
        return shown
    tenths = math.floor(done / total * 1000 + 1e-6) / 10
    if shown is not None and shown > tenths:
        return shown
    return tenths if tenths < PERCENT_BEFORE_DONE else PERCENT_BEFORE_DONE


def _decayed(meter: Meter, now: float) -> tuple[float, float]:
    # If the clock was set back, time stands still, so that the average is not inflated.
    assert meter.at is not None
    keep = math.exp((meter.at - now) / MEMORY_S) if now > meter.at else 1.0
    return meter.work * keep, meter.span * keep + MEMORY_S * (1.0 - keep)
