"""The JSON of jobs, items and entries, byte for byte.

golden.json holds the bytes that PROTOCOL.md promises, for jobs and items made by hand and at random.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from unstuck import wire
from unstuck.api.timeline import public_entry
from unstuck.jobs.job import Item, Job
from unstuck.jobs.snapshot import Snapshot, public, public_item
from unstuck.jobs.timeline import Entry
from unstuck.streaming import sse
from unstuck.webhooks.dispatcher import message_body

GOLDEN: dict[str, list[dict[str, Any]]] = json.loads((Path(__file__).parent / "golden.json").read_text())


def stored(kind: type[msgspec.Struct], values: dict[str, Any]) -> Any:
    """Return the struct from its fields by name; converting it takes those of a row."""
    missing = {field.name: field.default for field in msgspec.structs.fields(kind) if not field.required}
    missing |= {name: {} for name in ("options", "meter") if name in missing}
    return msgspec.convert([{**missing, **values}[name] for name in kind.__struct_fields__], kind)


#: For the answers without a case in golden.json: the fields, in the order in which they are sent.
SENT: dict[type[wire.Answer], str] = {
    wire.Jobs: "jobs next",
    wire.Items: "items next",
    wire.Timeline: "entries more",
    wire.Kinds: "kinds limits",
    wire.Limits: "max_files max_file_bytes max_job_bytes max_name_length item_errors_shown",
    wire.Kind: "name title description accept needs_file limit_s options unit units unavailable",
    wire.Option: "name type required default nullable choices minimum maximum description",
    wire.Problem: "type title status detail code accepted line",
    wire.Alive: "status",
    wire.Ready: "status troubles",
    wire.ServerHealth: "status version troubles workers queue jobs webhooks streams polls",
    wire.WorkerHealth: "alive deaths leases_lapsed elsewhere",
    wire.Work: "version lease_s longest_wait_s item_limit_s retry_pause_s cancel_grace_s",
    wire.WorkItem: ("job_id kind options index name size lease lease_s attempt limit_s errors_left input output"),
    wire.WorkItems: "items",
    wire.WorkOutcome: "ok stopping code detail",
    wire.WorkOutcomes: "outcomes",
    wire.QueueHealth: "waiting_items running_items oldest_wait_seconds",
    wire.StoredJobs: "by_state by_health unreadable",
    wire.StreamHealth: "open jobs_watched opened refused broadcasts broadcast_retries broadcast_failures rescues",
    wire.JobProgress: "id seq state done cancel_requested health progress poll_after_ms",
    wire.BarProgress: "total processed succeeded failed skipped percent rate_per_second eta_seconds",
    wire.HeartbeatEvent: "server_time jobs next_s",
    wire.LeavingEvent: "reason retry_ms",
    wire.GoneEvent: "job_id code",
}


@pytest.mark.parametrize("kind", SENT)
def test_the_order_of_the_fields(kind: type[wire.Answer]) -> None:
    assert " ".join(kind.__struct_fields__) == SENT[kind]


def test_unset_fields_are_not_sent() -> None:
    problem = wire.Problem(title="t", status=409, detail="d", code="c")
    sent = '{"type":"about:blank","title":"t","status":409,"detail":"d","code":"c"}'
    assert msgspec.json.encode(problem).decode() == sent
    refused = msgspec.structs.replace(problem, accepted=0, line=1)
    assert msgspec.json.encode(refused).decode() == sent[:-1] + ',"accepted":0,"line":1}'


@pytest.mark.parametrize("case", GOLDEN["jobs"])
def test_a_job(case: dict[str, Any]) -> None:
    failed = [stored(Item, item) for item in case["item_errors"]]
    snapshot = Snapshot(stored(Job, case["job"]), [(row, name) for row, name in case["running"]], failed)
    seen = public(snapshot, case["now"], case["base"], case["keep_s"])
    assert msgspec.json.encode(seen).decode() == case["json"]
    if not case["json"].isascii():
        assert sse.event("job", seen, snapshot.job.seq).decode("ascii") == case["event"]
    if snapshot.job.done:
        assert message_body(snapshot, case["base"], case["keep_s"]).decode() == case["webhook"]


@pytest.mark.parametrize("case", GOLDEN["items"])
def test_an_item(case: dict[str, Any]) -> None:
    seen = public_item(stored(Item, case["item"]), "j", case["base"])
    assert msgspec.json.encode(seen).decode() == case["json"]
    assert sse.items("j", 7, [seen], more=case["more"]).decode("ascii") == case["event"]


@pytest.mark.parametrize("case", GOLDEN["entries"])
def test_an_entry(case: dict[str, Any]) -> None:
    assert msgspec.json.encode(public_entry(stored(Entry, case["entry"]))).decode() == case["json"]
