"""Applies reports of external work, many in one transaction.

It decides which reports are applied together: a run of pure progress costs one decision. If a report is refused,
those before it are kept; how many does not depend on how the reports were grouped.
It must not know how a report changes a job.
See also: jobs/external.py (decides that).
"""

from __future__ import annotations

from collections.abc import Sequence

from unstuck.errors import JobNotFound, UnstuckError
from unstuck.jobs.external import ExternalReport, apply_report, conflate
from unstuck.store.protocol import ReportResult
from unstuck.store.transaction import Transaction


def report(transaction: Transaction, job_id: str, reports: Sequence[ExternalReport]) -> ReportResult:
    """Apply the reports in order, up to the first refusal."""
    accepted = 0
    try:
        for run, merged in conflate(reports):
            if not _apply_together(transaction, job_id, run, merged):
                for one in run:
                    _apply_one(transaction, job_id, one)
                    accepted += 1
            else:
                accepted += len(run)
    except JobNotFound:
        raise
    except UnstuckError as refusal:
        return ReportResult(accepted, refusal)
    return ReportResult(accepted)


def _apply_together(
    transaction: Transaction, job_id: str, run: Sequence[ExternalReport], merged: ExternalReport
) -> bool:
    """Try to apply the run as one report; return False if one of them is refused or ends the job."""
    if len(run) == 1:
        return False
    job_n, job = transaction.job(job_id)
    try:
        changes = apply_report(job, merged, transaction.now, lambda index: transaction.item(job_n, index))
    except UnstuckError:
        return False
    if changes[-1].job.done:
        return False
    for change in changes:
        transaction.save(job_n, change)
    return True


def _apply_one(transaction: Transaction, job_id: str, report: ExternalReport) -> None:
    job_n, job = transaction.job(job_id)
    for change in apply_report(job, report, transaction.now, lambda index: transaction.item(job_n, index)):
        transaction.save(job_n, change)
