"""A dialog in a real page: opens it, keeps every screen that it showed, and does to the page what can be
done to pages: take it offline, cover it, freeze it, put it aside, move its clock, put a service worker between it
and its server, stop its process.

A tool may easily pretend to do so and do nothing, so what undoes it insists that the page noticed. All that a
page can hold is counted in the page itself: a stream or a timer that it forgot is seen there at once, whatever
the browser below does with its sockets, and what it asked for after the end is told by one clock.
Must not know: schedules, or what is the truth.
"""

from __future__ import annotations

import asyncio
import time
from functools import partial

from tests.faults import processes
from tests.faults.devtools import Browser, Tab
from tests.faults.judge import Screen
from tests.support.held import COUNT

#: Any document of the same origin that is not ours, so that the dialog is all that asks for anything.
BARE_PAGE = "/static/define.js"

#: How long a browser may take to show a page again.
BACK_S = 30.0
#: A page that runs answers sooner.
ANSWERED_S = 0.3

_HOLDS = """async () => {
  const ended = window.seen.find((screen) => screen.sentence).at;
  const { streams, timers, asked } = window.held;
  const locks = await navigator.locks.query();
  return [
    ...[...streams].filter((one) => one.readyState !== EventSource.CLOSED).map((one) => `it holds ${one.url}`),
    ...[...timers.values()].map((timer) => `it holds ${timer}`),
    ...[...locks.held, ...locks.pending].map((lock) => `it holds the lock ${lock.name}`),
    ...asked.filter(([at]) => at > ended).map(([at, what]) => `it asked ${at - ended} s later for ${what}`),
  ];
}"""
_LOAD = """() => import("/static/define.js").then(() => true)"""
_OPEN = """(src) => {
  window.seen = [];
  window.noticed = { frozen: 0, hidden: 0, restored: 0 };
  document.addEventListener("freeze", () => { window.noticed.frozen += 1; });
  document.addEventListener("visibilitychange", () => { window.noticed.hidden += document.hidden; });
  window.addEventListener("pageshow", (event) => { window.noticed.restored += event.persisted; });
  const element = document.createElement("job-progress");
  element.setAttribute("src", src);
  const root = element.shadowRoot;
  const text = (part) => root.querySelector(part)?.textContent ?? "";
  let last = "";
  const look = () => {
    const bar = root.querySelector("progress");
    const screen = {
      seq: element.job?.seq ?? -1, name: element.job?.name ?? "",
      bar: bar?.hasAttribute("value") ? bar.value : null,
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
#: It waits a second for the new one, and answers which one has the page.
_CONTROLLED_BY = """async (address) => {
  const { serviceWorker } = navigator;
  const search = () => serviceWorker.controller ? new URL(serviceWorker.controller.scriptURL).search : "none";
  await serviceWorker.register(address, { updateViaCache: "none" });
  const end = performance.now() + 1000;
  while (!address.endsWith(search()) && performance.now() < end) {
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  return search();
}"""
#: In a loop, and asked for no answer before its end, so that the page's process is seen to work.
_WORK_HARD = """() => { const end = performance.now() + 400; while (performance.now() < end); }"""

#: Chromium had no time to put a page aside, or to restore it: it has a limit of its own, whatever the page does.
IN_A_HURRY = {"TimeoutPuttingInCache", "NavigationCancelledWhileRestoring"}


class TooBusy(Exception):
    """The browser could not do what was to be tried, so that nothing was tried; try again."""


class Dialog:
    """One page with one `<job-progress>`."""

    def __init__(self, tab: Tab) -> None:
        self.tab = tab
        self._entry = 0  # of the tab's history, while it is put aside
        self._renderer = 0  # its process, once known
        self._stopped: list[int] = []  # processes
        self._unanswered: asyncio.Task[bool] | None = None  # a question to them

    @staticmethod
    async def load(browser: Browser, url: str, profile: str = "") -> Dialog:
        """A page with everything loaded and nothing opened; in a profile of its own, or in this one."""
        tab = await browser.new_tab(profile)
        await tab.send("Security.setIgnoreCertificateErrors", {"ignore": True})
        await tab.goto(f"{url}{BARE_PAGE}")
        await tab.call(COUNT)
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

    async def live(self) -> bool:
        return bool(await self.tab.call("() => window.seen.at(-1)?.link === 'Live'"))

    async def ended(self) -> bool:
        return bool(await self.tab.call("() => Boolean(window.seen.at(-1)?.sentence)"))

    async def holds(self) -> list[str]:
        """What of streams, timers and locks is left after the end, and what was asked for since."""
        return list(await self.tab.call(_HOLDS))

    # -- faults

    async def offline(self, on: bool) -> None:
        """The browser says so, and new requests fail; streams that are open go on, so cut them elsewhere."""
        no_limits = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
        await self.tab.send("Network.enable")
        await self.tab.send("Network.emulateNetworkConditions", {"offline": on, **no_limits})

    async def shift_clock(self, seconds: float) -> None:
        """From the true time; 0 brings it back."""
        await self.tab.call(_SHIFT_CLOCK, seconds * 1000)

    async def cover(self) -> None:
        """Another tab lies over it."""
        await self.tab.browser.cover(self.tab)

    async def uncover(self) -> None:
        await self.tab.browser.uncover(self.tab)
        await self._insist("hidden")

    async def freeze(self) -> None:
        await self.cover()
        await self.tab.send("Page.setWebLifecycleState", {"state": "frozen"})

    async def thaw(self) -> None:
        await self.tab.send("Page.setWebLifecycleState", {"state": "active"})
        await self.tab.browser.uncover(self.tab)
        await self._insist("frozen")

    async def put_under(self, service_worker: str) -> None:
        """From now on, the one with this address has the page's requests first. What another is busy with ends:
        it would be waited for, for minutes."""
        await self.tab.send("ServiceWorker.enable")
        given_up = time.monotonic() + BACK_S
        while await self.tab.call(_CONTROLLED_BY, service_worker) not in service_worker:
            assert time.monotonic() < given_up, f"the page was not under {service_worker} within {BACK_S} s"
            await self.tab.send("ServiceWorker.stopAllWorkers")

    async def renderer(self) -> int:
        """The page's process; to be asked for while it is in front, since a hidden one gets little to do."""
        if not self._renderer:
            hard = partial(self.tab.call, _WORK_HARD)
            self._renderer = await processes.renderer_of(self.tab.browser.pid, hard)
        return self._renderer

    async def stop(self, *, browser: bool) -> None:
        """The page's process stands still, or all of its browser's: from now on nothing answers."""
        self._stopped = processes.family(self.tab.browser.pid) if browser else [await self.renderer()]
        processes.stop(self._stopped)
        await processes.until_stopped(self._stopped)
        self._unanswered = asyncio.create_task(self.tab.call("() => true"))
        await asyncio.wait({self._unanswered}, timeout=ANSWERED_S)
        assert not self._unanswered.done(), f"the page answers, so its process was another one: {self._unanswered}"

    async def go_on(self) -> None:
        processes.go_on(self._stopped)
        assert self._unanswered, "nothing was stopped"
        await self._unanswered

    async def put_aside(self) -> None:
        """Go elsewhere in the same tab, so that the page lies in the back/forward cache."""
        history = await self.tab.send("Page.getNavigationHistory")
        self._entry = history["entries"][history["currentIndex"]]["id"]
        await self.tab.send("Page.enable")
        await self.tab.goto("about:blank")

    async def bring_back(self) -> None:
        """By the back button; AssertionError where it had been thrown away for what it held."""
        await self.tab.send("Page.navigateToHistoryEntry", {"entryId": self._entry})
        given_up = time.monotonic() + BACK_S
        while await self.tab.call("() => location.href === 'about:blank' || document.readyState !== 'complete'"):
            assert time.monotonic() < given_up, f"the page was not back within {BACK_S} s"
            await asyncio.sleep(0.02)
        if self.tab.thrown_away and set(self.tab.thrown_away) <= IN_A_HURRY:
            raise TooBusy("The browser had no time to put the page aside.")
        await self._insist("restored")

    async def _insist(self, what: str) -> None:
        noticed = await self.tab.call("() => window.noticed ?? null")
        assert noticed, f"the page was thrown away, and not only {what}: {self.tab.thrown_away}"
        assert noticed[what], f"the page was not {what} when the browser was told to: {noticed}"
