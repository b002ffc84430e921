"""A single attempt over a real connection: where it connects, what it sends, and what it refuses or ignores."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from tests.webhooks.receiver import SILENCE, Answer, Receive, Tls, closed_port
from unstuck.webhooks.sender import ANSWER_BYTES, NotDelivered, Resolve, Response, Sender
from unstuck.webhooks.targets import AllowedTargets

ALL = AllowedTargets(private=True)


def pointing(*addresses: str) -> tuple[Resolve, list[str]]:
    """Return a resolver that gives every name these addresses, and the list of names it was asked for."""
    asked: list[str] = []

    async def resolve(host: str, port: int) -> Sequence[str]:
        asked.append(host)
        return addresses

    return resolve, asked


async def refused(sender: Sender, url: str) -> str:
    with pytest.raises(NotDelivered) as caught:
        await sender.post(url, {}, b"{}")
    return str(caught.value)


async def test_a_message_arrives_unchanged(receive: Receive) -> None:
    receiver = receive(204)
    answer = await Sender(ALL).post(receiver.url("/a%20b?c=d&e"), {"webhook-id": "1"}, b"body")
    assert answer == Response(204)
    (one,) = receiver.received
    assert (one.path, one.body, one.headers["webhook-id"]) == ("/a%20b?c=d&e", b"body", "1")
    assert one.headers["host"] == f"127.0.0.1:{receiver.port}"
    assert one.headers["content-length"] == "4"


async def test_the_connection_goes_to_the_address_that_was_checked(receive: Receive) -> None:
    receiver = receive()
    resolve, asked = pointing("127.0.0.1")
    await Sender(ALL, resolve).post(receiver.url(host="Hook.Example"), {}, b"{}")
    assert asked == ["hook.example"]  # only once, so a second lookup cannot return another address
    assert receiver.received[0].headers["host"] == f"hook.example:{receiver.port}"


@pytest.mark.parametrize(
    "addresses",
    [["127.0.0.1"], ["::1"], ["169.254.169.254"], ["::ffff:127.0.0.1"], ["1.1.1.1", "127.0.0.1"], ["nonsense"]],
)
async def test_a_name_with_a_private_address_is_refused(receive: Receive, addresses: list[str]) -> None:
    receiver = receive()
    resolve, _ = pointing(*addresses)
    error = await refused(Sender(AllowedTargets(), resolve), receiver.url(host="hook.example"))
    assert "private network" in error
    assert receiver.received == []


async def test_a_name_that_changes_its_address(receive: Receive) -> None:
    """A name may be public when a job is submitted and private at the delivery, or the other way round."""
    receiver = receive()
    addresses = iter(["127.0.0.1", "203.0.113.1"])

    async def resolve(host: str, port: int) -> Sequence[str]:
        return [next(addresses)]

    sender = Sender(AllowedTargets(), resolve)
    assert "private" in await refused(sender, receiver.url(host="hook.example"))
    assert "private" in await refused(sender, receiver.url(host="hook.example"))
    assert receiver.received == []


async def test_numbers_that_the_system_reads_as_addresses_are_refused(receive: Receive) -> None:
    receiver = receive()
    for host in ("2130706433", "0x7f.1", "127.1"):
        assert "private" in await refused(Sender(AllowedTargets()), receiver.url(host=host))
    assert receiver.received == []


async def test_a_host_that_is_allowed_by_name(receive: Receive) -> None:
    receiver = receive()
    resolve, _ = pointing("127.0.0.1")
    sender = Sender(AllowedTargets(hosts=["hook.example"]), resolve)
    assert (await sender.post(receiver.url(host="hook.example"), {}, b"{}")).status == 200
    assert "private" in await refused(sender, receiver.url(host="other.example"))


async def test_the_next_address_is_tried_if_one_does_not_answer(receive: Receive) -> None:
    receiver = receive()
    resolve, _ = pointing("127.0.0.9", "127.0.0.1")
    assert (await Sender(ALL, resolve).post(receiver.url(host="hook.example"), {}, b"{}")).status == 200


async def test_a_redirect_is_not_followed(receive: Receive) -> None:
    inner = receive()
    outer = receive(Answer(307, {"Location": inner.url()}))
    assert (await Sender(ALL).post(outer.url(), {}, b"{}")).status == 307
    assert inner.received == []


async def test_errors_say_why_a_message_was_not_delivered(receive: Receive) -> None:
    sender = Sender(ALL)
    assert await refused(sender, f"http://127.0.0.1:{closed_port()}/") == "connection refused"
    assert "no address" in await refused(sender, "http://no.such.host.invalid/")
    assert await refused(Sender(ALL, within_s=0.3), receive(SILENCE).url()) == "no answer within 0.3 s"
    assert "TLS failed".lower() in await refused(sender, receive().url().replace("http:", "https:"))


async def test_a_receiver_that_does_not_speak_http(receive: Receive) -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"SSH-2.0-hello\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        assert await refused(Sender(ALL), f"http://127.0.0.1:{port}/")


async def test_an_endless_answer_is_cut_off(receive: Receive) -> None:
    receiver = receive(Answer(200, forever=True))
    assert (await Sender(ALL).post(receiver.url(), {}, b"{}")).status == 200
    assert receiver.sent < ANSWER_BYTES + 8 * 1024 * 1024  # more fits into the system's buffers


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("120", 120.0), ("Mon, 01 Jan 2001 00:00:00 GMT", 0.0), ("soon", None), ("-1", None), ("9" * 20, None)],
)
async def test_retry_after(receive: Receive, text: str, seconds: float | None) -> None:
    receiver = receive(Answer(503, {"Retry-After": text}))
    assert await Sender(ALL).post(receiver.url(), {}, b"{}") == Response(503, seconds)


async def test_tls_verifies_the_name_at_the_checked_address(receive: Receive, tls: Tls) -> None:
    receiver = receive(tls=tls.receiver)
    resolve, asked = pointing("127.0.0.1")
    url = receiver.url(host="hook.example")
    assert (await Sender(ALL, resolve, tls.trusting).post(url, {}, b"{}")).status == 200
    assert asked == receiver.names == ["hook.example"]
    # An unknown signer, another name, another address: each is refused before anything is sent.
    assert "certificate refused" in await refused(Sender(ALL, resolve), url)
    other = receiver.url(host="other.example")
    assert "certificate refused" in await refused(Sender(ALL, resolve, tls.trusting), other)
    assert "certificate refused" in await refused(Sender(ALL, tls=tls.trusting), receiver.url())
    assert len(receiver.received) == 1


async def test_a_refusal_does_not_say_which_names_exist_inside() -> None:
    async def unknown(host: str, port: int) -> Sequence[str]:
        raise OSError("Name or service not known")

    inside, _ = pointing("10.0.0.1")
    refusals = {
        await refused(Sender(AllowedTargets(), resolve), "http://db.corp/") for resolve in (unknown, inside)
    }
    assert len(refusals) == 1
    allowed = Sender(AllowedTargets(hosts={"db.corp"}), unknown)
    assert "not known" in await refused(allowed, "http://db.corp/")
