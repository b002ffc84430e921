"""A page is never blind or misleading: an idle one, one without contact, one whose server is in trouble."""

from __future__ import annotations

import re
import signal
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Locator, Page, Route, expect

from tests.browser.log import OpenPage
from tests.support import hanging
from tests.support.held import HELD, SHOW
from tests.support.server import Server, StartServer
from tests.support.waiting import eventually

pytestmark = pytest.mark.browser

#: Runs in the page from the start: leaves out what the stream says of jobs that ended before, as it does later.
MINUTE_LATER = """
  const since = Date.now();
  window.EventSource = class extends EventSource {
    addEventListener(name, listener, ...how) {
      const old = (event) => name === "job" && Date.parse(JSON.parse(event.data).finished_at) < since;
      super.addEventListener(name, (event) => old(event) || listener(event), ...how);
    }
  };
"""
#: Opens an element for a job on a page of its own; `window.closings` counts its `close` events.
EMBED = """(src) => import("/static/define.js").then(() => {
  window.element = document.createElement("job-progress");
  window.element.src = src;
  window.closings = 0;
  window.element.addEventListener("close", () => { window.closings += 1; });
  window.element.close();
  document.body.replaceChildren(window.element);
})"""
#: Returns what the element shows: as a dialog in front of the page, as a card in it, or nothing.
SHOWN = """() => {
  const dialog = window.element.shadowRoot.querySelector("dialog");
  const card = window.element.shadowRoot.querySelector(".card");
  if (card.getBoundingClientRect().height < 50) return "nothing";
  if (dialog.contains(card)) return dialog.matches(":modal") ? "dialog" : "half a dialog";
  return window.element.hasAttribute("modal") ? "half a card" : "card";
}"""
#: Returns whether the whole of a node is within the window.
IN_VIEW = """(node) => {
  const box = node.getBoundingClientRect();
  const seen = document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2);
  return box.height > 0 && box.top >= 0 && box.bottom <= innerHeight && box.left >= 0 && box.right <= innerWidth
    && seen !== null;
}"""


def quick(server: Server, name: str) -> dict[str, Any]:
    return server.submit("rehearsal", total=1, name=name, options={"seconds": 0})


def job_row(page: Page, name: str) -> Locator:
    return page.locator("#jobs li", has=page.get_by_text(name, exact=True))


def test_an_idle_page_shows_what_starts_elsewhere(open_page: OpenPage, start_server: StartServer) -> None:
    server = start_server("--workers", "1")
    page, log = open_page(on=server)
    expect(page.locator("#jobs-empty")).to_be_visible()
    server.until_done(quick(server, "the first")["id"])
    expect(job_row(page, "the first")).to_contain_text("Done")
    quick(server, "the second")  # after the page was idle again
    expect(job_row(page, "the second")).to_contain_text("Done")

    page.evaluate(SHOW, False)
    eventually(lambda: not page.evaluate(HELD) and not log.open)
    eventually(lambda: server.get("/api/health")["streams"]["open"] == 0)
    for number in range(25):
        job = quick(server, f"unseen {number}")
    server.until_done(job["id"])
    assert page.locator("#jobs li").count() == 2
    page.evaluate(SHOW, True)
    newest = [job["name"] for job in server.get("/api/jobs?limit=50")["jobs"]]

    def has_no_gap() -> bool:
        listed = page.locator("#jobs .name").all_inner_texts()
        return len(listed) >= 20 and listed == newest[: len(listed)]

    eventually(has_no_gap)
    more = page.locator("#more")
    if more.is_visible():  # on a slow machine the stream no longer tells of the first of them
        more.click()
    expect(page.locator("#jobs li")).to_have_count(len(newest))
    eventually(has_no_gap)
    assert log.errors == []


def test_show_more_works_whatever_the_stream_says(open_page: OpenPage, start_server: StartServer) -> None:
    server = start_server("--workers", "1")
    for number in range(23):
        job = quick(server, f"old {number}")
    server.until_done(job["id"])
    page, log = open_page(on=server)
    page.add_init_script(MINUTE_LATER)
    page.reload()
    expect(page.locator("#jobs li")).to_have_count(20)
    more = page.locator("#more")
    more.focus()
    quick(server, "ended just now")
    expect(job_row(page, "ended just now")).to_contain_text("Done")
    page.keyboard.press("Enter")
    expect(page.locator("#jobs li")).to_have_count(24)
    expect(more).to_be_hidden()
    expect(page.locator("#jobs li").nth(21).get_by_role("link")).to_be_focused()  # the first of the new rows
    assert log.errors == []


def test_lost_contact_is_in_view_until_it_is_back(open_page: OpenPage, start_server: StartServer) -> None:
    server = start_server("--workers", "2")
    port = server.url.rsplit(":", 1)[1]
    options = {"seconds": 0.05, "failures": 0.97}
    job = server.submit("rehearsal", total=2_000, name="import", options=options)
    server.until(job["id"], lambda one: one["progress"]["failed"] >= 31)
    pages = [
        open_page(f"/#job={job['id']}", on=server, viewport={"width": width, "height": height})[0]
        for width, height in ((1280, 800), (390, 844))
    ]
    for page in pages:
        expect(page.locator("job-progress .link p")).to_have_text("Live")
        expect(page.locator("job-progress .problems li").nth(19)).to_be_attached()
    server.stop(signal.SIGKILL)
    for page in pages:
        dialog = page.locator("job-progress")
        badge = dialog.locator(".badge")
        expect(badge).to_have_text(re.compile(r"^No contact · (\d+ min )?\d+ s$"))
        for node in (badge, dialog.locator(".link p"), dialog.get_by_role("button", name="Check status")):
            assert node.evaluate(IN_VIEW), node
        assert dialog.locator(".icon.busy").count() == 0
        expect(dialog.locator("progress")).to_have_class("lost")
        assert page.title().startswith("⚠ ")
        expect(job_row(page, "import").locator(".badge")).to_have_text("No contact")
        assert page.locator("#jobs .icon.busy, #jobs progress.busy").count() == 0
        expect(page.locator("#list-trouble")).to_contain_text("No response from the server")
        assert "ago" not in page.locator("#list-trouble [role=status]").inner_text()
        expect(dialog.locator(".unseen[role=status]")).to_have_text("Connection lost; trying again.")
    start_server("--workers", "2", "--port", port)
    for page in pages:
        dialog = page.locator("job-progress")
        expect(dialog.locator(".link p")).to_have_text("Live")
        expect(dialog.locator(".badge")).to_have_text("Running")
        expect(dialog.locator("progress")).to_have_class("busy")
        expect(job_row(page, "import").locator(".badge")).to_have_text("Running")
        expect(page.locator("#list-trouble")).to_be_hidden()
        expect(page).not_to_have_title(re.compile("^⚠"))


def test_giving_up_is_in_view_and_watching_goes_on_at_a_click(
    open_page: OpenPage, start_server: StartServer
) -> None:
    server = start_server("--workers", "1")
    port = server.url.rsplit(":", 1)[1]
    job = server.submit("import", external=True, name="import", total=10)
    pages = [
        open_page("/api/health/live", on=server, viewport={"width": width, "height": height}, **colours)[0]
        for width, height, colours in ((1280, 800, {"forced_colors": "active"}), (390, 844, {}))
    ]
    for page in pages:
        page.clock.install()
        page.goto(f"{server.url}/#job={job['id']}")
        expect(page.locator("job-progress .link p")).to_have_text("Live")
    server.stop(signal.SIGKILL)
    for page in pages:
        dialog = page.locator("job-progress")
        expect(dialog.locator(".badge")).to_contain_text("No contact")
        for _ in range(32):  # in one step it would be a sleep, which does not count
            page.clock.fast_forward("01:00")
        expect(dialog.locator(".link p")).to_contain_text("so this page has stopped checking")
        expect(dialog.locator(".badge")).to_have_text(re.compile(r"^No contact · 3\d min$"))
        keep = dialog.get_by_role("button", name="Keep watching")
        for node in (dialog.locator(".badge"), dialog.locator(".link p"), keep):
            assert node.evaluate(IN_VIEW), node
        assert dialog.locator(".icon.busy").count() == 0
        expect(page).to_have_title(re.compile("^⚠"))
    border = pages[0].locator("job-progress .badge").evaluate("(node) => getComputedStyle(node).borderTopStyle")
    assert border == "solid", "in forced colours a badge without a border is only a text"
    start_server("--workers", "1", "--port", port)
    for page in pages:
        page.locator("job-progress").get_by_role("button", name="Keep watching").click()
        expect(page.locator("job-progress .link p")).to_have_text("Live")


def test_a_server_in_trouble_is_not_stormed(
    open_page: OpenPage, start_server: StartServer, tmp_path: Path
) -> None:
    server = start_server("--workers", "3", *hanging.APP, stalled_s="0.5")
    stuck = server.submit("hang", items=["a"], name="stuck", options={"gate": str(tmp_path / "gate")})
    server.submit("rehearsal", total=1_000, name="busy", options={"seconds": 0.2})  # a redraw every 0.1 s
    page, log = open_page(on=server)
    section = page.locator("#attention li")
    expect(section).to_contain_text("working on a")
    refused = {"status": 429, "json": {"detail": "Too many jobs."}, "headers": {"Retry-After": "60"}}
    page.route("**/api/jobs", lambda route: route.fulfill(**refused) if route.request.method == "POST" else None)
    page.locator("input[name=kind][value=rehearsal]").check()
    for _ in range(3):
        page.locator("#start").click()
        expect(page.locator("#problems")).to_contain_text("Too many jobs.")
    assert log.count("POST") == 1
    path = f"/api/jobs/{stuck['id']}"

    def refuse(route: Route) -> None:
        route.fulfill(status=503, json={"code": "store_unavailable"})

    page.route(f"**{path}*", refuse)
    page.route(f"**{path}/**", refuse)
    page.evaluate("(src) => { location.hash = `job=${src}`; }", stuck["id"])  # its dialog asks too
    dialog = page.locator("job-progress")
    dialog.locator("summary", has_text="Details").click()
    expect(dialog.locator(".timeline [role=status]")).to_contain_text("could not be loaded")
    page.evaluate("""() => {
      const root = document.querySelector("job-progress").shadowRoot;
      window.held_down = setInterval(() => {
        for (const name of ["check", "cancel"]) root.querySelector(`button.${name}, .link button`)?.click();
      }, 33);
    }""")
    asked, since = len(log.requests), time.monotonic()
    eventually(lambda: time.monotonic() - since > 10)
    page.evaluate("clearInterval(window.held_down)")
    asked_for = [one for one in log.requests[asked:] if path in one and "/events" not in one]
    for part, most in (("/timeline", 8), ("/items", 2), ("/cancel", 12), ("", 40)):
        count = sum(one.endswith(path) if part == "" else f"{path}{part}" in one for one in asked_for)
        assert count <= most, (part, asked_for)
    page.unroute(f"**{path}*")
    page.unroute(f"**{path}/**")
    expect(dialog.locator(".timeline li").last).to_contain_text("Submitted")
    server.stop(signal.SIGKILL)
    expect(section).to_contain_text("No contact: this may have changed.")


def test_a_list_that_fails_to_load_offers_to_try_again(open_page: OpenPage, server: Server) -> None:
    options = {"seconds": 0, "failures": 1}
    job = server.submit("rehearsal", total=120, options=options)
    server.until_done(job["id"])
    page, _ = open_page(f"/#job={job['id']}")
    dialog = page.locator("job-progress")
    page.route("**/items?*", lambda route: route.fulfill(status=503, json={"detail": "The disk is full."}))
    dialog.get_by_role("button", name="Show all 120").click()
    pager = dialog.locator(".items .pager")
    expect(pager).to_contain_text("could not be loaded: The disk is full.")
    expect(pager.get_by_role("button")).to_have_text(["Try again"])
    page.unroute("**/items?*")
    pager.get_by_role("button", name="Try again").click()
    expect(dialog.locator(".items li")).to_have_count(50)
    expect(pager.get_by_role("button")).to_have_text(["Next"])
    httpx.delete(f"{server.url}/api/jobs/{job['id']}").raise_for_status()  # removed while it is shown
    expect(dialog.locator(".kept")).to_have_text("This job and its files have been removed from the server.")
    expect(dialog.get_by_role("button", name="Retry")).to_be_hidden()
    expect(dialog.get_by_role("link", name="Download (ZIP)")).to_be_hidden()


def test_back_is_never_dead_after_a_dialog_was_closed(open_page: OpenPage, server: Server) -> None:
    names = ("one", "two")
    for name in names:
        server.until_done(quick(server, name)["id"])
    page, _ = open_page("/api/health/live")
    page.goto(f"{server.url}/")
    dialog = page.locator("job-progress")
    for name in names:
        job_row(page, name).first.get_by_role("link").click()
        expect(dialog.locator("h2")).to_have_text(name)
        page.keyboard.press("Escape")
        expect(dialog).to_have_count(0)
        assert "#job" not in page.url
    job_row(page, "one").first.get_by_role("link").click()
    expect(dialog).to_have_count(1)
    page.go_back()
    expect(dialog).to_have_count(0)
    expect(page).to_have_title("unstuck")
    page.go_back()
    assert page.url.endswith("/api/health/live")


def test_an_element_goes_from_card_to_dialog_and_back(open_page: OpenPage, server: Server) -> None:
    job = server.submit("rehearsal", total=500, name="embedded", options={"seconds": 0.2})
    page, log = open_page("/static/define.js")
    page.evaluate(EMBED, job["links"]["self"])

    def shows(what: str) -> None:
        expect(page.locator("job-progress .link p")).to_have_text("Live")
        eventually(lambda: page.evaluate(SHOWN) == what)  # a dialog tells of its end a moment later
        seq = page.evaluate("element.job.seq")
        eventually(lambda: page.evaluate("element.job.seq") > seq)  # it is followed

    def run(script: str, what: str) -> None:
        page.evaluate(script)
        shows(what)

    shows("card")
    run("element.showModal(); element.showModal();", "dialog")
    page.keyboard.press("Escape")
    shows("card")
    assert page.evaluate("window.closings") == 1
    run("element.showModal()", "dialog")
    run("element.close(); element.close();", "card")
    run("element.setAttribute('modal', '')", "dialog")
    run("element.removeAttribute('modal')", "card")
    run("element.showModal(); element.close(); element.showModal();", "dialog")
    run("document.body.append(document.createElement('div')); document.body.lastChild.append(element);", "dialog")
    assert page.evaluate("window.closings") == 4, "moving it closes nothing"
    run("element.close()", "card")
    run("element.remove(); document.body.append(element);", "card")
    page.evaluate("element.showModal(); element.remove();")
    eventually(lambda: not page.evaluate(HELD))
    run("element.removeAttribute('modal'); document.body.append(element);", "card")
    page.evaluate("element.remove(); element.toggleAttribute('modal', true); document.body.append(element);")
    shows("dialog")
    run("element.close()", "card")
    page.evaluate("""() => {
      for (let count = 0; count < 2; count += 1) {
        const twin = document.createElement("job-progress");
        twin.src = element.src;
        document.body.append(twin);
      }
    }""")
    expect(page.get_by_role("region", name="embedded")).to_have_count(3)
    names = page.locator("job-progress .card").evaluate_all("(all) => all.map((one) => one.ariaLabel)")
    assert len(set(names)) == 3, names
    assert not [error for error in log.errors if "404" not in error]  # the page has no icon
