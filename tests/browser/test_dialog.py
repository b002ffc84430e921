"""The dialog holds still, fits any room, and shows results and errors whole."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from playwright.sync_api import Locator, expect

from tests.browser.log import OpenPage
from tests.support.server import Server

pytestmark = pytest.mark.browser
ERROR = "extra operand ‘<’\nTry 'tr --help'\n" + "\n".join(f"  line {n}" for n in range(20)) + "\nthe last line"
#: Returns what reaches out of the card, or is cut off by it, on either side.
RUNS_OUT = """(host) => {
  const card = host.shadowRoot.querySelector(".card"), room = card.getBoundingClientRect();
  return [...card.querySelectorAll("*")].filter((one) => {
    const box = one.getBoundingClientRect();
    if (one.closest(".unseen, .table, .names, .message, svg") || box.width === 0) return false;
    const cut = one.clientWidth > 0 && one.scrollWidth > one.clientWidth + 1;
    return cut || box.left < room.left - 1 || box.right > room.right + 1;
  }).map((one) => `${one.className || one.tagName}: ${one.textContent.slice(0, 40)}`);
}"""
#: Returns how far the last count is from the corner of their frame (pixels); where there is no count, it is grey.
EMPTY_CELLS = """(node) => {
  const frame = node.getBoundingClientRect();
  const last = node.lastElementChild?.getBoundingClientRect() ?? frame;
  return Math.max(frame.right - last.right, frame.bottom - last.bottom);
}"""
#: Returns the contrast (WCAG) of a node's text with its background.
CONTRAST = """(node) => {
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const light = (colour) => {
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    const [red, green, blue] = [...canvas.getImageData(0, 0, 1, 1).data].map((one) =>
      one / 255 <= 0.04045 ? one / 255 / 12.92 : ((one / 255 + 0.055) / 1.055) ** 2.4);
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue + 0.05;
  };
  const { color, backgroundColor } = getComputedStyle(node);
  const [low, high] = [light(color), light(backgroundColor)].sort();
  return high / low;
}"""


def external(server: Server, name: str, total: int, **more: Any) -> dict[str, Any]:
    items = [f"2026-11/invoice {n:04d} of the northern branch.csv" for n in range(total)]
    return server.submit("import", external=True, name=name, items=items, **more)


def report(server: Server, job: dict[str, Any], **what: Any) -> None:
    answer = httpx.post(f"{server.url}{job['links']['self']}/progress", json=what)
    assert answer.status_code == 200, answer.text


def ended(first: int, last: int, state: str, **more: Any) -> list[dict[str, Any]]:
    return [{"index": n, "state": state, **more} for n in range(first, last)]


def place(button: Locator) -> tuple[float, float]:
    box = button.bounding_box()
    assert box is not None
    return box["x"], box["y"]


@pytest.mark.parametrize("modal", [True, False], ids=["dialog", "card"])
def test_nothing_moves_under_the_pointer(open_page: OpenPage, server: Server, modal: bool) -> None:
    job = external(server, "Nightly import", 100)
    report(server, job, items=ended(0, 1, "succeeded"), message="row 1")
    path = f"/#job={job['id']}" if modal else "/static/define.js"
    page, log = open_page(path, viewport={"width": 1280, "height": 800})
    if not modal:
        page.route("**/alone", lambda route: route.fulfill(content_type="text/html", body=f"""<!doctype html>
            <link rel="icon" href="data:,"><script type="module" src="/static/define.js"></script>
            <job-progress src="{job["links"]["self"]}"></job-progress>"""))  # fmt: skip
        page.goto(f"{server.url}/alone")
    dialog = page.locator("job-progress")
    cancel = dialog.get_by_role("button", name="Cancel")
    expect(dialog.locator(".amount")).to_have_text("1 of 100 items")
    held = place(cancel)
    for count, message in ((2, "a long message about one row of the second sheet " * 8), (30, ""), (60, "short")):
        report(server, job, items=ended(1, count, "failed", error=ERROR), message=message)
        expect(dialog.locator(".counts .bad")).to_have_text(str(count - 1))
        assert place(cancel) == held
    dialog.get_by_role("button", name="Check status").click()
    expect(dialog.locator(".answer")).to_contain_text("Status checked")
    assert place(cancel) == held
    assert log.errors == []


def test_an_answer_goes_away(open_page: OpenPage, server: Server) -> None:
    job = external(server, "Quiet", 3)
    page, _ = open_page("/static/define.js")
    page.clock.install()
    page.goto(f"{server.url}/#job={job['id']}")
    dialog = page.locator("job-progress")
    dialog.get_by_role("button", name="Check status").click()
    expect(dialog.locator(".answer")).to_be_visible()
    page.clock.run_for(10_500)
    expect(dialog.locator(".answer")).to_be_hidden()


def test_results_and_errors_can_be_read_whole(open_page: OpenPage, server: Server) -> None:
    table = b"id,when\n" + b"".join(b"%d,2026-01-%02d\n" % (n, n) for n in range(1, 20))
    profile = server.until_done(server.submit("csv-profile", files={"table.csv": table})["id"])
    page, log = open_page(f"/#job={profile['id']}")
    dialog = page.locator("job-progress")
    expect(dialog.locator(".head")).to_contain_text("CSV profile")
    dialog.locator("summary", has_text="Results").click()
    dialog.locator("summary", has_text="Show the result").click()
    rows = dialog.get_by_role("table").get_by_role("row")
    expect(rows.first).to_have_text("nametypenullsminmaxmean")
    expect(rows.nth(2)).to_have_text("whendate02026-01-012026-01-19–")

    job = external(server, "Before the end", 40)
    report(server, job, items=ended(0, 2, "succeeded", result={"rows": {"good": {"deep": [7]}}}))
    report(server, job, items=ended(2, 32, "failed", error=ERROR))
    page.goto(f"{server.url}/#job={job['id']}")
    expect(dialog.locator(".badge")).to_have_text("Running")
    dialog.locator("summary", has_text="Results").click()
    dialog.locator("summary", has_text="Show the result").first.click()
    dialog.locator(".entries summary").first.click()
    expect(dialog.locator(".entries .entries").last).to_contain_text("deep")
    dialog.locator("summary", has_text="30 items failed").click()
    error = dialog.locator(".problems .message").first
    assert error.evaluate("(node) => node.textContent") == ERROR
    folded = place(dialog.locator(".problems .fold").first)[1]
    dialog.locator(".problems .fold").first.click()
    expect(dialog.locator(".problems .fold").first).to_have_attribute("aria-expanded", "true")
    assert place(dialog.locator(".problems .fold").first)[1] > folded + 100
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    dialog.get_by_role("button", name="Copy the error of").first.click()
    expect(dialog.get_by_role("button", name="Copied")).to_have_count(1)
    assert page.evaluate("navigator.clipboard.readText()") == ERROR
    href = dialog.get_by_role("link", name="All errors (CSV)").get_attribute("href")
    assert httpx.get(f"{href}").text.count("the last line") == 30
    # The list shows pages; what failed since is loaded on request, so that no row moves.
    dialog.get_by_role("button", name="Show all 30 failed items").click()
    expect(dialog.locator(".problems")).to_contain_text("1–30 of 30")
    report(server, job, items=ended(32, 35, "failed", error="no"))
    expect(dialog.locator(".problems")).to_contain_text("1–30 of 33")
    dialog.locator(".problems").get_by_role("button", name="Update the list").click()
    expect(dialog.locator(".problems")).to_contain_text("1–33 of 33")
    assert log.errors == []


def test_it_fits_any_room(open_page: OpenPage, server: Server) -> None:
    running, over = external(server, "Import of invoices from all branches", 100), external(server, "Over", 30)
    report(server, running, items=ended(0, 20, "failed", error=ERROR), message="row 120,000 of 450,000")
    report(
        server,
        over,
        items=[*ended(0, 25, "failed", error=ERROR), *ended(25, 30, "succeeded", result={"a": [1, {}]})],
    )
    page, _ = open_page("/static/define.js", viewport={"width": 1200, "height": 900})
    cards = "".join(
        f'<div style="width: {width}px"><job-progress src="{job["links"]["self"]}"></job-progress></div>'
        for width in (200, 320)
        for job in (running, over)
    )
    page.route("**/narrow", lambda route: route.fulfill(content_type="text/html", body=f"""<!doctype html>
        <meta charset="utf-8"><link rel="icon" href="data:,">
        <script type="module" src="/static/define.js"></script>
        <style>job-progress {{ --unstuck-accent: pink; --unstuck-radius: 3px; --unstuck-bar-height: 20px }}
               job-progress::part(title) {{ font-style: italic }}</style>
        {cards}<div style="display: inline-block">
        <job-progress id="free" src="{over["links"]["self"]}"></job-progress></div>"""
    ))  # fmt: skip
    page.goto(f"{server.url}/narrow")
    expect(page.get_by_text("100 items")).to_have_count(2)
    expect(page.get_by_text("25 items failed")).to_have_count(3)
    for summary in page.get_by_text("20 items failed").all():
        summary.click()
    for host in page.locator("job-progress").all():
        assert host.evaluate(RUNS_OUT) == []
    first = page.locator("job-progress").first
    for counts in page.locator("job-progress .counts").all():
        assert counts.evaluate(EMPTY_CELLS) < 3
    assert first.locator("h2").evaluate("(node) => getComputedStyle(node).fontStyle") == "italic"
    assert first.locator("progress").evaluate("(node) => node.offsetHeight") == 20
    for scheme in ("light", "dark"):
        page.evaluate("(scheme) => { document.documentElement.style.colorScheme = scheme; }", scheme)
        assert first.locator(".badge.busy").evaluate(CONTRAST) > 4.5
    assert page.locator("#free").evaluate("(node) => node.offsetWidth") > 400

    page, _ = open_page(f"/#job={over['id']}", viewport={"width": 320, "height": 256})
    host = page.locator("job-progress")
    expect(host.locator(".sentence")).to_be_visible()
    assert host.evaluate(RUNS_OUT) == []
    scrollers = host.evaluate("""(host) => [...host.shadowRoot.querySelectorAll("*")]
        .filter((one) => ["auto", "scroll"].includes(getComputedStyle(one).overflowY)
                         && one.scrollHeight > one.clientHeight + 1).map((one) => one.className)""")
    assert scrollers == ["card"]
