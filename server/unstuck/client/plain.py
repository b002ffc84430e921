"""The plain functions, for code without asyncio: each does as the method of Client of the same name.

They work in any thread, beside a running event loop, under gevent, and in forked children.
See also: client.py; portal.py, the loop in which they run; plain_reporter.py.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Literal

from unstuck.client.form import File, uploads
from unstuck.client.plain_reporter import PlainReporter
from unstuck.client.portal import portal
from unstuck.client.reporter import PATIENCE_S
from unstuck.wire import Items, Job, Jobs, Kinds

Headers = Mapping[str, str] | None


def submit(
    kind: str,
    *,
    url: str | None = None,
    headers: Headers = None,
    files: Iterable[File] | None = None,
    **more: Any,
) -> Job:
    """Submit a job and return it, as `Client.submit` does."""
    here = portal()
    if files is None:
        return here.run(here.client(url, headers).submit(kind, **more))
    ready = uploads(files)  # in this thread: it may wait for a pipe
    return here.run(here.client(url, headers).submit(kind, files=ready, **more))


def report(
    job_id: str,
    *,
    url: str | None = None,
    headers: Headers = None,
    ends: bool = True,
    strict: bool = False,
    patience_s: float = PATIENCE_S,
    retry_on: Iterable[type[BaseException]] = (),
) -> PlainReporter:
    """Return a reporter of work that runs elsewhere, for `with`; see `Client.report`."""
    given = {"ends": ends, "strict": strict, "patience_s": patience_s, "retry_on": tuple(retry_on)}
    return PlainReporter(job_id, url, headers, **given)


def job(job_id: str, *, url: str | None = None, headers: Headers = None) -> Job:
    """Return the job in its current state, as `Client.job` does."""
    here = portal()
    return here.run(here.client(url, headers).job(job_id))


def jobs(*, url: str | None = None, headers: Headers = None, **more: Any) -> Jobs:
    """Return a page of jobs, newest first, as `Client.jobs` does."""
    here = portal()
    return here.run(here.client(url, headers).jobs(**more))


def items(job_id: str, *, url: str | None = None, headers: Headers = None, **more: Any) -> Items:
    """Return a page of the job's items, as `Client.items` does."""
    here = portal()
    return here.run(here.client(url, headers).items(job_id, **more))


def wait(job_id: str, *, url: str | None = None, headers: Headers = None) -> Job:
    """Wait until the job is done, and return it, as `Client.wait` does."""
    here = portal()
    return here.run(here.client(url, headers).wait(job_id))


def watch(
    job_id: str,
    *,
    url: str | None = None,
    headers: Headers = None,
    on_link: Callable[[str], None] | None = None,
    fields: Literal["progress"] | None = None,
) -> Iterator[Job]:
    """Yield the job whenever it has changed, as `Client.watch` does; `on_link` is called in another thread."""
    here = portal()
    news = here.client(url, headers).watch(job_id, on_link=on_link, fields=fields)

    async def next_job() -> Job | None:
        return await anext(news, None)

    try:
        while (newest := here.run(next_job())) is not None:
            yield newest
    finally:
        here.start(news.aclose())  # type: ignore[attr-defined]


def cancel(job_id: str, *, url: str | None = None, headers: Headers = None) -> Job:
    """Ask for the job to be cancelled, and return it, as `Client.cancel` does."""
    here = portal()
    return here.run(here.client(url, headers).cancel(job_id))


def retry(job_id: str, only: str = "failed", *, url: str | None = None, headers: Headers = None) -> Job:
    """Submit a new job for what failed in a finished one, and return it, as `Client.retry` does."""
    here = portal()
    return here.run(here.client(url, headers).retry(job_id, only))


def remove(job_id: str, *, url: str | None = None, headers: Headers = None) -> None:
    """Remove a finished job and its files, as `Client.remove` does."""
    here = portal()
    here.run(here.client(url, headers).remove(job_id))


def kinds(*, url: str | None = None, headers: Headers = None) -> Kinds:
    """Return the kinds of work that the server offers, as `Client.kinds` does."""
    here = portal()
    return here.run(here.client(url, headers).kinds())


def download(
    job_id: str, target: str | os.PathLike[str], *, url: str | None = None, headers: Headers = None
) -> int:
    """Write all results of a finished job to a ZIP file, and return its size, as `Client.download` does."""
    here = portal()
    return here.run(here.client(url, headers).download(job_id, target))


def download_errors(
    job_id: str, target: str | os.PathLike[str], *, url: str | None = None, headers: Headers = None
) -> int:
    """Write the errors of all failed items to a CSV file, as `Client.download_errors` does."""
    here = portal()
    return here.run(here.client(url, headers).download_errors(job_id, target))
