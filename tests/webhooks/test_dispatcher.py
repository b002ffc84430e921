"""From the end of a job to its receiver, through failures and restarts, over real connections."""

from __future__ import annotations

import asyncio
import base64
import itertools
import re
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.support.jobs import finish, submitted
from tests.support.waiting import soon
from tests.webhooks.receiver import SECRET, SILENCE, Answer, Receive, Received, closed_port, verified
from unstuck.errors import InvalidRequest
from unstuck.jobs.job import Cancel
from unstuck.jobs.snapshot import public
from unstuck.jobs.timeline import What
from unstuck.store.protocol import Changes
from unstuck.store.sqlite import SQLiteStore
from unstuck.supervision.backoff import Backoff
from unstuck.supervision.supervisor import supervising
from unstuck.webhooks.dispatcher import LANES, Dispatcher, WebhookConfig
from unstuck.webhooks.sender import Sender
from unstuck.webhooks.signature import keys
from unstuck.webhooks.targets import AllowedTargets

QUICK = Backoff(0.01, 0.02)


@asynccontextmanager
async def delivering(store: SQLiteStore, sender: Sender | None = None, **terms: Any) -> AsyncIterator[Dispatcher]:
    given = {"keys": keys(SECRET), "allowed": AllowedTargets(private=True), "pause": QUICK, **terms}
    webhooks = Dispatcher(store, WebhookConfig(**given), sender)
    async with supervising() as supervisor:
        await webhooks.start(supervisor)
        yield webhooks


async def ended(store: SQLiteStore, url: str, *states: str) -> str:
    """Return the id of a job that has ended, with its items in `states`, or cancelled if there are none."""
    job_id = await submitted(store, max(len(states), 1), webhook_url=url)
    if not states:
        await store.apply([Cancel(job_id)])
    for state in states:
        (claimed,) = await store.claim(1, 30.0)
        await store.apply([finish(claimed, state)])
    return job_id


async def counted(store: SQLiteStore, **expected: int) -> None:
    """Wait until the store has these counts of webhooks."""
    counts = {"waiting": 0, "failing": 0, "given_up": 0, **expected}

    async def as_expected() -> bool:
        return (await store.overview()).webhooks == counts

    await soon(as_expected)


async def told(store: SQLiteStore, job_id: str) -> list[str]:
    return [str(entry.text) for entry in await store.timeline(job_id) if entry.what is What.WEBHOOK]


@pytest.mark.parametrize(
    ("states", "kind"),
    [
        (["succeeded"], "job.completed"),
        (["succeeded", "failed"], "job.completed_with_errors"),
        (["failed"], "job.failed"),
        ([], "job.cancelled"),
    ],
)
async def test_every_end_is_delivered_and_signed(
    store: SQLiteStore, receive: Receive, states: list[str], kind: str
) -> None:
    receiver = receive()
    async with delivering(store, base="/mounted", keep_s=60.0):
        job_id = await ended(store, receiver.url(), *states)
        await soon(lambda: receiver.received)
        await counted(store)
    (one,) = receiver.received
    message = verified(one)
    snapshot = await store.snapshot(job_id)
    assert snapshot.job.finished_at is not None
    assert message["type"] == kind
    assert message["timestamp"] == message["data"]["finished_at"]
    seen = public(snapshot, snapshot.job.finished_at, "/mounted", 60.0)
    assert message["data"] == msgspec.to_builtins(seen)
    assert one.headers["webhook-id"] == f"msg_{job_id}"
    assert one.headers["content-type"] == "application/json"
    assert one.headers["user-agent"].startswith("unstuck/")
    assert await told(store, job_id) == ["delivered, 200"]


async def test_a_tampered_message_does_not_verify(store: SQLiteStore, receive: Receive) -> None:
    receiver = receive()
    other = "whsec_" + base64.b64encode(b"o" * 32).decode()
    async with delivering(store, keys=keys(f"{other} {SECRET}")):
        await ended(store, receiver.url())
        await soon(lambda: receiver.received)
    (one,) = receiver.received
    assert verified(one, SECRET) == verified(one, other)  # during a change of secrets, both verify
    wrong = "whsec_" + base64.b64encode(b"w" * 32).decode()
    old = {**one.headers, "webhook-timestamp": str(int(one.headers["webhook-timestamp"]) - 3600)}
    for received, secret in (
        (one, wrong),
        (Received(one.path, one.headers, one.body + b" "), SECRET),
        (Received(one.path, {**one.headers, "webhook-id": "msg_other"}, one.body), SECRET),
        (Received(one.path, old, one.body), SECRET),
    ):
        with pytest.raises(ValueError, match="webhook"):
            verified(received, secret)


async def test_each_attempt_sends_the_same_message(store: SQLiteStore, receive: Receive) -> None:
    inner = receive()
    receiver = receive(500, 404, Answer(302, {"Location": inner.url()}), 503, 202)
    async with delivering(store):
        job_id = await ended(store, receiver.url(), "succeeded")
        await counted(store)
        await soon(lambda: len(receiver.received) == 5)
    assert len({(one.body, one.headers["webhook-id"]) for one in receiver.received}) == 1
    assert inner.received == []
    for one in receiver.received:
        verified(one)
    said = await told(store, job_id)
    assert [text.split(";")[0] for text in said] == [
        "failed: answered 500",
        "failed: answered 404",
        "failed: answered 302, and redirects are not followed",
        "failed: answered 503",
        "delivered, 202",
    ]
    assert re.search(r"; again at 20\d\d-.*Z$", said[0])


async def test_a_new_dispatcher_continues_where_an_old_one_ended(store: SQLiteStore, receive: Receive) -> None:
    port = closed_port()
    async with delivering(store):
        job_id = await ended(store, f"http://127.0.0.1:{port}/hook")
        await counted(store, failing=1)
    receiver = receive(port=port)
    async with delivering(store):
        await counted(store)
    (one,) = receiver.received
    assert verified(one)["data"]["id"] == job_id
    said = await told(store, job_id)
    assert said[0].startswith("failed: connection refused; again at ")
    assert said[-1] == "delivered, 200"


async def test_ends_while_no_dispatcher_ran_are_delivered(store: SQLiteStore, receive: Receive) -> None:
    receiver = receive()
    jobs = [await ended(store, receiver.url()) for _ in range(3)]
    async with delivering(store):
        await counted(store)
    assert sorted(verified(one)["data"]["id"] for one in receiver.received) == sorted(jobs)


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The log's errors about webhooks."""
    records = [record for record in caplog.records if record.name == "unstuck.webhook"]
    return [record.getMessage() for record in records if record.levelname == "ERROR"]


async def test_gone_is_taken_at_its_word(
    store: SQLiteStore, receive: Receive, caplog: pytest.LogCaptureFixture
) -> None:
    receiver = receive(410)
    async with delivering(store):
        job_id = await ended(store, receiver.url())
        await counted(store, given_up=1)
    assert len(receiver.received) == 1
    why = "answered 410: the receiver wants no more webhooks"
    assert await told(store, job_id) == [f"given up: {why}"]
    assert errors(caplog) == [f"Webhook given up: job={job_id} host=127.0.0.1 attempts=1 reason={why}"]


async def test_a_delivery_is_given_up_in_the_end(
    tmp_path: Path, receive: Receive, caplog: pytest.LogCaptureFixture
) -> None:
    receiver = receive(500)
    seconds = itertools.count()
    store = SQLiteStore(tmp_path / "ticking.db", clock=lambda: 1e6 + next(seconds))
    await store.open()
    async with delivering(store, try_for_s=100.0):
        job_id = await ended(store, receiver.url())
        await counted(store, given_up=1)
    said = await told(store, job_id)
    assert said[-1] == f"given up after {len(receiver.received)} attempts: answered 500"
    assert len(said) == len(receiver.received) > 2
    assert errors(caplog) == [
        f"Webhook given up: job={job_id} host=127.0.0.1 attempts={len(said)} reason=answered 500"
    ]
    await store.close()


async def test_retry_after_is_obeyed_within_bounds(store: SQLiteStore, receive: Receive) -> None:
    patient = receive(Answer(503, {"Retry-After": "1000"}))
    async with delivering(store, pause=Backoff(0.01, 500.0)):
        job_id = await ended(store, patient.url())
        await counted(store, failing=1)
    due = await store.take_deliveries(9, 9, {}, 20.0)
    assert due.taken == []
    assert due.next_in_s is not None
    assert 400.0 < due.next_in_s <= 500.0
    assert len(await told(store, job_id)) == 1


async def test_a_slow_host_does_not_delay_others(store: SQLiteStore, receive: Receive) -> None:
    slow = receive(SILENCE)
    quick = receive()
    async with delivering(store):
        for _ in range(2 * LANES):
            await ended(store, slow.url(host="localhost"))
        await soon(lambda: len(slow.received) == LANES)
        job_id = await ended(store, quick.url())
        await soon(lambda: quick.received)
        assert verified(quick.received[0])["data"]["id"] == job_id
        assert len(slow.received) == LANES  # no more at a time


async def test_a_receiver_that_never_answers(store: SQLiteStore, receive: Receive) -> None:
    receiver = receive(SILENCE, 200)
    hasty = Sender(AllowedTargets(private=True), within_s=0.2)
    async with delivering(store, hasty):
        job_id = await ended(store, receiver.url())
        await counted(store)
    said = await told(store, job_id)
    assert said[0].startswith("failed: no answer within 0.2 s")
    assert said[-1] == "delivered, 200"


async def test_a_private_address_is_refused_at_each_delivery(store: SQLiteStore, receive: Receive) -> None:
    receiver = receive()
    async with delivering(store, allowed=AllowedTargets(hosts=["hook.example"])):
        job_id = await ended(store, receiver.url())
        await counted(store, failing=1)
    assert receiver.received == []
    assert "private network" in (await told(store, job_id))[0]


async def test_a_delivery_is_removed_with_its_job(store: SQLiteStore, receive: Receive) -> None:
    receiver = receive(500)
    async with delivering(store):
        job_id = await ended(store, receiver.url())
        await soon(lambda: receiver.received)
        await store.remove(job_id)
        await counted(store)
        other = await ended(store, receiver.url())  # the loop keeps running
        await soon(lambda: receiver.received[-1].headers["webhook-id"] == f"msg_{other}")


async def test_deliveries_survive_a_locked_store(store: SQLiteStore, receive: Receive, tmp_path: Path) -> None:
    receiver = receive(500, 200)
    job_id = await ended(store, receiver.url())
    with sqlite3.connect(tmp_path / "unstuck.db", isolation_level=None) as foreign:
        foreign.execute("BEGIN IMMEDIATE")
        async with delivering(store):
            await soon(lambda: store.trouble is not None)
            foreign.execute("ROLLBACK")
            await counted(store)
    foreign.close()
    assert (await told(store, job_id))[-1] == "delivered, 200"


async def test_without_a_secret_waiting_deliveries_are_only_logged(
    store: SQLiteStore, receive: Receive, caplog: pytest.LogCaptureFixture
) -> None:
    receiver = receive()
    await ended(store, receiver.url())
    async with delivering(store, keys=()) as webhooks:
        with pytest.raises(InvalidRequest, match="openssl rand") as refused:
            webhooks.check(receiver.url())
    assert (refused.value.code, refused.value.status) == ("webhooks_unavailable", 422)
    assert "Webhooks are waiting and cannot be delivered: waiting=1 reason=UNSTUCK_WEBHOOK_SECRET" in caplog.text
    await counted(store, waiting=1)
    assert receiver.received == []


async def test_urls_are_checked_on_submission(store: SQLiteStore) -> None:
    webhooks = Dispatcher(store, WebhookConfig(keys=keys(SECRET)))
    webhooks.check("https://hook.example/path?query")
    for url in ("http://10.1.2.3/", "nonsense", "https://localhost/"):
        with pytest.raises(InvalidRequest) as refused:
            webhooks.check(url)
        assert (refused.value.code, refused.value.status) == ("invalid_webhook_url", 422)


def set_event(event: asyncio.Event, _: Changes) -> None:
    event.set()


async def test_the_dispatcher_can_be_stopped_at_the_moment_of_a_wake(store: SQLiteStore) -> None:
    """A wait may end and be cancelled at the same time; then the cancellation must win."""
    for iterations in range(8):
        async with asyncio.timeout(10), delivering(store):
            changed = asyncio.Event()
            store.on_commit(partial(set_event, changed))
            await ended(store, "https://hook.invalid/")
            await changed.wait()
            for _ in range(iterations):
                await asyncio.sleep(0)
