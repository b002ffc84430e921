"""Serves the API's own description (OpenAPI 3.1), made from one table.

Must not know: how a request is answered.
See also: wire/schema.py (the schemas), PROTOCOL.md section 3.

`CALLS` says what each call takes and answers; bodies are described by the very structures that read them. Tests
compare the table with the routes, PROTOCOL.md and real answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from unstuck import __version__
from unstuck.api.context import base_of, json_response
from unstuck.wire.schema import Schema, schemas

JSON = "application/json"
PROBLEM = "application/problem+json"


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


TEXT: Schema = {"type": "string"}
COUNT: Schema = {"type": "integer", "minimum": 0}
TEXTS: Schema = {"type": "array", "items": {"type": "string"}}

#: The schemas of all bodies; `Any` is any JSON object, and `Bytes` are those of a file.
SCHEMAS: Mapping[str, Schema] = {
    **schemas(),
    "Any": {"type": "object"},
    "Bytes": {"type": "string"},
    "JobOrProgress": {"anyOf": [_ref("Job"), _ref("JobProgress")]},
}


@dataclass(frozen=True, slots=True)
class Call:
    """One call of the API.

    `answers` gives the content for each status: a schema, a media type, or None for nothing. `refusals` are the
    statuses of its problem documents. `query` and `headers` name its parameters; `body` gives the schema for each
    media type that it takes.
    """

    method: str
    path: str
    summary: str
    answers: Mapping[int, str | None]
    refusals: tuple[int, ...] = ()
    query: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    body: Mapping[str, str] | None = None


_ID = (400, 404)
_KEY = ("Idempotency-Key",)
_JOB = {200: "Job"}
_STREAM = {200: "text/event-stream"}
CALLS = (
    Call("GET", "/api/jobs", "Jobs, the newest first", {200: "Jobs"}, (400,),
         ("state", "kind", "health", "name", "id_prefix", "retry_of", "limit", "cursor", "finished_before")),
    Call("POST", "/api/jobs", "Submit a job", {202: "Job"}, (400, 408, 413, 422, 429, 503, 507), (), _KEY,
         {JSON: "Submission", "multipart/form-data": "Any"}),
    Call("GET", "/api/jobs/{id}", "One job", {200: "JobOrProgress", 304: None}, _ID, ("fields",),
         ("If-None-Match", "X-Unstuck-Poll")),
    Call("DELETE", "/api/jobs/{id}", "Remove a finished job", {204: None}, (*_ID, 409)),
    Call("GET", "/api/jobs/{id}/items", "The items of a job", {200: "Items"}, _ID,
         ("state", "after_seq", "limit", "cursor")),
    Call("GET", "/api/jobs/{id}/items/{index}/result", "A result file", {200: "application/octet-stream"}, _ID),
    Call("GET", "/api/jobs/{id}/results", "All result files", {200: "application/zip"}, (*_ID, 409)),
    Call("GET", "/api/jobs/{id}/errors", "The errors of all failed items", {200: "text/csv"}, _ID),
    Call("GET", "/api/jobs/{id}/events", "The stream of one job", {**_STREAM, 204: None}, _ID,
         ("items", "fields", "last_event_id"), ("Last-Event-ID",)),
    Call("GET", "/api/jobs/{id}/timeline", "The timeline of a job", {200: "Timeline"}, _ID, ("limit",)),
    Call("POST", "/api/jobs/{id}/progress", "Report progress of external work", _JOB,
         (*_ID, 408, 409, 413, 422), body={JSON: "Report", "application/x-ndjson": "Report"}),
    Call("POST", "/api/jobs/{id}/cancel", "Cancel a job", {200: "Job", 202: "Job"}, _ID),
    Call("POST", "/api/jobs/{id}/retry", "Retry a job as a new one", {202: "Job"},
         (*_ID, 408, 409, 410, 422, 429, 507), (), _KEY, {JSON: "RetryRequest"}),
    Call("POST", "/api/jobs/{id}/rescue", "Restart the running items of a job", {202: "Job"}, (*_ID, 409)),
    Call("POST", "/api/jobs/{id}/fail", "Fail a job", {202: "Job"}, (*_ID, 408, 409, 413, 422),
         body={JSON: "FailRequest"}),
    Call("GET", "/api/events/stream", "One stream of several jobs, or of all", _STREAM, (400, 413),
         ("job", "items", "fields")),
    Call("GET", "/api/kinds", "The kinds of work, and the limits of a submission", {200: "Kinds"}),
    Call("GET", "/api/work", "What a worker on another machine has to know", {200: "Work"}, (401, 403)),
    Call("POST", "/api/work/claim", "Claim items to work on", {200: "WorkItems"}, (401, 403, 413, 422),
         body={JSON: "WorkClaim"}),
    Call("POST", "/api/work/report", "Report on claimed items", {200: "WorkOutcomes"}, (401, 403, 413, 422),
         body={JSON: "WorkReport"}),
    Call("GET", "/api/work/{id}/items/{index}/leases/{lease}/input", "The file of a claimed item",
         {200: "application/octet-stream"}, (*_ID, 401, 403, 409)),
    Call("PUT", "/api/work/{id}/items/{index}/leases/{lease}/output", "Upload the result file of a claimed item",
         {204: None}, (*_ID, 401, 403, 409, 413, 422, 507), ("name",), body={"application/octet-stream": "Bytes"}),
    Call("GET", "/api/health", "Details of the server's health", {200: "ServerHealth"}),
    Call("GET", "/api/health/live", "Liveness", {200: "Alive"}),
    Call("GET", "/api/health/ready", "Readiness", {200: "Ready", 503: "Ready"}),
    Call("GET", "/api/openapi.json", "This description", {200: "Any"}),
    Call("GET", "/metrics", "Metrics for Prometheus", {200: "text/plain"}),
    Call("GET", "/", "The batch page", {200: "text/html"}),
)  # fmt: skip

#: The schemas of parameters that are not plain text.
PARAMETERS: Mapping[str, Schema] = {
    "id": {"type": "string", "format": "uuid"},
    "index": COUNT,
    "lease": COUNT,
    "limit": {"type": "integer", "minimum": 1, "maximum": 2_000},
    "after_seq": COUNT,
    "fields": {"type": "string", "enum": ["progress"]},
    "finished_before": {"type": "string", "format": "date-time"},
    **dict.fromkeys(("state", "health", "job"), TEXTS),
}


async def get_openapi(request: Request) -> Response:
    """Serve GET /api/openapi.json."""
    return json_response(described(base_of(request)))


def described(base: str) -> Schema:
    """Return the whole description; `base` is the prefix under which the app is mounted."""
    paths: dict[str, dict[str, Schema]] = {}
    for call in CALLS:
        paths.setdefault(call.path, {})[call.method.lower()] = _operation(call)
    return {
        "openapi": "3.1.0",
        "info": {"title": "unstuck", "version": __version__, "license": {"name": "MIT", "identifier": "MIT"}},
        "servers": [{"url": base or "/"}],
        "paths": paths,
        "components": {"schemas": dict(SCHEMAS)},
    }


def _operation(call: Call) -> Schema:
    in_path = [name for name in ("id", "index", "lease") if f"{{{name}}}" in call.path]
    places = [("path", in_path), ("query", call.query), ("header", call.headers)]
    answers = {str(status): _answer(what) for status, what in call.answers.items()}
    answers |= {
        str(status): _response("Refused; see code and detail.", PROBLEM, "Problem") for status in call.refusals
    }
    found: Schema = {
        "summary": call.summary,
        "parameters": [_parameter(name, place) for place, names in places for name in names],
        "responses": {**answers, "default": _response("Refused, or not possible now.", PROBLEM, "Problem")},
    }
    if call.body is not None:
        found["requestBody"] = {
            "content": {media_type: {"schema": _ref(name)} for media_type, name in call.body.items()}
        }
    return found


def _parameter(name: str, place: str) -> Schema:
    return {"name": name, "in": place, "required": place == "path", "schema": PARAMETERS.get(name, TEXT)}


def _answer(what: str | None) -> Schema:
    if what is None:
        return {"description": "No content."}
    return _response(what, JSON, what) if what in SCHEMAS else _response(what, what, None)


def _response(text: str, media_type: str, schema: str | None) -> Schema:
    return {"description": text, "content": {media_type: {"schema": _ref(schema) if schema else TEXT}}}
