"""Serves jobs and their items: list, get, cancel, remove.

Must not know: what a command does to a job.
See also: jobs/snapshot.py (the job object), PROTOCOL.md sections 2 and 3.
"""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import datetime

from starlette.requests import Request
from starlette.responses import Response

from unstuck import wire
from unstuck.api.context import (
    MOST_STORED,
    base_of,
    int_param,
    job_id_of,
    json_response,
    services_of,
    shown,
    wants_only_progress,
    whole,
)
from unstuck.errors import InvalidRequest, JobFinished, UnstuckError
from unstuck.jobs.job import MOST, Cancel, Health, ItemState, State
from unstuck.jobs.snapshot import etag, only_progress, public_item
from unstuck.store.protocol import JobFilter

HEALTHS = tuple(Health)
POLL_REASONS = frozenset({"reconnect", "late", "watchdog", "behind", "wake", "fallback", "manual"})
#: Characters of a name to search for.
NAME_LENGTH = 200
ID_PREFIX = re.compile(r"[0-9a-f-]{4,36}", re.ASCII)
#: An end in epoch seconds, as Python writes a float, and the number of a row.
END_CURSOR = re.compile(r"(-?(?:[0-9.]{1,40}(?:e[+-]?[0-9]{1,3})?|inf))~(-?[0-9]{1,19})")


async def list_jobs(request: Request) -> Response:
    """Serve GET /api/jobs."""
    services = services_of(request)
    selection = JobFilter(
        states=_list_param(request, "state", tuple(State)),
        kind=request.query_params.get("kind"),
        healths=_list_param(request, "health", HEALTHS),
        id_prefix=_prefix_param(request),
        finished_before=_time_param(request, "finished_before"),
        retry_of=None if (of := request.query_params.get("retry_of")) is None else job_id_of(of),
    )
    limit = int_param(request, "limit", 50, least=1, most=200)
    name = _name_param(request, selection)
    before = None
    if selection.finished_before is None:
        before = int_param(request, "cursor", MOST_STORED, least=0, most=MOST_STORED)
    else:
        selection = replace(selection, finished_after=_end_cursor(request))
    if name is not None:
        page, last_n = await services.store.search(name, selection, before=before, limit=limit)
        following = None if last_n is None else str(last_n)
    else:
        found = await services.store.jobs(selection, before=before, limit=limit + 1)
        page, following = found[:limit], None
        if len(found) > limit:
            job_n, last = page[-1]
            following = str(job_n) if before is not None else f"{last.job.finished_at}~{job_n}"
    jobs = [shown(request, snapshot) for _, snapshot in page]
    return json_response(wire.Jobs(jobs=jobs, next=following))


async def get_job(request: Request) -> Response:
    """Serve GET /api/jobs/{id}."""
    services = services_of(request)
    job_id = job_id_of(request.path_params["job_id"])
    only = wants_only_progress(request)
    reason = request.headers.get("x-unstuck-poll")
    if reason is not None:
        known = reason if reason in POLL_REASONS else "other"
        services.polls[known] = services.polls.get(known, 0) + 1
    snapshot = await services.store.snapshot(job_id)
    tag = etag(snapshot)
    if _matches(request, tag):
        return Response(status_code=304, headers={"ETag": tag, "Cache-Control": "no-store"})
    job = shown(request, snapshot)
    return json_response(only_progress(job) if only else job, headers={"ETag": tag})


async def cancel_job(request: Request) -> Response:
    """Serve POST /api/jobs/{id}/cancel."""
    services = services_of(request)
    job_id = job_id_of(request.path_params["job_id"])
    (outcome,) = await services.store.apply([Cancel(job_id)])
    if isinstance(outcome, UnstuckError) and not isinstance(outcome, JobFinished):
        raise outcome
    status = 200 if isinstance(outcome, JobFinished) else 202
    return json_response(shown(request, await services.store.snapshot(job_id)), status)


async def remove_job(request: Request) -> Response:
    """Serve DELETE /api/jobs/{id}."""
    services = services_of(request)
    job_id = job_id_of(request.path_params["job_id"])
    await services.store.remove(job_id)
    # The row first, with a note about the files: if this is cut off here, retention removes them later.
    await services.files.remove([job_id])
    return Response(status_code=204)


async def list_items(request: Request) -> Response:
    """Serve GET /api/jobs/{id}/items."""
    services = services_of(request)
    job_id = job_id_of(request.path_params["job_id"])
    limit = int_param(request, "limit", 100, least=1, most=1_000)
    after_seq, after_index = _items_cursor(request)
    found = await services.store.items(
        job_id,
        states=_list_param(request, "state", tuple(ItemState)),
        after_seq=after_seq,
        after_index=after_index,
        limit=limit + 1,
    )
    page = found[:limit]
    following = None
    if len(found) > limit:
        last = page[-1]
        following = str(last.index) if after_seq is None else f"{last.seq}.{last.index}"
    base = base_of(request)
    return json_response(wire.Items(items=[public_item(item, job_id, base) for item in page], next=following))


def _matches(request: Request, tag: str) -> bool:
    held = request.headers.get("if-none-match", "")
    return any(known.strip().removeprefix("W/") == tag.removeprefix("W/") for known in held.split(","))


def _name_param(request: Request, selection: JobFilter) -> str | None:
    """Return what names of jobs must contain, or None."""
    text = request.query_params.get("name")
    if text is None:
        return None
    if not 1 <= len(text) <= NAME_LENGTH:
        raise InvalidRequest(f"name must be 1 to {NAME_LENGTH} characters of a job's name, not {len(text):,}.")
    if selection.healths or selection.finished_before is not None:
        raise InvalidRequest("name cannot be combined with health or finished_before. Leave one of them out.")
    return text


def _prefix_param(request: Request) -> str | None:
    text = request.query_params.get("id_prefix")
    if text is not None and ID_PREFIX.fullmatch(text.lower()) is None:
        raise InvalidRequest(f"id_prefix must be 4 to 36 characters of a job's id, not {text[:40]!r}.")
    return text and text.lower()


def _time_param(request: Request, name: str) -> float | None:
    """Return a time from the query in epoch seconds, or None. Raises InvalidRequest if it is not RFC 3339."""
    text = request.query_params.get(name)
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text[:40])
        if found.tzinfo is not None and "T" in text.upper():
            return found.timestamp()
    except (ValueError, OverflowError):
        pass
    raise InvalidRequest(f"{name} must be a time such as 2026-11-22T00:18:09Z, not {text[:40]!r}.")


def _end_cursor(request: Request) -> tuple[float, int]:
    """Return the end and the number of the last job of the previous page, if jobs are listed by their ends."""
    cursor = request.query_params.get("cursor")
    if cursor is None:
        return float("-inf"), 0
    found = END_CURSOR.fullmatch(cursor)
    job_n = whole(found[2]) if found is not None else None
    if found is None or job_n is None:
        raise InvalidRequest(f"cursor must be the `next` of the previous page, not {cursor[:40]!r}.")
    try:
        return float(found[1]), job_n
    except ValueError:
        raise InvalidRequest(f"cursor must be the `next` of the previous page, not {cursor[:40]!r}.") from None


def _items_cursor(request: Request) -> tuple[int | None, int]:
    """Return where to continue: after a seq and an index, or after an index alone."""
    cursor = request.query_params.get("cursor", "")
    if "after_seq" not in request.query_params:
        return None, int_param(request, "cursor", -1, least=-1, most=MOST)
    seq = int_param(request, "after_seq", 0, least=0, most=MOST)
    if not cursor:
        return seq, MOST  # after all items of that seq
    head, _, tail = cursor.partition(".")
    last_seq, last_index = whole(head), whole(tail)
    if last_seq is None or last_index is None:
        raise InvalidRequest(f"cursor must be the `next` of the previous page, not {cursor[:40]!r}.")
    return last_seq, last_index


def _list_param(request: Request, name: str, known: tuple[str, ...]) -> tuple[str, ...]:
    """Return the values of a parameter, which may be repeated or separated by commas."""
    texts = [text for given in request.query_params.getlist(name) for text in given.split(",")]
    values = tuple(dict.fromkeys("cancelled" if text == "canceled" else text for text in texts))
    for value in values:
        if value not in known:
            raise InvalidRequest(f"{name} must be one of {', '.join(known)}, not {value[:40]!r}.")
    return values
