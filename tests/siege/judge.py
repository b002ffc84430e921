"""Decides whether a server told the truth while it was attacked. Pure.

`ready` is true if
- it is 503, with the reason, from NOTICE_S after an attack on the database or its disk was complete until the
  attack began to be undone;
- it is 200 at any other time, except from the beginning of such an attack until RECOVERY_S after it was undone,
  and while it says that no worker can be started, until RECOVERY_S after one was killed.
`live` is 200 unless the server was stopped on purpose. Each is answered within ANSWER_S, whatever is going on.
Nothing is acknowledged while the database is not the one that was opened.

It must not know how an attack is carried out, or who asked. See also: witness.py, ledger.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from tests.siege.witness import READY, Answer
from tests.support.violation import Violation

#: Until a change of the files must be noticed: they are compared at least every second (seconds).
NOTICE_S = 2.0
#: Until the server must be ready again (seconds). A loop counts as down until it has run for a second.
RECOVERY_S = 5.0
#: Until an answer must be there, on a machine that all attackers share (seconds).
ANSWER_S = 5.0


class Flaw(StrEnum):
    """A kind of violation."""

    LOST = "lost"  # something acknowledged is gone
    WEDGED = "wedged"  # a job never ended
    FALSE_READY = "said ready while it could not work"
    FALSE_ALARM = "said not ready while it could work"
    SILENT = "did not answer in time"
    ACKNOWLEDGED = "acknowledged without its database"
    LEFT = "left behind"  # streams, watched jobs, memory, open files
    ERROR = "errors"


@dataclass(frozen=True)
class Window:
    """An attack that makes a server unready: `began` when it was complete, `ended` when it began to be undone."""

    name: str
    before: float
    began: float
    ended: float
    after: float
    reason: str  # a pattern of the trouble that `ready` must give
    #: From this long after `began` on nothing may be acknowledged (seconds); None if that is allowed.
    refuses_after_s: float | None = 0.0


@dataclass(frozen=True)
class Kill:
    """A worker was killed, perhaps while it was starting."""

    at: float

    def excuses(self, answer: Answer) -> bool:
        """Return whether the answer names nothing but workers that cannot be started, soon after the kill."""
        named = all(text.startswith("No worker can be started") for text in answer.troubles)
        return answer.status == 503 and named and self.at <= answer.answered <= self.at + RECOVERY_S


@dataclass(frozen=True)
class Pause:
    """A time in which the server was stopped on purpose."""

    began: float
    ended: float


def false_answers(
    answers: Iterable[Answer], windows: Sequence[Window], pauses: Sequence[Pause], kills: Sequence[Kill] = ()
) -> list[tuple[Answer, Violation]]:
    """Return the answers that were not true, or came too late."""
    found = ((one, _fault(one, windows, pauses, kills)) for one in answers)
    return [(one, fault) for one, fault in found if fault is not None]


def _fault(
    answer: Answer, windows: Sequence[Window], pauses: Sequence[Pause], kills: Sequence[Kill]
) -> Violation | None:
    said = f"{answer.path} said {answer.status} {'; '.join(answer.troubles)}".strip()
    if any(answer.sent <= one.ended and answer.answered >= one.began for one in pauses):
        return None
    if answer.status == 0 or answer.answered - answer.sent > ANSWER_S:
        return Violation(Flaw.SILENT, f"{said} after {answer.answered - answer.sent:.1f} s")
    if answer.path != READY:
        return None if answer.status == 200 else Violation(Flaw.SILENT, said)
    for one in windows:
        if one.began + NOTICE_S <= answer.sent and answer.answered <= one.ended:
            at = f"{answer.sent - one.began:.1f} s after the {one.name} was complete"
            if answer.status != 503:
                return Violation(Flaw.FALSE_READY, f"{at}, {said}")
            if not any(re.search(one.reason, text) for text in answer.troubles):
                return Violation(Flaw.FALSE_READY, f"{at}, {said}, which does not give the reason")
            return None
    if any(one.before <= answer.answered and answer.sent <= one.after + RECOVERY_S for one in windows):
        return None
    if answer.status != 200 and not any(one.excuses(answer) for one in kills):
        last = max((one for one in windows if one.after < answer.sent), key=lambda one: one.after, default=None)
        since = "before any attack" if last is None else f"{answer.sent - last.after:.1f} s after the {last.name}"
        return Violation(Flaw.FALSE_ALARM, f"{since}, {said}")
    return None


def unseen(answers: Sequence[Answer], windows: Sequence[Window]) -> list[Violation]:
    """Return the attacks that no witness has seen, which would prove nothing."""
    ready = [one for one in answers if one.path == READY]
    return [
        Violation(Flaw.SILENT, f"no answer of {READY} within the {window.name}")
        for window in windows
        if window.ended - window.began > NOTICE_S + ANSWER_S / 4  # the last one may be cut short
        and not any(window.began + NOTICE_S <= one.sent and one.answered <= window.ended for one in ready)
    ]


def wrongly_acknowledged(times: Iterable[tuple[float, float]], windows: Sequence[Window]) -> list[Violation]:
    """Return what was acknowledged without a database; `times` are when it was sent and answered."""
    return [
        Violation(Flaw.ACKNOWLEDGED, f"a job was accepted {sent - one.began:.1f} s after the {one.name}")
        for sent, answered in times
        for one in windows
        if one.refuses_after_s is not None and one.began + one.refuses_after_s < sent and answered < one.ended
    ]
