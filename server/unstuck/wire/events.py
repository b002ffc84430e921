"""What the server sends of its own accord: the events of a stream, and the message of a webhook.

PROTOCOL.md sections 4 and 8; the data of a `job` event is the job object.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from unstuck.wire.job import Item, Job
from unstuck.wire.mapping import Answer, Time


class ItemsEvent(Answer, frozen=True, kw_only=True):
    """Items that changed since the viewer's last `items` event; before the `job` event of the same change."""

    job_id: str
    seq: int
    items: list[Item]
    more: Annotated[bool, Meta(description="There are others: fetch them with after_seq.")] = False


class HeartbeatEvent(Answer, frozen=True, kw_only=True):
    """A sign of life."""

    server_time: Time
    jobs: Annotated[dict[str, int], Meta(description="The seq of every job on the stream, by id.")]
    next_s: Annotated[float, Meta(description="The next one comes within so many seconds.")]


class LeavingEvent(Answer, frozen=True, kw_only=True):
    """The server closes the stream on purpose."""

    reason: str
    retry_ms: Annotated[int, Meta(description="Come back after so many milliseconds.")]


class GoneEvent(Answer, frozen=True, kw_only=True):
    """A job does not exist (any more)."""

    job_id: str
    code: str


class WebhookMessage(Answer, frozen=True, kw_only=True):
    """The body of a webhook: a job has ended."""

    type: Annotated[str, Meta(description="job. and the state that it ended in.")]
    timestamp: Annotated[Time, Meta(description="When it ended.")]
    data: Job
