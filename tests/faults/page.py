"""A dialog in a real page: opens it, records every screen that it shows, and applies faults to the page.

The faults are: going offline, being covered, frozen or in the back/forward cache, a clock that jumps, a service
worker between the page and its server, a stopped process. A tool can easily pretend to apply one and do nothing,
so each cure checks that the page noticed. Everything a page can hold is counted in the page itself: a forgotten
stream or timer is seen there at once, whatever the browser does with its sockets, and requests after the end are
dated by one clock.

It must not know schedules, or what is true.
"""

from __future__ import annotations

import asyncio
import time
from functools import partial

from tests.faults import processes
from tests.faults.devtools import Browser, Tab
from tests.faults.judge import Screen
from tests.support.held import COUNT

#: A document of the same origin without scripts, so that only the dialog sends requests.
BARE_PAGE = "/static/define.js"

#: How long a browser may take to show a page again (seconds).
RESTORE_S = 30.0
#: A running page responds sooner (seconds).
RESPONSE_S = 0.3

_LEFTOVERS = """async () => {
  const ended = window.seen.find((screen) => screen.sentence).at;
  const { streams, timers, asked } = window.held;
  const locks = await navigator.locks.query();
  return [
    ...[...streams]
      .filter((one) => one.readyState !== EventSource.CLOSED)
      .map((one) => `it holds a stream of ${one.url}`),
    ...[...timers.values()].map((timer) => `it holds ${timer}`),
    ...[...locks.held, ...locks.pending].map((lock) => `it holds the lock ${lock.name}`),
    ...asked.filter(([at]) => at > ended).map(([at, what]) => `${at - ended} s later it started ${what}`),
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
  // What is out of sight, such as below a long list, tells nothing. Observed, since measuring lays the page out.
  let badgeInSight = true;
  let last = "";
  const look = () => {
    const bar = root.querySelector("progress");
    const screen = {
      seq: element.job?.seq ?? -1, name: element.job?.name ?? "",
      bar: bar?.hasAttribute("value") ? bar.value : null,
      sentence: text(".sentence"), badge: badgeInSight ? text(".badge") : "(out of sight)", link: text(".link p"),
      counts: [...root.querySelectorAll(".counts dd")].map((node) => node.textContent),
    };
    if (JSON.stringify(screen) === last) return;
    last = JSON.stringify(screen);
    window.seen.push({ at: (performance.timeOrigin + performance.now()) / 1000, ...screen });
  };
  const all = { subtree: true, childList: true, characterData: true, attributes: true };
  new MutationObserver(look).observe(root, all);
  element.addEventListener("progress", look);
  const sight = new IntersectionObserver((changes) => {
    badgeInSight = changes.at(-1).intersectionRatio > 0.99;
    look();
  }, { threshold: [0, 0.99] });
  sight.observe(root.querySelector(".badge"));
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
#: Waits up to a second for the new service worker, and returns which one controls the page.
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
#: A busy loop of 400 ms, so that the page's process stands out by its CPU time.
_WORK_HARD = """() => { const end = performance.now() + 400; while (performance.now() < end); }"""

#: Chromium gives up caching or restoring a page after its own time limit, whatever the page does.
TIMED_OUT = {"TimeoutPuttingInCache", "NavigationCancelledWhileRestoring"}


class BrowserBusy(Exception):
    """The browser could not apply the fault, so nothing was tested; try again."""


class Dialog:
    """One page with one `<job-progress>`."""

    def __init__(self, tab: Tab) -> None:
        self.tab = tab
        self._entry = 0  # of the tab's history, while the page is in the back/forward cache
        self._renderer = 0  # its process, once known
        self._stopped: list[int] = []  # processes
        self._unanswered: asyncio.Task[bool] | None = None  # a call into the stopped page

    @staticmethod
    async def load(browser: Browser, url: str, profile: str = "") -> Dialog:
        """Open a page with everything loaded but no dialog yet, in this profile or a new one."""
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
        return [Screen.of(values) for values in await self.tab.call("() => window.seen")]

    async def live(self) -> bool:
        return bool(await self.tab.call("() => window.seen.at(-1)?.link === 'Live'"))

    async def ended(self) -> bool:
        return bool(await self.tab.call("() => Boolean(window.seen.at(-1)?.sentence)"))

    async def leftovers(self) -> list[str]:
        """Return the streams, timers and locks held after the end, and the requests made since."""
        return list(await self.tab.call(_LEFTOVERS))

    # -- faults

    async def offline(self, on: bool) -> None:
        """Switch the browser's network off or on; open streams survive that, so they must be cut elsewhere."""
        no_limits = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
        await self.tab.send("Network.enable")
        await self.tab.send("Network.emulateNetworkConditions", {"offline": on, **no_limits})

    async def shift_clock(self, seconds: float) -> None:
        """Shift the page's clock by this much from the true time."""
        await self.tab.call(_SHIFT_CLOCK, seconds * 1000)

    async def cover(self) -> None:
        """Open another tab in front of the page."""
        await self.tab.browser.cover(self.tab)

    async def uncover(self) -> None:
        await self.tab.browser.uncover(self.tab)
        await self._assert_noticed("hidden")

    async def freeze(self) -> None:
        await self.cover()
        await self.tab.send("Page.setWebLifecycleState", {"state": "frozen"})

    async def thaw(self) -> None:
        await self.tab.send("Page.setWebLifecycleState", {"state": "active"})
        await self.tab.browser.uncover(self.tab)
        await self._assert_noticed("frozen")

    async def set_service_worker(self, service_worker: str) -> None:
        """Let the service worker at this address control the page.

        The previous one is stopped, since the browser would wait minutes for its pending work.
        """
        await self.tab.send("ServiceWorker.enable")
        given_up = time.monotonic() + RESTORE_S
        while await self.tab.call(_CONTROLLED_BY, service_worker) not in service_worker:
            assert time.monotonic() < given_up, f"{service_worker} did not control the page within {RESTORE_S} s"
            await self.tab.send("ServiceWorker.stopAllWorkers")

    async def renderer(self) -> int:
        """Return the page's process; call it while the page is visible, since a hidden one is given little CPU."""
        if not self._renderer:
            hard = partial(self.tab.call, _WORK_HARD)
            self._renderer = await processes.renderer_of(self.tab.browser.pid, hard)
        return self._renderer

    async def stop(self, *, browser: bool) -> None:
        """Stop the page's process, or all processes of its browser, so that nothing responds."""
        self._stopped = processes.family(self.tab.browser.pid) if browser else [await self.renderer()]
        processes.stop(self._stopped)
        await processes.until_stopped(self._stopped)
        self._unanswered = asyncio.create_task(self.tab.call("() => true"))
        await asyncio.wait({self._unanswered}, timeout=RESPONSE_S)
        assert not self._unanswered.done(), (
            f"the page still responds, so the wrong process was stopped: {self._unanswered}"
        )

    async def resume(self) -> None:
        processes.resume(self._stopped)
        assert self._unanswered, "nothing was stopped"
        await self._unanswered

    async def enter_bfcache(self) -> None:
        """Navigate elsewhere in the same tab, so that the page enters the back/forward cache."""
        history = await self.tab.send("Page.getNavigationHistory")
        self._entry = history["entries"][history["currentIndex"]]["id"]
        await self.tab.send("Page.enable")
        await self.tab.goto("about:blank")

    async def leave_bfcache(self) -> None:
        """Go back to the page; raise AssertionError if the browser discarded it because of what it held."""
        await self.tab.send("Page.navigateToHistoryEntry", {"entryId": self._entry})
        given_up = time.monotonic() + RESTORE_S
        while await self.tab.call("() => location.href === 'about:blank' || document.readyState !== 'complete'"):
            assert time.monotonic() < given_up, f"the page was not back within {RESTORE_S} s"
            await asyncio.sleep(0.02)
        if self.tab.not_restored and set(self.tab.not_restored) <= TIMED_OUT:
            raise BrowserBusy("The browser had no time to cache the page.")
        await self._assert_noticed("restored")

    async def _assert_noticed(self, what: str) -> None:
        noticed = await self.tab.call("() => window.noticed ?? null")
        assert noticed, f"the page was discarded, and not only {what}: {self.tab.not_restored}"
        assert noticed[what], f"the page never noticed that it was {what}: {noticed}"
