"""Responses that a proxy, a login wall or a broken server may send instead of the real one, by name.

It must not know which requests get them, or when.
See also: proxy.py, which sends them.
"""

from __future__ import annotations

HTML = "<!doctype html><title>{0}</title><h1>{0}</h1><hr>a proxy in between"
LOGIN = '<!doctype html><title>Sign in</title><form method="post"><input name="user"><input name="word"></form>'


def _response(status: str, kind: str, body: bytes, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Type: {kind}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "Connection: close", "", ""]).encode() + body


def _page(status: str, *headers: str) -> bytes:
    return _response(status, "text/html", HTML.format(status).encode(), *headers)


#: Whole HTTP responses by name.
ANSWERS: dict[str, bytes] = {
    "500": _page("500 Internal Server Error"),
    "502": _page("502 Bad Gateway"),
    "503": _page("503 Service Unavailable"),
    "504": _page("504 Gateway Time-out"),
    "429": _page("429 Too Many Requests", "Retry-After: 2"),
    "404": _page("404 Not Found"),
    "garbage": _response("200 OK", "application/json", bytes(range(256))),
    "login page": _response("200 OK", "text/html", LOGIN.encode()),
    "wrong type": _response("200 OK", "text/plain", b'event: job\ndata: {"seq":1,"done":true}\n\n'),
    "204": b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n",
    "truncated JSON": _response("200 OK", "application/json", b'{"id":"1b4e28ba-2fa1","seq":9999,"done":tr'),
}
