"""The Reporter for code without asyncio, and in which process it reports.

It must not know what is sent, or when.
See also: reporter.py, which does the work in the loop of portal.py; plain.py, whose `report` makes it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from unstuck.client.portal import portal
from unstuck.client.reporter import Reporter
from unstuck.wire import Job


class PlainReporter:
    """A Reporter for code without asyncio: the same calls, in `with`, from any thread.

    A child process reports only in a `with` of its own, on the same reporter (forked, or passed on by pickling).
    There leaving the block never ends the job: its first process does.
    """

    def __init__(
        self, job_id: str, url: str | None = None, headers: Mapping[str, str] | None = None, **given: Any
    ) -> None:
        self._job_id, self._url, self._headers, self._given = job_id, url, headers, given
        self._owner: int | None = None  # the process that ends the job
        self._process: int | None = None
        self._reporter: Reporter | None = None

    @property
    def job(self) -> Job:
        """The job as of the last response."""
        return self._entered.job

    @property
    def over(self) -> bool:
        """True once the job is done or to be cancelled: stop working on it."""
        return self._entered.over

    def item(self, which: int | str, state: str = "running", **more: Any) -> None:
        """Report that an item runs, how far it is, or in which state it ended; see Reporter.item."""
        self._entered.item(which, state, **more)

    def progress(self, processed: int | None = None, total: int | None = None, **more: Any) -> None:
        """Report how many items have been processed so far, and of how many; see Reporter.progress."""
        self._entered.progress(processed, total, **more)

    def end(self, state: str, error: str | dict[str, Any] | None = None) -> None:
        """End the job as `completed`, `completed_with_errors`, `failed` or `cancelled`."""
        self._entered.end(state, error)

    def flush(self) -> None:
        """Wait until the server has kept everything reported so far; ServerRefused if it refused something."""
        portal().run(self._entered.flush())

    @property
    def _entered(self) -> Reporter:
        if self._reporter is None:
            raise RuntimeError("Enter the reporter first: with report(job_id) as reporter.")
        if self._process != os.getpid():
            raise RuntimeError(
                f"Process {os.getpid()} was started while process {self._process} reported on job {self._job_id}, "
                "and does not report yet. Enter the reporter in this process too: `with reporter: …`; that does "
                "not end the job."
            )
        return self._reporter

    def __enter__(self) -> PlainReporter:
        process = os.getpid()
        if self._reporter is not None and self._process == process:
            raise RuntimeError(
                f"The reporter of job {self._job_id} is in use already; make another with report()."
            )
        self._owner = self._owner or process
        given = self._given if self._owner == process else {**self._given, "ends": False}
        reporter = portal().client(self._url, self._headers).report(self._job_id, **given)
        portal().run(reporter.__aenter__())
        self._reporter, self._process = reporter, process
        return self

    def __exit__(self, *error: Any) -> None:
        if self._process != os.getpid() or self._reporter is None:
            return  # a forked child leaves the block that its parent has entered
        reporter, self._reporter = self._reporter, None
        portal().run(reporter.__aexit__(*error))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_owner": self._owner or os.getpid(), "_process": None, "_reporter": None}
