"""Jobs and their items: list, look, cancel, remove. PROTOCOL.md sections 2 and 3."""

from __future__ import annotations

import time

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import Response

from unstuck.errors import InvalidRequest, JobFinished, UnstuckError
from unstuck.job import Cancel, ItemState, State
from unstuck.routes import Parts, answer, base_of, job_id_of, number_of, parts_of
from unstuck.snapshot import Snapshot, etag, public, public_item
from unstuck.stores import JobFilter

HEALTHS = ("ok", "waiting_long", "stalled", "unresponsive")
POLL_REASONS = frozenset({"reconnect", "watchdog", "behind", "wake", "fallback", "manual"})


async def listed(request: Request) -> Response:
    """GET /api/jobs"""
    parts = parts_of(request)
    wanted = JobFilter(
        states=_states(request, tuple(State)),
        kind=request.query_params.get("kind"),
        health=_one_of(request, "health", HEALTHS),
    )
    limit = number_of(request, "limit", 50, least=1, most=200)
    before = number_of(request, "cursor", 2**53, least=0, most=2**53)
    found = await parts.store.jobs(wanted, before=before, limit=limit + 1)
    page = found[:limit]
    following = str(page[-1][0]) if len(found) > limit else None
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
        states=_states(request, tuple(ItemState)),
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


def _states(request: Request, known: tuple[str, ...]) -> tuple[str, ...]:
    asked = [text for given in request.query_params.getlist("state") for text in given.split(",")]
    states = tuple("cancelled" if text == "canceled" else text for text in asked)
    for state in states:
        if state not in known:
            raise InvalidRequest(f"state must be one of {', '.join(known)}, not {state[:40]!r}.")
    return states


def _one_of(request: Request, name: str, known: tuple[str, ...]) -> str | None:
    value = request.query_params.get(name)
    if value is not None and value not in known:
        raise InvalidRequest(f"{name} must be one of {', '.join(known)}, not {value[:40]!r}.")
    return value
