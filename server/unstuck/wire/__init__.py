"""The wire format: each answer, event and request of PROTOCOL.md, declared once.

The JSON that the server sends, its OpenAPI description, the Python client's types and frontend/wire.d.ts follow
from these structs. They must not know the rules of a job's life, the server or a client.
See also: job.py (the job and its items), answers.py, events.py, requests.py, schema.py (all as JSON Schema).
"""

from unstuck.wire.answers import (
    Alive,
    Entry,
    EntryItem,
    Kind,
    Kinds,
    Limits,
    Option,
    OptionType,
    Problem,
    QueueHealth,
    Ready,
    ServerHealth,
    StoredJobs,
    StreamHealth,
    Timeline,
    WorkerHealth,
)
from unstuck.wire.events import GoneEvent, HeartbeatEvent, ItemsEvent, LeavingEvent, WebhookMessage
from unstuck.wire.job import (
    BarProgress,
    Health,
    Item,
    ItemError,
    ItemLinks,
    Items,
    ItemState,
    Job,
    JobError,
    JobProgress,
    Jobs,
    Links,
    Progress,
    State,
)
from unstuck.wire.mapping import Answer
from unstuck.wire.requests import Error, FailRequest, Report, ReportedItem, RetryRequest, Submission

__all__ = [
    "Alive",
    "Answer",
    "BarProgress",
    "Entry",
    "EntryItem",
    "Error",
    "FailRequest",
    "GoneEvent",
    "Health",
    "HeartbeatEvent",
    "Item",
    "ItemError",
    "ItemLinks",
    "ItemState",
    "Items",
    "ItemsEvent",
    "Job",
    "JobError",
    "JobProgress",
    "Jobs",
    "Kind",
    "Kinds",
    "LeavingEvent",
    "Limits",
    "Links",
    "Option",
    "OptionType",
    "Problem",
    "Progress",
    "QueueHealth",
    "Ready",
    "Report",
    "ReportedItem",
    "RetryRequest",
    "ServerHealth",
    "State",
    "StoredJobs",
    "StreamHealth",
    "Submission",
    "Timeline",
    "WebhookMessage",
    "WorkerHealth",
]
