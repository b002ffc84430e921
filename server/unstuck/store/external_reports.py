"""What is reported of work that runs elsewhere, many reports in one transaction.

A run of passing progress costs one decision. Where a report is refused, those before it are kept: how far they
came does not depend on how many came together. What a report makes of a job is decided in elsewhere.py.
"""

from __future__ import annotations

from collections.abc import Sequence

from unstuck.errors import JobNotFound, UnstuckError
from unstuck.jobs.external import ExternalReport, apply_report, conflate
from unstuck.store.protocol import ReportResult
from unstuck.store.writer import Transaction


def report(transaction: Transaction, job_id: str, reports: Sequence[ExternalReport]) -> ReportResult:
    """Take the reports in order; the first refusal ends it."""
    accepted = 0
    try:
        for run, stands_for_all in conflate(reports):
            if not _apply_together(transaction, job_id, run, stands_for_all):
                for told in run:
                    _apply_one(transaction, job_id, told)
                    accepted += 1
            else:
                accepted += len(run)
    except JobNotFound:
        raise
    except UnstuckError as refusal:
        return ReportResult(accepted, refusal)
    return ReportResult(accepted)


def _apply_together(
    transaction: Transaction, job_id: str, run: Sequence[ExternalReport], stands_for_all: ExternalReport
) -> bool:
    """Whether the run could be taken as one: not where one of them is refused, or ends the job."""
    if len(run) == 1:
        return False
    job_n, job = transaction.job(job_id)
    try:
        changes = apply_report(job, stands_for_all, transaction.now, lambda index: transaction.item(job_n, index))
    except UnstuckError:
        return False
    if changes[-1].job.done:
        return False
    for change in changes:
        transaction.save(job_n, change)
    return True


def _apply_one(transaction: Transaction, job_id: str, told: ExternalReport) -> None:
    job_n, job = transaction.job(job_id)
    for change in apply_report(job, told, transaction.now, lambda index: transaction.item(job_n, index)):
        transaction.save(job_n, change)
