"""The API's own description: valid, and what it says is what is served."""

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
def told(server: Server) -> dict[str, Any]:
    return dict(server.get("/api/openapi.json"))


def fits(told: dict[str, Any], name: str, value: object) -> None:
    schema = {"$ref": f"#/components/schemas/{name}", "components": told["components"]}
    jsonschema.validate(value, schema, cls=jsonschema.Draft202012Validator)
    fields = told["components"]["schemas"][name].get("properties")
    if fields:
        assert isinstance(value, dict)
        assert value.keys() <= fields.keys(), "every field is described"


def test_it_is_valid_wherever_the_app_is_mounted(told: dict[str, Any]) -> None:
    for one in (told, described("/progress")):
        validate(one, cls=OpenAPIV31SpecValidator)
    assert described("/progress")["servers"] == [{"url": "/progress"}]


def test_every_schema_that_is_named_is_described(told: dict[str, Any]) -> None:
    named = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(told)))
    whole = {"ItemsEvent", "HeartbeatEvent", "LeavingEvent", "GoneEvent", "WebhookMessage"}  # in no call's answer
    assert named | whole | {"Item"} == set(told["components"]["schemas"])


def test_every_route_is_in_it_and_the_other_way_round() -> None:
    served = {
        (method, route.path.replace("{job_id}", "{id}"))
        for route in create_app(Settings()).routes
        if isinstance(route, Route)
        for method in (route.methods or set()) - {"HEAD"}
    }
    assert {(call.method, call.path) for call in CALLS} == served
    assert len(CALLS) == len(served)


def test_every_parameter_stands_in_the_protocol() -> None:
    protocol = (Path(__file__).parents[2] / "PROTOCOL.md").read_text()
    for name in {name for call in CALLS for name in (*call.query, *call.headers)}:
        assert re.search(rf"[`?&]{name}\b", protocol), name


def test_answers_are_as_described(server: Server, told: dict[str, Any]) -> None:
    options = {"seconds": 0, "failures": 0.5}
    ours = server.until_done(server.submit("rehearsal", total=20, options=options)["id"])
    theirs = server.submit("import", external=True)
    for job in (ours, theirs):
        fits(told, "Job", job)
        fits(told, "Jobs", server.get("/api/jobs?limit=2"))
        fits(told, "Items", server.get(job["links"]["items"]))
        fits(told, "Timeline", server.get(job["links"]["timeline"]))
        for entry in server.get(job["links"]["timeline"])["entries"]:
            fits(told, "Entry", entry)
    for item in server.items(ours["id"]):
        fits(told, "Item", item)
    with_file = server.submit("csv-profile", files={"a.csv": b"a,b\n1,2\n"})
    fits(told, "Item", server.items(server.until_done(with_file["id"])["id"])[0])
    fits(told, "Kinds", server.get("/api/kinds"))
    fits(told, "ServerHealth", server.get("/api/health"))
    fits(told, "Ready", server.get("/api/health/ready"))
    fits(told, "Alive", server.get("/api/health/live"))
    refused = httpx.post(f"{server.url}/api/jobs/{theirs['id']}/progress", json={"total": -1})
    assert str(refused.status_code) in told["paths"]["/api/jobs/{id}/progress"]["post"]["responses"]
    fits(told, "Problem", refused.json())


@pytest.mark.parametrize(
    ("name", "sent", "good"),
    [
        ("Submission", {"kind": "import", "external": True, "items": ["a"]}, True),
        ("Submission", {"kind": "import", "files": []}, False),
        ("Report", {"processed": 3, "items": [{"index": 0, "state": "failed", "error": "no"}]}, True),
        ("Report", {"items": [{"index": 0, "state": "lost"}]}, False),
    ],
)
def test_what_may_be_sent(told: dict[str, Any], name: str, sent: dict[str, Any], good: bool) -> None:
    if good:
        fits(told, name, sent)
    else:
        with pytest.raises(jsonschema.ValidationError):
            fits(told, name, sent)
