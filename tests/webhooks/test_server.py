"""Webhooks of a real server: what it refuses, what its timeline shows, and what it delivers after a kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.support.command import refused_to_start
from tests.support.http import refused
from tests.support.server import Server, StartServer
from tests.support.waiting import eventually
from tests.webhooks.receiver import SECRET, Receive, closed_port, verified

PUBLIC = "https://hook.example/"


def told(server: Server, job_id: str) -> list[str]:
    entries = server.get(f"/api/jobs/{job_id}/timeline")["entries"]
    return [one["text"] for one in entries if one["what"] == "webhook"]


def asking(url: str) -> dict[str, Any]:
    return {"json": {"kind": "rehearsal", "total": 1, "options": {"seconds": 0}, "webhook_url": url}}


def test_a_server_without_a_secret_takes_no_webhook(start_server: StartServer) -> None:
    server = start_server("--workers", "1")
    assert "openssl rand" in refused(server, 422, "webhooks_unavailable", **asking(PUBLIC))
    form = {"data": {"kind": "checksum", "webhook_url": PUBLIC}, "files": [("files", ("a", b"x"))]}
    refused(server, 422, "webhooks_unavailable", **form)


def test_private_targets_are_refused_unless_allowed(start_server: StartServer) -> None:
    server = start_server("--workers", "1", webhook_secret=SECRET, webhook_hosts="allowed.example, 10.0.0.1")
    for url in ("http://127.0.0.1:1/", "http://[::ffff:a9fe:a9fe]/", "http://localhost/", "mailto:a@b.c"):
        refused(server, 422, "invalid_webhook_url", **asking(url))
    server.submit("rehearsal", total=1, options={"seconds": 0}, webhook_url="http://10.0.0.1:1/")


def test_a_webhook_from_submission_to_delivery(start_server: StartServer, receive: Receive) -> None:
    receiver = receive(500, 200)
    server = start_server("--workers", "1", webhook_secret=SECRET, webhook_allow_private="1")
    job = server.submit("checksum", {"a": b"x"}, webhook_url=receiver.url())
    eventually(lambda: server.get("/api/health")["webhooks"] == {"waiting": 0, "failing": 1, "given_up": 0})
    before = server.job(job["id"])
    eventually(lambda: len(told(server, job["id"])) == 2)
    assert len(receiver.received) == 2
    for one in receiver.received:
        assert verified(one)["data"]["links"] == before["links"]
    assert told(server, job["id"])[1] == "delivered, 200"
    assert server.get("/api/health")["webhooks"] == {"waiting": 0, "failing": 0, "given_up": 0}
    assert server.job(job["id"])["seq"] == before["seq"]


def test_a_webhook_is_delivered_after_a_kill(start_server: StartServer, receive: Receive) -> None:
    port = closed_port()
    settings = {"webhook_secret": SECRET, "webhook_allow_private": "1"}
    server = start_server("--workers", "1", **settings)
    url = f"http://127.0.0.1:{port}/hook"
    job = server.submit("rehearsal", total=1, options={"seconds": 0}, webhook_url=url)
    server.until_done(job["id"])
    server.stop(signal.SIGKILL)
    receiver = receive(port=port)
    again = start_server("--workers", "1", **settings)
    eventually(lambda: receiver.received)
    assert verified(receiver.received[0])["data"]["id"] == job["id"]
    eventually(lambda: "delivered, 200" in told(again, job["id"]))


def test_bad_secrets_are_refused_and_good_ones_never_shown(tmp_path: Path) -> None:
    said = refused_to_start("serve", "--port", "0", "--data", str(tmp_path), UNSTUCK_WEBHOOK_SECRET="whsec_short")
    assert "openssl rand" in said
    assert "whsec_short" not in said
    listed = subprocess.check_output(
        [sys.executable, "-m", "unstuck", "settings"],
        text=True,
        env={**os.environ, "COLUMNS": "200", "UNSTUCK_WEBHOOK_SECRET": SECRET},
    )
    assert "UNSTUCK_WEBHOOK_SECRET" in listed
    assert SECRET not in listed


def test_workers_do_not_see_the_secret(start_server: StartServer) -> None:
    server = start_server("--workers", "1", "--command", "show=env", webhook_secret=SECRET, log_level="debug")
    job = server.submit("show", {"a": b"x"})
    server.until_done(job["id"])
    (item,) = server.items(job["id"])
    shown = str(item["result"])
    assert "PATH=" in shown
    assert SECRET not in shown + server.log.read_text()
