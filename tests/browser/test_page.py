"""The batch page and the dialog in a real Chromium, with real files and a real server."""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.browser.log import Log, OpenPage
from tests.support.held import HELD, SHOW
from tests.support.server import Server, StartServer
from tests.support.waiting import eventually

pytestmark = pytest.mark.browser
PATIENCE_MS = 60_000


def choose(page: Page, kind: str, files: list[Path]) -> None:
    page.locator(f"input[name=kind][value={kind}]").check()
    page.locator("#pick-files").set_input_files([str(path) for path in files])


def finished(page: Page, words: str) -> Any:
    """Wait until the dialog's closing sentence contains these words, and return the dialog."""
    dialog = page.locator("job-progress")
    expect(dialog.locator(".sentence")).to_contain_text(words, timeout=PATIENCE_MS)
    return dialog


def job_in(page: Page, server: Server) -> dict[str, Any]:
    return server.job(page.url.split("#job=")[1])


def calm(page: Page, log: Log) -> None:
    """Wait until the page, once hidden, has no stream or request open, and no timer left that could start one.

    While it is visible it follows the list of jobs.
    """
    page.evaluate(SHOW, False)
    eventually(lambda: not page.evaluate(HELD) and not log.open)


def test_what_a_page_still_holds_is_seen(open_page: OpenPage, server: Server) -> None:
    page, log = open_page("/static/define.js")
    calm(page, log)
    held = page.evaluate(f"""() => {{
        setInterval(() => {{}}, 1234);
        new EventSource("/api/events/stream");
        fetch("/api/health");
        return ({HELD})();
    }}""")
    assert sorted(held) == [
        "it holds a timer of 1234 ms", f"it holds {server.url}/api/events/stream", "it waits for an answer"
    ]  # fmt: skip


def test_25_real_files_from_the_file_chooser_to_the_end(
    open_page: OpenPage, server: Server, tmp_path: Path
) -> None:
    files = []
    for number, size in enumerate([0, 1, 1023, 1024**2, 1024**2 + 1, 3_000_000, 200 * 1024**2] + [5000] * 18):
        path = tmp_path / f"file {number:02d}{['', '.csv', '.png', '.tar.gz', '.ü'][number % 5]}"
        path.write_bytes(os.urandom(size))
        files.append(path)
    page, log = open_page()
    choose(page, "checksum", files)
    page.locator("#start").click()
    dialog = finished(page, "All 25 files are done")
    job = job_in(page, server)
    assert job["progress"]["succeeded"] == 25
    digests = {item["name"]: item["result"]["sha256"] for item in server.items(job["id"])}
    assert digests == {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    shown = page.evaluate("window.shown")
    assert shown == sorted(shown)
    assert shown[-1] == 100
    assert dialog.locator("progress").get_attribute("value") == "100"
    calm(page, log)
    assert log.errors == []


def csv_files(folder: Path) -> list[Path]:
    broken = {7: b"a,b\n1,2\n3,4,5\n", 19: b'a,b\n1,"never closed\n', 33: b"a,b\n1,\xff\xfe\n"}
    files = []
    for number in range(40):
        path = folder / f"table-{number:02d}.csv"
        path.write_bytes(broken.get(number) or b"a,b\n" + b"".join(b"%d,x\n" % n for n in range(50 + number)))
        files.append(path)
    return files


def test_40_csv_files_of_which_3_are_broken(open_page: OpenPage, server: Server, tmp_path: Path) -> None:
    page, log = open_page()
    choose(page, "csv-profile", csv_files(tmp_path))
    page.locator("#start").click()
    dialog = finished(page, "37 of 40 files are done; 3 failed")
    job = job_in(page, server)
    assert job["state"] == "completed_with_errors"
    assert (job["progress"]["succeeded"], job["progress"]["failed"]) == (37, 3)
    for number, line in ((7, "3"), (19, "2"), (33, "2")):
        row = dialog.locator("li", has_text=f"table-{number:02d}.csv")
        expect(row).to_contain_text(f"line {line}")
    assert dialog.locator(".problems li").count() == 3
    calm(page, log)
    assert log.count("/events/stream") >= 1, "the list had no stream"
    assert log.errors == []
    with page.expect_download() as download:
        dialog.get_by_role("link", name="Download").click()
    archive = zipfile.ZipFile(io.BytesIO(Path(download.value.path()).read_bytes()))
    assert "results.json" in archive.namelist()


@pytest.mark.parametrize(
    "name",
    [
        "<img src=x onerror=alert(1)>.png", '"><svg onload=alert(1)>', "javascript:alert(1)", "{{7*7}}",
        "\u202egnp.exe", "a\nb\u2028c", "../../etc/passwd", "x" * 300,
    ],
)  # fmt: skip
def test_names_are_shown_as_text(open_page: OpenPage, server: Server, name: str) -> None:
    options = {"seconds": 0, "failures": 1}
    job = server.submit("rehearsal", items=[name], name=name, options=options)
    server.until_done(job["id"])
    page, log = open_page(f"/#job={job['id']}")
    dialog = page.locator("job-progress")
    expect(dialog.locator(".problems li")).to_have_count(1)
    assert dialog.locator("img, svg[onload]").count() == page.locator("#jobs img, #jobs svg[onload]").count() == 0
    text = dialog.locator(".problems li").text_content() or ""
    assert "\u202e" not in text
    assert "\u2028" not in text
    assert not [error for error in log.errors if "404" not in error]
    # No name makes the page wider than the screen.
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_cancel_from_the_dialog(open_page: OpenPage, server: Server) -> None:
    job = server.submit("rehearsal", total=40, options={"seconds": 20})
    page, log = open_page(f"/#job={job['id']}")
    dialog = page.locator("job-progress")
    dialog.get_by_role("button", name="Cancel").click()
    finished(page, "Cancelled")
    assert server.job(job["id"])["state"] == "cancelled"
    expect(dialog.get_by_role("button", name="Cancel")).to_be_hidden()
    calm(page, log)


def test_a_job_submitted_elsewhere_appears_in_the_list(open_page: OpenPage, server: Server) -> None:
    running = server.submit("rehearsal", total=2, name="the first one", options={"seconds": 30})
    page, _ = open_page()
    expect(page.locator("#jobs li", has_text="the first one")).to_be_visible()
    server.submit("rehearsal", total=1, name="the second one", options={"seconds": 0})
    expect(page.locator("#jobs li", has_text="the second one")).to_be_visible(timeout=PATIENCE_MS)
    httpx.post(f"{server.url}{running['links']['cancel']}")
    expect(page.locator("#jobs li", has_text="the first one")).to_contain_text("Cancelled", timeout=PATIENCE_MS)


def test_an_open_dialog_survives_a_restart_of_the_server(open_page: OpenPage, start_server: StartServer) -> None:
    first = start_server("--workers", "2")
    port = first.url.rsplit(":", 1)[1]
    job = first.submit("rehearsal", total=12, options={"seconds": 0.5})
    page, _ = open_page(f"/#job={job['id']}", on=first)
    eventually(lambda: page.evaluate("window.shown.at(-1) > 10"))
    first.stop()
    start_server("--workers", "2", "--port", port)
    finished(page, "All 12")
    shown = page.evaluate("window.shown")
    assert shown == sorted(shown)


def test_a_reload_reopens_the_dialog(open_page: OpenPage, server: Server) -> None:
    job = server.submit("rehearsal", total=10, options={"seconds": 0.4})
    page, _ = open_page(f"/#job={job['id']}")
    eventually(lambda: page.evaluate("window.shown.at(-1) > 10"))
    page.reload()
    finished(page, "All 10")


def test_an_unknown_job_is_reported(open_page: OpenPage) -> None:
    page, log = open_page("/#job=1b4e28ba-2fa1-4d3b-a3f5-ef19b5a7633b")
    dialog = page.locator("job-progress")
    expect(dialog).to_contain_text("1b4e28ba-2fa1-4d3b-a3f5-ef19b5a7633b", timeout=PATIENCE_MS)
    expect(dialog.get_by_role("button", name="Close")).to_be_visible()
    calm(page, log)


def test_refusals_are_shown_before_anything_is_sent(
    open_page: OpenPage, start_server: StartServer, tmp_path: Path
) -> None:
    server = start_server("--workers", "1", max_file_bytes="1000")
    (tmp_path / "large").write_bytes(b"x" * 2000)
    page, log = open_page(on=server)
    choose(page, "checksum", [tmp_path / "large"])
    expect(page.locator("#problems")).to_contain_text("large")
    assert log.count("POST") == 0


def test_a_cancelled_upload_is_a_notice_and_keeps_the_files(open_page: OpenPage, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x")
    page, _ = open_page()
    page.locator("input[name=kind][value=checksum]").check()
    page.locator("#start").click()
    expect(page.locator("#notice")).to_have_text("Choose at least one file.")
    choose(page, "checksum", [tmp_path / "a.txt"])
    expect(page.locator("#notice")).to_be_hidden()
    page.route("**/api/jobs", lambda route: None if route.request.method == "POST" else route.continue_())
    page.locator("#start").click()
    page.locator("#upload-cancel").click()
    expect(page.locator("#notice")).to_contain_text("Upload cancelled")
    expect(page.locator("#problems")).to_be_hidden()
    expect(page.locator("#chosen-names")).to_contain_text("a.txt")


def test_a_kind_of_ones_own_gets_a_form(open_page: OpenPage, start_server: StartServer, tmp_path: Path) -> None:
    app = tmp_path / "mine.py"
    app.write_text(
        "from typing import Literal\nfrom pathlib import Path\nimport unstuck\n"
        "@unstuck.kind('stamp')\n"
        "def stamp(file: Path, report: unstuck.Report, *, text: str, size: int = 12, bold: bool = False,\n"
        "          corner: Literal['left', 'right'] = 'left') -> dict:\n"
        "    return {'text': text, 'size': size, 'bold': bold, 'corner': corner}\n"
    )
    server = start_server("--workers", "1", "--app", str(app))
    (tmp_path / "a.txt").write_text("x")
    page, _ = open_page(on=server)
    choose(page, "stamp", [tmp_path / "a.txt"])
    page.locator("#options").get_by_label("text", exact=False).first.fill("draft")
    page.locator("#options").get_by_label("size", exact=False).fill("30")
    page.locator("#options").get_by_label("bold", exact=False).check()
    page.locator("#options select").select_option("right")
    page.locator("#start").click()
    finished(page, "done")
    (item,) = server.items(job_in(page, server)["id"])
    assert item["result"] == {"text": "draft", "size": 30, "bold": True, "corner": "right"}


def test_the_page_works_by_keyboard(open_page: OpenPage, server: Server) -> None:
    page, _ = open_page()
    page.locator("input[name=kind][value=rehearsal]").focus()
    page.keyboard.press("Space")
    page.locator("#total").fill("2")
    page.locator("#start").focus()
    page.keyboard.press("Enter")
    dialog = finished(page, "done")
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    assert "#job" not in page.url


def test_the_dialog_speaks_to_screen_readers(open_page: OpenPage, server: Server) -> None:
    job = server.submit("rehearsal", total=4, name="spoken", options={"seconds": 0.3})
    page, _ = open_page(f"/#job={job['id']}")
    dialog = page.locator("job-progress")
    expect(page.get_by_role("dialog", name="spoken")).to_be_visible()
    assert dialog.get_by_role("progressbar").get_attribute("aria-label")
    finished(page, "All 4")
    expect(dialog.locator(".unseen[role=status]")).to_contain_text("4")


def test_the_element_works_alone_on_any_page(open_page: OpenPage, server: Server) -> None:
    job = server.submit("rehearsal", total=3, options={"seconds": 0.2})
    page, log = open_page("/static/define.js")  # any page of the same origin
    page.evaluate(
        """(src) => import("/static/define.js").then(() => {
            const element = document.createElement("job-progress");
            element.setAttribute("src", src);
            element.addEventListener("done", (event) => { window.ended = event.detail.job.state; });
            document.body.replaceChildren(element);
        })""",
        job["links"]["self"],
    )
    eventually(lambda: page.evaluate("window.ended === 'completed'"))
    calm(page, log)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_page_and_dialog_fit_the_screen(open_page: OpenPage, server: Server, scheme: str, width: int) -> None:
    options = {"seconds": 0, "failures": 0.5, "seed": 1}
    job = server.submit("rehearsal", items=[f"{'long-name-' * 12}{n}.csv" for n in range(30)], options=options)
    server.until_done(job["id"])
    page, _ = open_page(color_scheme=scheme, viewport={"width": width, "height": 740})
    expect(page.locator("#jobs li").first).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.goto(f"{server.url}/#job={job['id']}")
    finished(page, "of 30")
    box = page.locator("job-progress").locator("dialog").bounding_box()
    assert box is not None
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= width


def test_an_element_without_a_job_shows_nothing(open_page: OpenPage, server: Server) -> None:
    page, log = open_page()
    page.evaluate("document.body.prepend(document.createElement('job-progress'))")
    element = page.locator("job-progress")
    expect(element).to_be_hidden()
    job = server.submit("rehearsal", total=1, options={"seconds": 0})
    page.evaluate("(src) => { document.querySelector('job-progress').src = src; }", job["links"]["self"])
    expect(element).to_be_visible()
    expect(element.locator(".sentence")).to_contain_text("The item is done")
    assert log.errors == []
