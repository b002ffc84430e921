"""Offers of the dialog in a real Chromium: to create a missing job again, and to notify the user at the end."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from playwright.sync_api import expect

from tests.browser.log import OpenPage
from tests.support.server import Server
from tests.support.waiting import eventually

pytestmark = pytest.mark.browser
PATIENCE_MS = 60_000

#: Runs in the page from the start: records notifications, and how often permission was requested.
WATCH_NOTICES = """
  window.notices = [];
  window.asked = 0;
  const { requestPermission } = Notification;
  window.Notification = class extends Notification {
    static requestPermission() {
      window.asked += 1;
      return requestPermission.call(this);
    }
    constructor(title, options) {
      super(title, options);
      window.notices.push([title, options.body]);
    }
  };
"""


def test_a_missing_job_is_created_again_with_the_same_files(
    open_page: OpenPage, server: Server, tmp_path: Path
) -> None:
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text("a;b\n1;2\n")
    page, log = open_page()
    page.locator("input[name=kind][value=csv-profile]").check()
    page.locator("#options").get_by_label("delimiter", exact=False).select_option(";")
    page.locator("#pick-files").set_input_files([str(tmp_path / "a.csv"), str(tmp_path / "b.csv")])
    page.locator("#name").fill("tables")
    page.locator("#start").click()
    dialog = page.locator("job-progress")
    expect(dialog.locator(".sentence")).to_contain_text("All 2", timeout=PATIENCE_MS)
    first = page.url.split("#job=")[1]
    page.keyboard.press("Escape")
    httpx.delete(f"{server.url}/api/jobs/{first}").raise_for_status()
    page.locator("input[name=kind][value=rehearsal]").check()

    page.evaluate("(id) => { location.hash = `job=${id}`; }", first)
    expect(dialog).to_contain_text(f"There is no job {first}", timeout=PATIENCE_MS)
    expect(dialog.get_by_role("button", name="Cancel")).to_be_hidden()
    dialog.get_by_role("button", name="Create new job").click()
    expect(dialog).to_have_count(0)
    expect(page.locator("#chosen-names")).to_contain_text("b.csv")
    expect(page.locator("#options").get_by_label("delimiter", exact=False)).to_have_value(";")
    expect(page.locator("#start")).to_be_focused()
    page.keyboard.press("Enter")
    expect(dialog.locator(".sentence")).to_contain_text("All 2", timeout=PATIENCE_MS)
    second = page.url.split("#job=")[1]
    assert second != first
    assert server.job(second)["name"] == "tables"
    assert not [error for error in log.errors if "404" not in error]


def test_a_notification_at_the_end_although_the_dialog_is_closed(open_page: OpenPage, server: Server) -> None:
    job = server.submit("rehearsal", total=500, name="long", options={"seconds": 1})
    page, log = open_page(permissions=["notifications"])
    page.add_init_script(WATCH_NOTICES)
    page.goto(f"{server.url}/#job={job['id']}")
    page.reload()
    dialog = page.locator("job-progress")
    button = dialog.locator("button.notify")
    expect(button).to_have_text("Notify me", timeout=PATIENCE_MS)
    assert page.evaluate("window.asked") == 0
    button.click()
    expect(button).to_have_text("You will be notified")
    assert page.evaluate("window.asked") == 1
    page.keyboard.press("Escape")
    httpx.post(f"{server.url}{job['links']['cancel']}").raise_for_status()
    eventually(lambda: page.evaluate("window.notices.length === 2"))
    title, body = page.evaluate("window.notices[1]")
    assert title == "long"
    assert body.startswith("Cancelled after")
    assert log.errors == []


def test_no_button_if_notifications_are_denied(open_page: OpenPage, server: Server) -> None:
    job = server.submit("rehearsal", total=500, options={"seconds": 1})
    page, _ = open_page()
    page.add_init_script("Object.defineProperty(Notification, 'permission', { get: () => 'denied' });")
    page.goto(f"{server.url}/#job={job['id']}")
    page.reload()
    dialog = page.locator("job-progress")
    expect(dialog.get_by_role("button", name="Cancel")).to_be_visible(timeout=PATIENCE_MS)
    expect(dialog.locator("button.notify")).to_be_hidden()
    httpx.post(f"{server.url}{job['links']['cancel']}").raise_for_status()
