"""Decides which requests are served at all, and adds the headers that restrict browsers to every answer.

Must not know: routes, jobs.
See also: problems.py (how a refusal is sent), PROTOCOL.md section 3.

- A request must name an allowed host (DNS rebinding: a foreign name that points here is refused).
- A call that changes something must not come from another site's page (`Origin`, `Sec-Fetch-Site`). Programs that
  send neither header are not browsers, and no page can leave them out.
- Every answer carries a strict Content-Security-Policy.

It is plain ASGI, so that streams pass through untouched.
"""

from __future__ import annotations

from collections.abc import Sequence

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from unstuck.api.problems import problem
from unstuck.errors import Forbidden, HostNotAllowed, Refused

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


class SecurityMiddleware:
    """ASGI middleware that enforces the rules above."""

    def __init__(self, app: ASGIApp, allowed_hosts: Sequence[str]) -> None:
        self._app = app
        self._any_host = "*" in allowed_hosts
        self._hosts = frozenset(host.lower() for host in allowed_hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        refusal = self._refusal(scope, headers)
        if refusal is not None:
            answer = problem(refusal.status, refusal.code, refusal.title, refusal.detail, {"Connection": "close"})
            await answer(scope, receive, _with_policy(send))
            return
        await self._app(scope, receive, _with_policy(send))

    def _refusal(self, scope: Scope, headers: Headers) -> Refused | None:
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._host_allowed(hosts[0]):
            named = hosts[0][:80] if hosts else ""
            return HostNotAllowed(
                f"This server does not answer for the host {named!r}. Allow it with "
                "--allowed-host NAME (or UNSTUCK_ALLOWED_HOSTS), or use http://localhost."
            )
        if scope["method"] not in SAFE_METHODS and not _same_site(scope, headers, hosts[0]):
            return Forbidden(
                "Cross-site request refused: Origin or Sec-Fetch-Site does not match this host. A proxy must pass "
                "the Host header on."
            )
        return None

    def _host_allowed(self, host: str) -> bool:
        return self._any_host or _host_name(host) in self._hosts


def _same_site(scope: Scope, headers: Headers, host: str) -> bool:
    fetch_site = headers.get("sec-fetch-site")
    if fetch_site is not None and fetch_site not in ("same-origin", "none"):
        return False
    origins = headers.getlist("origin")
    if not origins:
        return True
    scheme, separator, origin_host = origins[0].partition("://")  # an origin has nothing but these
    return (
        len(origins) == 1
        and scheme.lower() in ("http", "https")
        and bool(separator)
        and origin_host.lower() == host.lower()
    )


def _host_name(host: str) -> str:
    """Return the host without its port, in lower case; a text of another form stays whole and matches nothing."""
    head, colon, port = host.rpartition(":")
    name = head if colon and port.isascii() and port.isdigit() and not head.endswith(":") else host
    return name.lower()


def _with_policy(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
            headers["X-Content-Type-Options"] = "nosniff"
            headers["Referrer-Policy"] = "same-origin"
            headers["Cross-Origin-Resource-Policy"] = "same-origin"
        await send(message)

    return sending
