"""`unstuck watch`: decides how a job's progress reads in a terminal, in the log of a script, and for a program.

A terminal gets a bar that is drawn anew; elsewhere a line is printed at each change of state and every 10 seconds,
so that a log shows that the work continues. It must not know how a job is watched.
See also: client/client.py, which watches it.
"""

from __future__ import annotations

import asyncio
import sys
import time
from datetime import datetime
from typing import TYPE_CHECKING, Self

from rich.console import Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from unstuck.address import DEFAULT_URL
from unstuck.cli.console import (
    AsJson,
    JobId,
    Url,
    complain,
    duration,
    err,
    out,
    plain,
    print_json,
    shortened,
    spaced,
)
from unstuck.cli.remote import ask, full_id, short_id
from unstuck.jobs.labels import counted

if TYPE_CHECKING:
    from unstuck.client import Client
    from unstuck.wire import Job

#: Seconds between two lines where there is no terminal.
LINE_S = 10.0
#: Failed items that are named at the end.
FAILURES_SHOWN = 10
#: States of the connection that need no mention.
CALM = ("live", "polling", "ended")


def watch(job_id: JobId, as_json: AsJson = False, url: Url = DEFAULT_URL) -> None:
    """Show a job's progress until it is done.

    Survives lost connections and server restarts. Ctrl-C stops watching; the job continues. Without a terminal it
    prints a line every 10 seconds; with --json, the job at each change on one line.

    Examples:
      unstuck watch 1b4e28ba
      unstuck watch $(unstuck submit checksum *.csv) && echo "all files done"

    Exit codes:
      0    the job completed
      1    the job failed, was cancelled, or completed with errors
      2    a mistake, or the server refused or does not know the job
      3    no news of the job for 30 minutes; the job itself continues
      130  interrupted with Ctrl-C; the job itself continues
    """
    view: _View = _Json() if as_json else _Bar() if err.is_terminal else _Lines()

    async def question(client: Client) -> Job:
        return await _follow(client, await full_id(client, job_id), view)

    try:
        job = ask(url, question)
    except KeyboardInterrupt:
        complain(f"stopped watching; the job itself continues. Watch it again: unstuck watch {plain(job_id)}")
        sys.exit(130)
    if not as_json:
        _conclude(job)
    sys.exit(0 if job.state == "completed" else 1)


async def _follow(client: Client, job_id: str, view: _View) -> Job:
    """Show the job until it is done, and return it."""
    jobs = client.watch(job_id, on_link=view.see_link)
    job: Job | None = None
    with view:
        following = asyncio.ensure_future(anext(jobs, None))
        try:
            while True:
                await asyncio.wait([following], timeout=LINE_S)
                if not following.done():
                    view.see(job)
                    continue
                newest = following.result()
                if newest is None:
                    assert job is not None  # `watch` yields a job that is done, or raises
                    return job
                job = newest
                view.see(job)
                following = asyncio.ensure_future(anext(jobs, None))
        finally:
            following.cancel()


# -- the views


class _View:
    """Shows a job; as a context manager, for as long as it is watched."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def see_link(self, link: str) -> None:
        """Take in a new state of the connection."""

    def see(self, job: Job | None) -> None:
        """Take in the job's newest state; it is repeated every LINE_S without news."""


class _Json(_View):
    """Prints each state of the job on a line, for programs."""

    def __init__(self) -> None:
        self._seq: int | None = None

    def see(self, job: Job | None) -> None:
        if job is not None and job.seq != self._seq:
            self._seq = job.seq
            print_json(job, indent=None)


class _Lines(_View):
    """Prints a line at each change of the state or the connection, and every LINE_S."""

    def __init__(self) -> None:
        self._job: Job | None = None
        self._note = "connecting"
        self._printed: tuple[str, str] | None = None
        self._printed_at = 0.0

    def see_link(self, link: str) -> None:
        self._note = _link_words(link)
        self.see(self._job)

    def see(self, job: Job | None) -> None:
        self._job = job
        now = time.monotonic()
        if job is None or job.done:
            return  # the conclusion has its own words
        if (job.state, self._note) == self._printed and now - self._printed_at < LINE_S:
            return
        self._printed, self._printed_at = (job.state, self._note), now
        words = [plain(job.name), *_words(job), *_doing(job), self._note]
        err.print(" · ".join(filter(None, words)), markup=False, highlight=False, soft_wrap=True)


class _Bar(_View):
    """Draws a bar, with what is being done below it."""

    def __init__(self) -> None:
        self._job: Job | None = None
        self._seen_at = 0.0
        self._note = "connecting"
        self._live = Live(console=err, get_renderable=self._draw, refresh_per_second=4, transient=True)

    def __enter__(self) -> Self:
        self._live.start(refresh=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def see_link(self, link: str) -> None:
        self._note = _link_words(link)

    def see(self, job: Job | None) -> None:
        if job is not None and job is not self._job:
            self._job, self._seen_at = job, time.monotonic()

    def _draw(self) -> Group:
        job, width = self._job, err.width - 1
        note = Text(self._note, style="yellow")
        if job is None:
            return Group(note)
        percent = job.progress.percent
        bar = ProgressBar(
            total=None if percent is None else 100, completed=percent or 0, width=max(min(40, width // 3), 8),
            complete_style="yellow" if self._note else "blue", finished_style="green", pulse_style="blue",
        )  # fmt: skip
        row = Table.grid(padding=(0, 1))
        for _ in range(2):
            row.add_column(no_wrap=True)
        row.add_row(bar, Text(" · ".join([*_words(job), *self._elapsed(job)]), overflow="ellipsis"))
        doing = Text(shortened(" · ".join(_doing(job)), width), style="dim", no_wrap=True)
        return Group(Text(shortened(plain(job.name), width), style="bold"), row, note if self._note else doing)

    def _elapsed(self, job: Job) -> list[str]:
        """Return how long the job has been running, by the server's clock."""
        if job.started_at is None:
            return []
        until_then = datetime.fromisoformat(job.server_time) - datetime.fromisoformat(job.started_at)
        return [f"running for {duration(until_then.total_seconds() + time.monotonic() - self._seen_at)}"]


# -- words


def _link_words(link: str) -> str:
    """Return the state of the connection in words, or nothing if all is well."""
    return "" if link in CALM else spaced(link)


def _words(job: Job) -> list[str]:
    """Return the job's state and numbers."""
    counts = job.progress
    words = [] if job.state == "running" and not job.cancel_requested else [_state(job)]
    if counts.percent is not None:
        words.append(f"{counts.percent:.0f} %")
    words.append(f"{counts.processed:,} {_of_total(job)}")
    if counts.failed:
        words.append(f"{counts.failed:,} failed")
    if counts.eta_seconds is not None:
        words.append(f"about {duration(counts.eta_seconds)} left")
    return words


def _of_total(job: Job) -> str:
    """Return how many items there are in all: of 25 rows, or only rows if that is not known."""
    total, unit, units = job.progress.total, job.get("unit", "item"), job.get("units", "items")
    return plain(units if total is None else f"of {counted(total, unit, units)}")


def _state(job: Job) -> str:
    return "cancelling" if job.cancel_requested and not job.done else spaced(job.state)


def _doing(job: Job) -> list[str]:
    """Return what the job is working on, in its own words."""
    counts = job.progress
    current = [f"{plain(counts.current[0])}{' …' if len(counts.current) > 1 else ''}"] if counts.current else []
    return [*current, *(plain(text) for text in (counts.stage, counts.message) if text)]


def _conclude(job: Job) -> None:
    """Print how the job ended, and the first of its failures."""
    counts = job.progress
    parts = [f"{counts[name]:,} {name}" for name in ("succeeded", "failed", "skipped") if counts[name]]
    lines = [f"{_state(job)}: {', '.join(parts) or '0 done'} {_of_total(job)}"]
    if job.error:
        lines[0] += f" – {job.error.message}"
    failures = job.item_errors[:FAILURES_SHOWN]
    lines += [f"  {one.name}: {one.message or one.code}" for one in failures]
    if (more := counts.failed - len(failures)) > 0 and failures:
        lines.append(f"  and {more:,} more: unstuck show {short_id(job)} --failed")
    for line in lines:
        out.print(plain(line), highlight=False, markup=False, soft_wrap=True)
