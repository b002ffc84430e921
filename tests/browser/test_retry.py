"""The button that retries the failed files of a finished job, in a real Chromium."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Page, Route, expect

from tests.browser.log import OpenPage
from tests.support.server import Server, StartServer
from tests.support.waiting import eventually

pytestmark = pytest.mark.browser
PATIENCE_MS = 60_000
RETRY = "**/retry"


def failed_job(server: Server, **options: Any) -> dict[str, Any]:
    """Return a finished job in which some of eight items failed, and would fail again."""
    merged = {"seconds": 0, "failures": 0.5, "seed": 1, **options}
    job = server.until_done(server.submit("rehearsal", total=8, name="fragile", options=merged)["id"])
    assert job["state"] == "completed_with_errors"
    return job


def button(page: Page, job: dict[str, Any]) -> Any:
    found = page.locator("job-progress").locator("button.retry")
    expect(found).to_have_text(f"Retry {job['progress']['failed']} failed items", timeout=PATIENCE_MS)
    return found


def retries_of(server: Server, job: dict[str, Any]) -> list[dict[str, Any]]:
    return [one for one in server.get("/api/jobs?limit=200")["jobs"] if one["retry_of"] == job["id"]]


def test_the_dialog_continues_with_the_new_job(open_page: OpenPage, server: Server) -> None:
    old = failed_job(server)
    page, log = open_page(f"/#job={old['id']}")
    button(page, old).dblclick()
    eventually(lambda: page.evaluate("location.hash.split('=')[1]") != old["id"])
    (new,) = retries_of(server, old)
    expect(page).to_have_url(f"{server.url}/#job={new['id']}")
    assert page.locator("job-progress").count() == 1
    dialog = page.locator("job-progress")
    expect(dialog.locator(".answer")).to_contain_text("new job")
    # Whether an item fails depends on its name, so all of them fail again.
    expect(dialog.locator(".sentence")).to_contain_text("Failed: All", timeout=PATIENCE_MS)
    expect(dialog.locator(".amount")).to_have_text(
        f"{old['progress']['failed']} of {old['progress']['failed']} items"
    )
    expect(page.locator("#jobs li", has_text="fragile").first.locator("a")).to_have_attribute(
        "href", f"#job={new['id']}"
    )
    expect(dialog.locator(".retries")).to_have_text("Retry of fragile")
    expect(page.locator("#jobs li", has_text="fragile").first.locator(".kind")).to_contain_text("retry of fragile")
    page.go_back()
    # Found by its text, because the closing dialog is removed one task after the other has appeared.
    said = f"{old['progress']['succeeded']} of 8 items are done"
    expect(page.locator("job-progress .sentence", has_text=said)).to_be_visible()
    expect(page.locator("job-progress")).to_have_count(1)
    expect(page.locator("job-progress button.retry")).to_have_text(
        f"Retry again: {old['progress']['failed']} items"
    )
    page.locator("job-progress .retries button", has_text="Retried as fragile (Failed)").click()
    expect(page).to_have_url(f"{server.url}/#job={new['id']}")
    assert log.errors == []


def test_a_retry_whose_answer_is_lost_makes_one_job(open_page: OpenPage, server: Server) -> None:
    old = failed_job(server)
    page, _ = open_page(f"/#job={old['id']}", viewport={"width": 360, "height": 640})
    retry = button(page, old)

    def lose(route: Route) -> None:
        route.fetch()  # the server creates the job, but its answer is lost
        route.abort()

    page.route(RETRY, lose)
    retry.click()
    answer = page.locator("job-progress .answer")
    expect(answer).to_contain_text("Could not retry: the server did not respond", timeout=PATIENCE_MS)
    expect(answer).to_be_in_viewport()
    (new,) = retries_of(server, old)
    page.unroute(RETRY)
    expect(retry).to_be_enabled()
    retry.click()
    expect(page).to_have_url(f"{server.url}/#job={new['id']}", timeout=PATIENCE_MS)
    assert len(retries_of(server, old)) == 1


def test_the_button_is_busy_during_the_request_and_a_refusal_is_shown(
    open_page: OpenPage, start_server: StartServer
) -> None:
    server = start_server("--workers", "1", max_waiting_jobs="1")
    old = failed_job(server)
    server.submit("rehearsal", total=1, options={"seconds": 60})
    page, _ = open_page(f"/#job={old['id']}", on=server)
    retry = button(page, old)
    held: list[Route] = []
    page.route(RETRY, lambda route: held.append(route))
    retry.click()
    expect(retry).to_be_disabled()
    expect(retry).to_have_attribute("aria-busy", "true")
    eventually(lambda: page.evaluate("1") and held)
    held[0].continue_()
    answer = page.locator("job-progress .answer")
    expect(answer).to_contain_text("already has 1 unfinished jobs", timeout=PATIENCE_MS)
    expect(answer).to_have_attribute("role", "alert")
    expect(retry).to_be_enabled()
    assert retries_of(server, old) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_the_button_fits_the_screen(open_page: OpenPage, server: Server, scheme: str, width: int) -> None:
    old = failed_job(server)
    page, _ = open_page(f"/#job={old['id']}", color_scheme=scheme, viewport={"width": width, "height": 740})
    box = button(page, old).bounding_box()
    assert box is not None
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= width
    assert box["y"] + box["height"] <= 740
