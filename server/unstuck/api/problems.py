"""Turns errors into RFC 9457 problem documents: `{"type", "title", "status", "detail", "code"}`.

Must not know: what a route does.
See also: errors.py (the tree of errors), PROTOCOL.md section 3.

Every error that leaves the server has this form, including those of the framework and unexpected ones. Of the
latter the caller learns only that they happened; the log has the details.
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
from unstuck.errors import (
    BodyTooSlow,
    QueueFull,
    RangeNotSatisfiable,
    StoreUnavailable,
    StreamsFull,
    Unauthorized,
    UnstuckError,
    UploadsFull,
)

log = logging.getLogger("unstuck.http")

#: The least time that a client waits before it tries again (seconds).
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
    """Return a problem document as a response."""
    body = wire.Problem(title=title, status=status, detail=detail, code=code, accepted=accepted, line=line)
    return Response(
        msgspec.json.encode(body),
        status_code=status,
        media_type="application/problem+json",
        headers={"Cache-Control": "no-store", **(headers or {})},
    )


async def on_unstuck_error(_: Request, error: Exception) -> Response:
    """Answer with an error of our own tree."""
    assert isinstance(error, UnstuckError)
    return problem(error.status, error.code, error.title, error.detail, headers_of(error))


def headers_of(error: UnstuckError) -> dict[str, str]:
    """Return the headers of a refusal, such as when to try again, if that helps."""
    if isinstance(error, QueueFull | StreamsFull | UploadsFull):
        return {"Retry-After": str(error.retry_after_s)}
    if isinstance(error, BodyTooSlow):
        return {"Connection": "close"}  # the rest of the body may come at any time
    if isinstance(error, RangeNotSatisfiable):
        return {"Content-Range": f"bytes */{error.size}"}
    if isinstance(error, Unauthorized):
        return {"WWW-Authenticate": "Bearer"}
    return {"Retry-After": str(RETRY_AFTER_S)} if isinstance(error, StoreUnavailable) else {}


async def on_http_error(request: Request, error: Exception) -> Response:
    """Answer with an error of the framework, such as an unknown route or a wrong method."""
    assert isinstance(error, HTTPException)
    title = http.HTTPStatus(error.status_code).phrase
    path = str(request.scope["path"])[:200]  # not of request.url, which contains the Host header
    detail = {
        404: f"There is nothing at {path}. The API is under /api/, the page at /.",
        405: f"{path} does not accept {request.method[:20]}.",
    }.get(error.status_code, error.detail)
    code = title.lower().replace(" ", "_").replace("-", "_")
    return problem(error.status_code, code, title, detail, dict(error.headers or {}))


async def on_client_gone(_: Request, __: Exception) -> Response:
    """Answer a client that is gone, which reads nothing: no error is worth a line of the log."""
    return Response(status_code=400)


async def on_unexpected_error(request: Request, error: Exception) -> Response:
    """Answer that the server has a defect. Its traceback is logged once, by the server's error middleware."""
    log.error(
        "Request failed: method=%s path=%r error=%s", request.method, request.scope["path"], type(error).__name__
    )
    return problem(500, "internal_error", "Internal error", "The server failed on this request; its log says why.")
