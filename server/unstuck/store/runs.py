"""Applies a batch of commands, in which runs of successes of one job are decided and written together.

It decides which commands make a run: consecutive ends of one job, up to the first that is not a plain success. Any
other command is applied by itself, in its place. So a batch has the result of its commands applied one by one,
except that each success of a run is answered with the job as it is after the run.
It must not know how a success changes a job.
See also: jobs/decide.py (decides that), transaction.py (what both ways change), external_reports.py (does the same
for reports of external work).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from unstuck.errors import UnstuckError
from unstuck.jobs.job import Command, Finish, ItemState
from unstuck.store.protocol import Outcome
from unstuck.store.transaction import Transaction


def apply(transaction: Transaction, commands: Sequence[Command]) -> list[Outcome]:
    """Apply the commands in order; return the outcome of each."""
    outcomes: list[Outcome] = []
    while (done := len(outcomes)) < len(commands):
        outcomes += _apply_run(transaction, commands, done) or [transaction.try_apply(commands[done])]
    return outcomes


def _apply_run(transaction: Transaction, commands: Sequence[Command], start: int) -> list[Outcome]:
    """Apply the run that begins at `start`; return its outcomes, none if its first command is not plain."""
    first = commands[start]
    if not isinstance(first, Finish) or first.state is not ItemState.SUCCEEDED:
        return []
    try:
        job, count = transaction.succeed_together(first.job_id, _run_at(commands, start, first.job_id))
    except UnstuckError:  # the command alone is refused for the same reason
        return []
    return [job] * count


def _run_at(commands: Sequence[Command], start: int, job_id: str) -> Iterator[Finish]:
    """Yield the ends of this job that follow each other from `start` on."""
    for place in range(start, len(commands)):
        command = commands[place]
        if not isinstance(command, Finish) or command.job_id != job_id:
            return
        yield command
