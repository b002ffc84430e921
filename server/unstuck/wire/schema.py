"""The wire format as JSON Schema, for OpenAPI and for the types of the JavaScript client.

In what the server sends, every field is required except those that it may leave out (UNSET): the defaults of an
answer are only for its readers.
It must not know paths, calls or statuses.
See also: api/openapi.py (describes those).
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET

from unstuck import wire
from unstuck.wire.mapping import Answer

Schema = dict[str, Any]

#: Whole bodies and events; the structs that they contain follow from them.
SENT: tuple[type[Answer], ...] = (
    wire.Job,
    wire.JobProgress,
    wire.Item,
    wire.Jobs,
    wire.Items,
    wire.Timeline,
    wire.Kinds,
    wire.Problem,
    wire.Alive,
    wire.Ready,
    wire.ServerHealth,
    wire.ItemsEvent,
    wire.HeartbeatEvent,
    wire.LeavingEvent,
    wire.GoneEvent,
    wire.WebhookMessage,
    wire.Work,
    wire.WorkItems,
    wire.WorkOutcomes,
)
RECEIVED: tuple[type[msgspec.Struct], ...] = (
    wire.Submission,
    wire.Report,
    wire.RetryRequest,
    wire.FailRequest,
    wire.WorkClaim,
    wire.WorkReport,
)


def schemas(ref_template: str = "#/components/schemas/{name}") -> dict[str, Schema]:
    """Return the schema of each struct, by its name."""
    _, found = msgspec.json.schema_components((*SENT, *RECEIVED), ref_template=ref_template)
    for name, schema in found.items():
        struct = getattr(wire, name)
        if issubclass(struct, Answer):
            required = [
                field.encode_name for field in msgspec.structs.fields(struct) if field.default is not UNSET
            ]
            schema["required"] = required
            for property_schema in schema["properties"].values():
                property_schema.pop("default", None)
    return found
