"""The rules for external work: `apply_report` decides how a report changes a job and its items.

Rule 1. There are no leases. A report states facts about items, and several reporters may send one, twice or late.
        A final state stays: reporting the same end again changes nothing, and a different one is refused.
Rule 2. A report is applied as a whole or not at all. Even an empty one is a sign of life.
Rule 3. `processed` counts all items that succeeded, failed or were skipped. Of these, items without a report of
        their own count as succeeded. It never falls. Items without names are only counted, and their `total` may
        come late and change.
Rule 4. The job ends when nothing is left to do, or when a report ends it. `completed` means that the rest
        succeeded; the final state follows from the counts, so it never looks better than they do. If its items are
        only counted, a report may raise a total that is reached: the job ends when that did not happen in time
        (decide.py).
Rule 5. External work cannot be stopped from here. A cancel is a request that the next response carries; if the
        reporter ignores it, the job ends after the grace period. Any other end takes effect at once (decide.py).

It must not know clocks, stores or settings: inputs are arguments, consequences are return values.
See also: decide.py (the tables and the arithmetic used here), PROTOCOL.md section 9 (the reports).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec
from msgspec.structs import replace

from unstuck.errors import ItemFinished, JobFinished, NotExternal, NotFound, Refused
from unstuck.jobs import rate
from unstuck.jobs.decide import (
    ITEM_NEXT,
    Change,
    bump_seq,
    finish_if_done,
    next_state,
    stop_early,
    stop_for_errors,
    with_progress,
)
from unstuck.jobs.job import ITEM_FINAL, MOST, Health, Item, ItemState, Job, JobError, State


class ItemReport(msgspec.Struct, frozen=True):
    """The part of a report about one item; `fraction` is 0 to 1."""

    index: int
    state: ItemState = ItemState.RUNNING
    fraction: float | None = None
    message: str | None = None
    error: JobError | None = None
    result: Any = None


class ExternalReport(msgspec.Struct, frozen=True):
    """A report about an external job. None leaves a value unchanged; counts are totals, not increments."""

    items: tuple[ItemReport, ...] = ()
    processed: int | None = None
    failed: int | None = None
    skipped: int | None = None
    total: int | None = None
    stage: str | None = None
    message: str | None = None
    state: State | None = None
    error: JobError | None = None

    @property
    def items_only(self) -> bool:
        """True if the report has no count, stage or message of the job itself."""
        return (
            self.processed is self.failed is self.skipped is self.total is None
            and self.stage is None
            and self.message is None
        )


def apply_report(
    job: Job, report: ExternalReport, now: float, item_of: Callable[[int], Item | None]
) -> list[Change]:
    """Return the changes that a report causes, in the order in which to save them.

    `item_of` looks up an item by its index. Raise NotExternal, JobFinished, NotFound, ItemFinished or Refused;
    then nothing changes.
    """
    if not job.external:
        raise NotExternal(job.id)
    if job.done:
        if _repeats_end(job, report):
            return []
        raise JobFinished(job.id, job.state, job.error)
    changes = [_sign_of_life(job, now)]
    items: dict[int, Item] = {}
    item = None
    for one in report.items:
        item = items.get(one.index) or item_of(one.index)
        changes.append(_apply_item(changes[-1].job, one, now, item))
        item = items[one.index] = changes[-1].item or item  # type: ignore[assignment]
    if not report.items_only:
        changes.append(_apply_counts(changes[-1].job, report, now))
    # The item is already among the changes.
    changes.append(_apply_end(changes[-1].job, report, now, item)._replace(item=None))
    return [changes[0], *(change for change in changes[1:] if change.visible)]


def conflate(reports: Iterable[ExternalReport]) -> Iterator[tuple[list[ExternalReport], ExternalReport]]:
    """Group reports into runs, and yield each run with one report that replaces it.

    Of reports that only carry progress, only the newest values matter.
    """
    run: list[ExternalReport] = []
    about: set[str] = set()
    for report in reports:
        subjects = _subjects(report)
        if run and len(about | subjects) > 1:
            yield run, _merge(run)
            run, about = [], set()
        run.append(report)
        about |= subjects
    if run:
        yield run, _merge(run)


def _subjects(report: ExternalReport) -> set[str]:
    """Return the subjects of the report: "items" (running ones), "counts", both or neither.

    Reports about the same single subject may be merged. A report that ends an item is about both, so that it stays
    alone: its order among the counts matters.
    """
    ends = report.state is not None or any(one.state is not ItemState.RUNNING for one in report.items)
    if ends or report.total is not None:
        return {"items", "counts"}
    counts = (report.processed, report.failed, report.skipped) != (None, None, None)
    return {subject for subject, present in (("items", bool(report.items)), ("counts", counts)) if present}


def _merge(run: list[ExternalReport]) -> ExternalReport:
    if len(run) == 1:
        return run[0]
    items: dict[int, ItemReport] = {}
    for report in run:
        for one in report.items:
            was = items.get(one.index)
            items[one.index] = one if was is None else _merge_item(was, one)
    return ExternalReport(
        items=tuple(items.values()),
        processed=_highest(report.processed for report in run),
        failed=_highest(report.failed for report in run),
        skipped=_highest(report.skipped for report in run),
        stage=next((report.stage for report in reversed(run) if report.stage is not None), None),
        message=next((report.message for report in reversed(run) if report.message is not None), None),
    )


def _merge_item(was: ItemReport, one: ItemReport) -> ItemReport:
    return replace(
        one,
        fraction=_highest((was.fraction, one.fraction)),
        message=was.message if one.message is None else one.message,
    )


def _highest(values: Iterable[Any]) -> Any:
    return max((value for value in values if value is not None), default=None)


# --- the parts of a report


def _sign_of_life(job: Job, now: float) -> Change:
    """Record that the reporter is alive."""
    if job.state is State.QUEUED:
        job = replace(
            job,
            state=next_state(job, State.RUNNING),
            health=Health.OK,
            started_at=now,
            progress_at=now,
            heartbeat_at=now,
            meter=rate.advance(job.meter, 0.0, now),
        )
        return Change(bump_seq(job))
    if job.health is Health.UNRESPONSIVE:
        return Change(bump_seq(replace(job, heartbeat_at=now, health=Health.OK)))
    # Once is enough for thousands of reports in one transaction.
    return Change(job if job.heartbeat_at == now else replace(job, heartbeat_at=now), visible=False)


def _apply_item(job: Job, one: ItemReport, now: float, item: Item | None) -> Change:
    if item is None:
        unnamed = "its items have no names, so report how many are processed"
        reason = unnamed if job.counted else f"it has {job.total} items"
        raise NotFound(f"Job {job.id} has no item {one.index}; {reason}.")
    if item.state in ITEM_FINAL:
        if one.state in (item.state, ItemState.RUNNING):
            return Change(job, visible=False)  # a repeated or late report
        raise ItemFinished(f"Item {one.index} of job {job.id} is already {item.state}; it cannot be {one.state}.")
    if one.state is ItemState.CANCELLED and not job.cancel_requested:
        raise Refused(
            f"Job {job.id} was not asked to stop, so no item can be cancelled; report one left out as skipped."
        )
    assert one.state is item.state or one.state in ITEM_NEXT[item.state]
    if one.state is ItemState.RUNNING:
        return _run_item(job, one, now, item)
    return _end_item(job, one, now, item)


def _run_item(job: Job, one: ItemReport, now: float, item: Item) -> Change:
    was_running, before = item.state is one.state, item.progress or 0.0
    fraction = item.progress if one.fraction is None else min(max(one.fraction, before), 1.0)
    message = item.message if one.message is None else one.message
    if was_running and (fraction, message) == (item.progress, item.message):
        return Change(job, visible=False)
    running = replace(
        item,
        state=one.state,
        attempt=1,
        started_at=item.started_at or now,
        progress=fraction,
        message=message,
        seq=job.seq + 1,
    )
    if was_running and fraction == item.progress:
        return Change(bump_seq(job), running)  # a new message is not progress
    after = job if was_running else replace(job, waiting=job.waiting - 1, leased=job.leased + 1)
    return Change(with_progress(job, after, now, job.partial + (fraction or 0.0) - before), running)


def _end_item(job: Job, one: ItemReport, now: float, item: Item) -> Change:
    was_running = item.state is ItemState.RUNNING
    ended = replace(
        item,
        state=one.state,
        attempt=1,
        started_at=item.started_at or now,
        progress=1.0 if one.state is ItemState.SUCCEEDED else item.progress,
        message=one.message,
        error=one.error,
        result=one.result,
        finished_at=now,
        seq=job.seq + 1,
    )
    count = one.state.value  # the counts are named after the items' states
    after = replace(
        job,
        waiting=job.waiting - (not was_running),
        leased=job.leased - was_running,
        **{count: getattr(job, count) + 1},
    )
    return Change(with_progress(job, after, now, job.partial - (item.progress or 0.0)), ended)


def _apply_counts(job: Job, report: ExternalReport, now: float) -> Change:
    described = replace(
        job,
        stage=job.stage if report.stage is None else report.stage,
        message=job.message if report.message is None else report.message,
    )
    apply = _apply_unnamed_counts if job.counted else _apply_named_counts
    after, succeeds = apply(described, report)
    if after == job:
        return Change(job, visible=False)
    if (after.total, after.processed) == (job.total, job.processed):
        return Change(bump_seq(after), succeeds=succeeds)
    return Change(with_progress(job, after, now, job.partial), succeeds=succeeds)


def _apply_unnamed_counts(job: Job, report: ExternalReport) -> tuple[Job, int]:
    """Apply the counts of a job whose items have no names."""
    failed, skipped = max(job.failed, report.failed or 0), max(job.skipped, report.skipped or 0)
    processed = max(job.processed, report.processed or 0, failed + skipped)
    if processed > MOST:
        raise Refused(
            f"processed of job {job.id} would be {processed}, since it includes failed and skipped; at most "
            f"{MOST} items can be counted.",
            code="more_than_total",
            status=422,
        )
    open_end = job.open_end and report.total is None
    total = processed if open_end else (job.total if report.total is None else report.total)
    if processed > total:
        raise Refused(
            f"processed is {processed}, but the total of job {job.id} is {total}. Send the new total in the same "
            "report, or leave total out while it is not known.",
            code="more_than_total",
            status=422,
        )
    return replace(
        job,
        total=total,
        open_end=open_end,
        waiting=total - processed,
        succeeded=processed - failed - skipped,
        failed=failed,
        skipped=skipped,
    ), 0


def _apply_named_counts(job: Job, report: ExternalReport) -> tuple[Job, int]:
    """Apply the counts of a job whose items have rows; return how many more of them succeeded.

    A running item ends by its own report, or when all items are processed.
    """
    if report.failed is not None or report.skipped is not None or report.total not in (None, job.total):
        raise Refused(
            f"Job {job.id} was submitted with {job.total} items, and their number cannot change. Report the ones "
            "that failed or were skipped in items, not as numbers.",
            code="items_are_given",
            status=422,
        )
    processed = report.processed or 0
    if processed > job.total:
        raise Refused(
            f"processed is {processed}, but job {job.id} was submitted with {job.total} items.",
            code="more_than_total",
            status=422,
        )
    more = processed - job.processed
    if more <= 0:
        return job, 0
    if processed == job.total:
        return replace(job, succeeded=job.succeeded + more, waiting=0, leased=0), more
    more = min(more, job.waiting)
    return replace(job, succeeded=job.succeeded + more, waiting=job.waiting - more), more


def _apply_end(job: Job, report: ExternalReport, now: float, item: Item | None) -> Change:
    if job.max_errors is not None and job.failed > job.max_errors:
        return stop_for_errors(bump_seq(job), now, item)  # type: ignore[arg-type]
    match report.state:
        case State.FAILED:
            error = report.error or JobError("failed", "The reporter said that the job failed, without a reason.")
            return stop_early(replace(bump_seq(job), error=error), now, item)
        case State.CANCELLED:
            asked_at = job.cancel_requested_at or now
            asked = replace(bump_seq(job), cancel_requested=True, cancel_requested_at=asked_at)
            return stop_early(asked, now, item)
        case State.COMPLETED | State.COMPLETED_WITH_ERRORS:
            return _complete(job, report.state, now, item)
    if job.waiting or job.leased or job.counted:  # a total that is reached may still be raised
        return Change(job, visible=False)
    return Change(bump_seq(finish_if_done(job, now, item)))


def _complete(job: Job, state: State, now: float, item: Item | None) -> Change:
    if state is State.COMPLETED_WITH_ERRORS and not job.failed:
        raise Refused(
            f"No failed item of job {job.id} was reported. Together with this state, report which items failed "
            "(items) or how many (failed).",
            code="no_errors_told",
            status=422,
        )
    rest = job.waiting + job.leased
    ended = replace(job, succeeded=job.succeeded + rest, waiting=0, leased=0, open_end=False)
    end = finish_if_done(with_progress(job, ended, now, 0.0), now, item)
    return Change(end, succeeds=0 if job.counted else rest)


def _repeats_end(job: Job, report: ExternalReport) -> bool:
    """Return whether the report only repeats the end of the job.

    That happens when a response was lost, or when the last item had already ended the job.
    """
    if report != ExternalReport(state=report.state, error=report.error):
        return False
    ran_through = job.error is None or job.error.code == "all_items_failed"
    match report.state:
        case State.COMPLETED:
            return job.state is not State.CANCELLED and ran_through
        case State.COMPLETED_WITH_ERRORS:
            return job.failed > 0 and job.state is not State.CANCELLED and ran_through
        case _:
            return report.state is job.state
