"""Test that schedules are plain data that a seed reproduces."""

from __future__ import annotations

import pytest

from tests.faults.schedule import FOR_PROGRAMS, KINDS, LONGEST_S, NO_HEARTBEATS_BOUND_S, REAL, SHORT, draw


def test_a_seed_reproduces_its_schedule() -> None:
    assert [draw(seed, REAL) for seed in range(50)] == [draw(seed, REAL) for seed in range(50)]
    assert len({str(draw(seed, REAL)) for seed in range(50)}) == 50


def test_all_kinds_are_drawn_on_every_path_and_in_every_phase() -> None:
    faults = [fault for seed in range(1000) for fault in draw(seed, REAL).faults]
    assert {(fault.kind, where) for fault in faults for where in [fault.where]} == {
        (name, where) for name, kind in KINDS.items() for where in kind.wheres
    }
    assert {fault.start_s == 0 for fault in faults} == {True, False}


@pytest.mark.parametrize("pace", [SHORT, REAL])
def test_lengths_and_bounds(pace: object) -> None:
    for seed in range(300):
        schedule = draw(seed, SHORT if pace is SHORT else REAL)
        shortest, longest = (SHORT if pace is SHORT else REAL).lengths_s
        assert all(shortest <= fault.length_s <= longest for fault in schedule.faults)
        assert 0 < schedule.bound_s <= (LONGEST_S if schedule.heartbeats else NO_HEARTBEATS_BOUND_S)
        moments = schedule.moments()
        assert [when for when, _, _ in moments] == sorted(when for when, _, _ in moments)
        assert schedule.heal_s == moments[-1][0]


def test_only_one_kind() -> None:
    for name in KINDS:
        schedule = draw(3, SHORT, name)
        assert [fault.kind for fault in schedule.faults] == [name]
        assert schedule.name == name
        assert name in str(schedule)


def test_a_program_has_no_faults_of_pages() -> None:
    kinds = {fault.kind for seed in range(500) for fault in draw(seed, REAL, program=True).faults}
    assert kinds == set(FOR_PROGRAMS)
    assert not {"page frozen", "clock jump"} & kinds


def test_a_fault_ends_before_the_next_begins_at_the_same_moment() -> None:
    for seed in range(300):
        active = 0
        for _, _, begins in draw(seed, REAL).moments():
            active += 1 if begins else -1
            assert active <= 1, draw(seed, REAL)
