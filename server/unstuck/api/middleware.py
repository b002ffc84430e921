"""Decides which requests are served at all, and adds the headers that restrict browsers to every answer.

Must not know: routes, jobs.
See also: problems.py (how a refusal is sent), PROTOCOL.md section 3.

- A request must name an allowed host (DNS rebinding: a foreign name that points here is refused). Only the health
  of the server is told to any: probes name the address that they reach, or no host at all.
- A call that changes something must not come from another site's page (`Origin`, `Sec-Fetch-Site`). Programs that
  send neither header are not browsers, and no page can leave them out.
- Every answer carries a strict Content-Security-Policy. A redirect leads to a path: the scheme and host that are
  seen here may be a proxy's name for this server.

It is plain ASGI, so that streams pass through untouched.
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit, urlunsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from unstuck.api.expect import asks_first, close_if_unreceived
from unstuck.api.problems import problem
from unstuck.errors import Forbidden, HostNotAllowed, Refused

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEALTH = frozenset({"/api/health", "/api/health/live", "/api/health/ready"})
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
#: The cure of what a proxy that hides the host does to these checks.
ADVICE = "let it pass the Host header on (nginx: proxy_set_header Host $http_host;)"


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
        if asks_first(headers):
            receive, send = close_if_unreceived(receive, send)
        refusal = self._refusal(scope, headers)
        if refusal is not None:
            answer = problem(refusal.status, refusal.code, refusal.title, refusal.detail, {"Connection": "close"})
            await answer(scope, receive, _with_policy(send))
            return
        await self._app(scope, receive, _with_policy(send))

    def _refusal(self, scope: Scope, headers: Headers) -> Refused | None:
        if scope["method"] in SAFE_METHODS and _route_path(scope) in HEALTH:
            return None
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._host_allowed(hosts[0]):
            named = hosts[0][:80] if hosts else ""
            client = ' Of a TestClient this is base_url="http://localhost".' if named == "testserver" else ""
            return HostNotAllowed(
                f"This server does not answer for the host {named!r}. Allow it with UNSTUCK_ALLOWED_HOSTS, "
                "--allowed-host or create_app(allowed_hosts=[…]), or use http://localhost. If a proxy calls this "
                f"server so, {ADVICE}.{client}"
            )
        if scope["method"] not in SAFE_METHODS and not _same_site(scope, headers, hosts[0]):
            return Forbidden(
                f"Cross-site request refused: Origin or Sec-Fetch-Site does not match the host {hosts[0][:80]!r}. "
                f"If there is a proxy in front of this server, {ADVICE}."
            )
        return None

    def _host_allowed(self, host: str) -> bool:
        return self._any_host or _host_name(host) in self._hosts


def _route_path(scope: Scope) -> str:
    """Return the path below the prefix at which the app is mounted."""
    return str(scope["path"]).removeprefix(scope.get("root_path", ""))


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
            if message["status"] == 307:
                where = urlsplit(headers["Location"])
                headers["Location"] = urlunsplit(("", "", f"/{where.path.lstrip('/')}", where.query, ""))
        await send(message)

    return sending
