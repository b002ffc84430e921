"""How fast a job advances, and when it will be through: rate, ETA, percent.

Pure arithmetic on numbers that are handed in; knows no clock, no job and no store. Work is counted in
items; half an item done counts as 0.5.

The rate is an average in which what happened τ = 20 s ago weighs 1/e of what happens now, divided by the
time that it really saw (so that it is right from the first second on, and not only after a minute).

Each report comes through here: where a comparison says the same, it stands for `min` and `max`, which take 0.1 µs.
"""

from __future__ import annotations

import math

import msgspec

#: Seconds after which an observation weighs 1/e. Shorter jumps with every large file, longer lags behind.
MEMORY_S = 20.0
#: An ETA is shown only after this many seconds: earlier ones are guesses that jump.
ETA_AFTER_S = 3.0
#: ... and only once this share of the work is done, or three items are.
ETA_AFTER_SHARE = 0.02
ETA_AFTER_ITEMS = 3
#: What a job that is not done shows at most, however near it is.
PERCENT_BEFORE_DONE = 99.9


class Meter(msgspec.Struct, frozen=True):
    """What is remembered of the past: weighted work (items), weighted time (seconds), and when."""

    work: float = 0.0
    span: float = 0.0
    at: float | None = None


def advance(meter: Meter, items: float, now: float) -> Meter:
    """The meter after `items` more (≥ 0) at `now` (epoch seconds). The first call starts it."""
    if meter.at is None:
        return Meter(work=max(items, 0.0), span=0.0, at=now)
    work, span = _decayed(meter, now)
    return Meter(work + items if items > 0.0 else work, span, now if now > meter.at else meter.at)


def rate(meter: Meter, now: float) -> float | None:
    """Items a second, or None while nothing can be said. It sinks while nothing comes."""
    if meter.at is None:
        return None
    work, span = _decayed(meter, now)
    if span < 0.5 or work <= 0.0:
        return None
    return work / span


def eta_seconds(meter: Meter, *, done: float, total: int | None, elapsed_s: float, now: float) -> int | None:
    """Whole seconds until `total` items are done, or None while that would be a guess."""
    if total is None or total <= 0 or elapsed_s < ETA_AFTER_S:
        return None
    if done < ETA_AFTER_ITEMS and done / total < ETA_AFTER_SHARE:
        return None
    speed = rate(meter, now)
    if speed is None or speed <= 0.0:
        return None
    return math.ceil(max(total - done, 0.0) / speed)


def percent(*, done: float, total: int | None, shown: float | None) -> float | None:
    """Percent of a job that goes on, in tenths, rounded down; never below `shown`, never 100."""
    if total is None or total <= 0:
        return shown
    tenths = math.floor(done / total * 1000 + 1e-6) / 10
    if shown is not None and shown > tenths:
        return shown
    return tenths if tenths < PERCENT_BEFORE_DONE else PERCENT_BEFORE_DONE


def _decayed(meter: Meter, now: float) -> tuple[float, float]:
    # A clock that was set back must not blow the average up: time stands still instead.
    assert meter.at is not None
    keep = math.exp((meter.at - now) / MEMORY_S) if now > meter.at else 1.0
    return meter.work * keep, meter.span * keep + MEMORY_S * (1.0 - keep)
