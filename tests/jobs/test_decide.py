"""`decide`: single commands, and the rules that decide.py states in prose."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from tests.support.bench import BROKEN, PASSING, Bench, job_of
from unstuck.errors import JobFinished, LeaseLost, NotFound, Refused
from unstuck.jobs.decide import ITEM_NEXT, NEXT, check_claimable, claim, decide
from unstuck.jobs.job import (
    FINAL,
    ITEM_FINAL,
    Cancel,
    CheckHealth,
    Command,
    Fail,
    Finish,
    Health,
    HealthLimits,
    Item,
    ItemState,
    JobError,
    Lapse,
    Release,
    Renew,
    Report,
    State,
)


@pytest.mark.parametrize("health", [Health.OK, Health.WAITING_LONG])
@pytest.mark.parametrize("before", [0, 1])
def test_a_claim_of_many_items_equals_single_claims(health: Health, before: int) -> None:
    one_by_one, together = Bench(4), Bench(4)
    for bench in (one_by_one, together):
        for _ in range(before):  # the job is running, and one item has had an attempt
            bench.work(1, "failed", PASSING)
        bench.job = replace(bench.job, health=health)
    seq = together.job.seq
    for index in range(4):
        one_by_one.claim(index)
    change = together.claim(0, 1, 2, 3)
    assert (together.job, together.items) == (one_by_one.job, one_by_one.items)
    assert change.visible == (together.job.seq > seq)


def test_only_a_job_that_goes_on_may_be_claimed_from() -> None:
    stopping = Bench(2)
    stopping.claim(1)
    stopping.take(Cancel("j"))
    for job, error in (
        (stopping.job, Refused),
        (job_of(1, external=True), Refused),
        (job_of(1, state=State.FAILED), JobFinished),
    ):
        with pytest.raises(error):
            check_claimable(job)
        with pytest.raises(error):
            claim(job, [Item(index=0, name="a", lease=1, attempt=1)], 1.0)


def test_final_states_have_no_way_out() -> None:
    assert set(NEXT) == set(State)
    assert set(ITEM_NEXT) == set(ItemState)
    assert {state for state in State if not NEXT[state]} == FINAL
    assert {state for state in ItemState if not ITEM_NEXT[state]} == ITEM_FINAL


def test_all_succeeded_or_skipped_is_completed() -> None:
    bench = Bench(2)
    bench.work(0)
    assert (bench.job.state, bench.job.percent) == (State.RUNNING, 50.0)
    bench.work(1, "skipped")
    assert (bench.job.state, bench.job.done, bench.job.percent) == (State.COMPLETED, True, 100.0)


def test_some_failed_is_completed_with_errors() -> None:
    bench = Bench(2)
    bench.work(0)
    bench.work(1, "failed", BROKEN)
    assert bench.job.state is State.COMPLETED_WITH_ERRORS
    assert bench.job.error is None


@pytest.mark.parametrize("other", ["failed", "skipped"])
def test_nothing_succeeded_is_failed(other: str) -> None:
    bench = Bench(2)
    bench.work(0, other, BROKEN if other == "failed" else None)
    bench.work(1, "failed", BROKEN)
    assert bench.job.state is State.FAILED
    assert bench.job.error is not None
    assert bench.job.error.code == "all_items_failed"


def test_the_error_of_a_single_item_is_the_jobs_error() -> None:
    bench = Bench(1)
    bench.work(0, "failed", BROKEN)
    assert bench.job.error == JobError("all_items_failed", BROKEN.message)


@pytest.mark.parametrize("state", sorted(FINAL))
def test_a_finished_job_takes_no_command(state: State) -> None:
    job = replace(job_of(1), state=state)
    item = Item(index=0, name="a", lease=1, lease_until=9.0)
    finish = Finish("j", 0, 1, ItemState.SUCCEEDED, 0.0)
    commands: list[Command] = [
        Renew("j", 0, 1, 1.0), Report("j", 0, 1, 0.0), finish, Release("j", 0, 1), Cancel("j")
    ]  # fmt: skip
    for command in commands:
        with pytest.raises(JobFinished):
            decide(job, command, 1.0, item)


def test_an_outdated_lease_is_refused() -> None:
    bench = Bench(1)
    bench.claim(0)
    bench.take(Release("j", 0, 1))
    bench.claim(0)
    assert bench.items[0].lease == 2
    for command in (Report("j", 0, 1, 0.0), Finish("j", 0, 1, ItemState.SUCCEEDED, 0.0), Release("j", 0, 1)):
        with pytest.raises(LeaseLost):
            bench.take(command)


def test_unknown_item() -> None:
    with pytest.raises(NotFound):
        decide(job_of(1), Release("j", 7, 1), 0.0, None)


def test_an_item_cannot_end_as_running() -> None:
    bench = Bench(1)
    bench.claim(0)
    bench.take(Report("j", 0, 1, 100.0))
    with pytest.raises(Refused):
        bench.finish(0, "pending")


def test_transient_failures_use_up_the_attempts() -> None:
    bench = Bench(1, max_attempts=2)
    bench.work(0, "failed", PASSING)
    assert (bench.items[0].state, bench.job.waiting, bench.job.attempt) == (ItemState.PENDING, 1, 1)
    bench.work(0, "failed", PASSING)
    assert (bench.items[0].state, bench.items[0].error, bench.job.attempt) == (ItemState.FAILED, PASSING, 2)
    assert bench.job.state is State.FAILED


def test_a_release_costs_no_attempt() -> None:
    bench = Bench(1, max_attempts=1)
    bench.claim(0)
    bench.take(Report("j", 0, 1, 100.0, 0.5))
    bench.take(Release("j", 0, 1))
    assert (bench.items[0].attempt, bench.items[0].state, bench.job.partial) == (0, ItemState.PENDING, 0.0)
    assert bench.job.percent == 50.0, "the percentage shown never decreases"
    bench.work(0)
    assert bench.job.state is State.COMPLETED


def test_cancel_ends_waiting_items_at_once_and_running_ones_when_they_stop() -> None:
    bench = Bench(3)
    bench.work(0)
    bench.claim(1)
    change = bench.take(Cancel("j"))
    assert change.cancels_waiting
    assert (bench.job.state, bench.job.cancel_requested) == (State.RUNNING, True)
    assert bench.job.cancel_requested_at == bench.now
    assert bench.claimable() == []
    bench.finish(1, "cancelled")
    assert (bench.job.state, bench.job.succeeded, bench.job.cancelled) == (State.CANCELLED, 1, 2)
    assert bench.job.percent is not None
    assert bench.job.percent < 100


def test_cancel_twice_changes_nothing_more() -> None:
    bench = Bench(2)
    bench.claim(0)
    bench.take(Cancel("j"))
    seq = bench.job.seq
    assert not bench.take(Cancel("j")).visible
    assert bench.job.seq == seq


def test_cancel_of_a_queued_job_is_final_at_once() -> None:
    bench = Bench(2)
    bench.take(Cancel("j"))
    assert (bench.job.state, bench.job.cancelled) == (State.CANCELLED, 2)


def test_items_that_end_despite_the_cancel_count_as_finished() -> None:
    bench = Bench(1)
    bench.claim(0)
    bench.take(Cancel("j"))
    bench.finish(0)
    assert bench.job.state is State.COMPLETED


def test_a_transient_failure_of_a_job_being_stopped_is_cancelled() -> None:
    bench = Bench(1)
    bench.claim(0)
    bench.take(Cancel("j"))
    bench.finish(0, "failed", PASSING)
    assert (bench.items[0].state, bench.job.state) == (ItemState.CANCELLED, State.CANCELLED)


def test_an_item_cannot_end_cancelled_without_a_cancel() -> None:
    bench = Bench(1)
    bench.claim(0)
    with pytest.raises(Refused):
        bench.finish(0, "cancelled")


def test_too_many_errors_stop_the_job() -> None:
    bench = Bench(10, max_errors=1)
    bench.claim(9)
    bench.work(0, "failed", BROKEN)
    assert bench.job.error is None
    bench.work(1, "failed", BROKEN)
    assert (bench.job.state, bench.job.waiting) == (State.RUNNING, 0), "item 9 still runs"
    bench.finish(9)
    assert bench.job.state is State.FAILED
    assert bench.job.error is not None
    assert bench.job.error.code == "too_many_errors"
    assert (bench.job.succeeded, bench.job.failed, bench.job.cancelled) == (1, 2, 7)


def test_claims_and_renewals_are_not_visible() -> None:
    bench = Bench(2)
    bench.claim(0)
    seq = bench.job.seq
    bench.claim(1)
    bench.take(Renew("j", 0, 1, 60.0))
    assert bench.job.seq == seq
    assert bench.items[0].lease_until == 160.0


def test_progress_within_an_item_only_moves_the_bar_forward() -> None:
    bench = Bench(1)
    bench.claim(0)
    shown = []
    for fraction in (0.25, 0.1, None, 0.5, 1.0):
        bench.now += 1
        bench.take(Report("j", 0, 1, 100.0, fraction))
        shown.append(bench.job.percent)
    assert shown == [25.0, 25.0, 25.0, 50.0, 99.9]
    bench.finish(0)
    assert (bench.job.percent, bench.job.partial) == (100.0, 0.0)


def test_a_lease_lapses_only_when_it_has_expired_or_is_forced() -> None:
    bench = Bench(1)
    bench.claim(0)
    with pytest.raises(Refused):
        bench.take(Lapse("j", 0, 1, "silent"))
    bench.now += 31
    bench.take(Renew("j", 0, 1, 30.0))  # late, but the item was not taken away yet
    bench.take(Lapse("j", 0, 1, "an operator says so", forced=True))
    assert (bench.items[0].attempt, bench.job.waiting) == (0, 1), "the attempt never began"


def test_losing_the_last_attempt_fails_the_item() -> None:
    bench = Bench(1, max_attempts=2)
    for lease in (1, 2):
        bench.claim(0)
        bench.take(Report("j", 0, lease, bench.now, 0.5))
        bench.now += 31
        bench.take(Lapse("j", 0, lease, "no sign of life"))
    assert (bench.job.state, bench.items[0].error) == (
        State.FAILED,
        JobError("worker_lost", "no sign of life", transient=True),
    )


def test_a_deadline_does_not_turn_a_cancelled_job_into_a_failed_one() -> None:
    bench = Bench(1, deadline_at=110.0)
    bench.claim(0)
    bench.take(Cancel("j"))
    bench.now = 120.0
    bench.take(CheckHealth("j", HealthLimits()))
    bench.finish(0, "cancelled")
    assert bench.job.state is State.CANCELLED


def test_the_first_reason_to_fail_is_kept() -> None:
    bench = Bench(2)
    bench.claim(0)
    bench.take(Fail("j", JobError("failed_by_operator", "broken input")))
    assert not bench.take(Fail("j", JobError("failed_by_operator", "another"))).visible
    bench.finish(0)
    assert (bench.job.state, bench.job.succeeded, bench.job.cancelled) == (State.FAILED, 1, 1)
    assert bench.job.error == JobError("failed_by_operator", "broken input")


def say(bench: Bench, index: int, words: str | None, fraction: float | None = 0.5) -> None:
    bench.take(Report("j", index, bench.items[index].lease, bench.now, fraction, words))


def test_the_newest_words_of_a_running_item_are_the_jobs() -> None:
    bench = Bench(3)
    for index in range(3):
        bench.claim(index)
    say(bench, 0, "loading")
    assert bench.job.message == "loading"
    say(bench, 1, "scaling")
    say(bench, 0, "loading", 0.6)  # repeated, since each report has the item's newest words
    say(bench, 2, None)
    assert bench.job.message == "scaling"
    bench.finish(1)
    assert bench.job.message is None, "what said it no longer runs"
    say(bench, 0, "loading", 0.7)
    assert bench.job.message == "loading", "what still runs is heard again"
    bench.finish(2)
    assert bench.job.message == "loading"
    bench.finish(0)
    assert (bench.job.done, bench.job.message) == (True, None)


def test_words_end_with_the_attempt_that_said_them() -> None:
    bench = Bench(2)
    bench.claim(0)
    say(bench, 0, "loading")
    bench.finish(0, "failed", PASSING)
    assert (bench.job.message, bench.items[0].message) == (None, "Attempt 1 failed: crashed")
    bench.claim(1)
    say(bench, 1, "scaling")
    bench.take(Release("j", 1, bench.items[1].lease))
    assert bench.job.message is None
