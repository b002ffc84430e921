"""The events of a stream and the body of a webhook.

The data of a `job` event is the job object, see job.py.
See also: PROTOCOL.md sections 4 and 8.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from unstuck.wire.job import Item, Job
from unstuck.wire.mapping import Answer, Time


class ItemsEvent(Answer, frozen=True, kw_only=True):
    """Items that changed since the viewer's last `items` event; sent before the `job` event of that change."""

    job_id: str
    seq: int
    items: list[Item]
    more: Annotated[bool, Meta(description="More items changed: fetch them with after_seq.")] = False


class HeartbeatEvent(Answer, frozen=True, kw_only=True):
    """A sign that the stream is alive."""

    server_time: Time
    jobs: Annotated[dict[str, int], Meta(description="The seq of every job on the stream, by id.")]
    next_s: Annotated[float, Meta(description="The next heartbeat follows within this many seconds.")]


class LeavingEvent(Answer, frozen=True, kw_only=True):
    """A notice that the server closes the stream on purpose."""

    reason: str
    retry_ms: Annotated[int, Meta(description="Reconnect after this many milliseconds.")]


class GoneEvent(Answer, frozen=True, kw_only=True):
    """A notice that a job does not exist, or was removed."""

    job_id: str
    code: str


class WebhookMessage(Answer, frozen=True, kw_only=True):
    """The body of a webhook, sent when a job has finished."""

    type: Annotated[str, Meta(description="job. and the final state, such as job.completed.")]
    timestamp: Annotated[Time, Meta(description="When the job finished.")]
    data: Job
