"""One attempt at bringing a message to a receiver over HTTP: look the host up, check, connect, ask, answer.

What was checked is what is connected to: the connection goes to the very address, with the host's name in the
`Host` header and in TLS, so that a name which points elsewhere at a second look-up gains nothing. No proxy, no
redirect, no cookie, no connection that two receivers share. Knows HTTP; neither jobs nor when to try again.
"""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import errno
import os
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

import anyio
import anyio.to_thread
import httpx

from unstuck.webhooks.targets import AllowedTargets, ForbiddenTarget, Target, is_private, refusal, target

#: Time for one connection, and for the whole attempt (seconds).
CONNECT_S = 5.0
WHOLE_S = 15.0
#: What is read of an answer, so that its sender can end it; it is not kept (bytes, seconds).
ANSWER_BYTES = 64 * 1024
ANSWER_S = 2.0
#: Addresses of one host that are tried.
ADDRESSES = 4

#: The numeric addresses of a host; OSError if there are none.
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]


class NotDelivered(Exception):
    """There was no answer; the message says why, in words."""


@dataclass(frozen=True, slots=True)
class Response:
    """What a receiver said; `again_in_s` is its Retry-After."""

    status: int
    again_in_s: float | None = None


async def look_up(host: str, port: int) -> list[str]:
    """By the system, each in a thread of its own: a slow name server holds up nobody else."""

    def find() -> list[str]:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return [str(one[4][0]) for one in found]

    return await anyio.to_thread.run_sync(find, abandon_on_cancel=True, limiter=anyio.CapacityLimiter(1))


class Sender:
    """`post` makes one attempt. `tls` is whom to trust; the default is what httpx trusts, and SSL_CERT_FILE."""

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
        """POST it; NotDelivered if there is no answer."""
        try:
            async with asyncio.timeout(self._within_s):
                whom = target(url, self._allowed)
                return await self._ask(url, whom, await self._addresses(whom), headers, body)
        except TimeoutError:
            raise NotDelivered(f"no answer within {self._within_s:g} s") from None
        except ForbiddenTarget as error:
            raise NotDelivered(str(error)) from None

    async def _addresses(self, whom: Target) -> Sequence[str]:
        try:
            found = list(dict.fromkeys(await self._resolve(whom.host, whom.port)))
        except (OSError, UnicodeError) as error:
            raise NotDelivered(f"{whom.host} has no address ({_describe(error)})") from error
        # A name with an address of either sort is a trick or a mistake.
        if any(is_private(address) for address in found) and not self._allowed.allows_private(whom.host):
            raise ForbiddenTarget(refusal(whom.host))
        return found[:ADDRESSES]

    async def _ask(
        self, url: str, whom: Target, addresses: Sequence[str], headers: Mapping[str, str], body: bytes
    ) -> Response:
        trouble = f"{whom.host} has no address"
        for address in addresses:
            try:
                return await self._ask_one(url, whom, address, headers, body)
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                trouble = _describe(error)  # nothing was sent yet: the next address may do
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                raise NotDelivered(_describe(error)) from error
        raise NotDelivered(trouble)

    async def _ask_one(
        self, url: str, whom: Target, address: str, headers: Mapping[str, str], body: bytes
    ) -> Response:
        meant = httpx.URL(url)
        own = {"host": meant.netloc.decode("ascii"), "accept": "*/*", "accept-encoding": "identity"}
        request = httpx.Request(
            "POST",
            meant.copy_with(host=address),
            headers={**headers, **own},
            content=body,
            extensions={
                "sni_hostname": whom.host,
                "timeout": httpx.Timeout(WHOLE_S, connect=CONNECT_S).as_dict(),
            },
        )
        # A transport for each attempt: a pool would hand a connection on to another host at the same address.
        async with httpx.AsyncHTTPTransport(verify=self._tls, trust_env=False) as transport:
            response = await transport.handle_async_request(request)
            await _read_on(response)
            return Response(response.status_code, _retry_after(response.headers.get("retry-after")))


async def _read_on(response: httpx.Response) -> None:
    count = 0
    # The status is known: whatever happens to the rest changes nothing.
    with contextlib.suppress(TimeoutError, httpx.HTTPError):
        async with asyncio.timeout(ANSWER_S):
            async for chunk in response.aiter_raw():
                count += len(chunk)
                if count >= ANSWER_BYTES:
                    return


def _retry_after(text: str | None) -> float | None:
    """Seconds, from seconds or a date."""
    if text is None:
        return None
    if text.isascii() and text.isdigit() and len(text) < 10:
        return float(text)
    try:
        return max(email.utils.parsedate_to_datetime(text).timestamp() - time.time(), 0.0)
    except (ValueError, OverflowError):
        return None


def _describe(error: BaseException) -> str:
    """What the system said at the bottom of it: "connection refused" rather than "all attempts failed"."""
    deepest: BaseException | None = error
    said = ""
    while deepest is not None:
        said = _own_message(deepest) or said
        deepest = deepest.__cause__ or deepest.__context__
    return (said or type(error).__name__)[:300].lower()


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
