"""The rules of a job's life: `decide(job, command, now, item)` applies a command to a job.

Rule 1. Every change of a state or a count is made here or, for reports of external work, in external.py. Nothing
        here reads a clock, a store or a setting: inputs are arguments, consequences are return values.
Rule 2. Final states have no way out, for jobs (`NEXT`) and for items (`ITEM_NEXT`).
Rule 3. `seq` rises with every change that a viewer can see, and with no other.
Rule 4. Work is held by lease. A claim raises the item's lease number; a command with an older number comes from a
        runner that lost its lease, and is refused. An expired lease still belongs to its holder until a `Lapse`
        ends it, so a runner that was merely late loses nothing. The store finds and leases the items of a claim
        in one statement, which changes no state; what that makes of the job is decided here (`claim`).
Rule 5. Cancelling is a request. It ends waiting items at once, and the job once its running items have stopped. A
        job whose items were all processed before that ends as usual, not as cancelled.
Rule 6. A job's state follows from its items: `waiting + leased + succeeded + failed + skipped + cancelled ==
        total`, always, and the job is done when no item waits and none is leased.

A job is a row of counts, and a command needs only the item that it names, so a command costs the same in a job of
ten thousand files as in a job of ten. A change of all waiting items is returned as a flag
(`Change.cancels_waiting`), which the store applies in one statement.
See also: external.py (the rules for external work, built on the same tables and arithmetic), health.py (when a job
is stuck).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from msgspec.structs import replace

from unstuck.errors import JobFinished, LeaseLost, NotFound, Refused
from unstuck.jobs import rate
from unstuck.jobs.health import cancel_ignored, expired, health, lost_after_s, reporter_lost, total_kept
from unstuck.jobs.job import (
    FINAL,
    ITEM_FINAL,
    Cancel,
    CheckHealth,
    Command,
    Fail,
    Finish,
    Health,
    Item,
    ItemState,
    Job,
    JobCommand,
    JobError,
    Lapse,
    Release,
    Renew,
    Report,
    State,
)

_NONE: frozenset[Any] = frozenset()

#: For each state of a job, the states that may follow.
NEXT: Mapping[State, frozenset[State]] = {
    State.QUEUED: frozenset({State.RUNNING, State.FAILED, State.CANCELLED}),
    State.RUNNING: FINAL,
    **dict.fromkeys(FINAL, _NONE),
}

#: For each state of an item, the states that may follow. `running → pending` is another attempt.
#: `pending → succeeded` is a leased item that ended so soon that its start was never written.
ITEM_NEXT: Mapping[ItemState, frozenset[ItemState]] = {
    ItemState.PENDING: frozenset(ItemState) - {ItemState.PENDING},
    ItemState.RUNNING: frozenset(ItemState) - {ItemState.RUNNING},
    **dict.fromkeys(ITEM_FINAL, _NONE),
}


class Change(NamedTuple):
    """The consequences of a command.

    `visible`: `job.seq` has risen. `cancels_waiting`: all items that wait, or run without a lease, are cancelled.
    `succeeds`: how many of those items succeeded, waiting ones before running ones, lowest index first.
    """

    job: Job
    item: Item | None = None
    cancels_waiting: bool = False
    visible: bool = True
    succeeds: int = 0


def decide(job: Job, command: Command, now: float, item: Item | None = None) -> Change:
    """Apply `command` to `job`, and to `item` if the command names one, at `now` (epoch seconds).

    Raise JobFinished for a command to a finished job, LeaseLost for an outdated lease, Refused for a transition
    that the tables do not allow, NotFound if the job has no such item.
    """
    if job.done:
        raise JobFinished(job.id, job.state, job.error)
    if isinstance(command, JobCommand):
        return _decide_job(job, command, now)
    if item is None:
        raise NotFound(f"Job {job.id} has no item {command.index}; it has {job.total} items.")
    if item.lease != command.lease or item.lease_until is None:
        raise LeaseLost(
            f"Item {item.index} of job {job.id} is no longer held under lease {command.lease}; drop its work."
        )
    match command:
        case Report():
            return _report(job, command, now, item)
        case Finish():
            return _finish(job, command, now, item)
        case Renew():
            return _renew(job, command, now, item)
        case Release():
            return _release(job, now, item)
        case Lapse():
            return _lapse(job, command, now, item)


def _decide_job(job: Job, command: JobCommand, now: float) -> Change:
    match command:
        case Cancel():
            return _cancel(job, now)
        case Fail():
            return _fail(job, command.error, now)
        case CheckHealth():
            return _check_health(job, command, now)


def check_claimable(job: Job) -> None:
    """Raise JobFinished or Refused if no item of this job may be claimed."""
    if job.done:
        raise JobFinished(job.id, job.state)
    if job.external:
        raise Refused(f"Job {job.id} is external (its work runs elsewhere), so no runner may claim its items.")
    if job.stopping:
        raise Refused(f"Job {job.id} is being stopped, so none of its items may be claimed.")


def claim(job: Job, items: Sequence[Item], now: float) -> Change:
    """Return the job's change after `items` were claimed, each with its new lease and attempt.

    Raise the same errors as `check_claimable`, which is to be asked before items are claimed.
    """
    check_claimable(job)
    job = replace(
        job,
        waiting=job.waiting - len(items),
        leased=job.leased + len(items),
        attempt=max([job.attempt, *(item.attempt for item in items)]),
        heartbeat_at=now,
    )
    if job.state is State.RUNNING:
        return _sign_of_life(job, None, Health.WAITING_LONG)
    meter = rate.advance(job.meter, 0.0, now)
    state = next_state(job, State.RUNNING)
    started = replace(job, state=state, health=Health.OK, started_at=now, progress_at=now, meter=meter)
    return Change(bump_seq(started))


def _renew(job: Job, command: Renew, now: float, item: Item) -> Change:
    kept = replace(item, lease_until=now + command.lease_s)
    return _sign_of_life(replace(job, heartbeat_at=now), kept, Health.UNRESPONSIVE)


def _sign_of_life(job: Job, item: Item | None, ends: Health) -> Change:
    """Record that the runner is alive; visible only if that ends a health alarm."""
    if job.health is not ends:
        return Change(job, item, visible=False)
    return Change(bump_seq(replace(job, health=Health.OK)), item)


def _report(job: Job, command: Report, now: float, item: Item) -> Change:
    before = item.progress or 0.0
    fraction = item.progress if command.fraction is None else min(max(command.fraction, before), 1.0)
    running = replace(
        item,
        state=item.state if item.state is ItemState.RUNNING else _item_next(item, ItemState.RUNNING),
        started_at=command.started_at,
        progress=fraction,
        message=item.message if command.message is None else command.message,
        seq=job.seq + 1,
    )
    after, words = job, command.message
    if words is not None and words != job.message and (words != item.message or job.message is None):
        after = replace(job, message=words)  # the newest words of any running item
    return Change(with_progress(job, after, now, partial=job.partial + (fraction or 0.0) - before), running)


def _without_words(job: Job, item: Item) -> Job:
    """Return the job without what this item has said, which no longer runs."""
    if job.message is None or job.message != item.message:
        return job
    return replace(job, message=None)


def _finish(job: Job, command: Finish, now: float, item: Item) -> Change:
    if command.state not in ITEM_FINAL:
        raise Refused(f"An item must end as one of {', '.join(sorted(ITEM_FINAL))}, not as {command.state}.")
    state, error = command.state, command.error
    if state is ItemState.FAILED and error and error.transient and item.attempt < job.max_attempts:
        if not job.stopping:
            return _wait_for_retry(job, now, item, error, command.pause_s)
        # The job is being stopped, so there is no further attempt.
        state, error = ItemState.CANCELLED, None
    if state is ItemState.CANCELLED and not job.stopping:
        raise Refused(f"Item {item.index} of job {job.id} cannot be cancelled: the job is not being stopped.")
    ended = _ended(item, command, state, error, job.seq + 1, now)
    count = state.value  # the counts are named after the items' states
    counted = replace(job, leased=job.leased - 1, **{count: getattr(job, count) + 1})
    after = _without_words(counted, item)
    job = with_progress(job, after, now, partial=job.partial - (item.progress or 0.0))
    too_many = job.max_errors is not None and job.failed > job.max_errors
    if state is ItemState.FAILED and too_many and not job.stopping:
        return stop_for_errors(job, now, ended)
    return Change(finish_if_done(job, now, ended), ended)


def _ended(item: Item, command: Finish, state: ItemState, error: JobError | None, seq: int, now: float) -> Item:
    return replace(
        item,
        state=_item_next(item, state),
        lease_until=None,
        progress=1.0 if state is ItemState.SUCCEEDED else item.progress,
        message=command.message,
        error=error,
        result=command.result,
        result_file=command.result_file,
        started_at=command.started_at,
        finished_at=now,
        seq=seq,
    )


def succeed_together(
    job: Job, run: Iterable[Finish], now: float, item_of: Callable[[int], Item | None]
) -> tuple[Job, list[Item]]:
    """Return the job after the first commands of `run`, all of this job, and the items that they ended.

    The result is that of `decide` for each in turn, at the cost of one decision about the job. It ends before the
    first command that is not plain: one that is no success or carries an error, is refused, or ends the job.
    `item_of` looks up an item by its index.
    """
    ended: dict[int, Item] = {}
    described, partial = job, job.partial
    most = job.waiting + job.leased - 1
    for command in run:
        item = None if command.index in ended else item_of(command.index)
        plain = command.state is ItemState.SUCCEEDED and command.error is None
        if len(ended) >= most or not plain or item is None:
            break
        if item.lease != command.lease or item.lease_until is None:
            break
        ended[item.index] = _ended(item, command, ItemState.SUCCEEDED, None, job.seq + len(ended) + 1, now)
        described = _without_words(described, item)
        partial -= item.progress or 0.0
    count = len(ended)
    if not count:
        return job, []
    counted = replace(described, leased=job.leased - count, succeeded=job.succeeded + count)
    after = with_progress(job, counted, now, partial)
    return replace(after, seq=job.seq + count), list(ended.values())


def _wait_for_retry(job: Job, now: float, item: Item, error: JobError, pause_s: float) -> Change:
    waiting = replace(
        item,
        state=item.state if item.state is ItemState.PENDING else _item_next(item, ItemState.PENDING),
        lease_until=None,
        not_before=now + pause_s if pause_s > 0 else None,
        progress=None,
        message=f"Attempt {item.attempt} failed: {error.message}",
        seq=job.seq + 1,
    )
    return Change(bump_seq(replace(_return_item(job, item), heartbeat_at=now, health=Health.OK)), waiting)


def _release(job: Job, now: float, item: Item) -> Change:
    if job.stopping:
        finish = Finish(job.id, item.index, item.lease, ItemState.CANCELLED, started_at=item.started_at or now)
        return _finish(job, finish, now, item)
    was_running = item.state is ItemState.RUNNING
    waiting = replace(
        item,
        state=_item_next(item, ItemState.PENDING) if was_running else item.state,
        lease_until=None,
        progress=None,
        attempt=item.attempt - 1,
        started_at=None,
        seq=job.seq + 1 if was_running else item.seq,
    )
    job = _return_item(job, item)
    return Change(bump_seq(job) if was_running else job, waiting, visible=was_running)


def _return_item(job: Job, item: Item) -> Job:
    leased = job.leased - 1
    partial = _partial(leased, job.partial - (item.progress or 0.0))
    return replace(_without_words(job, item), leased=leased, waiting=job.waiting + 1, partial=partial)


def _lapse(job: Job, command: Lapse, now: float, item: Item) -> Change:
    assert item.lease_until is not None
    if not command.forced and now < item.lease_until:
        raise Refused(f"The lease of item {item.index} of job {job.id} has not expired yet.")
    if item.state is not ItemState.RUNNING:
        return _release(job, now, item)  # it never started, so no attempt was used
    lost = JobError("worker_lost", command.why, transient=True)
    began = item.started_at or now
    finish = Finish(job.id, item.index, item.lease, ItemState.FAILED, began, error=lost)
    return _finish(job, finish, now, item)


def _cancel(job: Job, now: float) -> Change:
    if job.cancel_requested:
        return Change(job, visible=False)
    job = replace(bump_seq(job), cancel_requested=True, cancel_requested_at=now)
    if job.external and job.state is State.RUNNING:
        return Change(job)  # only the reporter knows which items are running; it must end them itself
    return stop_early(job, now, item=None)


def _fail(job: Job, error: JobError, now: float) -> Change:
    if job.error is not None:
        return Change(job, visible=False)  # it is already failing; the first reason stays
    return stop_early(replace(bump_seq(job), error=error), now, item=None)


def _check_health(job: Job, command: CheckHealth, now: float) -> Change:
    if total_kept(job, now, command.limits):
        return Change(bump_seq(finish_if_done(job, now, item=None)))
    if job.deadline_at is not None and now >= job.deadline_at and not job.stopping:
        return _fail(job, JobError("deadline_exceeded", "The job was not finished by its deadline."), now)
    if cancel_ignored(job, now, command.limits):
        return stop_early(bump_seq(job), now, item=None)
    if reporter_lost(job, now, command.limits):
        silent, limit = now - (job.heartbeat_at or job.created_at), lost_after_s(job, command.limits) or 0.0
        message = (
            f"No report came for {_duration(silent)}, and {_duration(limit)} are allowed, so the program that "
            "reports on this job is taken for lost. Find out why it ended, then retry the job; the new one is to "
            "be reported on."
        )
        return _fail(job, JobError("reporter_lost", message), now)
    if expired(job, now, command.limits):
        hours = (now - job.created_at) / 3600
        return _fail(job, JobError("expired_in_queue", f"The job was not started within {hours:.1f} hours."), now)
    found = health(job, now, command.limits)
    if found is job.health:
        return Change(job, visible=False)
    return Change(bump_seq(replace(job, health=found)))


def _duration(seconds: float) -> str:
    """Return a duration for people."""
    if seconds < 120:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 7_200 else f"{seconds / 3600:.1f} hours"


def stop_for_errors(job: Job, now: float, item: Item) -> Change:
    message = f"Stopped after {job.failed} failed {job.units or 'items'}; at most {job.max_errors} were allowed."
    return stop_early(replace(job, error=JobError("too_many_errors", message)), now, item)


def stop_early(job: Job, now: float, item: Item | None) -> Change:
    """End the waiting items, and the job if nothing runs. The caller has already raised `seq`."""
    # External work cannot be stopped from here: its running items end with the waiting ones.
    given_up = job.waiting + (job.leased if job.external else 0)
    leased = 0 if job.external else job.leased
    job = replace(job, waiting=0, leased=leased, cancelled=job.cancelled + given_up)
    return Change(finish_if_done(job, now, item), item, cancels_waiting=given_up > 0)


def finish_if_done(job: Job, now: float, item: Item | None) -> Job:
    """Return the job, finished if nothing is left to do."""
    if job.waiting or job.leased:
        return job
    error = job.error
    if error is not None:
        state = State.FAILED
    elif job.cancelled or (job.open_end and job.cancel_requested):
        state = State.CANCELLED
    elif not job.failed:
        state = State.COMPLETED
    elif job.succeeded:
        state = State.COMPLETED_WITH_ERRORS
    else:
        state = State.FAILED
        error = _all_failed(job, item)
    percent = 100.0 if job.processed == job.known_total else job.percent
    return replace(job, state=next_state(job, state), error=error, finished_at=now, percent=percent, partial=0.0)


def _all_failed(job: Job, item: Item | None) -> JobError:
    if job.total == 1 and item is not None and item.error is not None:
        return JobError("all_items_failed", item.error.message)
    return JobError("all_items_failed", f"All {job.failed} {job.units or 'items'} failed; see the error of each.")


def with_progress(before: Job, after: Job, now: float, partial: float) -> Job:
    """Return `after` with the partial progress, the rate and the percentage that follow from it."""
    partial = _partial(after.leased, partial)
    done = after.processed + partial
    step = done - before.processed - before.partial
    return replace(
        after,
        seq=before.seq + 1,
        partial=partial,
        heartbeat_at=now,
        progress_at=now,
        health=Health.OK,
        percent=rate.percent(done=done, total=after.known_total, shown=before.percent),
        meter=rate.advance(after.meter, step, now),
    )


def _partial(leased: int, partial: float) -> float:
    # Sums of fractions drift, and with nothing leased there is no partial progress. This way of rounding takes
    # 0.05 µs; `round(…, 9)` goes through a string and takes 0.2 µs.
    return round(partial * 1e9) / 1e9 if leased and partial > 0.0 else 0.0


def bump_seq(job: Job) -> Job:
    return replace(job, seq=job.seq + 1)


def next_state(job: Job, state: State) -> State:
    if state not in NEXT[job.state]:
        raise Refused(f"A job that is {job.state} cannot become {state}.")
    return state


def _item_next(item: Item, state: ItemState) -> ItemState:
    if state not in ITEM_NEXT[item.state]:
        raise Refused(f"An item that is {item.state} cannot become {state}.")
    return state
