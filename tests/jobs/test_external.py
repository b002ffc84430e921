"""External work: single reports, and any sequence of reports that Hypothesis generates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from msgspec.structs import replace

from tests.support.bench import BROKEN, job_of
from tests.support.external import reports
from unstuck.errors import ItemFinished, JobFinished, NotExternal, NotFound, Refused
from unstuck.jobs.decide import NEXT, Change, check_claimable, decide
from unstuck.jobs.external import ExternalReport, ItemReport, apply_report, conflate
from unstuck.jobs.job import (
    ITEM_FINAL,
    Cancel,
    CheckHealth,
    Command,
    Fail,
    Health,
    HealthLimits,
    Item,
    ItemState,
    JobError,
    State,
)

S, F, K = ItemState.SUCCEEDED, ItemState.FAILED, ItemState.SKIPPED
ALARMS = HealthLimits(expiry_s=2_000.0)


class Desk:
    """An external job, kept as a store would keep it. Without a total it has counts only, and no items."""

    def __init__(self, total: int | None, **more: Any) -> None:
        counted = total is None
        self.job = job_of(total or 0, external=True, counted=counted, open_end=counted, **more)
        if counted:
            self.job = replace(self.job, percent=None)
        self.items = [Item(index=index, name=f"{index}") for index in range(total or 0)]
        self.now = 100.0

    def apply_report(self, *reports: ExternalReport) -> None:
        for report in reports:
            self.keep(apply_report(self.job, report, self.now, lambda at: dict(enumerate(self.items)).get(at)))

    def take(self, command: Command) -> None:
        self.keep([decide(self.job, command, self.now)])

    def keep(self, changes: Sequence[Change]) -> None:
        for change in changes:
            assert change.visible == (change.job.seq == self.job.seq + 1)
            assert change.job.state is self.job.state or change.job.state in NEXT[self.job.state]
            self.job = change.job
            if change.item is not None:
                self.items[change.item.index] = change.item
            left = [item for item in self.items if item.state not in ITEM_FINAL]
            waits_first = sorted(left, key=lambda item: (item.state is ItemState.RUNNING, item.index))
            for item in waits_first[: change.succeeds]:
                self.items[item.index] = replace(item, state=S)
            for item in left if change.cancels_waiting else ():
                self.items[item.index] = replace(item, state=ItemState.CANCELLED)


def items(*states: tuple[int, ItemState]) -> ExternalReport:
    return ExternalReport(items=tuple(ItemReport(index, state) for index, state in states))


def test_the_last_item_ends_the_job() -> None:
    desk = Desk(3)
    desk.apply_report(ExternalReport())
    assert desk.job.state is State.RUNNING
    desk.apply_report(items((0, S)), items((1, ItemState.RUNNING)))
    assert (desk.job.succeeded, desk.job.leased, desk.job.waiting) == (1, 1, 1)
    desk.apply_report(items((1, F), (2, K)))
    assert (desk.job.state, desk.job.percent) == (State.COMPLETED_WITH_ERRORS, 100.0)


def test_a_repeated_end_changes_nothing_and_a_different_one_is_refused() -> None:
    desk = Desk(2)
    desk.apply_report(items((0, S)))
    seq = desk.job.seq
    desk.apply_report(items((0, S)), items((0, ItemState.RUNNING)))
    assert desk.job.seq == seq
    with pytest.raises(ItemFinished):
        desk.apply_report(items((0, F)))


def test_a_report_is_applied_as_a_whole_or_not_at_all() -> None:
    desk = Desk(2)
    desk.apply_report(items((0, S)))
    before = desk.job
    with pytest.raises(NotFound):
        desk.apply_report(items((1, S), (2, S)))
    with pytest.raises(ItemFinished):
        desk.apply_report(ExternalReport(items=(ItemReport(1, S), ItemReport(0, F)), message="no"))
    assert desk.job == before


def test_processed_counts_unreported_items_as_succeeded() -> None:
    desk = Desk(5)
    desk.apply_report(items((0, F), (4, ItemState.RUNNING)), ExternalReport(processed=3))
    assert [item.state for item in desk.items] == [F, S, S, ItemState.PENDING, ItemState.RUNNING]
    desk.apply_report(ExternalReport(processed=2))  # late
    assert desk.job.processed == 3
    desk.apply_report(ExternalReport(processed=5))
    assert (desk.job.state, desk.job.succeeded) == (State.COMPLETED_WITH_ERRORS, 4)


def test_without_items_only_counts_matter_and_the_total_may_come_late() -> None:
    desk = Desk(None)
    desk.apply_report(ExternalReport(processed=7, failed=2))
    assert (desk.job.known_total, desk.job.percent, desk.job.succeeded) == (None, None, 5)
    desk.apply_report(ExternalReport(total=10))
    assert (desk.job.known_total, desk.job.percent) == (10, 70.0)
    desk.apply_report(ExternalReport(total=20), ExternalReport(processed=10))
    assert desk.job.percent == 70.0, "the percentage shown never decreases"
    with pytest.raises(Refused):
        desk.apply_report(ExternalReport(processed=21))
    desk.apply_report(ExternalReport(processed=20))
    desk.now += 10
    desk.take(CheckHealth("j", ALARMS))
    assert (desk.job.state, desk.job.failed) == (State.COMPLETED_WITH_ERRORS, 2)


@pytest.mark.parametrize("total", [0, 3])
def test_a_total_that_is_reached_may_be_raised_in_time(total: int) -> None:
    desk = Desk(None)
    desk.apply_report(ExternalReport(total=total, processed=total))
    for _ in range(3):
        desk.now += 9
        desk.take(CheckHealth("j", ALARMS))
        desk.apply_report(ExternalReport())  # a sign of life
    assert (desk.job.state, desk.job.waiting) == (State.RUNNING, 0)
    desk.apply_report(ExternalReport(total=total + 3, processed=total + 1))
    assert (desk.job.known_total, desk.job.processed) == (total + 3, total + 1)
    desk.apply_report(ExternalReport(processed=total + 3))
    desk.now += 9
    desk.take(CheckHealth("j", ALARMS))
    assert not desk.job.done
    desk.now += 1
    desk.take(CheckHealth("j", ALARMS))
    assert (desk.job.state, desk.job.percent) == (State.COMPLETED, 100.0)


def test_a_deadline_or_a_lost_reporter_does_not_fail_what_is_done() -> None:
    for limits in (ALARMS, HealthLimits(reporter_lost_s=1.0)):
        desk = Desk(None, deadline_at=105.0)
        desk.apply_report(ExternalReport(total=2, processed=2))
        desk.now = 106.0
        desk.take(CheckHealth("j", limits))
        assert desk.job.state is State.COMPLETED
    desk = Desk(None, lost_after_s=1.0)
    desk.apply_report(ExternalReport(total=2, processed=2))
    desk.now += 5
    desk.take(CheckHealth("j", ALARMS))
    assert not desk.job.done, "the total may still be raised"


@pytest.mark.parametrize(
    ("own", "limit", "listening", "lost"),
    [
        (None, None, 1e9, False),
        (None, 5.0, 1e9, True),
        (20.0, 5.0, 1e9, False),
        (5.0, None, 1e9, True),
        (5.0, None, 4.0, False),
    ],
)
def test_a_reporter_is_lost_after_the_limit_of_its_job_or_of_the_server(
    own: float | None, limit: float | None, listening: float, lost: bool
) -> None:
    desk = Desk(2, lost_after_s=own)
    desk.apply_report(items((0, S)))
    desk.now += 10
    limits = HealthLimits(reporter_lost_s=limit, listening_s=listening)
    desk.take(CheckHealth("j", limits))
    assert desk.job.done is lost
    if lost:
        assert desk.job.error is not None
        assert (desk.job.error.code, desk.job.cancelled) == ("reporter_lost", 1)
        with pytest.raises(JobFinished, match="reporter_lost: No report came for 10 seconds, and 5 seconds are"):
            desk.apply_report(items((1, S)))


def test_no_sum_of_counts_is_beyond_what_json_keeps() -> None:
    desk = Desk(None)
    with pytest.raises(Refused, match="at most"):
        desk.apply_report(ExternalReport(failed=2**53, skipped=1))


@pytest.mark.parametrize(
    ("reported", "state", "percent"),
    [
        ("completed", State.COMPLETED, 100.0),
        ("failed", State.FAILED, None),
        ("cancelled", State.CANCELLED, None),
    ],
)
def test_without_a_total_only_a_state_ends_the_job(reported: str, state: State, percent: float | None) -> None:
    desk = Desk(None)
    desk.apply_report(ExternalReport(processed=7))
    assert not desk.job.done
    desk.apply_report(ExternalReport(state=State(reported)))
    assert (desk.job.state, desk.job.percent, desk.job.succeeded) == (state, percent, 7)


def test_completed_means_that_the_rest_succeeded() -> None:
    desk = Desk(4)
    desk.apply_report(items((0, F), (1, ItemState.RUNNING)), ExternalReport(state=State.COMPLETED))
    assert (desk.job.state, desk.job.succeeded, desk.job.partial) == (State.COMPLETED_WITH_ERRORS, 3, 0.0)
    desk = Desk(2)
    with pytest.raises(Refused, match="failed"):
        desk.apply_report(ExternalReport(state=State.COMPLETED_WITH_ERRORS))
    desk.apply_report(ExternalReport(items=(ItemReport(1, F),), state=State.COMPLETED_WITH_ERRORS))
    assert desk.job.state is State.COMPLETED_WITH_ERRORS


def test_failed_cancels_the_remaining_items() -> None:
    desk = Desk(3)
    desk.apply_report(items((0, S), (1, ItemState.RUNNING)), ExternalReport(state=State.FAILED, error=BROKEN))
    assert (desk.job.state, desk.job.cancelled, desk.job.error) == (State.FAILED, 2, BROKEN)


def test_a_finished_job_accepts_only_the_same_end_again() -> None:
    desk = Desk(2)
    desk.apply_report(items((0, S), (1, S)), ExternalReport(state=State.COMPLETED))
    assert desk.job.state is State.COMPLETED
    for report in (
        ExternalReport(),
        ExternalReport(processed=2),
        ExternalReport(state=State.FAILED),
        ExternalReport(state=State.COMPLETED, message="x"),
    ):
        with pytest.raises(JobFinished):
            desk.apply_report(report)


def test_a_cancel_waits_for_the_reporter_until_the_grace_time_ends() -> None:
    desk = Desk(3)
    desk.take(Cancel("j"))
    assert desk.job.state is State.CANCELLED, "no reporter had started on it"
    desk = Desk(3)
    desk.apply_report(items((0, S)))
    desk.take(Cancel("j"))
    assert (desk.job.done, desk.job.cancel_requested, desk.job.waiting) == (False, True, 2)
    desk.apply_report(ExternalReport(items=(ItemReport(1, ItemState.CANCELLED),), state=State.CANCELLED))
    assert (desk.job.state, desk.job.succeeded, desk.job.cancelled) == (State.CANCELLED, 1, 2)
    desk = Desk(None)
    desk.apply_report(ExternalReport(processed=1))
    desk.take(Cancel("j"))
    desk.now += 29
    desk.apply_report(ExternalReport(processed=2))  # the reporter continues
    desk.take(CheckHealth("j", ALARMS))
    assert not desk.job.done
    desk.now += 1
    desk.take(CheckHealth("j", ALARMS))
    assert desk.job.state is State.CANCELLED


def test_failures_limits_and_deadlines_end_external_work_at_once() -> None:
    for command in (Fail("j", BROKEN), CheckHealth("j", ALARMS)):
        desk = Desk(2, deadline_at=110.0)
        desk.apply_report(items((0, ItemState.RUNNING)))
        desk.now = 120.0
        desk.take(command)
        assert (desk.job.state, desk.job.cancelled) == (State.FAILED, 2)
    desk = Desk(3, max_errors=0)
    desk.apply_report(items((1, F)))
    assert desk.job.error is not None
    assert (desk.job.error.code, desk.job.cancelled) == ("too_many_errors", 2)


def test_a_silent_reporter_is_unresponsive_and_a_job_without_progress_is_stalled() -> None:
    desk = Desk(3)
    desk.apply_report(ExternalReport(processed=1))
    desk.now += 61
    desk.take(CheckHealth("j", ALARMS))
    silent = desk.job.health
    desk.apply_report(ExternalReport())
    assert (silent, desk.job.health) == (Health.UNRESPONSIVE, Health.OK)
    for _ in range(6):
        desk.now += 50
        desk.apply_report(ExternalReport(message="still there"))
    desk.take(CheckHealth("j", ALARMS))
    still = desk.job.health
    desk.apply_report(ExternalReport(processed=2))
    assert (still, desk.job.health) == (Health.STALLED, Health.OK)


def test_external_reports_and_runner_commands_do_not_mix() -> None:
    with pytest.raises(NotExternal):
        apply_report(job_of(1), ExternalReport(), 0.0, lambda _: None)
    with pytest.raises(Refused, match="elsewhere"):
        check_claimable(Desk(1).job)
    with pytest.raises(Refused, match="was not asked to stop"):
        Desk(1).apply_report(items((0, ItemState.CANCELLED)))


passing = st.builds(
    ExternalReport,
    items=st.lists(st.builds(ItemReport, st.integers(0, 1), fraction=st.none() | st.floats(0, 1)), max_size=2).map(
        tuple
    ),
    processed=st.none() | st.integers(0, 3),
    message=st.none() | st.sampled_from(["one", "two"]),
)


@given(st.lists(passing, max_size=8), st.booleans())
def test_conflated_reports_mean_the_same(run: list[ExternalReport], named: bool) -> None:
    each, together = (Desk(5) if named else Desk(None) for _ in range(2))
    if not named:
        run = [replace(report, items=()) for report in run]
    each.apply_report(*run)
    together.apply_report(*(report for _, report in conflate(run)))
    assert [replace(item, seq=0) for item in each.items] == [replace(item, seq=0) for item in together.items]
    for name in ("state", "waiting", "leased", "succeeded", "percent", "message", "total"):
        assert getattr(each.job, name) == getattr(together.job, name), name
    assert each.job.partial == pytest.approx(together.job.partial)


def test_ends_are_never_conflated() -> None:
    run = [
        ExternalReport(processed=1),
        ExternalReport(processed=2),
        items((0, S)),
        items((1, S)),
        ExternalReport(processed=3),
        ExternalReport(message="x"),
    ]
    found = list(conflate(run))
    assert [len(one) for one, _ in found] == [2, 1, 1, 2]
    assert found[3][1] == ExternalReport(processed=3, message="x")


class AnyReports(RuleBasedStateMachine):
    """Reports in any order, true or false, with cancels, ends and pauses between them."""

    @initialize(
        total=st.none() | st.integers(1, 5),
        errors=st.none() | st.integers(0, 2),
        lost=st.none() | st.sampled_from([5.0, 40.0]),
    )
    def submit(self, total: int | None, errors: int | None, lost: float | None) -> None:
        self.desk = Desk(total, max_errors=errors, lost_after_s=lost)
        self.seen = self.desk.job, list(self.desk.items)

    @rule(report=reports)
    def report(self, report: ExternalReport) -> None:
        if self.desk.job.counted:
            report = replace(report, items=())
        before = self.desk.job
        try:
            self.desk.apply_report(report)
        except Refused:
            assert self.desk.job is before, "all or nothing"

    @rule(command=st.sampled_from([Cancel("j"), Fail("j", JobError("failed_by_operator", "no"))]))
    @precondition(lambda self: not self.desk.job.done and self.desk.now > 110)
    def end_early(self, command: Command) -> None:
        self.desk.take(command)

    @rule(seconds=st.sampled_from([1.0, 31.0, 400.0]))
    @precondition(lambda self: not self.desk.job.done)
    def time_passes(self, seconds: float) -> None:
        self.desk.now += seconds
        self.desk.take(CheckHealth("j", ALARMS))

    @invariant()
    def counts_add_up_and_equal_the_items(self) -> None:
        job = self.desk.job
        assert job.waiting + job.leased + job.processed + job.cancelled == job.total
        assert min(job.waiting, job.leased, job.succeeded, job.failed, job.skipped, job.cancelled) >= 0
        if not job.counted:
            for state in ITEM_FINAL:
                assert getattr(job, state.value) == sum(item.state is state for item in self.desk.items)
            assert job.leased == sum(item.state is ItemState.RUNNING for item in self.desk.items)
            running = sum(item.progress or 0 for item in self.desk.items if item.state is ItemState.RUNNING)
            assert job.partial == pytest.approx(running, abs=1e-6)

    @invariant()
    def nothing_is_undone(self) -> None:
        (was, items), job = self.seen, self.desk.job
        assert job.seq >= was.seq
        assert job.processed >= was.processed
        assert (job.percent or 0.0) >= (was.percent or 0.0)
        assert not was.done or job == was
        for before, item in zip(items, self.desk.items, strict=True):
            assert before.state not in ITEM_FINAL or item == before
        self.seen = job, list(self.desk.items)

    @invariant()
    def done_exactly_when_nothing_is_left(self) -> None:
        job = self.desk.job
        assert (job.finished_at is not None) == job.done
        assert job.done or job.waiting or job.leased or job.counted or job.state is State.QUEUED
        assert not (job.done and (job.waiting or job.leased))
        assert job.done or (job.percent or 0.0) < 100

    def teardown(self) -> None:
        """Check that the job can still end, whatever happened, even if no report ever comes again."""
        if not self.desk.job.done:
            self.desk.take(Cancel("j"))
        self.desk.now += 31
        if not self.desk.job.done:
            self.desk.take(CheckHealth("j", ALARMS))
        assert self.desk.job.done


TestAnyReports = AnyReports.TestCase
TestAnyReports.settings = settings(max_examples=40)
