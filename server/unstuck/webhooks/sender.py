"""Makes one attempt to deliver a message over HTTP: look the host up, check it, connect, send, read the answer.

Must not know: jobs, or when to try again.
See also: targets.py (what is allowed), dispatcher.py (the only caller).

The connection goes to the very address that was checked, with the host's name in the `Host` header and in TLS, so
a name that points elsewhere at a second look-up gains nothing. There is no proxy, no redirect, no cookie, and no
connection that two receivers share.
"""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import errno
import logging
import os
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

import anyio
import anyio.to_thread
import httpx

from unstuck.webhooks.targets import AllowedTargets, ForbiddenTarget, Target, is_private, no_public_address, target

log = logging.getLogger("unstuck.webhook")

#: Time for one connection, and for the whole attempt (seconds).
CONNECT_S = 5.0
WHOLE_S = 15.0
#: How much of an answer's body is read, so that its sender can finish; it is not kept (bytes, seconds).
ANSWER_BYTES = 64 * 1024
ANSWER_S = 2.0
#: Most addresses of one host that are tried.
ADDRESSES = 4

#: Returns the numeric addresses of a host and port; raises OSError if there are none.
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]


class NotDelivered(Exception):
    """There was no answer; the message says why, in words."""


@dataclass(frozen=True, slots=True)
class Response:
    """A receiver's answer; `again_in_s` is its Retry-After (seconds)."""

    status: int
    again_in_s: float | None = None


async def look_up(host: str, port: int) -> list[str]:
    """Resolve with the system's resolver, each time in a new thread: a slow name server holds up no other host."""

    def find() -> list[str]:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return [str(one[4][0]) for one in found]

    return await anyio.to_thread.run_sync(find, abandon_on_cancel=True, limiter=anyio.CapacityLimiter(1))


class Sender:
    """Sends messages with `post`. `tls` says which certificates to trust; default: httpx's, or SSL_CERT_FILE."""

    def __init__(
        self,
        allowed: AllowedTargets,
        resolve: Resolve = look_up,
        tls: ssl.SSLContext | None = None,
        within_s: float = WHOLE_S,
    ) -> None:
        self._allowed = allowed
        self._within_s = within_s
        self._resolve = resolve
        self._tls = tls or httpx.create_ssl_context()

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Response:
        """Send a POST request and return the answer. Raises NotDelivered if there is none."""
        try:
            async with asyncio.timeout(self._within_s):
                receiver = target(url, self._allowed)
                return await self._ask(url, receiver, await self._addresses(receiver), headers, body)
        except TimeoutError:
            raise NotDelivered(f"no answer within {self._within_s:g} s") from None
        except ForbiddenTarget as error:
            raise NotDelivered(str(error)) from None

    async def _addresses(self, receiver: Target) -> Sequence[str]:
        try:
            found = list(dict.fromkeys(await self._resolve(receiver.host, receiver.port)))
        except (OSError, UnicodeError) as error:
            if self._allowed.allows_private(receiver.host):
                raise NotDelivered(f"{receiver.host} has no address ({_describe(error)})") from error
            log.info("Webhook not sent: host=%r reason=%r", receiver.host, _describe(error))
            raise NotDelivered(no_public_address(receiver.host)) from None
        # A name with both private and public addresses is a trick or a mistake.
        if any(is_private(address) for address in found) and not self._allowed.allows_private(receiver.host):
            log.info("Webhook not sent: host=%r reason=%r", receiver.host, "its address is private")
            raise NotDelivered(no_public_address(receiver.host))
        return found[:ADDRESSES]

    async def _ask(
        self, url: str, receiver: Target, addresses: Sequence[str], headers: Mapping[str, str], body: bytes
    ) -> Response:
        trouble = f"{receiver.host} has no address"
        for address in addresses:
            try:
                return await self._ask_one(url, receiver, address, headers, body)
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                trouble = _describe(error)  # nothing was sent: the next address may work
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                raise NotDelivered(_describe(error)) from error
        raise NotDelivered(trouble)

    async def _ask_one(
        self, url: str, receiver: Target, address: str, headers: Mapping[str, str], body: bytes
    ) -> Response:
        parsed = httpx.URL(url)
        own = {"host": parsed.netloc.decode("ascii"), "accept": "*/*", "accept-encoding": "identity"}
        request = httpx.Request(
            "POST",
            parsed.copy_with(host=address),
            headers={**headers, **own},
            content=body,
            extensions={
                "sni_hostname": receiver.host,
                "timeout": httpx.Timeout(WHOLE_S, connect=CONNECT_S).as_dict(),
            },
        )
        # One transport per attempt: a pool would reuse a connection for another host at the same address.
        async with httpx.AsyncHTTPTransport(verify=self._tls, trust_env=False) as transport:
            response = await transport.handle_async_request(request)
            await _read_on(response)
            return Response(response.status_code, _retry_after(response.headers.get("retry-after")))


async def _read_on(response: httpx.Response) -> None:
    count = 0
    # The status is known, so nothing that happens to the rest matters.
    with contextlib.suppress(TimeoutError, httpx.HTTPError):
        async with asyncio.timeout(ANSWER_S):
            async for chunk in response.aiter_raw():
                count += len(chunk)
                if count >= ANSWER_BYTES:
                    return


def _retry_after(text: str | None) -> float | None:
    """Convert a number of seconds or a date into seconds; None if it is neither."""
    if text is None:
        return None
    if text.isascii() and text.isdigit() and len(text) < 10:
        return float(text)
    try:
        return max(email.utils.parsedate_to_datetime(text).timestamp() - time.time(), 0.0)
    except (ValueError, OverflowError):
        return None


def _describe(error: BaseException) -> str:
    """Return the message of the deepest cause: "connection refused" rather than "all attempts failed"."""
    deepest: BaseException | None = error
    message = ""
    while deepest is not None:
        message = _own_message(deepest) or message
        deepest = deepest.__cause__ or deepest.__context__
    return (message or type(error).__name__)[:300].lower()


def _own_message(error: BaseException) -> str:
    match error:
        case ssl.SSLCertVerificationError():
            return f"certificate refused: {error.verify_message}"
        case ssl.SSLError():
            return f"TLS failed: {error.reason}"
        case socket.gaierror():
            return error.strerror or ""
        case OSError(errno=int(number)) if number in errno.errorcode:
            return os.strerror(number)
        case _:
            return str(error)
