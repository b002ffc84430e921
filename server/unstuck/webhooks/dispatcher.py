"""Decides when a webhook is delivered, how often that is tried, and when it is given up.

Must not know: HTTP, which is sender.py's part.
See also: sender.py (one attempt), targets.py (which URLs are allowed), store/deliveries.py (what is stored).

    a job ends, its delivery is stored with it → taken when due → one attempt → delivered, tried again, or given up

Webhooks are delivered at least once: a delivery that was in progress during a crash is made again, under the same
`webhook-id`. The body is the job as it was at its end, so it is the same for every attempt. Each host has a few
lanes, so that a slow one does not hold up the others. Without httpx there are no webhooks.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING

import msgspec

from unstuck import __version__, wire
from unstuck.errors import InvalidRequest, JobNotFound, StoreUnavailable
from unstuck.jobs.snapshot import Snapshot, public, rfc3339
from unstuck.store.protocol import Changes, Delivery, DeliveryAttempt, DeliveryQueue
from unstuck.supervision.backoff import Backoff
from unstuck.supervision.supervisor import Supervisor
from unstuck.webhooks.signature import RECIPE, sign
from unstuck.webhooks.targets import AllowedTargets, ForbiddenTarget, target

if TYPE_CHECKING:
    from unstuck.webhooks.sender import Response, Sender

log = logging.getLogger("unstuck.webhook")

#: Most attempts in progress, to all hosts and to one.
AT_ONCE = 100
LANES = 4
#: Time after which a delivery without an outcome is made again (seconds): longer than an attempt takes.
HOLD_S = 20.0
#: How long a delivery is tried (seconds).
TRY_FOR_S = 24 * 3600.0
#: The loop checks at least this often (seconds), although no wake-up or timer should ever be missed.
LOOK_S = 30.0
#: The status by which a receiver asks for no more webhooks.
GONE = 410


@dataclass(frozen=True, slots=True)
class WebhookConfig:
    """The configuration of webhooks. `keys` sign them, `base` is the prefix of the links, `keep_s` as for jobs."""

    keys: Sequence[bytes] = field(default=(), repr=False)
    allowed: AllowedTargets = field(default_factory=AllowedTargets)
    base: str = ""
    keep_s: float | None = None
    pause: Backoff = field(default_factory=lambda: Backoff(5.0, 2 * 3600.0))
    try_for_s: float = TRY_FOR_S


def message_body(snapshot: Snapshot, base: str, keep_s: float | None) -> bytes:
    """Return the body of a webhook: the job as it was at its end."""
    job = snapshot.job
    ended = job.finished_at or job.created_at
    data = public(snapshot, ended, base, keep_s)
    return msgspec.json.encode(wire.WebhookMessage(type=f"job.{job.state}", timestamp=rfc3339(ended), data=data))


class Dispatcher:
    """Delivers webhooks in a loop that `start()` starts; `check` refuses a webhook_url that cannot be used."""

    def __init__(self, store: DeliveryQueue, config: WebhookConfig, sender: Sender | None = None) -> None:
        self._store = store
        self._config = config
        self._sender = sender
        self._bell = asyncio.Event()
        self._in_progress: dict[str, str] = {}  # the host of each delivery, by job

    @property
    def unavailable(self) -> str | None:
        """The reason why this server has no webhooks, and what to do about it; None if it has."""
        if not self._config.keys:
            return f"UNSTUCK_WEBHOOK_SECRET is not set, so they cannot be signed. This makes a secret: {RECIPE}"
        if find_spec("httpx") is None:
            return "httpx is not installed: pip install 'unstuck[webhook]'"
        return None

    def check(self, url: str) -> None:
        """Raise InvalidRequest if webhooks cannot be delivered, or not to this URL."""
        if (why := self.unavailable) is not None:
            detail = f"This server delivers no webhooks: {why}. Or leave webhook_url out."
            raise InvalidRequest(detail, code="webhooks_unavailable", status=422)
        try:
            target(url, self._config.allowed)
        except ForbiddenTarget as error:
            raise InvalidRequest(str(error), code="invalid_webhook_url", status=422) from None

    async def start(self, supervisor: Supervisor) -> None:
        """Start delivering, if this server has webhooks; otherwise stored deliveries wait."""
        if (why := self.unavailable) is not None:
            counts = (await self._store.overview()).webhooks
            if waiting := counts["waiting"] + counts["failing"]:
                log.warning("Webhooks are waiting and cannot be delivered: waiting=%d reason=%s", waiting, why)
            return
        if self._sender is None:
            from unstuck.webhooks.sender import Sender  # here, because httpx is an extra

            self._sender = Sender(self._config.allowed)
        self._store.on_commit(self._on_commit)
        supervisor.run("webhooks", self._run)

    def _on_commit(self, changed: Changes) -> None:
        if changed is None or any(job is not None and job.done and job.webhook_url for job in changed.values()):
            self._bell.set()

    async def _run(self) -> None:
        """Deliver until cancelled. Deliveries that are cut off by the end or by a failure are made again."""
        self._in_progress.clear()
        async with asyncio.TaskGroup() as deliveries:
            while True:
                self._bell.clear()
                try:
                    rest_s = await self._start_due(deliveries)
                except StoreUnavailable:  # the store has logged it
                    rest_s = self._config.pause.first_s
                # Not wait_for: in Python 3.11 it can swallow the cancellation that should end this.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(rest_s):
                        await self._bell.wait()

    async def _start_due(self, deliveries: asyncio.TaskGroup) -> float:
        """Start the deliveries that are due, and return how long to rest (seconds)."""
        free = AT_ONCE - len(self._in_progress)
        if free == 0:
            return LOOK_S  # each attempt that ends sets the bell
        busy = Counter(self._in_progress.values())
        due = await self._store.take_deliveries(free, LANES, busy, HOLD_S)
        for delivery in due.taken:
            # A process that was suspended for long may find its own delivery here, still in progress.
            if delivery.job_id not in self._in_progress:
                self._in_progress[delivery.job_id] = delivery.host
                deliveries.create_task(self._deliver(delivery), name=f"webhook {delivery.job_id}")
        return LOOK_S if due.next_in_s is None else min(due.next_in_s, LOOK_S)

    async def _deliver(self, delivery: Delivery) -> None:
        try:
            outcome = await self._attempt(delivery)
            if await self._store.finish_attempt(delivery, outcome) and outcome.pause_s is None:
                _log_end(delivery, outcome)
        except JobNotFound:
            log.info("Webhook dropped because its job was removed: job=%s", delivery.job_id)
        except StoreUnavailable:  # the store has logged it
            log.info("Webhook outcome could not be stored, delivering again: job=%s", delivery.job_id)
        except Exception:
            log.exception("Webhook attempt failed unexpectedly, delivering again: job=%s", delivery.job_id)
        finally:
            del self._in_progress[delivery.job_id]
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
            why = f"answered {GONE}: the receiver wants no more webhooks"
            return DeliveryAttempt(f"given up: {why}", trouble=why)
        moved = ", and redirects are not followed" if 300 <= answer.status < 400 else ""
        return self._retry_later(delivery, f"answered {answer.status}{moved}", answer.again_in_s or 0.0)

    def _retry_later(self, delivery: Delivery, why: str, asked_s: float = 0.0) -> DeliveryAttempt:
        left_s = self._config.try_for_s - delivery.age_s
        if left_s <= 0:
            return DeliveryAttempt(f"given up after {delivery.attempt} attempts: {why}", trouble=why)
        pause = self._config.pause
        rest_s = max(pause.pause_s(delivery.attempt, random.random()), min(asked_s, pause.longest_s))  # noqa: S311
        rest_s = min(rest_s, left_s)  # the last attempt comes at the end of that time
        again_at = rfc3339(time.time() + rest_s)
        return DeliveryAttempt(f"failed: {why}; again at {again_at}", trouble=why, pause_s=rest_s)


def _log_end(delivery: Delivery, outcome: DeliveryAttempt) -> None:
    if outcome.trouble is None:
        log.debug("Webhook delivered: job=%s host=%s", delivery.job_id, delivery.host)
    else:
        log.error(
            "Webhook given up: job=%s host=%s attempts=%d reason=%s",
            delivery.job_id,
            delivery.host,
            delivery.attempt,
            outcome.trouble,
        )
