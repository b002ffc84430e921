"""/metrics as Prometheus reads it, and /api/health."""

from __future__ import annotations

import re
from pathlib import Path

import httpx

from tests.support.documents import section
from tests.support.server import Server
from unstuck.app import create_app, running
from unstuck.jobs.job import Health, State
from unstuck.settings import Settings

SAMPLE = re.compile(r'(unstuck_[a-z_]+)(?:\{([a-z]+)="([^"\\\n]*)"\})? ([0-9.e+]+)')


def scrape(server: Server) -> dict[str, dict[str, float]]:
    """Return {metric: {label value: number}}, read strictly: HELP, TYPE, samples, and each family once."""
    answer = httpx.get(f"{server.url}/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert answer.text.endswith("\n")
    found: dict[str, dict[str, float]] = {}
    name = ""
    for line in answer.text.splitlines():
        if line.startswith("# HELP "):
            name = line.split()[2]
            assert name not in found, "each family comes once"
            found[name] = {}
        elif line.startswith("# TYPE "):
            assert line.split()[2:] == [name, "counter" if name.endswith("_total") else "gauge"]
        else:
            sample = SAMPLE.fullmatch(line)
            assert sample, line
            assert sample[1] == name
            found[name][sample[3] or ""] = float(sample[4])
    return found


def test_numbers_count_jobs_streams_and_polls(server: Server) -> None:
    before = scrape(server)
    job = server.until_done(server.submit("rehearsal", total=2, options={"seconds": 0})["id"])
    httpx.get(f"{server.url}{job['links']['self']}", headers={"X-Unstuck-Poll": "watchdog"})
    httpx.get(f"{server.url}{job['links']['self']}", headers={"X-Unstuck-Poll": 'no "\n reason'.replace("\n", "")})
    httpx.get(f"{server.url}{job['links']['events']}")
    after = scrape(server)
    assert after["unstuck_jobs"]["completed"] == before["unstuck_jobs"]["completed"] + 1
    assert set(after["unstuck_jobs"]) == set(State)
    assert set(after["unstuck_jobs_health"]) == set(Health)
    assert after["unstuck_streams_opened_total"][""] == before["unstuck_streams_opened_total"][""] + 1
    asked = before["unstuck_polls_total"].get("watchdog", 0)
    assert after["unstuck_polls_total"]["watchdog"] == asked + 1
    assert after["unstuck_polls_total"]["other"] >= 1
    assert after["unstuck_workers"][""] == 2
    assert after["unstuck_store_trouble"][""] == after["unstuck_work_trouble"][""] == 0


def test_the_protocol_names_every_metric_and_no_other(server: Server) -> None:
    rows = [line for line in section(7).splitlines() if line.startswith("| `")]
    named = {name for row in rows for name in re.findall(r"`(unstuck_\w+)`", row)}
    assert named == set(scrape(server))


async def test_an_unreadable_store_hides_only_its_own_metrics(tmp_path: Path) -> None:
    app = create_app(Settings(data=str(tmp_path), workers=1))
    transport = httpx.ASGITransport(app)
    async with running(app), httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
        whole = (await http.get("/metrics")).text
        await app.state.services.store.close()
        answer = await http.get("/metrics")
    assert answer.status_code == 200
    assert "unstuck_store_trouble 1\n" in answer.text
    left_out = {line.split()[2] for line in whole.splitlines() if line.startswith("# TYPE")} - {
        line.split()[2] for line in answer.text.splitlines() if line.startswith("# TYPE")
    }
    assert left_out == set(re.findall(r"`(unstuck_\w+)` †", section(7)))


def test_health_details(server: Server) -> None:
    health = server.get("/api/health")
    assert health["status"] == "ok"
    assert health["troubles"] == []
    assert health["version"]
    assert health["workers"]["alive"] == 2
    assert set(health["queue"]) == {"waiting_items", "running_items", "oldest_wait_seconds"}
