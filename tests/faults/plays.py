"""Named plays, for what no schedule can draw because each needs its own environment.

They cover HTTP/2, a browser that throttles hidden pages, a tab that hangs beside another, a long sleep, and a
herd of clients. Each plays once and returns its times to truth and violations. It must not know how often it is
played, or what prints the results.
See also: run.py, whose `--named` plays them repeatedly.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

from tests.faults import nginx
from tests.faults.browser import BrowserScene, Gateway
from tests.faults.cutter import Cutter
from tests.faults.devtools import Tab
from tests.faults.herd import play_herd
from tests.faults.page import Dialog
from tests.faults.proxy import PASS, Mode, Trouble
from tests.faults.schedule import LAG_S, LONGEST_S
from tests.faults.stage import Need, Stage
from tests.faults.wire import HOST, STREAM
from tests.support.waiting import soon

HERD = 500
#: The bound of a hidden page (seconds): its timers fire once a minute, a poll may be due up to 15 s before that,
#: and it takes two missed heartbeats to see that its stream is dead.
HIDDEN_S = 60 + 15 + 35.0


@dataclass(frozen=True, slots=True)
class Result:
    """One measurement of a play; `truth_s` is None if the truth was never shown."""

    what: str
    truth_s: float | None
    violations: tuple[str, ...]


Play = Callable[[Stage, float], Awaitable[list[Result]]]

# -- HTTP/2: one connection carries the stream and the polls

_PROTOCOL = """() => performance.getEntriesByType("resource").filter((one) => one.name.includes("/api/"))
  .map((one) => one.nextHopProtocol)"""


@asynccontextmanager
async def _http2(port: int, cutters: list[Cutter]) -> AsyncIterator[str]:
    async with nginx.over_http2(port) as nginx_port, Cutter.in_front_of(nginx_port) as cutter:
        cutters.append(cutter)
        yield f"https://{HOST}:{cutter.port}"


async def _reset_repeatedly(cutter: Cutter) -> None:
    """Reset the connection three times, each time as soon as it has been reopened."""
    for _ in range(3):
        carried = cutter.carried
        cutter.reset()
        await soon(partial(cutter.has_carried, carried + 1))


async def _hold_for_12_s(cutter: Cutter) -> None:
    cutter.hold()
    await asyncio.sleep(12)  # longer than a poll waits for its response
    cutter.let_through()


async def _lose(cutter: Cutter) -> None:
    cutter.lose()


HTTP2_TROUBLES = {"is reset": _reset_repeatedly, "holds for 12 s": _hold_for_12_s, "is lost silently": _lose}


async def _http2_in_trouble(stage: Stage, slack_s: float, name: str) -> Result:
    cutters: list[Cutter] = []
    gateway: Gateway = partial(_http2, cutters=cutters)
    async with BrowserScene.set_up(stage, gateway=gateway) as scene:
        await scene.submit(total=400, item_s=1)
        await scene.open()
        await scene.until(lambda screen: screen.link == "Live" and (screen.bar or 0) > 0, LONGEST_S + slack_s)
        trouble = asyncio.create_task(HTTP2_TROUBLES[name](cutters[0]))
        await scene.cancel()
        await trouble
        truth_s, violations, _ = await scene.judge(LONGEST_S + slack_s, time.time())
        protocols = set(await scene.dialog.tab.call(_PROTOCOL)) - {""}  # empty where no response arrived
        assert protocols == {"h2"}, f"the page used {protocols} and not HTTP/2, so this proved nothing"
    return Result(f"HTTP/2, the connection {name}", truth_s, violations)


async def http2_on_one_connection(stage: Stage, slack_s: float) -> list[Result]:
    return await asyncio.gather(*(_http2_in_trouble(stage, slack_s, name) for name in HTTP2_TROUBLES))


# -- hidden pages, whose timers fire once a minute

#: Chromium throttles a hidden page after 5 minutes by default; this makes it 1 s.
_THROTTLED = "--enable-features=IntensiveWakeUpThrottling:grace_period_seconds/1"
_COUNT_SECONDS = """() => {
  window.rung = 0;
  const ring = () => { window.rung += 1; setTimeout(ring, 1000); };
  ring();
}"""


async def _hidden(stage: Stage, slack_s: float, name: str, mode: Mode, bound_s: float) -> Result:
    """End the job while the page is hidden, and show the page only once it shows the end."""
    async with BrowserScene.set_up(stage) as scene:
        await scene.submit(total=400, item_s=1)
        await scene.open()
        await scene.until(lambda screen: screen.link == "Live", LONGEST_S + slack_s)
        await scene.dialog.cover()
        await asyncio.sleep(5)  # beyond the grace period
        await scene.proxy.set(mode, STREAM)
        await scene.cancel()
        truth_s, violations, _ = await scene.judge(bound_s + slack_s, time.time())
        await scene.dialog.uncover()
    return Result(f"hidden and throttled, {name}", truth_s, violations)


async def hidden_and_throttled(stage: Stage, slack_s: float) -> list[Result]:
    async with stage.with_own_browser(_THROTTLED) as own:
        other: Tab = await own.browser.new_tab()
        await own.browser.cover(other)
        await other.call(_COUNT_SECONDS)
        began = time.monotonic()
        results = await asyncio.gather(
            _hidden(own, slack_s, "stream alive", PASS, LAG_S),
            _hidden(own, slack_s, "stream half open", Mode(Trouble.HALF_OPEN), HIDDEN_S),
        )
        seconds, rung = time.monotonic() - began, await other.call("() => window.rung")
        assert rung < seconds / 4, f"its timers fired {rung} times in {seconds:.0f} s, so this proved nothing"
    return list(results)


# -- stopped processes


async def one_of_two_tabs_hangs(stage: Stage, slack_s: float) -> list[Result]:
    """Stop the tab that holds the stream for both; the other tab may show the truth later, but nothing else."""
    async with stage.with_own_browser() as own, BrowserScene.set_up(own) as scene:
        await scene.submit(total=400, item_s=1)
        hanging = scene.dialog
        await scene.open()
        await scene.until(lambda screen: screen.link == "Live", LONGEST_S + slack_s)
        await hanging.renderer()
        other_dialog = await Dialog.load(own.browser, scene.proxy.url, hanging.tab.profile)
        await other_dialog.open(scene.job["links"]["self"])
        scene.dialog = other_dialog
        await scene.until(lambda screen: screen.link == "Live", LONGEST_S + slack_s)
        # On a busy machine the first may have been taken for dead, and a second one opened beside it.
        await soon(lambda: [one.path for one in scene.proxy.open].count(STREAM) == 1, LONGEST_S)
        await hanging.stop(browser=False)
        stopped_at = time.time()
        await scene.cancel()
        await scene.until(lambda screen: bool(screen.sentence), LONGEST_S + slack_s)
        await hanging.resume()
        resumed_at = time.time()
        other = await scene.judge(LONGEST_S + slack_s, stopped_at)
        scene.dialog = hanging
        first = await scene.judge(LAG_S + slack_s, resumed_at)
    return [
        Result("one of two tabs hangs, the other", *other[:2]),
        Result("one of two tabs hangs, the hanging one afterwards", *first[:2]),
    ]


async def asleep(stage: Stage, slack_s: float, seconds: float = 600.0) -> list[Result]:
    """End the job while the whole browser is stopped and its network is gone."""
    async with stage.with_own_browser() as own, BrowserScene.set_up(own) as scene:
        await scene.submit(total=400, item_s=1)
        await scene.open()
        await scene.until(lambda screen: screen.link == "Live", LONGEST_S + slack_s)
        await scene.proxy.set(Mode(Trouble.HALF_OPEN))
        await scene.dialog.stop(browser=True)
        await scene.cancel()
        await asyncio.sleep(seconds)
        await scene.proxy.set(PASS)
        await scene.dialog.resume()
        truth_s, violations, _ = await scene.judge(LAG_S + slack_s, time.time())
    return [Result(f"asleep for {seconds:g} s", truth_s, violations)]


# -- many clients that reconnect at once


async def herd(stage: Stage, slack_s: float) -> list[Result]:
    """Kill the server that 500 programs watch, and measure the last one to recover."""
    async with stage.server(Need()) as server:
        outcome = await play_herd(server, HERD)
    refused = outcome.statuses - {200}
    late = [f"the last one knew after {max(outcome.truth_s):.1f} s"] * (max(outcome.truth_s) > LAG_S + slack_s)
    refusals = [f"polls were answered with {refused}"] * bool(refused)
    what = f"{HERD} programs, server killed, the last of them"
    return [Result(what, max(outcome.truth_s), (*outcome.violations, *late, *refusals))]


#: All plays by name, in the order of `scripts/faults --named all`.
PLAYS: dict[str, Play] = {
    play.__name__: play
    for play in (http2_on_one_connection, hidden_and_throttled, one_of_two_tabs_hangs, asleep, herd)
}
