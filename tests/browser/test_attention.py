"""The list of stuck jobs, as an operator uses it, and the timeline of a job in its dialog."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.log import OpenPage
from tests.support import hanging
from tests.support.server import Server, StartServer

pytestmark = pytest.mark.browser
PATIENCE_MS = 60_000


@pytest.fixture
def slow(start_server: StartServer) -> Server:
    limits = {"stalled_s": "0.5", "waiting_long_s": "0.5", "cancel_grace_s": "0.2"}
    return start_server("--workers", "1", *hanging.APP, **limits)


def row(page: Page, name: str) -> Any:
    return page.locator("#attention li", has=page.get_by_role("link", name=name))


def test_stuck_jobs_are_listed_and_handled_by_keyboard(open_page: OpenPage, slow: Server, tmp_path: Path) -> None:
    gate = {"gate": str(tmp_path / "gate")}
    stuck = slow.submit("hang", items=["a.csv"], name="night run", options=gate)
    queue = slow.submit("hang", total=4, name="the next", options=gate)
    page, log = open_page(on=slow)
    section = page.locator("#attention")
    expect(row(page, "night run")).to_contain_text("No progress for", timeout=PATIENCE_MS)
    worker = slow.items(stuck["id"])[0]["worker"]
    expect(row(page, "night run")).to_contain_text(f"worker {worker} · working on a.csv")
    expect(row(page, "the next")).to_contain_text("no worker has picked it up yet", timeout=PATIENCE_MS)
    expect(row(page, "the next").get_by_role("button", name="Restart running items")).to_be_hidden()
    expect(page.locator("#jobs .badge.warn")).to_have_count(2)

    give_up = row(page, "the next").get_by_role("button", name="Give up")
    give_up.focus()
    page.keyboard.press("Enter")
    why = row(page, "the next").get_by_label("Reason")
    expect(why).to_be_focused()
    expect(row(page, "the next")).to_contain_text("4 waiting items are cancelled, and the job ends as failed")
    page.keyboard.press("Escape")
    expect(give_up).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")  # without a reason nothing is sent
    assert slow.job(queue["id"])["state"] == "queued"
    page.keyboard.type("not needed <b>any more</b>")
    page.keyboard.press("Enter")
    expect(row(page, "the next")).to_have_count(0)
    expect(section.get_by_role("status")).to_have_text("the next: ended as failed.")
    assert slow.until_done(queue["id"])["error"]["message"] == "not needed <b>any more</b>"

    row(page, "night run").get_by_role("button", name="Restart running items").press("Enter")
    expect(row(page, "night run")).to_contain_text("is taken from its worker and started again")
    page.keyboard.press("Enter")
    assert slow.until_done(stuck["id"])["state"] == "completed"
    expect(row(page, "night run")).to_have_count(0)
    expect(page.locator("#jobs .badge.good")).to_have_count(1, timeout=PATIENCE_MS)
    assert page.evaluate("document.activeElement !== document.body"), "the focus was lost"
    expect(section).to_be_hidden(timeout=PATIENCE_MS)
    assert log.errors == []


def test_the_dialog_shows_the_trouble_and_the_timeline(open_page: OpenPage, slow: Server, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    job = slow.submit("hang", items=["<i>a</i>\u202e.csv"], name="night run", options={"gate": str(gate)})
    page, log = open_page(f"/#job={job['id']}", on=slow)
    dialog = page.locator("job-progress")
    expect(dialog.locator(".note")).to_contain_text("No progress for", timeout=PATIENCE_MS)
    expect(dialog.locator(".badge")).to_have_text("No progress")
    assert log.count("/timeline?") == 0, "the timeline is loaded on demand"
    dialog.locator("summary", has_text="Details").click()
    entries = dialog.get_by_role("list", name="Details").get_by_role("listitem")
    expect(entries.last).to_contain_text("Submitted")
    expect(entries.filter(has_text=".csv")).to_contain_text("<i>a</i>\\u202E.csv started")
    expect(entries.first).to_contain_text("No progress for a long time")
    expect(entries.first.locator("time")).to_have_attribute("datetime", stalled_at(slow, job))
    assert dialog.locator("i").count() == 0
    gate.touch()  # new entries appear by themselves
    expect(entries.first).to_contain_text("Done", timeout=PATIENCE_MS)
    expect(entries.filter(has_text="Making progress again")).to_have_count(1)
    assert log.count("/timeline?") <= 4
    assert log.errors == []


def stalled_at(server: Server, job: dict[str, Any]) -> str:
    """Return the time at which the job stalled, according to the server."""
    entries = server.get(job["links"]["timeline"])["entries"]
    return str(next(one["at"] for one in entries if one["text"] == "stalled"))
