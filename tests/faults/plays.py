"""Plays with names, of what no schedule can draw, since each needs a place of its own: HTTP/2, a browser that
throttles hidden pages, two tabs of which one hangs, a night's sleep. `scripts/faults --named` plays them often.

Each plays once, and tells who saw the truth how long after what, and what was wrong. Must not know: how often it
is played, or who prints it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

from tests.faults import nginx
from tests.faults.browser import Beyond, BrowserScene
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
#: A hidden page's timers ring once a minute, and what it waits for is due at most 15 s before such a moment, or
#: the two beats whose lack shows that its stream is dead.
HIDDEN_S = 60 + 15 + 35.0


@dataclass(frozen=True, slots=True)
class Result:
    """`truth_s` is None where the truth was never shown."""

    what: str
    truth_s: float | None
    wrongs: tuple[str, ...]


Play = Callable[[Stage, float], Awaitable[list[Result]]]

# -- HTTP/2: one connection carries the stream and the polls

_PROTOCOL = """() => performance.getEntriesByType("resource").filter((one) => one.name.includes("/api/"))
  .map((one) => one.nextHopProtocol)"""


@asynccontextmanager
async def _http2(port: int, cutters: list[Cutter]) -> AsyncIterator[str]:
    async with nginx.over_http2(port) as front, Cutter.before(front) as cutter:
        cutters.append(cutter)
        yield f"https://{HOST}:{cutter.port}"


async def _is_reset(cutter: Cutter) -> None:
    """Three times, at once after it has come back."""
    for _ in range(3):
        carried = cutter.carried
        cutter.reset()
        await soon(partial(cutter.has_carried, carried + 1))


async def _holds(cutter: Cutter) -> None:
    cutter.hold()
    await asyncio.sleep(12)  # longer than a poll waits for its answer
    cutter.let_through()


async def _is_lost(cutter: Cutter) -> None:
    cutter.lose()


HTTP2_TROUBLES = {"is reset": _is_reset, "holds for 12 s": _holds, "is lost unheard": _is_lost}


async def _http2_in_trouble(stage: Stage, slack_s: float, name: str) -> Result:
    cutters: list[Cutter] = []
    beyond: Beyond = partial(_http2, cutters=cutters)
    async with BrowserScene.set_up(stage, beyond=beyond) as scene:
        await scene.submit(total=400, item_s=1)
        await scene.open()
        await scene.until(lambda screen: screen.link == "Live" and (screen.bar or 0) > 0, LONGEST_S + slack_s)
        trouble = asyncio.create_task(HTTP2_TROUBLES[name](cutters[0]))
        await scene.cancel()
        await trouble
        truth_s, wrong, _ = await scene.judge(LONGEST_S + slack_s, time.time())
        spoken = set(await scene.dialog.tab.call(_PROTOCOL)) - {""}  # unknown where no answer came
        assert spoken == {"h2"}, f"not HTTP/2 but {spoken}, so this proved nothing"
    return Result(f"HTTP/2, the connection {name}", truth_s, wrong)


async def http2_on_one_connection(stage: Stage, slack_s: float) -> list[Result]:
    return await asyncio.gather(*(_http2_in_trouble(stage, slack_s, name) for name in HTTP2_TROUBLES))


# -- hidden pages whose timers ring once a minute

#: Chromium's own name for it; 5 minutes by default.
_THROTTLED = "--enable-features=IntensiveWakeUpThrottling:grace_period_seconds/1"
_COUNT_SECONDS = """() => {
  window.rung = 0;
  const ring = () => { window.rung += 1; setTimeout(ring, 1000); };
  ring();
}"""


async def _hidden(stage: Stage, slack_s: float, name: str, mode: Mode, bound_s: float) -> Result:
    """The job ends while the page is hidden, and it is not looked at before it shows that."""
    async with BrowserScene.set_up(stage) as scene:
        await scene.submit(total=400, item_s=1)
        await scene.open()
        await scene.until(lambda screen: screen.link == "Live", LONGEST_S + slack_s)
        await scene.dialog.cover()
        await asyncio.sleep(5)  # beyond the time for which a page may do as it likes
        await scene.proxy.set(mode, STREAM)
        await scene.cancel()
        truth_s, wrong, _ = await scene.judge(bound_s + slack_s, time.time())
        await scene.dialog.uncover()
    return Result(f"hidden and throttled, {name}", truth_s, wrong)


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
        assert rung < seconds / 4, f"its timers rang {rung} times in {seconds:.0f} s, so this proved nothing"
    return list(results)


# -- processes that stand still


async def one_of_two_tabs_hangs(stage: Stage, slack_s: float) -> list[Result]:
    """It is the one that holds the stream for both, and no effect on the other is allowed but a late truth."""
    async with stage.with_own_browser() as own, BrowserScene.set_up(own) as scene:
        await scene.submit(total=400, item_s=1)
        hangs = scene.dialog
        await scene.open()
        await scene.until(lambda screen: screen.link == "Live", LONGEST_S + slack_s)
        await hangs.renderer()
        goes_on = await Dialog.load(own.browser, scene.proxy.url, hangs.tab.profile)
        await goes_on.open(scene.job["links"]["self"])
        scene.dialog = goes_on
        await scene.until(lambda screen: screen.link == "Live", LONGEST_S + slack_s)
        assert [one.path for one in scene.proxy.open].count(STREAM) == 1
        await hangs.stop(browser=False)
        stopped_at = time.time()
        await scene.cancel()
        await scene.until(lambda screen: bool(screen.sentence), LONGEST_S + slack_s)
        await hangs.go_on()
        went_on_at = time.time()
        other = await scene.judge(LONGEST_S + slack_s, stopped_at)
        scene.dialog = hangs
        first = await scene.judge(LAG_S + slack_s, went_on_at)
    return [
        Result("one of two tabs hangs, the other", *other[:2]),
        Result("one of two tabs hangs, itself afterwards", *first[:2]),
    ]


async def asleep(stage: Stage, slack_s: float, seconds: float = 600.0) -> list[Result]:
    """All of the browser stands still, and its network is gone, while the job ends."""
    async with stage.with_own_browser() as own, BrowserScene.set_up(own) as scene:
        await scene.submit(total=400, item_s=1)
        await scene.open()
        await scene.until(lambda screen: screen.link == "Live", LONGEST_S + slack_s)
        await scene.proxy.set(Mode(Trouble.HALF_OPEN))
        await scene.dialog.stop(browser=True)
        await scene.cancel()
        await asyncio.sleep(seconds)
        await scene.proxy.set(PASS)
        await scene.dialog.go_on()
        truth_s, wrong, _ = await scene.judge(LAG_S + slack_s, time.time())
    return [Result(f"asleep for {seconds:g} s", truth_s, wrong)]


# -- many who come back


async def herd(stage: Stage, slack_s: float) -> list[Result]:
    """500 programs, and a server that is killed."""
    async with stage.server(Need()) as server:
        told = await play_herd(server, HERD)
    refused = told.statuses - {200}
    late = [f"the last one knew after {max(told.truth_s):.1f} s"] * (max(told.truth_s) > LAG_S + slack_s)
    refusals = [f"polls were answered with {refused}"] * bool(refused)
    what = f"{HERD} programs, server killed, the last one of them"
    return [Result(what, max(told.truth_s), (*told.wrongs, *late, *refusals))]


#: All, as `scripts/faults --named` plays them.
PLAYS: dict[str, Play] = {
    play.__name__: play
    for play in (http2_on_one_connection, hidden_and_throttled, one_of_two_tabs_hangs, asleep, herd)
}
