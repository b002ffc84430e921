"""Jobs and their items: list, look, cancel, remove. PROTOCOL.md sections 2 and 3."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from datetime import datetime

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import Response

from unstuck.api.context import Parts, answer, base_of, job_id_of, number_of, parts_of
from unstuck.errors import InvalidRequest, JobFinished, UnstuckError
from unstuck.jobs.job import Cancel, Health, ItemState, State
from unstuck.jobs.snapshot import Snapshot, etag, public, public_item
from unstuck.store.protocol import JobFilter

HEALTHS = tuple(Health)
POLL_REASONS = frozenset({"reconnect", "late", "watchdog", "behind", "wake", "fallback", "manual"})
END_CURSOR = re.compile(r"(\d{1,12}(?:\.\d{1,20})?)~(\d{1,18})", re.ASCII)


async def listed(request: Request) -> Response:
    """GET /api/jobs"""
    parts = parts_of(request)
    wanted = JobFilter(
        states=_several(request, "state", tuple(State)),
        kind=request.query_params.get("kind"),
        healths=_several(request, "health", HEALTHS),
        finished_before=_time(request, "finished_before"),
    )
    limit = number_of(request, "limit", 50, least=1, most=200)
    before = None
    if wanted.finished_before is None:
        before = number_of(request, "cursor", 2**53, least=0, most=2**53)
    else:
        wanted = replace(wanted, finished_after=_end_cursor(request))
    found = await parts.store.jobs(wanted, before=before, limit=limit + 1)
    page = found[:limit]
    following = None
    if len(found) > limit:
        job_n, last = page[-1]
        following = str(job_n) if before is not None else f"{last.job.finished_at}~{job_n}"
    return answer({"jobs": [_public(request, parts, one) for _, one in page], "next": following})


async def one(request: Request) -> Response:
    """GET /api/jobs/{id}"""
    parts = parts_of(request)
    job_id = job_id_of(request.path_params["job_id"])
    reason = request.headers.get("x-unstuck-poll")
    if reason is not None:
        known = reason if reason in POLL_REASONS else "other"
        parts.polls[known] = parts.polls.get(known, 0) + 1
    snapshot = await parts.store.snapshot(job_id)
    tag = etag(snapshot)
    if _matches(request, tag):
        return Response(status_code=304, headers={"ETag": tag, "Cache-Control": "no-store"})
    return answer(_public(request, parts, snapshot), headers={"ETag": tag})


async def cancel(request: Request) -> Response:
    """POST /api/jobs/{id}/cancel"""
    parts = parts_of(request)
    job_id = job_id_of(request.path_params["job_id"])
    (outcome,) = await parts.store.apply([Cancel(job_id)])
    if isinstance(outcome, UnstuckError) and not isinstance(outcome, JobFinished):
        raise outcome
    status = 200 if isinstance(outcome, JobFinished) else 202
    return answer(_public(request, parts, await parts.store.snapshot(job_id)), status)


async def remove(request: Request) -> Response:
    """DELETE /api/jobs/{id}"""
    parts = parts_of(request)
    job_id = job_id_of(request.path_params["job_id"])
    await parts.store.remove(job_id)
    # The row first: should this be cut off here, the next start sweeps a folder without a job.
    await anyio.to_thread.run_sync(parts.folder.remove, job_id)
    return Response(status_code=204)


async def items(request: Request) -> Response:
    """GET /api/jobs/{id}/items"""
    parts = parts_of(request)
    job_id = job_id_of(request.path_params["job_id"])
    limit = number_of(request, "limit", 100, least=1, most=1_000)
    after_seq, after_index = _items_cursor(request)
    found = await parts.store.items(
        job_id,
        states=_several(request, "state", tuple(ItemState)),
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
    return answer({"items": [public_item(item, job_id, base) for item in page], "next": following})


def _public(request: Request, parts: Parts, snapshot: Snapshot) -> dict[str, object]:
    return public(snapshot, time.time(), base_of(request), parts.settings.keep_s)


def _matches(request: Request, tag: str) -> bool:
    held = request.headers.get("if-none-match", "")
    return any(one.strip().removeprefix("W/") == tag.removeprefix("W/") for one in held.split(","))


def _time(request: Request, name: str) -> float | None:
    """A time of the query in epoch seconds; InvalidRequest where it is none of RFC 3339."""
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
    """Of a list in the order of the ends: the last one's end and its number."""
    cursor = request.query_params.get("cursor")
    if cursor is None:
        return float("-inf"), 0
    found = END_CURSOR.fullmatch(cursor)
    if found is None:
        raise InvalidRequest(f"cursor must be the `next` of the page before, not {cursor[:40]!r}.")
    return float(found[1]), int(found[2])


def _items_cursor(request: Request) -> tuple[int | None, int]:
    """Where to go on: after a seq and an index, or after an index alone."""
    cursor = request.query_params.get("cursor", "")
    if "after_seq" not in request.query_params:
        return None, number_of(request, "cursor", -1, least=-1, most=2**53)
    seq = number_of(request, "after_seq", 0, least=0, most=2**53)
    if not cursor:
        return seq, 2**53  # all items of that seq were seen
    head, _, tail = cursor.partition(".")
    if not (head.isdigit() and tail.isdigit() and len(cursor) <= 36):
        raise InvalidRequest(f"cursor must be the `next` of the page before, not {cursor[:40]!r}.")
    return int(head), int(tail)


def _several(request: Request, name: str, known: tuple[str, ...]) -> tuple[str, ...]:
    """The parameter, which may be repeated, or a list with commas."""
    asked = [text for given in request.query_params.getlist(name) for text in given.split(",")]
    values = tuple("cancelled" if text == "canceled" else text for text in asked)
    for value in values:
        if value not in known:
            raise InvalidRequest(f"{name} must be one of {', '.join(known)}, not {value[:40]!r}.")
    return values
