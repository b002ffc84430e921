"""Tells receivers that a job has ended: who is told when, how often, and when it is given up.

    a job ends, its delivery is kept with it → taken by time → one attempt → settled: delivered, again, given up

At least once: a delivery that was under way in a crash is made again, under the same `webhook-id`. What is told
is the job as it was at its end, so every attempt has the same body. Each host has a few lanes, so that a slow
one holds up no other. HTTP is sender.py's, and without httpx there are no webhooks.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING

import msgspec

from unstuck import __version__, wire
from unstuck.errors import InvalidRequest, JobNotFound, StoreUnavailable
from unstuck.jobs.job import Job
from unstuck.jobs.snapshot import Snapshot, public, rfc3339
from unstuck.store.protocol import Delivery, DeliveryAttempt, DeliveryQueue
from unstuck.supervision.backoff import Backoff
from unstuck.supervision.supervisor import Supervisor
from unstuck.webhooks.signature import RECIPE, sign
from unstuck.webhooks.targets import AllowedTargets, ForbiddenTarget, target

if TYPE_CHECKING:
    from unstuck.webhooks.sender import Response, Sender

log = logging.getLogger("unstuck.webhook")

#: Attempts under way at once, of all and of one host.
AT_ONCE = 100
LANES = 4
#: Until a delivery that was taken, and of which nothing more was heard, is made again: more than an attempt takes.
HOLD_S = 20.0
#: How long it is tried.
TRY_FOR_S = 24 * 3600.0
#: The loop looks at least so often (seconds), though a wake or a timer should never be missed.
LOOK_S = 30.0
#: The receiver wants no more.
GONE = 410


@dataclass(frozen=True, slots=True)
class WebhookConfig:
    """How webhooks are made here. `keys` sign them; `base` is the prefix of the links, `keep_s` as for jobs."""

    keys: Sequence[bytes] = field(default=(), repr=False)
    allowed: AllowedTargets = field(default_factory=AllowedTargets)
    base: str = ""
    keep_s: float | None = None
    pause: Backoff = field(default_factory=lambda: Backoff(5.0, 2 * 3600.0))
    try_for_s: float = TRY_FOR_S


def message_body(snapshot: Snapshot, base: str, keep_s: float | None) -> bytes:
    """The body: the job as it was at its end."""
    job = snapshot.job
    ended = job.finished_at or job.created_at
    seen = public(snapshot, ended, base, keep_s)
    return msgspec.json.encode(wire.WebhookMessage(type=f"job.{job.state}", timestamp=rfc3339(ended), data=seen))


class Dispatcher:
    """`start()`, then its loop delivers; `check` says whether a webhook_url can be taken at all."""

    def __init__(self, store: DeliveryQueue, config: WebhookConfig, sender: Sender | None = None) -> None:
        self._store = store
        self._config = config
        self._sender = sender
        self._bell = asyncio.Event()
        self._under_way: dict[str, str] = {}  # the host of each delivery, by job

    @property
    def unavailable(self) -> str | None:
        """Why there are no webhooks here, and what to do; None: there are."""
        if not self._config.keys:
            return f"UNSTUCK_WEBHOOK_SECRET is not set, so none can be signed. This makes a secret: {RECIPE}"
        if find_spec("httpx") is None:
            return "httpx is not installed: pip install 'unstuck[webhook]'"
        return None

    def check(self, url: str) -> None:
        """InvalidRequest if what happens at this URL is not ours to make happen."""
        if (why := self.unavailable) is not None:
            detail = f"This server delivers no webhooks: {why}. Or leave webhook_url out."
            raise InvalidRequest(detail, code="webhooks_unavailable", status=422)
        try:
            target(url, self._config.allowed)
        except ForbiddenTarget as error:
            raise InvalidRequest(str(error), code="invalid_webhook_url", status=422) from None

    async def start(self, supervisor: Supervisor) -> None:
        """Begin, if there are webhooks here; what was kept for them waits otherwise."""
        if (why := self.unavailable) is not None:
            counts = (await self._store.overview()).webhooks
            if waiting := counts["waiting"] + counts["failing"]:
                log.warning("%d webhooks wait and cannot be delivered: %s", waiting, why)
            return
        if self._sender is None:
            from unstuck.webhooks.sender import Sender  # here, since httpx is an extra

            self._sender = Sender(self._config.allowed)
        self._store.on_commit(self._on_commit)
        supervisor.run("webhooks", self._run)

    def _on_commit(self, changed: Mapping[str, Job | None]) -> None:
        if any(job is not None and job.done and job.webhook_url for job in changed.values()):
            self._bell.set()

    async def _run(self) -> None:
        """Deliver until cancelled. Deliveries that are dropped at the end, or when this breaks, are made again."""
        self._under_way.clear()
        async with asyncio.TaskGroup() as deliveries:
            while True:
                self._bell.clear()
                try:
                    rest_s = await self._start_due(deliveries)
                except StoreUnavailable:  # the store has logged it
                    rest_s = self._config.pause.first_s
                # Not wait_for: in Python 3.11 it can swallow the cancellation that is to end this.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(rest_s):
                        await self._bell.wait()

    async def _start_due(self, deliveries: asyncio.TaskGroup) -> float:
        """Begin what is due, and say how long to rest."""
        free = AT_ONCE - len(self._under_way)
        if free == 0:
            return LOOK_S  # whoever ends rings
        busy = Counter(self._under_way.values())
        due = await self._store.take_deliveries(free, LANES, busy, HOLD_S)
        for delivery in due.taken:
            # A process that was stopped for long may find its own here: then it is still at it.
            if delivery.job_id not in self._under_way:
                self._under_way[delivery.job_id] = delivery.host
                deliveries.create_task(self._deliver(delivery), name=f"webhook {delivery.job_id}")
        return LOOK_S if due.next_in_s is None else min(due.next_in_s, LOOK_S)

    async def _deliver(self, delivery: Delivery) -> None:
        try:
            outcome = await self._attempt(delivery)
            if await self._store.finish_attempt(delivery, outcome) and outcome.pause_s is None:
                _log_end(delivery, outcome)
        except JobNotFound:
            log.info("job %s was removed before its webhook was delivered", delivery.job_id)
        except StoreUnavailable:  # the store has logged it
            log.info("what came of the webhook of job %s was not kept; it is made again", delivery.job_id)
        except Exception:
            log.exception("the webhook of job %s broke; it is made again", delivery.job_id)
        finally:
            del self._under_way[delivery.job_id]
            self._bell.set()

    async def _attempt(self, delivery: Delivery) -> DeliveryAttempt:
        from unstuck.webhooks.sender import NotDelivered

        assert self._sender is not None
        body = message_body(await self._store.snapshot(delivery.job_id), self._config.base, self._config.keep_s)
        try:
            answer = await self._sender.post(delivery.url, self._headers(delivery, body), body)
        except NotDelivered as error:
            return self._retry_later(delivery, str(error))
        return self._judge(delivery, answer)

    def _headers(self, delivery: Delivery, body: bytes) -> dict[str, str]:
        message_id, timestamp = f"msg_{delivery.job_id}", int(time.time())
        return {
            "content-type": "application/json",
            "user-agent": f"unstuck/{__version__}",
            "webhook-id": message_id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": sign(self._config.keys, message_id, timestamp, body),
        }

    def _judge(self, delivery: Delivery, answer: Response) -> DeliveryAttempt:
        if 200 <= answer.status < 300:
            return DeliveryAttempt(f"delivered, {answer.status}")
        if answer.status == GONE:
            why = f"answered {GONE}: the receiver wants no more"
            return DeliveryAttempt(f"given up: {why}", trouble=why)
        moved = ", and redirects are not followed" if 300 <= answer.status < 400 else ""
        return self._retry_later(delivery, f"answered {answer.status}{moved}", answer.again_in_s or 0.0)

    def _retry_later(self, delivery: Delivery, why: str, asked_s: float = 0.0) -> DeliveryAttempt:
        left_s = self._config.try_for_s - delivery.age_s
        if left_s <= 0:
            return DeliveryAttempt(f"given up after {delivery.attempt} attempts: {why}", trouble=why)
        pause = self._config.pause
        rest_s = max(pause.pause_s(delivery.attempt, random.random()), min(asked_s, pause.longest_s))  # noqa: S311
        rest_s = min(rest_s, left_s)  # the last attempt is at the end of that time
        again_at = rfc3339(time.time() + rest_s)
        return DeliveryAttempt(f"failed: {why}; again at {again_at}", trouble=why, pause_s=rest_s)


def _log_end(delivery: Delivery, outcome: DeliveryAttempt) -> None:
    if outcome.trouble is None:
        log.debug("the webhook of job %s was delivered to %s", delivery.job_id, delivery.host)
    else:
        log.error("the webhook of job %s to %s was %s", delivery.job_id, delivery.host, outcome.text)
