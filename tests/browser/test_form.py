"""The form for a new job in a real Chromium: files as people choose and drop them, and what arrives of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.log import OpenPage
from tests.support.server import Server

pytestmark = pytest.mark.browser
PATIENCE_MS = 60_000

#: Drags files over the page, and drops them on its very edge, far from the form.
DRAG = """([type, names]) => {
    const dataTransfer = new DataTransfer();
    for (const name of names) dataTransfer.items.add(new File([name], name, { lastModified: 1 }));
    const event = new DragEvent(type, { dataTransfer, bubbles: true, cancelable: true });
    document.body.dispatchEvent(event);
    return event.defaultPrevented;
}"""


def test_files_are_taken_as_they_are_meant(open_page: OpenPage, server: Server, tmp_path: Path) -> None:
    for folder, names in {"a": ["f10.csv", "f9.csv", ".DS_Store"], "b": ["f9.csv", "~$notes.docx"]}.items():
        (tmp_path / folder).mkdir()
        for name in names:
            (tmp_path / folder / name).write_text(folder)
    page, _ = open_page()
    # The first kind is offered; a drop on a kind without files chooses one that takes them.
    page.locator("input[name=kind][value=rehearsal]").check()
    assert page.evaluate(DRAG, ["dragover", ["x"]]), "the browser would open the file in place of the page"
    expect(page.locator("#drop-hint")).to_be_visible()
    assert page.evaluate(DRAG, ["drop", ['q"u%22o\\te\n.csv', "Thumbs.db"]])
    expect(page.locator("#drop-hint")).to_be_hidden()
    expect(page.locator("input[name=kind][value=checksum]")).to_be_checked()
    expect(page.locator("#warnings")).to_have_text("1 system file was left out: Thumbs.db.")

    for folder in ("a", "b"):
        page.locator("#pick-files").set_input_files([str(path) for path in sorted((tmp_path / folder).iterdir())])
        expect(page.locator("#warnings")).to_contain_text("1 system file was left out")
    expect(page.locator("#chosen-names bdi")).to_have_text(
        ["f9 (2).csv", "f9.csv", "f10.csv", 'q"u%22o\\te\\n.csv'], timeout=PATIENCE_MS
    )
    expect(page.locator("#start")).to_have_text("Start with 4 files")
    page.locator("#name").fill("meant")
    page.locator("#start").click()
    expect(page.locator("job-progress .sentence")).to_have_text("All 4 files are done.", timeout=PATIENCE_MS)
    expect(page.locator("job-progress .kind")).to_have_text("SHA-256 checksum")
    expect(page.locator("#jobs .kind").first).to_contain_text("SHA-256 checksum")
    job = server.job(page.url.split("#job=")[1])
    names = [item["name"] for item in server.items(job["id"])]
    assert names == ["f9 (2).csv", "f9.csv", "f10.csv", 'q"u%22o\\te\n.csv']
    # A drop closes the dialog, so that the files are seen.
    page.evaluate(DRAG, ["drop", ["later.csv"]])
    expect(page.locator("#chosen-names bdi")).to_have_text(["later.csv"])
    expect(page.locator("job-progress")).to_have_count(0)
    page.locator("input[name=kind][value=csv-profile]").check()
    expect(page.locator("#option-delimiter option[value=',']")).to_have_text("Comma ( , )")
    height = "(input) => input.getBoundingClientRect().height"
    assert page.locator("#option-delimiter").evaluate(height) == page.locator("#name").evaluate(height)
