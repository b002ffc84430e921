"""Draws from a seed which faults strike the page, the network, the hub and the store under virtual time, and when.

A schedule is plain data that can be printed and replayed; the same seed always gives the same one. The
counterpart of schedule.py, with longer faults, several at once, and faults that can only be applied from inside.
It must not know how a fault is applied.
Next: virtual_stage.py, which plays a schedule.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from tests.faults.answers import ANSWERS
from tests.faults.proxy import BOTH
from tests.faults.wire import POLL, STREAM


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of fault: the requests that it may strike, the bounds of its strength and its length (seconds)."""

    wheres: tuple[tuple[str, ...], ...] = (BOTH,)
    amounts: tuple[float, float] = (0.0, 0.0)
    lengths_s: tuple[float, float] = (0.5, 60.0)


EITHER = ((STREAM,), (POLL,), BOTH)
STREAMS = ((STREAM,),)
LONG = (5.0, 300.0)

NETWORK: dict[str, Kind] = {
    "refused": Kind(),
    "reset": Kind(EITHER),
    "cut": Kind(EITHER, (1, 3_000)),  # bytes until then
    "half open": Kind(EITHER),
    "black hole": Kind(EITHER, lengths_s=LONG),
    "bursts": Kind(EITHER, (0.5, 8)),  # seconds between two
    "late": Kind(EITHER, (0.1, 20)),  # seconds
    "duplicated": Kind(STREAMS, (0.3, 1)),  # probabilities
    "reordered": Kind(STREAMS, (0.3, 1)),
    "dropped": Kind(STREAMS, (0.3, 1)),
    "heartbeats only": Kind(STREAMS),
    **{name: Kind(EITHER) for name in ANSWERS},
}
SERVER: dict[str, Kind] = {
    "server killed": Kind(),
    "server killed silently": Kind(),  # its last packets are lost, so no client notices
    "server leaves": Kind(),  # it sends `leaving` events, and comes back
    "older backup": Kind(amounts=(0.5, 30)),  # it comes back with the store as it was this many seconds earlier
    "broadcast raises": Kind(),
    "broadcast does nothing": Kind(),
    "store unreadable": Kind(),
    "store unwritable": Kind(),
    "store slow": Kind(amounts=(0.2, 6)),  # seconds for each read
    "server clock jump": Kind(amounts=(-3_600, 3_600)),
}
PAGE: dict[str, Kind] = {
    "page frozen": Kind(lengths_s=LONG),
    "page in bfcache": Kind(lengths_s=LONG),  # into the back/forward cache; its connections are closed
    "hidden": Kind(lengths_s=LONG),
    "offline": Kind(lengths_s=LONG),
    "machine sleeps": Kind(lengths_s=LONG),
    "clock jump": Kind(amounts=(-3_600, 3_600)),
}
KINDS: dict[str, Kind] = {**NETWORK, **SERVER, **PAGE}

#: The bound for a visible page: two missed heartbeats, and what follows (seconds).
VISIBLE_S = 45.0
#: The bound without heartbeats, when only the limit of silence is left (seconds).
NO_HEARTBEATS_BOUND_S = 85.0
#: What a hidden page may take longer: its timers fire once a minute, and two may be needed (seconds).
HIDDEN_S = 120.0


@dataclass(frozen=True, slots=True)
class Fault:
    kind: str
    where: tuple[str, ...]
    start_s: float
    length_s: float
    amount: float

    @property
    def end_s(self) -> float:
        return round(self.start_s + self.length_s, 3)

    def __str__(self) -> str:
        amount = f" ({self.amount:g})" if self.amount else ""
        where = f" on {' and '.join(self.where)}" if self.kind in NETWORK else ""
        return f"{self.start_s:g}–{self.end_s:g} s {self.kind}{amount}{where}"


@dataclass(frozen=True, slots=True)
class Schedule:
    """A job, and what happens while it is watched."""

    seed: int
    total: int
    item_s: float
    failures: float
    cancel_s: float | None
    heartbeats: bool  # the server sends heartbeats
    stays_hidden: bool  # the page is never shown again
    faults: tuple[Fault, ...]

    @property
    def name(self) -> str:
        """The row of the table that this schedule counts for."""
        if not self.heartbeats:
            return "no heartbeats"
        if self.stays_hidden:
            return "page stays hidden"
        return self.faults[0].kind if len(self.faults) == 1 else "several"

    @property
    def heal_s(self) -> float:
        return max(fault.end_s for fault in self.faults)

    @property
    def bound_s(self) -> float:
        """The time that the screen may take to show the truth after the last fault ends (seconds)."""
        return (VISIBLE_S if self.heartbeats else NO_HEARTBEATS_BOUND_S) + (HIDDEN_S if self.stays_hidden else 0.0)

    def moments(self) -> list[tuple[float, Fault, bool]]:
        """Return (time, fault, whether it begins), in order; ends come before beginnings at the same time."""
        begins = [(fault.start_s, fault, True) for fault in self.faults]
        ends = [(fault.end_s, fault, False) for fault in self.faults]
        return sorted(begins + ends, key=lambda moment: (moment[0], moment[2]))

    def __str__(self) -> str:
        words = [f"{self.total} items of {self.item_s:g} s, {self.failures:.0%} failing"]
        words += [f"cancelled at {self.cancel_s:g} s"] if self.cancel_s is not None else []
        words += [] if self.heartbeats else ["no heartbeats"]
        words += ["page stays hidden"] if self.stays_hidden else []
        return f"seed {self.seed}: {', '.join(words)}; " + "; ".join(str(fault) for fault in self.faults)


def draw(seed: int, only: str | None = None) -> Schedule:
    """Return the schedule of this seed; with `only`, a single fault of that kind."""
    chance = random.Random(f"virtual {seed} {only or ''}")
    faults: list[Fault] = []
    at = chance.choice((0.0, round(chance.uniform(0.2, 5.0), 2)))
    for _ in range(1 if only else chance.choice((1, 1, 2, 3, 4))):
        fault = _fault(chance, only or chance.choice(list(KINDS)), at)
        faults.append(fault)
        # The next one begins after this one, or during it.
        at = round(at + chance.random() * fault.length_s * chance.choice((1.0, 1.3)), 2)
    total = chance.randint(2, 10)
    work_s = max(1.0, max(fault.end_s for fault in faults) * chance.uniform(0.3, 1.5))
    return Schedule(
        seed=seed,
        total=total,
        item_s=round(work_s * 2 / total, 3),
        failures=chance.choice((0.0, 0.0, 0.3)),
        cancel_s=round(work_s * chance.random(), 2) if chance.random() < 0.1 else None,
        heartbeats=only is not None or chance.random() > 0.08,
        stays_hidden=only is None and chance.random() < 0.05,
        faults=tuple(faults),
    )


def _fault(chance: random.Random, name: str, at: float) -> Fault:
    kind = KINDS[name]
    shortest, longest = kind.lengths_s
    length = shortest * (longest / shortest) ** chance.random()  # short and long faults are equally likely
    amount = round(chance.uniform(*kind.amounts), 2)
    return Fault(name, chance.choice(kind.wheres), round(at, 2), round(length, 2), amount)
