"""Draws, from a seed, which faults strike when, and for how long: plain data that can be printed and replayed.

The same seed and pace always give the same schedule. Must not know: how a fault is brought about, or what
anybody shows while it lasts.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from tests.faults.answers import ANSWERS
from tests.faults.breakable import Breakage
from tests.faults.proxy import BOTH, Mode, Trouble
from tests.faults.service_worker import Does
from tests.faults.wire import POLL, STREAM


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of fault. `wheres` are the requests that it may strike, `amounts` bounds its strength."""

    wheres: tuple[tuple[str, ...], ...] = (BOTH,)
    trouble: Trouble | None = None  # of the proxy; the others are brought about elsewhere
    answer: str = ""
    amounts: tuple[float, float] = (0.0, 0.0)
    #: Nothing tells the client that its connection is lost, so that it has to find out by the silence.
    silent: bool = False
    breakage: Breakage | None = None  # of the server itself
    of_page: bool = False  # a program has no such thing
    needs_dialog: bool = False  # it cannot be there before the dialog is
    beats: bool = True  # the server sends heartbeats
    service_worker: Does | None = None  # put between the page and its server
    stops: bool = False  # processes of the browser, so that it must be one that nobody else uses


EITHER = ((STREAM,), (POLL,), BOTH)
STREAMS = ((STREAM,),)

#: Of everything by name. Amounts are bytes, seconds or probabilities, see proxy.Trouble.
KINDS: dict[str, Kind] = {
    "refused": Kind(trouble=Trouble.REFUSE),
    "reset": Kind(EITHER, Trouble.RESET),
    "cut": Kind(EITHER, Trouble.CUT, amounts=(1, 900)),
    "half open": Kind(EITHER, Trouble.HALF_OPEN, silent=True),
    "black hole": Kind(EITHER, Trouble.BLACK_HOLE, silent=True),
    "bursts": Kind(EITHER, Trouble.BURSTS, amounts=(0.5, 4)),
    "late": Kind(EITHER, Trouble.LATE, amounts=(0.1, 13)),
    "doubled": Kind(STREAMS, Trouble.DOUBLE, amounts=(0.3, 1)),
    "reordered": Kind(STREAMS, Trouble.REORDER, amounts=(0.3, 1)),
    "dropped": Kind(STREAMS, Trouble.DROP, amounts=(0.3, 1), silent=True),
    "beats only": Kind(STREAMS, Trouble.BEATS_ONLY, silent=True),
    **{name: Kind(EITHER, Trouble.ANSWER, name) for name in ANSWERS},
    "retry 0": Kind(STREAMS, Trouble.RETRY, "0", amounts=(200, 4000)),
    "retry never": Kind(STREAMS, Trouble.RETRY, "99999999999", amounts=(200, 4000)),
    "split": Kind(STREAMS, Trouble.SPLIT),
    "huge": Kind(STREAMS, Trouble.HUGE, amounts=(0.1, 0.5)),
    "half open, no beats": Kind(((STREAM,), BOTH), Trouble.HALF_OPEN, silent=True, beats=False),
    "server killed": Kind(),
    "broadcast raises": Kind(breakage=Breakage.RAISES, silent=True),
    "broadcast does nothing": Kind(breakage=Breakage.DEAF, silent=True),
    "store fails": Kind(breakage=Breakage.STORE, silent=True),
    # What was open is lost without a word, as when a phone changes its network.
    "offline": Kind(of_page=True, silent=True),
    "clock jump": Kind(of_page=True, amounts=(-3600, 3600)),
    "page covered": Kind(of_page=True, needs_dialog=True),
    "page frozen": Kind(of_page=True, needs_dialog=True),
    "page put aside": Kind(of_page=True, needs_dialog=True),  # into the back/forward cache
    **{f"service worker {does}": Kind(EITHER, of_page=True, silent=True, service_worker=does) for does in Does},
    # What was open is lost meanwhile.
    "machine asleep": Kind(of_page=True, needs_dialog=True, silent=True, stops=True),
    "renderer stopped": Kind(of_page=True, needs_dialog=True, stops=True),
}
#: Those that strike a program too.
FOR_PROGRAMS = {name: kind for name, kind in KINDS.items() if not kind.of_page}

#: No matter how long a fault was, its end is noticed within this (seconds): two beats and a poll.
LONGEST_S = 45.0
#: Where no heartbeats come, the watchdog's minute of silence is all that is left.
BEATLESS_S = 85.0
#: What a visible fault may cost beyond its own length, since pauses double (seconds).
LAG_S = 10.0


@dataclass(frozen=True, slots=True)
class Pace:
    """How long faults last (seconds), and how many follow each other at most."""

    lengths_s: tuple[float, float]
    most: int


#: For a test on every change, and for the real thing.
SHORT = Pace((0.5, 2.5), 2)
REAL = Pace((0.5, 40.0), 3)


@dataclass(frozen=True, slots=True)
class Fault:
    kind: str
    where: tuple[str, ...]
    start_s: float  # 0: it is there before the dialog is
    length_s: float
    amount: float

    @property
    def end_s(self) -> float:
        # 4.29 + 28.94 is a little more than 33.23, and what begins then would begin before this is over.
        return round(self.start_s + self.length_s, 2)

    @property
    def mode(self) -> Mode | None:
        """What the proxy has to do; None where it is not the proxy's."""
        kind = KINDS[self.kind]
        return Mode(kind.trouble, self.amount, kind.answer) if kind.trouble else None

    def __str__(self) -> str:
        amount = f" ({self.amount:g})" if self.amount else ""
        return f"{self.start_s:g}–{self.end_s:g} s {self.kind}{amount} on {' and '.join(self.where)}"


@dataclass(frozen=True, slots=True)
class Schedule:
    """A job, and what happens while it is watched."""

    seed: int
    total: int
    item_s: float
    failures: float
    only: str | None  # it was drawn for this kind alone
    faults: tuple[Fault, ...]
    program: bool  # watched by the Python client

    @property
    def kinds(self) -> list[Kind]:
        return [KINDS[fault.kind] for fault in self.faults]

    @property
    def beats(self) -> bool:
        return all(kind.beats for kind in self.kinds)

    @property
    def breakable(self) -> bool:
        return any(kind.breakage for kind in self.kinds)

    @property
    def stops(self) -> bool:
        return any(kind.stops for kind in self.kinds)

    @property
    def early(self) -> list[Fault]:
        """What is there before the dialog."""
        return [one for one in self.faults if one.start_s == 0 and not KINDS[one.kind].needs_dialog]

    @property
    def name(self) -> str:
        """The row of the table that it counts for."""
        if self.program:
            return "the Python client"
        return self.faults[0].kind if len(self.faults) == 1 else "several"

    @property
    def heal_s(self) -> float:
        return max(fault.end_s for fault in self.faults)

    @property
    def bound_s(self) -> float:
        """How long after the healing the screen may take to show the truth."""
        if not self.beats:
            return BEATLESS_S
        if any(kind.silent for kind in self.kinds):
            return LONGEST_S
        return min(LONGEST_S, LAG_S + self.heal_s)

    def moments(self) -> list[tuple[float, Fault, bool]]:
        """(when, which, whether it begins), in order; what ends makes room for what begins."""
        begins = [(fault.start_s, fault, True) for fault in self.faults]
        ends = [(fault.end_s, fault, False) for fault in self.faults]
        return sorted(begins + ends, key=lambda moment: (moment[0], moment[2]))

    def __str__(self) -> str:
        job = f"{self.total} items of {self.item_s:g} s, {self.failures:.0%} failing"
        who = ", the Python client" if self.program else ""
        return f"seed {self.seed}{who}: {job}; " + "; ".join(str(fault) for fault in self.faults)


def draw(seed: int, pace: Pace, only: str | None = None, *, program: bool = False) -> Schedule:
    """The schedule of this seed; `only` has a single fault of that kind."""
    names = list(FOR_PROGRAMS if program else KINDS)
    chance = random.Random(f"{seed} {only or ''}")
    count = 1 if only else chance.choice((1, *range(1, pace.most + 1)))
    faults: list[Fault] = []
    at = chance.choice((0.0, round(chance.uniform(0.2, 2.0), 2)))
    for _ in range(count):
        fault = _fault(chance, pace, only or chance.choice(names), at)
        faults.append(fault)
        at = fault.end_s + chance.choice((0.0, round(chance.uniform(0.1, 2.0), 2)))
    total = chance.randint(4, 24)
    # It ends before the healing or after it; a job of two workers at a time takes total / 2 items' time.
    work_s = max(0.5, faults[-1].end_s * chance.uniform(0.3, 1.5))
    failures = chance.choice((0.0, 0.0, 0.3))
    return Schedule(seed, total, round(work_s * 2 / total, 3), failures, only, tuple(faults), program)


def _fault(chance: random.Random, pace: Pace, name: str, at: float) -> Fault:
    kind = KINDS[name]
    shortest, longest = pace.lengths_s
    length = shortest * (longest / shortest) ** chance.random()  # short ones are as likely as long ones
    low, high = kind.amounts
    amount = chance.uniform(low, high)
    if kind.trouble in (Trouble.CUT, Trouble.RETRY):
        amount = int(amount)
    return Fault(name, chance.choice(kind.wheres), round(at, 2), round(length, 2), round(amount, 2))
