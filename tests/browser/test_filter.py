"""The list filtered by state and name: it stays true while jobs change, and the filter is in the address."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.browser.log import OpenPage
from tests.support.server import Server, StartServer

pytestmark = pytest.mark.browser


def submit(server: Server, name: str) -> dict[str, Any]:
    return server.submit("import", name=name, external=True)


def report(server: Server, job: dict[str, Any], **told: Any) -> None:
    httpx.post(f"{server.url}/api/jobs/{job['id']}/progress", json=told).raise_for_status()


def names(page: Page) -> Any:
    return page.locator("#jobs .name")


def test_a_filtered_list_stays_true(open_page: OpenPage, start_server: StartServer) -> None:
    server = start_server("--workers", "1")
    page, log = open_page(on=server)
    expect(page.locator("#jobs-empty")).to_be_visible()
    expect(page.locator("#filter")).to_be_hidden()  # there is nothing to filter
    jobs = {name: submit(server, name) for name in ("invoices of May", "Invoices of June", "pictures")}
    report(server, jobs["pictures"], state="completed")
    expect(names(page)).to_have_text(["pictures", "Invoices of June", "invoices of May"])

    # By keyboard: the groups are one stop, and arrows choose.
    page.get_by_role("radio", name="All", exact=True).focus()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("radio", name="Unfinished")).to_be_focused()
    expect(names(page)).to_have_text(["Invoices of June", "invoices of May"])
    page.keyboard.press("Tab")
    page.keyboard.type("june")
    expect(names(page)).to_have_text(["Invoices of June"])
    expect(page.locator("#filter-found")).to_have_text("1 job found.")
    assert page.url.endswith("/?state=queued%2Crunning&name=june")

    # What happens elsewhere comes into the list, and leaves it.
    jobs["late"] = submit(server, "late invoices of JUNE")
    expect(names(page)).to_have_text(["late invoices of JUNE", "Invoices of June"])
    report(server, jobs["Invoices of June"], processed=2, failed=1, state="completed_with_errors")
    expect(names(page)).to_have_text(["late invoices of JUNE"])
    page.get_by_text("With failures", exact=True).click()
    expect(names(page)).to_have_text(["Invoices of June"])
    report(server, jobs["late"], state="failed")
    expect(names(page)).to_have_text(["late invoices of JUNE", "Invoices of June"])

    # A dialog, a reload and a link keep the filter; clearing it brings everything back.
    page.locator("#jobs li").first.get_by_role("link").click()
    expect(page.locator("job-progress h2")).to_have_text("late invoices of JUNE")
    page.keyboard.press("Escape")
    expect(page.locator("job-progress")).to_have_count(0)
    filtered = re.compile(r"/\?state=completed_with_errors%2Cfailed&name=june$")
    expect(page).to_have_url(filtered)
    page.reload()
    expect(names(page)).to_have_text(["late invoices of JUNE", "Invoices of June"])
    expect(page.get_by_role("radio", name="With failures")).to_be_checked()
    expect(page.get_by_role("searchbox", name="Search by name")).to_have_value("june")
    phone, _ = open_page(page.url.removeprefix(server.url), on=server, viewport={"width": 360, "height": 740})
    expect(names(phone)).to_have_count(2)
    assert phone.evaluate("document.documentElement.scrollWidth") == 360
    phone.get_by_role("searchbox").fill("nowhere")
    expect(phone.locator("#filter-found")).to_have_text("No jobs found.")
    phone.get_by_role("button", name="Show all jobs").click()
    expect(names(phone)).to_have_count(4)
    assert phone.url == f"{server.url}/"
    assert log.errors == []
