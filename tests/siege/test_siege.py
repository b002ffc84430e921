"""A siege in short, and what decides whether the server told the truth. `scripts/siege` plays ten minutes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.siege import schedule
from tests.siege.attacks import STORE, WORK
from tests.siege.clients import CLIENTS
from tests.siege.judge import (
    ANSWER_S,
    NOTICE_S,
    RECOVERY_S,
    Flaw,
    Kill,
    Pause,
    Window,
    false_answers,
    unseen,
    wrongly_acknowledged,
)
from tests.siege.run import SHORT_S, play
from tests.siege.schedule import draw
from tests.siege.witness import LIVE, READY, Answer

#: A schedule that deletes the database and fills the disk.
SEED = 28
WINDOW = Window("database deleted", before=99.0, began=100.0, ended=110.0, after=111.0, reason="deleted")


@pytest.mark.alone
def test_a_server_under_siege(tmp_path: Path) -> None:
    outcome = play(tmp_path, SEED, SHORT_S, short=True)
    assert outcome.violations == ()
    assert outcome.jobs > 10, "there was something to lose"
    assert {name for name in outcome.attacks if name in STORE}, "and a reason to be unready"


def answer(at: float, status: int, *troubles: str, path: str = READY, after_s: float = 0.1) -> Answer:
    return Answer(path, at, at + after_s, status, troubles)


@pytest.mark.parametrize(
    ("said", "flaw"),
    [
        (answer(98.0, 200), None),
        (answer(98.0, 503, "why?"), Flaw.FALSE_ALARM),
        (answer(99.5, 503, "already"), None),
        (answer(100.0 + NOTICE_S - 0.5, 200), None),
        (answer(100.0 + NOTICE_S + 0.1, 200), Flaw.FALSE_READY),
        (answer(105.0, 503, "one worker is slow", "it was deleted"), None),
        (answer(105.0, 503, "something else"), Flaw.FALSE_READY),
        (answer(109.95, 200), None),  # put back before the answer
        (answer(111.0 + RECOVERY_S - 0.5, 503, "deleted"), None),
        (answer(111.0 + RECOVERY_S + 0.1, 503, "deleted"), Flaw.FALSE_ALARM),
        (answer(111.0 + RECOVERY_S + 0.1, 200), None),
        (answer(98.0, 0, "refused"), Flaw.SILENT),
        (answer(98.0, 200, after_s=ANSWER_S + 0.1), Flaw.SILENT),
        (answer(105.0, 503, path=LIVE), Flaw.SILENT),
        (answer(201.0, 0, "refused"), None),  # stopped on purpose
        (answer(301.0, 503, "No worker can be started: it ended"), None),  # one was killed
        (answer(301.0, 503, "No worker can be started: it ended", "the disk is full"), Flaw.FALSE_ALARM),
        (answer(300.0 + RECOVERY_S, 503, "No worker can be started: it ended"), Flaw.FALSE_ALARM),
    ],
)
def test_an_answer_is_true_or_not(said: Answer, flaw: Flaw | None) -> None:
    found = false_answers([said], [WINDOW], [Pause(200.0, 202.0)], [Kill(300.0)])
    assert [fault.kind for _, fault in found] == ([flaw] if flaw else [])


def test_an_attack_that_no_answer_has_seen_proves_nothing() -> None:
    assert unseen([answer(105.0, 503, "deleted")], [WINDOW]) == []
    for said in (answer(100.5, 503), answer(105.0, 200, path=LIVE), answer(112.0, 503)):
        assert len(unseen([said], [WINDOW])) == 1


def test_nothing_is_acknowledged_without_a_database() -> None:
    assert wrongly_acknowledged([(99.9, 100.5), (109.5, 110.5)], [WINDOW]) == []
    assert [one.kind for one in wrongly_acknowledged([(100.1, 100.2)], [WINDOW])] == [Flaw.ACKNOWLEDGED]


def test_a_seed_gives_the_same_schedule_and_every_attack_comes() -> None:
    tracks = draw(7, 600.0, with_disk=True)
    assert tracks == draw(7, 600.0, with_disk=True)
    assert tracks != draw(8, 600.0, with_disk=True)
    assert {one.name for track in tracks for one in track} == {*STORE, *WORK, *CLIENTS}
    assert set(schedule.STORE) == set(STORE)
    assert all(sum(one.after_s + one.for_s for one in track) <= 600.0 for track in tracks)
    without = {one.name for track in draw(7, 600.0, with_disk=False) for one in track}
    assert without == {*STORE, *WORK, *CLIENTS} - schedule.NEED_A_DISK
