"""The Python client against real servers, and against a raw server that answers whatever a test wants."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.client.raw import Raw, job_event, job_of
from tests.support.server import Server, StartServer
from tests.support.waiting import PATIENCE_S, eventually, soon
from unstuck.client import plain
from unstuck.client import watch_state as w
from unstuck.client.client import Client
from unstuck.errors import InvalidJobId, JobNotFound, JobTimeoutError, NoAnswer, ServerRefused
from unstuck.wire import Job


async def watched(client: Client, job_id: str, links: list[str] | None = None) -> list[Job]:
    on_link = links.append if links is not None else None
    async with asyncio.timeout(PATIENCE_S):
        return [job async for job in client.watch(job_id, on_link=on_link)]


# --- a real server


async def test_a_job_is_watched_from_submission_to_its_end(server: Server) -> None:
    links: list[str] = []
    async with Client(server.url) as client:
        job = await client.submit("rehearsal", total=4, options={"seconds": 0.2}, name="four")
        assert (job["name"], job["done"]) == ("four", False)
        news = await watched(client, job["id"], links)
    seqs = [one["seq"] for one in news]
    assert seqs == sorted(seqs)
    assert [one["done"] for one in news] == [False] * (len(news) - 1) + [True]
    assert (news[-1]["state"], news[-1]["progress"]["succeeded"]) == ("completed", 4)
    assert links[-1] == "ended"


async def test_a_watch_is_live_until_the_job_ends(server: Server) -> None:
    links: list[str] = []
    async with Client(server.url) as client:
        job = await client.submit("elsewhere", total=1, external=True, lost_after_s=90)
        assert job.lost_after_s == 90
        watching = asyncio.create_task(watched(client, job.id, links))
        await soon(lambda: "live" in links)
        async with client.report(job.id) as report:
            report.item(0, "succeeded")
        news = await watching
    assert (news[-1].state, links[-1]) == ("completed", "ended")


async def test_a_watch_of_the_progress_ends_in_the_whole_truth(server: Server) -> None:
    links: list[str] = []
    news: list[Job] = []

    async def watch() -> None:
        async for one in client.watch(job.id, on_link=links.append, fields="progress"):
            news.append(one)

    async with Client(server.url) as client, asyncio.timeout(PATIENCE_S):
        job = await client.submit("elsewhere", total=3, external=True, name="three")
        watching = asyncio.create_task(watch())
        await soon(lambda: "live" in links)
        async with client.report(job.id) as report:
            report.progress(2)
            await soon(lambda: news[-1].progress.processed == 2)
            report.item(2, "succeeded", result={"rows": 7})
        await watching
        assert news[-1] == await client.job(job.id) or news[-1].seq == (await client.job(job.id)).seq
    assert {one.name for one in news} == {"three"}
    assert all(one.links.events for one in news)
    assert (news[-1].state, news[-1].links.results is not None) == ("completed", True)
    with pytest.raises(ValueError, match="progress"):
        await anext(client.watch(job.id, fields="bar"))  # type: ignore[arg-type]


def test_a_part_of_the_job_is_asked_for_by_one_word(server: Server) -> None:
    job = server.submit("elsewhere", total=1, external=True)
    here = server.url + job["links"]["self"]
    part = httpx.get(here, params={"fields": "progress"}).json()
    assert set(part) < set(job)
    assert part["seq"] == job["seq"]
    for path in (job["links"]["self"], job["links"]["events"], f"/api/events/stream?job={job['id']}"):
        answer = httpx.get(server.url + path, params={"fields": "everything"})
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")
    httpx.post(f"{here}/progress", json={"state": "completed"})
    assert httpx.get(here, params={"fields": "progress"}).json().keys() >= job.keys()


async def test_nothing_of_a_watched_job_stays_open(server: Server) -> None:
    """A stream that ended just as it was closed stayed in the pool of connections, half closed."""
    async with Client(server.url) as client:
        job = await client.submit("rehearsal", total=2, options={"seconds": 0.05})
        await client.wait(job.id)
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(8):
            job = await client.submit("rehearsal", total=2, options={"seconds": 0.05})
            await client.wait(job.id)
        assert len(os.listdir("/proc/self/fd")) <= before + 2


async def test_files_by_path_and_by_content(server: Server, tmp_path: Path) -> None:
    (tmp_path / "ünï.txt").write_bytes(b"x" * 200_000)
    async with Client(server.url) as client:
        job = await client.submit("checksum", files=[tmp_path / "ünï.txt", ("b.txt", b"b")])
        assert (await client.wait(job["id"]))["state"] == "completed"
    assert [(item["name"], item["size"]) for item in server.items(job["id"])] == [
        ("ünï.txt", 200_000),
        ("b.txt", 1),
    ]


async def test_a_missing_file_is_reported_before_anything_is_sent(server: Server, tmp_path: Path) -> None:
    async with Client(server.url) as client:
        with pytest.raises(FileNotFoundError):
            await client.submit("checksum", files=[tmp_path / "none"])


async def test_cancel(server: Server) -> None:
    async with Client(server.url) as client:
        job = await client.submit("rehearsal", total=50, options={"seconds": 60})
        assert (await client.cancel(job["id"]))["cancel_requested"]
        assert (await client.wait(job["id"]))["state"] == "cancelled"
        assert (await client.job(job["id"]))["done"]


async def test_retry(server: Server) -> None:
    async with Client(server.url) as client:
        options = {"seconds": 0, "failures": 1}
        old = await client.wait((await client.submit("rehearsal", total=2, options=options, max_errors=5))["id"])
        new = await client.retry(old["id"])
        assert (new["retry_of"], new["progress"]["total"]) == (old["id"], 2)
        good = await client.wait((await client.submit("rehearsal", total=1, options={"seconds": 0}))["id"])
        with pytest.raises(ServerRefused, match="failed or was cancelled") as caught:
            await client.retry(good["id"])
        assert caught.value.code == "nothing_to_retry"
        assert (await client.retry(good["id"], only="all"))["progress"]["total"] == 1
        with pytest.raises(JobNotFound):
            await client.retry(str(uuid4()))


async def test_optional_fields_of_a_submission(server: Server) -> None:
    fields: dict[str, Any] = {"priority": 3, "max_attempts": 2, "deadline_seconds": 60.5, "item_limit_seconds": 9}
    async with Client(server.url) as client:
        contents: list[dict[str, Any]] = [{"total": 1}, {"files": [("a", b"x")]}]
        for content in contents:
            job = await client.submit("rehearsal", **content, **fields)
            assert (job["priority"], job["max_attempts"], job["deadline_at"] is None) == (3, 2, False)
        with pytest.raises(ServerRefused) as caught:
            await client.submit("rehearsal", total=1, webhook_url="https://example.org/hook")
    assert caught.value.code == "webhooks_unavailable"


def full(retry_after: str) -> bytes:
    body = b'{"code": "queue_full", "detail": "The server already has 3 unfinished jobs."}'
    head = f"HTTP/1.1 429 Too Many\r\nRetry-After: {retry_after}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def test_a_full_queue_is_retried_as_the_server_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(w, "BACKOFF_MIN_MS", 1)
    async with Raw(posts=[full("1")]) as raw, Client(raw.url) as client:
        raw.posts.append(Raw.json(job_of(raw.job_id, 1)))
        asked = time.monotonic()
        assert (await client.retry(str(uuid4())))["id"] == raw.job_id
    assert time.monotonic() - asked >= 1
    assert len(set(raw.keys)) == 1


async def test_a_queue_that_stays_full_for_longer_than_the_patience_is_reported() -> None:
    async with Raw(posts=[full("30")]) as raw, Client(raw.url) as client:
        with pytest.raises(ServerRefused, match="3 unfinished jobs") as caught:
            await client.submit("rehearsal", total=1)
    assert (caught.value.code, caught.value.status) == ("queue_full", 429)


async def test_errors_carry_the_servers_message(server: Server) -> None:
    async with Client(server.url) as client:
        with pytest.raises(ServerRefused, match="no kind of work 'nonsense'") as caught:
            await client.submit("nonsense", total=1)
        assert (caught.value.code, caught.value.status) == ("unknown_kind", 422)
        missing = str(uuid4())
        for call in (client.job(missing), client.cancel(missing), client.wait(missing)):
            with pytest.raises(JobNotFound, match=missing):
                await call
        with pytest.raises(InvalidJobId):
            await client.job("../../health")
        with pytest.raises((InvalidJobId, JobNotFound, ServerRefused)):
            await client.wait("not-a-uuid")


async def test_a_watch_survives_a_restart_of_the_server(start_server: StartServer) -> None:
    server = start_server("--workers", "1")
    port = server.url.rpartition(":")[2]
    async with Client(server.url) as client:
        job = await client.submit("rehearsal", total=6, options={"seconds": 0.5})
        links: list[str] = []
        watching = asyncio.create_task(watched(client, job["id"], links))
        await soon(lambda: "live" in links)
        await asyncio.to_thread(server.stop, signal.SIGKILL)
        await soon(lambda: "offline" in links)
        again = await asyncio.to_thread(start_server, "--workers", "1", "--port", port, lease_s="1")
        assert again.url == server.url
        news = await watching
    assert news[-1]["state"] == "completed"


def test_plain_functions(server: Server) -> None:
    job = plain.submit("rehearsal", url=server.url, total=3, options={"seconds": 0.1})
    news = list(plain.watch(job["id"], url=server.url))
    assert news[-1]["done"]
    assert plain.wait(job["id"], url=server.url)["state"] == "completed"
    assert plain.cancel(job["id"], url=server.url)["state"] == "completed"


def test_a_loop_left_early_closes_its_stream(server: Server) -> None:
    job = plain.submit("rehearsal", url=server.url, total=50, options={"seconds": 60})
    for _ in plain.watch(job["id"], url=server.url):
        break
    else:
        pytest.fail("the loop ended by itself")
    eventually(lambda: server.get("/api/health")["streams"]["open"] == 0)
    plain.cancel(job["id"], url=server.url)
    plain.wait(job["id"], url=server.url)


async def test_no_server() -> None:
    async with Client("http://127.0.0.1:1") as client:
        with pytest.raises(NoAnswer, match=r"127\.0\.0\.1:1"):
            await client.job(str(uuid4()))
    async with Client("nonsense") as client:
        with pytest.raises(NoAnswer):
            await client.submit("checksum", total=1)


# --- a raw server


async def test_wait_gives_up_while_the_job_continues(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(w, "GIVE_UP_MS", 300)
    async with Raw(stream=None, poll=None) as raw, Client(raw.url) as client:
        with pytest.raises(JobTimeoutError, match="itself continues") as caught:
            await client.wait(raw.job_id)
        assert (caught.value.job_id, caught.value.elapsed_minutes) == (raw.job_id, 0)
        await soon(lambda: raw.open == 0)


@pytest.mark.parametrize(
    "garbage",
    [b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n\xff\xfe{[", b"no HTTP at all\r\n\r\n",
     b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc",
     b"HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/html\r\nContent-Length: 4\r\n\r\n<h1>",
     b'HTTP/1.1 200 OK\r\nContent-Length: 21\r\n\r\n{"seq":1,"done":"yes"}'],
)  # fmt: skip
async def test_a_watch_survives_garbage(garbage: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(w, "BACKOFF_MIN_MS", 20)
    async with Raw(stream=garbage, poll=garbage) as raw, Client(raw.url) as client:
        links: list[str] = []
        watching = asyncio.create_task(watched(client, raw.job_id, links))
        await soon(lambda: raw.polls >= 3 and raw.streams >= 2)
        assert "offline" in links
        raw.poll = Raw.json(job_of(raw.job_id, 7, done=True))
        assert [job["seq"] for job in await watching] == [7]
        await soon(lambda: raw.open == 0)


async def test_polls_alone_bring_the_end() -> None:
    async with (
        Raw(stream=b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n") as raw,
        Client(raw.url) as client,
    ):
        raw.poll = Raw.json(job_of(raw.job_id, 1))
        links: list[str] = []
        watching = asyncio.create_task(watched(client, raw.job_id, links))
        await soon(lambda: "polling" in links)
        raw.poll = Raw.json(job_of(raw.job_id, 2, done=True))
        assert [job["seq"] for job in await watching] == [1, 2]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1_000_000])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
async def test_a_stream_is_read_correctly_however_it_is_split(size: int, ending: str) -> None:
    async with Raw(poll=None) as raw, Client(raw.url) as client:
        tricky = "ä\u2028\u2029\u0085\x0b\x0c\x1c😀"
        events = job_event(job_of(raw.job_id, 1, name=tricky)) + ": comment\n\n" + "event: strange\ndata: x\n\n"
        events += job_event(job_of(raw.job_id, 2, name=tricky, done=True))
        raw.stream = Raw.event_stream("\ufeff" + events.replace("\n", ending))
        raw.cut = size
        news = await watched(client, raw.job_id)
    assert [(job["seq"], job["name"]) for job in news] in ([(1, tricky), (2, tricky)], [(2, tricky)])


async def test_a_submission_without_an_answer_is_repeated_with_the_same_key(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(w, "BACKOFF_MIN_MS", 1)
    (tmp_path / "b").write_bytes(b"of a file")
    busy = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"
    async with Raw(posts=[b"", busy]) as raw, Client(raw.url) as client:
        raw.posts.append(Raw.json(job_of(raw.job_id, 1)))
        job = await client.submit("checksum", files=[("a", b"of bytes"), tmp_path / "b"])
    assert job["id"] == raw.job_id
    assert len(raw.keys) == 3
    assert len(set(raw.keys)) == 1
    assert len(raw.bodies) == 3
    assert all(b"of bytes" in body and b"of a file" in body for body in raw.bodies)


async def test_an_answer_from_something_else_is_reported() -> None:
    async with Raw(poll=b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>") as raw, Client(raw.url) as client:
        with pytest.raises(ServerRefused, match="not as unstuck does"):
            await client.job(raw.job_id)


async def test_a_sign_in_page_does_not_end_the_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Raw(stream=b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n") as raw, Client(raw.url) as client:
        raw.poll = b"HTTP/1.1 302 Found\r\nLocation: /login\r\nContent-Length: 0\r\n\r\n"
        links: list[str] = []
        watching = asyncio.create_task(watched(client, raw.job_id, links))
        await soon(lambda: "signed_out" in links)
        watching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await watching
        await soon(lambda: raw.open == 0)
