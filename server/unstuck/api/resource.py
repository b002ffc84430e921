"""Serves the methods of one path: each by its handler, and OPTIONS with the names of all.

Must not know: any path or handler.
See also: app.py (the paths), problems.py (what is answered to other methods).

One route holds all methods of its path. With a route for each, the framework's 405 named the methods of one of
them in `Allow`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, request_response
from starlette.types import ASGIApp, Receive, Scope, Send

#: A smaller answer, such as one job, fits into one packet as it is.
COMPRESSED_BYTES = 2_000

Handler = Callable[[Request], Awaitable[ASGIApp]]


def resource(path: str, **handlers: Handler) -> Route:
    """Return the route of a path, with a handler for each method: `resource("/api/jobs", GET=list_jobs)`."""
    serve = _Resource(handlers)
    return Route(path, serve, methods=serve.methods)


def compressed(route: Route) -> Route:
    """Compress what the route sends to clients that take it. Streams are not: a compressor holds events back."""
    route.app = GZipMiddleware(route.app, minimum_size=COMPRESSED_BYTES, compresslevel=6)
    return route


def allow(methods: list[str]) -> Response:
    """Answer OPTIONS with the methods."""
    return Response(status_code=204, headers={"Allow": ", ".join(methods)})


class _Resource:
    def __init__(self, handlers: dict[str, Handler]) -> None:
        if "GET" in handlers:
            handlers = {**handlers, "HEAD": handlers["GET"]}
        self.methods = [*handlers, "OPTIONS"]
        self._apps: dict[str, ASGIApp] = {
            method: request_response(handler)  # type: ignore[arg-type]  # it calls whatever the handler returns
            for method, handler in handlers.items()
        }
        self._apps["OPTIONS"] = allow(self.methods)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._apps[scope["method"]](scope, receive, send)
