"""A dialog in a real page: opens it, keeps every screen that it showed, and does to the page what can be
done to pages: take it offline, freeze it, move its clock.

A tool may easily pretend to freeze a page and do nothing, so `thaw` insists that the page noticed.
Must not know: schedules, or what is the truth.
"""

from __future__ import annotations

from tests.faults.devtools import Browser, Tab
from tests.faults.judge import Screen

#: Any document of the same origin that is not ours, so that the dialog is all that asks for anything.
BARE_PAGE = "/static/words.js"

_LOAD = """() => import("/static/define.js").then(() => true)"""
_OPEN = """(src) => {
  window.seen = [];
  window.froze = 0;
  document.addEventListener("freeze", () => { window.froze += 1; });
  const element = document.createElement("job-progress");
  element.setAttribute("src", src);
  const root = element.shadowRoot;
  const text = (part) => root.querySelector(part)?.textContent ?? "";
  let last = "";
  const look = () => {
    const bar = root.querySelector("progress");
    const screen = {
      seq: element.job?.seq ?? -1, bar: bar?.hasAttribute("value") ? bar.value : null,
      sentence: text(".sentence"), badge: text(".badge"), link: text(".link p"),
      counts: [...root.querySelectorAll(".counts dd")].map((node) => node.textContent),
    };
    if (JSON.stringify(screen) === last) return;
    last = JSON.stringify(screen);
    window.seen.push({ at: (performance.timeOrigin + performance.now()) / 1000, ...screen });
  };
  const all = { subtree: true, childList: true, characterData: true, attributes: true };
  new MutationObserver(look).observe(root, all);
  element.addEventListener("progress", look);
  document.body.replaceChildren(element);
}"""
_SHIFT_CLOCK = """(ms) => {
  window.Real ??= Date;
  const { Real } = window;
  window.Date = class extends Real {
    constructor(...given) { given.length ? super(...given) : super(Real.now() + ms); }
    static now() { return Real.now() + ms; }
  };
}"""


class Dialog:
    """One page with one `<job-progress>`."""

    def __init__(self, tab: Tab) -> None:
        self.tab = tab

    @staticmethod
    async def load(browser: Browser, url: str) -> Dialog:
        """A page with everything loaded and nothing opened."""
        tab = await browser.new_tab()
        await tab.goto(f"{url}{BARE_PAGE}")
        await tab.call(_LOAD)
        return Dialog(tab)

    async def open(self, src: str) -> None:
        await self.tab.call(_OPEN, src)

    async def close(self) -> None:
        await self.tab.close()

    @property
    def errors(self) -> list[str]:
        return [f"an error in the page: {error}" for error in self.tab.errors]

    async def screens(self) -> list[Screen]:
        return [Screen.of(seen) for seen in await self.tab.call("() => window.seen")]

    async def ended(self) -> bool:
        return bool(await self.tab.call("() => Boolean(window.seen.at(-1)?.sentence)"))

    # -- faults

    async def offline(self, on: bool) -> None:
        """The browser says so, and new requests fail; streams that are open go on, so cut them elsewhere."""
        no_limits = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
        await self.tab.send("Network.enable")
        await self.tab.send("Network.emulateNetworkConditions", {"offline": on, **no_limits})

    async def shift_clock(self, seconds: float) -> None:
        """From the true time; 0 brings it back."""
        await self.tab.call(_SHIFT_CLOCK, seconds * 1000)

    async def freeze(self) -> None:
        await self.tab.browser.cover(self.tab)
        await self.tab.send("Page.setWebLifecycleState", {"state": "frozen"})

    async def thaw(self) -> None:
        await self.tab.send("Page.setWebLifecycleState", {"state": "active"})
        await self.tab.browser.uncover(self.tab)
        assert await self.tab.call("() => window.froze"), "this browser did not freeze the page when told to"
