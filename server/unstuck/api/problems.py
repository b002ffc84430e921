"""Errors as RFC 9457 problem documents: `{"type", "title", "status", "detail", "code"}`.

Every error that leaves the server has this form, also those of the framework and those that nobody
expected; of the latter the caller learns that they happened, and the log learns what.
"""

from __future__ import annotations

import http
import logging

import msgspec
from msgspec import UNSET, UnsetType
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from unstuck import wire
from unstuck.errors import QueueFull, StoreUnavailable, StreamsFull, UnstuckError

log = logging.getLogger("unstuck.http")

#: What a client that was told to come back waits at least (seconds).
RETRY_AFTER_S = 2


def problem(
    status: int,
    code: str,
    title: str,
    detail: str,
    headers: dict[str, str] | None = None,
    *,
    accepted: int | UnsetType = UNSET,
    line: int | UnsetType = UNSET,
) -> Response:
    """One problem document."""
    body = wire.Problem(title=title, status=status, detail=detail, code=code, accepted=accepted, line=line)
    return Response(
        msgspec.json.encode(body),
        status_code=status,
        media_type="application/problem+json",
        headers={"Cache-Control": "no-store", **(headers or {})},
    )


async def on_unstuck_error(_: Request, error: Exception) -> Response:
    """An error of our own tree."""
    assert isinstance(error, UnstuckError)
    return problem(error.status, error.code, error.title, error.detail, retry_after(error))


def retry_after(error: UnstuckError) -> dict[str, str]:
    """When to come back, where that helps."""
    if isinstance(error, QueueFull | StreamsFull):
        return {"Retry-After": str(error.retry_after_s)}
    return {"Retry-After": str(RETRY_AFTER_S)} if isinstance(error, StoreUnavailable) else {}


async def on_http_error(request: Request, error: Exception) -> Response:
    """No such route, wrong method, and the like."""
    assert isinstance(error, HTTPException)
    title = http.HTTPStatus(error.status_code).phrase
    detail = {
        404: f"There is nothing at {request.url.path[:200]}. The API lies under /api/, see /.",
        405: f"{request.url.path[:200]} does not take {request.method[:20]}.",
    }.get(error.status_code, error.detail)
    code = title.lower().replace(" ", "_").replace("-", "_")
    return problem(error.status_code, code, title, detail, dict(error.headers or {}))


async def on_unexpected_error(request: Request, error: Exception) -> Response:
    """A bug. The traceback goes to the log, once, where the server's own error middleware puts it."""
    log.error("%s %s broke: %s", request.method, request.url.path, type(error).__name__)
    return problem(500, "internal_error", "Internal error", "The server failed to answer this; its log says why.")
