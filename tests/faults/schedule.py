"""Draws from a seed which faults strike when, and for how long: plain data that can be printed and replayed.

The same seed and pace always give the same schedule. It must not know how a fault is applied, or what a screen
shows meanwhile.
Next: scene.py and browser.py apply the faults; run.py plays many schedules.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from tests.faults.answers import ANSWERS
from tests.faults.breakable import Breakage
from tests.faults.proxy import BOTH, Mode, Trouble
from tests.faults.service_worker import Behaviour
from tests.faults.wire import POLL, STREAM


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of fault; `wheres` are the requests that it may strike, `amounts` the bounds of its strength."""

    wheres: tuple[tuple[str, ...], ...] = (BOTH,)
    trouble: Trouble | None = None  # for the proxy; None if the fault is applied elsewhere
    answer: str = ""
    amounts: tuple[float, float] = (0.0, 0.0)
    #: Nothing tells the client that its connection is lost, so only silence can.
    silent: bool = False
    breakage: Breakage | None = None  # of the server itself
    #: Nothing gets through, if it strikes all requests.
    severs: bool = False
    of_page: bool = False  # does not apply to programs
    needs_dialog: bool = False  # cannot begin before the dialog is open
    heartbeats: bool = True  # the server sends heartbeats
    service_worker: Behaviour | None = None  # of one between the page and its server
    stops: bool = False  # stops processes of the browser, so that the play needs its own browser


EITHER = ((STREAM,), (POLL,), BOTH)
STREAMS = ((STREAM,),)

#: All faults by name. Amounts are in bytes, seconds or probabilities, see proxy.Trouble.
KINDS: dict[str, Kind] = {
    "refused": Kind(trouble=Trouble.REFUSE, severs=True),
    "reset": Kind(EITHER, Trouble.RESET, severs=True),
    "cut": Kind(EITHER, Trouble.CUT, amounts=(1, 900)),
    "half open": Kind(EITHER, Trouble.HALF_OPEN, silent=True, severs=True),
    "black hole": Kind(EITHER, Trouble.BLACK_HOLE, silent=True, severs=True),
    "bursts": Kind(EITHER, Trouble.BURSTS, amounts=(0.5, 4)),
    "late": Kind(EITHER, Trouble.LATE, amounts=(0.1, 13)),
    "duplicated": Kind(STREAMS, Trouble.DUPLICATE, amounts=(0.3, 1)),
    "reordered": Kind(STREAMS, Trouble.REORDER, amounts=(0.3, 1)),
    "dropped": Kind(STREAMS, Trouble.DROP, amounts=(0.3, 1), silent=True),
    "heartbeats only": Kind(STREAMS, Trouble.HEARTBEATS_ONLY, silent=True),
    **{name: Kind(EITHER, Trouble.ANSWER, name) for name in ANSWERS},
    "retry 0": Kind(STREAMS, Trouble.RETRY, "0", amounts=(200, 4000)),
    "retry never": Kind(STREAMS, Trouble.RETRY, "99999999999", amounts=(200, 4000)),
    "split": Kind(STREAMS, Trouble.SPLIT),
    "huge": Kind(STREAMS, Trouble.HUGE, amounts=(0.1, 0.5)),
    "half open, no heartbeats": Kind(((STREAM,), BOTH), Trouble.HALF_OPEN, silent=True, heartbeats=False),
    "server killed": Kind(severs=True),
    "broadcast raises": Kind(breakage=Breakage.RAISES, silent=True),
    "broadcast does nothing": Kind(breakage=Breakage.DEAF, silent=True),
    "store fails": Kind(breakage=Breakage.STORE, silent=True),
    # Open connections are lost silently, as when a phone changes networks.
    "offline": Kind(of_page=True, silent=True),
    "clock jump": Kind(of_page=True, amounts=(-3600, 3600)),
    "page covered": Kind(of_page=True, needs_dialog=True),
    "page frozen": Kind(of_page=True, needs_dialog=True),
    "page in bfcache": Kind(of_page=True, needs_dialog=True),  # the back/forward cache
    **{
        f"service worker {does}": Kind(EITHER, of_page=True, silent=True, service_worker=does)
        for does in Behaviour
    },
    # Open connections are lost meanwhile.
    "machine asleep": Kind(of_page=True, needs_dialog=True, silent=True, stops=True),
    "renderer stopped": Kind(of_page=True, needs_dialog=True, stops=True),
}
#: Those that apply to programs too.
FOR_PROGRAMS = {name: kind for name, kind in KINDS.items() if not kind.of_page}

#: The end of a fault of any length is noticed within this time (seconds): two heartbeats and a poll.
LONGEST_S = 45.0
#: Without heartbeats, only the watchdog's limit of a minute of silence is left (seconds).
NO_HEARTBEATS_BOUND_S = 85.0
#: How long recovery may take beyond the length of a fault that the client notices, since pauses double (seconds).
LAG_S = 10.0


@dataclass(frozen=True, slots=True)
class Pace:
    """How long faults last (seconds), and how many may follow each other."""

    lengths_s: tuple[float, float]
    most: int


#: For the tests, and for the long run.
SHORT = Pace((0.5, 2.5), 2)
REAL = Pace((0.5, 40.0), 3)


@dataclass(frozen=True, slots=True)
class Fault:
    kind: str
    where: tuple[str, ...]
    start_s: float  # 0: before the dialog opens
    length_s: float
    amount: float

    @property
    def end_s(self) -> float:
        # 4.29 + 28.94 is slightly more than 33.23, so a fault that begins then would begin before this one ends.
        return round(self.start_s + self.length_s, 2)

    @property
    def told_within_s(self) -> float | None:
        """The time within which a dialog says that nothing gets through (seconds), or None if something does."""
        kind = KINDS[self.kind]
        if not kind.severs or self.where != BOTH:
            return None
        return LONGEST_S if kind.silent else LAG_S

    @property
    def mode(self) -> Mode | None:
        """The proxy's mode during this fault, or None if the proxy is not involved."""
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
    only: str | None  # drawn for this kind alone
    faults: tuple[Fault, ...]
    program: bool  # the Python client watches, instead of Chromium

    @property
    def kinds(self) -> list[Kind]:
        return [KINDS[fault.kind] for fault in self.faults]

    @property
    def heartbeats(self) -> bool:
        return all(kind.heartbeats for kind in self.kinds)

    @property
    def breakable(self) -> bool:
        return any(kind.breakage for kind in self.kinds)

    @property
    def stops(self) -> bool:
        return any(kind.stops for kind in self.kinds)

    @property
    def early(self) -> list[Fault]:
        """The faults that begin before the dialog opens."""
        return [one for one in self.faults if one.start_s == 0 and not KINDS[one.kind].needs_dialog]

    @property
    def name(self) -> str:
        """The row of the table that this schedule counts for."""
        if self.program:
            return "the Python client"
        return self.faults[0].kind if len(self.faults) == 1 else "several"

    @property
    def heal_s(self) -> float:
        return max(fault.end_s for fault in self.faults)

    @property
    def bound_s(self) -> float:
        """The time that the screen may take to show the truth after the last fault ends (seconds)."""
        if not self.heartbeats:
            return NO_HEARTBEATS_BOUND_S
        if any(kind.silent for kind in self.kinds):
            return LONGEST_S
        return min(LONGEST_S, LAG_S + self.heal_s)

    def moments(self) -> list[tuple[float, Fault, bool]]:
        """Return (time, fault, whether it begins), in order; ends come before beginnings at the same time."""
        begins = [(fault.start_s, fault, True) for fault in self.faults]
        ends = [(fault.end_s, fault, False) for fault in self.faults]
        return sorted(begins + ends, key=lambda moment: (moment[0], moment[2]))

    def __str__(self) -> str:
        job = f"{self.total} items of {self.item_s:g} s, {self.failures:.0%} failing"
        who = ", the Python client" if self.program else ""
        return f"seed {self.seed}{who}: {job}; " + "; ".join(str(fault) for fault in self.faults)


def draw(seed: int, pace: Pace, only: str | None = None, *, program: bool = False) -> Schedule:
    """Return the schedule of this seed; with `only`, a single fault of that kind."""
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
    # The job ends before or after the last fault; with two workers it takes the time of total / 2 items.
    work_s = max(0.5, faults[-1].end_s * chance.uniform(0.3, 1.5))
    failures = chance.choice((0.0, 0.0, 0.3))
    return Schedule(seed, total, round(work_s * 2 / total, 3), failures, only, tuple(faults), program)


def _fault(chance: random.Random, pace: Pace, name: str, at: float) -> Fault:
    kind = KINDS[name]
    shortest, longest = pace.lengths_s
    length = shortest * (longest / shortest) ** chance.random()  # short and long faults are equally likely
    low, high = kind.amounts
    amount = chance.uniform(low, high)
    if kind.trouble in (Trouble.CUT, Trouble.RETRY):
        amount = int(amount)
    return Fault(name, chance.choice(kind.wheres), round(at, 2), round(length, 2), round(amount, 2))
