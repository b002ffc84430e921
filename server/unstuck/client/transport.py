"""Decides how a server is reached (directly or through a proxy, by which certificates), and says why it was not.

It must not know jobs, or what is requested.
See also: client.py and follower.py, which request.
"""

from __future__ import annotations

import ipaddress
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import TypeVar

import httpx

from unstuck.errors import NoAnswer

T = TypeVar("T")

#: The longest wait for a response (seconds); an upload itself has no limit.
ANSWER_S = 60.0
#: The longest wait for a connection (seconds): a host that drops packets does not say that it is not there.
CONNECT_S = 10.0
#: Each watched job has its own stream. Under a limit (httpx: 100) further streams, and their polls, wait silently
#: for a free connection: of 150 jobs watched at once, 50 never got an event.
CONNECTIONS = httpx.Limits(max_connections=None, max_keepalive_connections=20)

IS_IT_RUNNING = "Check that the server is running and that this is its address."
NO_ADDRESS = ("this is no address", "Write it as http://HOST:PORT, such as http://127.0.0.1:8765.")


def open_http(url: str, headers: Mapping[str, str] | None = None, *, cookies: bool = True) -> httpx.AsyncClient:
    """Return an HTTP client that can reach the server.

    The proxies of the environment do not count for this machine: they would look for the server on theirs.
    Raises NoAnswer if the proxies or certificates of the environment cannot be used.
    """
    jar = None if cookies else CookieJar(DefaultCookiePolicy(allowed_domains=()))
    return _open(httpx.AsyncClient, url, headers, jar)


def open_plain_http(url: str, headers: Mapping[str, str] | None = None) -> httpx.Client:
    """Return the same without asyncio and without cookies, for threads."""
    return _open(httpx.Client, url, headers, CookieJar(DefaultCookiePolicy(allowed_domains=())))


def _open(kind: Callable[..., T], url: str, headers: Mapping[str, str] | None, jar: CookieJar | None) -> T:
    given = httpx.Headers(headers)
    try:
        return kind(
            headers=given, cookies=jar, follow_redirects=True, timeout=httpx.Timeout(ANSWER_S, connect=CONNECT_S),
            limits=CONNECTIONS, verify=httpx.create_ssl_context(), trust_env=not is_this_machine(url),
        )  # fmt: skip
    except (ValueError, OSError, ImportError, httpx.InvalidURL) as error:
        if not url.startswith(("http://", "https://")):
            raise NoAnswer(url, *NO_ADDRESS) from error
        advice = "Correct HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY or SSL_CERT_FILE in the environment."
        raise NoAnswer(
            url, f"its proxy or certificates cannot be used: {str(error).rstrip('.')}", advice
        ) from error


def is_this_machine(url: str) -> bool:
    """Return whether the URL's host is the machine itself, by its name or address."""
    try:
        host = httpx.URL(url).host.rstrip(".").lower()
    except httpx.InvalidURL:
        return False
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None) or address
    return bool(mapped.is_loopback or mapped.is_unspecified)


def no_answer(url: str, error: BaseException) -> NoAnswer:
    """Return the exception for whatever a request failed with, in words instead of a library's."""
    causes = list(_causes(error))
    for kinds, reason, advice in REASONS:
        if any(isinstance(one, kinds) for one in causes):
            return NoAnswer(url, reason, advice)
    return NoAnswer(url, "the connection broke, or something else answers there", IS_IT_RUNNING)


#: The first row that fits an error, or one of its causes, says what is wrong and what to do.
REASONS: list[tuple[tuple[type[BaseException], ...], str, str]] = [
    (
        (httpx.UnsupportedProtocol, httpx.InvalidURL, UnicodeError, OverflowError),
        *NO_ADDRESS,
    ),
    (
        (ssl.SSLCertVerificationError,),
        "its certificate is not trusted",
        "Set SSL_CERT_FILE to the file of its certificate authority.",
    ),
    ((ssl.SSLError,), "no encrypted connection is possible", "Check whether its address begins with http://."),
    ((socket.gaierror,), "there is no host of this name", "Check the spelling of its address, and the network."),
    (
        (httpx.ProxyError,),
        "the proxy does not let the request pass",
        "Check HTTP_PROXY, HTTPS_PROXY and ALL_PROXY.",
    ),
    ((httpx.ConnectTimeout,), "there was no connection in time", IS_IT_RUNNING),
    ((ConnectionRefusedError, httpx.ConnectError), "nothing accepts connections there", IS_IT_RUNNING),
    ((httpx.TimeoutException, TimeoutError), "there was no response in time", IS_IT_RUNNING),
    ((httpx.TooManyRedirects,), "it redirects in circles", IS_IT_RUNNING),
    ((httpx.DecodingError,), "its response cannot be decoded", IS_IT_RUNNING),
]


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield the error and all that led to it, each once."""
    waiting, seen = [error], set[int]()
    while waiting:
        one = waiting.pop(0)
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        if isinstance(one, BaseExceptionGroup):
            waiting += one.exceptions
        waiting += [cause for cause in (one.__cause__, one.__context__) if cause is not None]
