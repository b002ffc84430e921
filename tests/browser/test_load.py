"""What the page costs the network."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.browser.log import OpenPage
from tests.support.server import Server

pytestmark = pytest.mark.browser

#: The bytes that came over the network, and the number of resources that did.
COST = """() => {
    const found = [...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")]
        .filter(({ name }) => !name.includes("/api/"));
    const sizes = found.map(({ transferSize }) => transferSize);
    return [sizes.reduce((sum, size) => sum + size, 0), sizes.filter((size) => size > 0).length];
}"""


def test_a_first_visit_is_small_and_a_reload_is_the_page_alone(open_page: OpenPage, server: Server) -> None:
    page, log = open_page()
    expect(page.locator("#new-job")).to_be_visible()
    size, _ = page.evaluate(COST)
    assert 10_000 < size < 130_000, "312,000 bytes before"
    page.reload()
    expect(page.locator("#new-job")).to_be_visible()
    size, count = page.evaluate(COST)
    assert (size < 10_000, count <= 2) == (True, True), (size, count)
    assert log.errors == []
