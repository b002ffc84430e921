"""The OpenAPI description is valid and matches what is served."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator, validate
from starlette.routing import Route

from tests.support.server import Server
from unstuck.api.openapi import CALLS, described
from unstuck.app import create_app
from unstuck.settings import Settings


@pytest.fixture(scope="module")
def api(server: Server) -> dict[str, Any]:
    return dict(server.get("/api/openapi.json"))


def fits(api: dict[str, Any], name: str, value: object) -> None:
    schema = {"$ref": f"#/components/schemas/{name}", "components": api["components"]}
    jsonschema.validate(value, schema, cls=jsonschema.Draft202012Validator)
    fields = api["components"]["schemas"][name].get("properties")
    if fields:
        assert isinstance(value, dict)
        assert value.keys() <= fields.keys(), "a field is not described"


def test_it_is_valid_wherever_the_app_is_mounted(api: dict[str, Any]) -> None:
    for one in (api, described("/progress")):
        validate(one, cls=OpenAPIV31SpecValidator)
    assert described("/progress")["servers"] == [{"url": "/progress"}]


def test_every_referenced_schema_is_described(api: dict[str, Any]) -> None:
    named = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(api)))
    whole = {"ItemsEvent", "HeartbeatEvent", "LeavingEvent", "GoneEvent", "WebhookMessage"}  # no call returns them
    assert named | whole | {"Item"} == set(api["components"]["schemas"])


def test_routes_and_described_calls_are_the_same() -> None:
    served = {
        (method, route.path.replace("{job_id}", "{id}"))
        for route in create_app(Settings()).routes
        if isinstance(route, Route)
        for method in (route.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert {(call.method, call.path) for call in CALLS} == served
    assert len(CALLS) == len(served)


def test_every_parameter_is_in_the_protocol() -> None:
    protocol = (Path(__file__).parents[2] / "PROTOCOL.md").read_text()
    for name in {name for call in CALLS for name in (*call.query, *call.headers)}:
        assert re.search(rf"[`?&]{name}\b", protocol), name


def test_answers_are_as_described(server: Server, api: dict[str, Any]) -> None:
    options = {"seconds": 0, "failures": 0.5}
    ours = server.until_done(server.submit("rehearsal", total=20, options=options)["id"])
    theirs = server.submit("import", external=True)
    for job in (ours, theirs):
        fits(api, "Job", job)
        fits(api, "Jobs", server.get("/api/jobs?limit=2"))
        fits(api, "Items", server.get(job["links"]["items"]))
        fits(api, "Timeline", server.get(job["links"]["timeline"]))
        for entry in server.get(job["links"]["timeline"])["entries"]:
            fits(api, "Entry", entry)
    for item in server.items(ours["id"]):
        fits(api, "Item", item)
    with_file = server.submit("csv-profile", files={"a.csv": b"a,b\n1,2\n"})
    fits(api, "Item", server.items(server.until_done(with_file["id"])["id"])[0])
    fits(api, "Kinds", server.get("/api/kinds"))
    fits(api, "ServerHealth", server.get("/api/health"))
    fits(api, "Ready", server.get("/api/health/ready"))
    fits(api, "Alive", server.get("/api/health/live"))
    refused = httpx.post(f"{server.url}/api/jobs/{theirs['id']}/progress", json={"total": -1})
    assert str(refused.status_code) in api["paths"]["/api/jobs/{id}/progress"]["post"]["responses"]
    fits(api, "Problem", refused.json())


@pytest.mark.parametrize(
    ("name", "sent", "good"),
    [
        ("Submission", {"kind": "import", "external": True, "items": ["a"]}, True),
        ("Submission", {"kind": "import", "files": []}, False),
        ("Report", {"processed": 3, "items": [{"index": 0, "state": "failed", "error": "no"}]}, True),
        ("Report", {"items": [{"index": 0, "state": "lost"}]}, False),
    ],
)
def test_request_schemas(api: dict[str, Any], name: str, sent: dict[str, Any], good: bool) -> None:
    if good:
        fits(api, name, sent)
    else:
        with pytest.raises(jsonschema.ValidationError):
            fits(api, name, sent)
