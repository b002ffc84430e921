"""How a server is reached: any error of a library is one exception, and no proxy stands before this machine."""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import anyio
import h11
import httpcore
import httpx
import pytest

from tests.client.raw import Raw, job_of
from unstuck.client import watch_state as w
from unstuck.client.client import Client
from unstuck.client.transport import is_this_machine, no_answer, open_http
from unstuck.doctor.measure import measure
from unstuck.errors import NoAnswer, ServerRefused

JOB = "00000000-0000-4000-8000-000000000000"
LIBRARIES = (httpx, httpcore, h11, ssl, socket, anyio)


def subclasses(kind: type[Exception]) -> Iterator[type[Exception]]:
    for one in kind.__subclasses__():
        yield one
        yield from subclasses(one)


def errors() -> list[Exception]:
    """One of each exception that a library below the client may raise, and of those of the system."""
    kinds = {
        kind for library in LIBRARIES for kind in vars(library).values()
        if isinstance(kind, type) and issubclass(kind, Exception)
    }  # fmt: skip
    kinds |= {one for one in subclasses(OSError) if one.__module__ == "builtins"}
    kinds |= {OSError, UnicodeError, OverflowError, EOFError, ValueError, RuntimeError}
    made = []
    for kind in sorted(kinds, key=lambda one: f"{one.__module__}.{one.__name__}"):
        error = kind.__new__(kind)
        error.args = ("the words of a library",)
        made.append(error)
    return made


class Failing(httpx.AsyncBaseTransport):
    """Raises an error at the request, or in the middle of the response."""

    def __init__(self, error: Exception, *, late: bool) -> None:
        self.error, self.late = error, late

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if not self.late:
            raise self.error
        return httpx.Response(200, headers={"Content-Type": "text/event-stream"}, content=self.pieces())

    async def pieces(self) -> AsyncIterator[bytes]:
        yield b"{"
        raise self.error


def test_there_are_many_errors() -> None:
    assert len(errors()) > 70


@pytest.mark.parametrize("late", [False, True], ids=["request", "response"])
async def test_whatever_a_library_raises_is_no_answer(late: bool, tmp_path: Path) -> None:
    for error in errors():
        async with httpx.AsyncClient(transport=Failing(error, late=late)) as http:
            client = Client("http://127.0.0.1:8765", http=http)
            for call in (
                client.job(JOB), client.jobs(), client.submit("k", total=1, patience_s=0),
                client.submit("k", files=[("a", b"a")], patience_s=0), client.download(JOB, tmp_path / "file"),
            ):  # fmt: skip
                with pytest.raises(
                    NoAnswer, match=r"^No answer from http://127\.0\.0\.1:8765: .*\. .*\.$"
                ) as caught:
                    await call
                assert "the words of a library" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("late", [False, True], ids=["request", "response"])
async def test_a_watch_goes_on_whatever_a_library_raises(late: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for pause in ("BACKOFF_MIN_MS", "BACKOFF_MAX_MS", "BACKOFF_UNANSWERED_MS"):
        monkeypatch.setattr(w, pause, 1)
    waiting = errors()

    class Recovering(Failing):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            if "/events" in request.url.path:
                return await Failing(waiting[0] if waiting else OSError(), late=late).handle_async_request(request)
            if waiting:
                return await Failing(waiting.pop(), late=late).handle_async_request(request)
            return httpx.Response(200, json=job_of(JOB, 1, done=True))

    async with httpx.AsyncClient(transport=Recovering(OSError(), late=late)) as http:
        assert (await Client(http=http).wait(JOB)).done


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (httpx.UnsupportedProtocol("x"), "no address"),
        (OverflowError("port must be 0-65535"), "no address"),
        (ssl.SSLCertVerificationError("self-signed"), "certificate is not trusted"),
        (ssl.SSLError("WRONG_VERSION_NUMBER"), "no encrypted connection"),
        (socket.gaierror(-2, "Name or service not known"), "no host of this name"),
        (ConnectionRefusedError(), "nothing accepts connections"),
        (httpx.ReadTimeout(""), "no response in time"),
        (h11.RemoteProtocolError("illegal status line"), "something else answers"),
    ],
)
def test_reasons_are_said_in_words_also_of_a_cause(error: Exception, said: str) -> None:
    wrapped = httpx.ConnectError("All connection attempts failed")
    wrapped.__cause__ = ExceptionGroup("", [OSError(), error])
    assert said in str(no_answer("http://a", error))
    if not isinstance(error, httpx.ReadTimeout | h11.RemoteProtocolError):
        assert said in str(no_answer("http://a", wrapped))


@pytest.mark.parametrize(
    ("url", "local"),
    [
        ("http://127.0.0.1:8765", True), ("http://127.9.8.7", True), ("http://[::1]:1/x", True),
        ("http://LOCALHOST", True), ("https://a.localhost./x", True), ("http://[::ffff:127.0.0.1]", True),
        ("http://0.0.0.0:1", True), ("http://example.org", False), ("http://10.0.0.1", False),
        ("http://localhost.example.org", False), ("http://[", False), ("nonsense", False),
    ],
)  # fmt: skip
async def test_only_other_machines_are_reached_through_a_proxy(
    url: str, local: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://192.0.2.1:3128")
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("no_proxy", "")
    assert is_this_machine(url) is local
    async with open_http(url) as http:
        assert bool([proxy for proxy in http._mounts.values() if proxy]) is not local


async def test_a_proxy_in_the_environment_does_not_keep_the_client_from_this_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "nonsense://192.0.2.1:3128")
    async with Raw(poll=Raw.json(job_of(JOB, 1))) as raw, Client(raw.url) as client:
        assert (await client.job(JOB)).seq == 1
    with pytest.raises(NoAnswer, match="HTTP_PROXY"):
        Client("http://example.org")


async def test_headers_reach_every_request(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = set()

    def answer(request: httpx.Request) -> httpx.Response:
        seen.add((request.method, request.url.path.rpartition("/")[2], request.headers.get("Authorization")))
        done = request.url.path.endswith(JOB)
        return httpx.Response(200, json=job_of(JOB, 1, done=done)) if request.method else httpx.Response(500)

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
        client = Client("http://a", headers={"Authorization": "Bearer x"}, http=http)
        await client.submit("k", total=1)
        await client.submit("k", files=[("a", b"")])
        await client.wait(JOB)
    assert {method for method, *_ in seen} == {"GET", "POST"}
    assert {header for *_, header in seen} == {"Bearer x"}


async def test_a_missing_file_is_said_without_words_of_http() -> None:
    body = b'{"code": "no_files", "detail": "Send them as multipart/form-data"}'
    head = b"HTTP/1.1 422 No\r\nContent-Length: %d\r\n\r\n" % len(body)
    async with Raw(posts=[head + body]) as raw, Client(raw.url) as client:
        with pytest.raises(ServerRefused, match="checksum works on files") as caught:
            await client.submit("checksum")
    assert caught.value.code == "no_files"
    assert "multipart" not in str(caught.value)


async def test_the_doctor_reaches_this_machine_past_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    async with Raw(poll=b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n") as raw:
        await measure(raw.url, 0)
    assert raw.polls
