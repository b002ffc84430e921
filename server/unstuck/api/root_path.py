"""Puts the path prefix at which a proxy serves the app into each request, so that links lead back through it.

Must not know: routes beyond the first part of their paths.
See also: context.py (`base_of`), serve.py (the caller), OPERATING.md ("Behind a proxy").

A proxy may strip the prefix or keep it; both are understood. A host app that mounts the app gives the prefix in
each request itself.
"""

from __future__ import annotations

from urllib.parse import unquote

from starlette.types import ASGIApp, Receive, Scope, Send

#: With what the paths of the app begin, apart from the page's own.
OURS = ("/api/", "/static/", "/metrics")


def at_root_path(app: ASGIApp, root_path: str) -> ASGIApp:
    """Serve the app at a prefix such as `/progress`; the server in front of it must not add the prefix itself."""
    if not root_path:
        return app

    async def serving(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            # In place: a copy would keep what the server takes out of the scope at the end.
            scope.update(_under(root_path, scope["path"], scope["raw_path"].decode("ascii", "replace")))
        await app(scope, receive, send)

    return serving


def _under(root_path: str, path: str, raw_path: str) -> Scope:
    rest = raw_path.removeprefix(root_path)
    below = raw_path.startswith(root_path) and rest[:1] in ("", "/")
    # With the prefix /api both readings of /api/kinds are possible; then the one counts that leads somewhere.
    if below and (_is_ours(rest) or not _is_ours(raw_path)):
        path, raw_path = unquote(rest), rest
    return {"root_path": root_path, "path": root_path + path, "raw_path": (root_path + raw_path).encode()}


def _is_ours(path: str) -> bool:
    return path in ("", "/") or path.startswith(OURS)
