"""Streams of a real server over real sockets, read as curl and EventSource read them."""

from __future__ import annotations

import json
import subprocess
import threading
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.support import hanging
from tests.support.events import Event, events, open_and_never_read
from tests.support.machine import needs
from tests.support.server import Server, StartServer
from tests.support.waiting import PATIENCE_S, eventually


def follow(server: Server, job_id: str, query: str = "") -> list[Event]:
    """Return all events of a stream that ends by itself."""
    with httpx.stream("GET", f"{server.url}/api/jobs/{job_id}/events{query}", timeout=30) as answer:
        assert answer.status_code == 200, answer.read()
        return list(events(answer.iter_lines()))


def rehearse(server: Server, total: int = 3, **options: Any) -> dict[str, Any]:
    return server.submit("rehearsal", total=total, options={"seconds": 0.05, **options})


def test_headers_and_first_bytes(server: Server) -> None:
    job = rehearse(server)
    with httpx.stream("GET", f"{server.url}{job['links']['events']}") as answer:
        headers = answer.headers
        assert headers["content-type"].startswith("text/event-stream")
        assert headers["cache-control"] == "no-store, no-transform"
        assert headers["x-accel-buffering"] == "no"
        assert "content-encoding" not in headers
        text = answer.read().decode()
    first, second, *_ = text.splitlines()
    assert first.startswith("retry: ")
    assert second.startswith(": unstuck: live progress of job")
    blocks = text.split("\n\n")
    assert blocks.pop() == ""
    assert [block for block in blocks if "\ndata: " not in block] == [], "a block without data"


def test_a_head_request_opens_no_stream(server: Server) -> None:
    job = rehearse(server, total=1, seconds=30)
    for path in (job["links"]["events"], f"/api/events/stream?job={job['id']}"):
        answer = httpx.head(server.url + path)
        assert (answer.status_code, answer.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
        assert answer.content == b""
    assert server.get("/api/health")["streams"]["open"] == 0
    httpx.post(server.url + job["links"]["cancel"])


def test_a_stream_opens_with_the_newest_state_and_ends_with_the_job(server: Server) -> None:
    job = rehearse(server, total=6)
    seen = follow(server, job["id"])
    assert seen[0][0] == "job"
    jobs = [data for name, data in seen if name == "job"]
    assert [one["seq"] for one in jobs] == sorted({one["seq"] for one in jobs})
    percents = [one["progress"]["percent"] for one in jobs]
    assert percents == sorted(percents)
    assert (seen[-1][0], seen[-1][1]["done"]) == ("job", True)
    polled = server.job(job["id"])
    polled["server_time"] = seen[-1][1]["server_time"]
    assert seen[-1][1] == polled


def test_items_follow_the_first_job_event_unless_unwanted(server: Server) -> None:
    job = rehearse(server, total=6, seconds=0.5)  # still running when the stream opens
    seen = follow(server, job["id"])
    changed = {item["index"] for name, data in seen if name == "items" for item in data["items"]}
    assert changed
    unwanted = follow(server, rehearse(server, total=6)["id"], "?items=0")
    assert {name for name, _ in unwanted} - {"heartbeat"} == {"job"}


def test_a_finished_job_is_one_event_and_then_204(server: Server) -> None:
    job = server.until_done(rehearse(server, total=1)["id"])
    (only,) = follow(server, job["id"])
    assert only[1]["done"] is True
    address = f"{server.url}{job['links']['events']}"
    held = str(job["seq"])
    assert httpx.get(address, headers={"Last-Event-ID": held}).status_code == 204
    assert httpx.get(f"{address}?last_event_id={held}").status_code == 204
    for other in ("-1", "1e9", "9" * 5000, "' OR 1=1--", str(job["seq"] + 1), f"{held}0"):
        answer = httpx.get(address, headers={"Last-Event-ID": other})
        assert (answer.status_code, b'"done":true' in answer.content) == (200, True)


@needs("curl", "curl")
def test_curl_shows_events_from_the_first_instant_and_ends(server: Server) -> None:
    job = rehearse(server, total=10, seconds=0.2)
    command = ["curl", "-sN", f"{server.url}{job['links']['events']}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as curl:
        assert curl.stdout is not None
        first = [curl.stdout.readline() for _ in range(6)]
        assert not server.job(job["id"])["done"], "the first lines came only after the job had ended"
        rest = curl.stdout.read()
    assert first[0].startswith("retry:")
    assert first[1].startswith(": unstuck")
    assert "event: job\n" in first
    assert '"done":true' in rest
    assert curl.returncode == 0


def test_nasty_names_stay_inside_their_event(server: Server) -> None:
    name = 'a\nevent: job\ndata: {"done":true}\n\n\r\r\u2028data: x\x85'
    job = server.submit("rehearsal", items=[name], name=name, options={"seconds": 0, "failures": 1})
    with httpx.stream("GET", f"{server.url}{job['links']['events']}") as answer:
        raw = answer.read()
    assert raw.isascii()
    assert b"\r" not in raw
    last = [json.loads(line[6:]) for line in raw.decode().splitlines() if line.startswith("data: ")][-1]
    assert last["name"] == name
    assert last["item_errors"][0]["name"] == name


def test_several_jobs_on_one_stream(server: Server) -> None:
    one, two, unknown = rehearse(server), rehearse(server), str(uuid4())
    query = "&".join(f"job={job_id}" for job_id in (one["id"], two["id"], unknown))
    with httpx.stream("GET", f"{server.url}/api/events/stream?{query}", timeout=30) as answer:
        done, gone = set(), set()
        for name, data in events(answer.iter_lines()):
            if name == "gone":
                gone.add(data["job_id"])
            elif name == "job" and data["done"]:
                done.add(data["id"])
            if done == {one["id"], two["id"]} and gone:
                break
    assert (done, gone) == ({one["id"], two["id"]}, {unknown})


def test_the_stream_of_all_jobs_shows_new_ones(server: Server) -> None:
    with httpx.stream("GET", f"{server.url}/api/events/stream", timeout=30) as answer:
        lines = answer.iter_lines()
        next(lines)
        job = rehearse(server)
        news = (data for name, data in events(lines) if name == "job" and data["id"] == job["id"])
        assert any(data["done"] for data in news), "the stream ended before the job did"


def test_bad_requests_for_streams(server: Server) -> None:
    assert httpx.get(f"{server.url}/api/events/stream?job=x").status_code == 400
    many = "&".join(f"job={uuid4()}" for _ in range(101))
    answer = httpx.get(f"{server.url}/api/events/stream?{many}")
    assert (answer.status_code, answer.json()["code"]) == (413, "too_many_jobs")


def test_an_old_stream_sends_leaving(start_server: StartServer) -> None:
    server = start_server("--workers", "1", stream_life_s="2", heartbeat_s="1")
    job = server.submit("rehearsal", total=1, options={"seconds": 60})
    seen = follow(server, job["id"])
    assert seen[-1][0] == "leaving"
    assert any(name == "heartbeat" and data["jobs"] for name, data in seen)


def resident(server: Server) -> int:
    assert server.process is not None
    with open(f"/proc/{server.process.pid}/status") as status:
        return int(status.read().split("VmRSS:")[1].split()[0]) * 1024


def test_readers_that_never_read_are_disconnected_without_affecting_others(start_server: StartServer) -> None:
    server = start_server("--workers", "2", send_timeout_s="5", interval_s="0.05")
    # Few readers: a test process that cannot keep up with what it reads would itself be one that does not read.
    # Long names of running items and many failures make events of some 10 KB. The items last longer than the test:
    # the job ends when it is cancelled.
    names = ["n" * 900 for _ in range(10_000)]
    job = server.submit("rehearsal", items=names, options={"seconds": 0.02, "failures": 0.5})
    lazy = [open_and_never_read(server, job["id"]) for _ in range(10)]
    ends: list[dict[str, Any]] = []

    def read() -> None:
        ends.append(follow(server, job["id"], "?items=0")[-1][1])

    readers = [threading.Thread(target=read) for _ in range(20)]
    for reader in readers:
        reader.start()
    try:
        eventually(lambda: server.get("/api/health")["streams"]["opened"] == 30)
        before = resident(server)
        sizes = [before]

        def lazy_are_gone() -> bool:
            sizes.append(resident(server))
            return bool(server.get("/api/health")["streams"]["open"] == 20)

        eventually(lazy_are_gone, 2 * PATIENCE_S)
        gone_at = server.job(job["id"])["progress"]["processed"]

        def others_are_served() -> bool:
            sizes.append(resident(server))
            return bool(server.job(job["id"])["progress"]["processed"] >= gone_at + 100)

        eventually(others_are_served, 2 * PATIENCE_S)
    finally:
        httpx.post(f"{server.url}/api/jobs/{job['id']}/cancel", timeout=30)
        for reader in readers:
            reader.join(30)
        for one in lazy:
            one.close()
    assert len(ends) == 20
    assert all(end["done"] for end in ends)
    # 30 viewers with one pending change and a send buffer each; a backlog would be hundreds of 20 KB each.
    assert max(sizes) - before < 60 * 1024 * 1024
    eventually(lambda: server.get("/api/health")["streams"]["open"] == 0)


def test_changes_of_health_are_broadcast(start_server: StartServer, tmp_path: Path) -> None:
    """Viewers learn that a job has stalled, which no report causes, and that it is moving again."""
    server = start_server("--workers", "1", *hanging.APP, stalled_s="0.4", waiting_long_s="0.4")
    gate = tmp_path / "gate"
    hangs = server.submit("hang", total=1, options={"gate": str(gate)})
    waits = rehearse(server, total=1)
    query = f"job={hangs['id']}&job={waits['id']}"
    told: dict[str, list[dict[str, Any]]] = {hangs["id"]: [], waits["id"]: []}
    with httpx.stream("GET", f"{server.url}/api/events/stream?{query}", timeout=30) as answer:
        for name, data in events(answer.iter_lines()):
            if name != "job":
                continue
            told[data["id"]].append(data)
            newest = [seen[-1] if seen else {} for seen in told.values()]
            if [one.get("health") for one in newest] == ["stalled", "waiting_long"]:
                gate.touch()
            if all(one.get("done") for one in newest):
                break
        else:
            pytest.fail("the stream ended before both jobs did")
    for job_id, alarm in ((hangs["id"], "stalled"), (waits["id"], "waiting_long")):
        healths = [one["health"] for one in told[job_id]]
        assert alarm in healths
        after = healths[len(healths) - 1 - healths[::-1].index(alarm) + 1 :]
        assert after[0] in ("ok", None), "its next report ended the alarm"
        seqs = [one["seq"] for one in told[job_id]]
        assert seqs == sorted(set(seqs)), "each change of health has its own seq"
    timeline = server.get(hangs["links"]["timeline"])["entries"]
    assert [one["text"] for one in timeline if one["what"] == "health"] == ["stalled", "ok"]
