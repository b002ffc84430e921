"""The policy against the real hub under virtual time: no dialog is ever stuck, and the judge would notice one.

The long form is `python -m tests.faults.virtual_play --seeds 10000`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import replace

import pytest

from tests.faults.virtual_judge import Verdict
from tests.faults.virtual_page import Dialog
from tests.faults.virtual_play import ALONE, Play, percentile, play, play_all
from tests.faults.virtual_schedule import KINDS, VISIBLE_S, draw
from tests.faults.virtual_server import Nets
from tests.faults.virtual_time import run
from tests.faults.wire import STREAM
from unstuck.client.watch_state import WatchAction, WatchEvent


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    """The hub rightly logs every broken broadcast with its traceback; here that would be thousands."""
    caplog.set_level(logging.CRITICAL + 1, logger="unstuck")


def wrongs(verdicts: list[Verdict]) -> list[str]:
    return [f"{verdict.schedule}: {'; '.join(verdict.wrongs)}" for verdict in verdicts if verdict.wrongs]


def test_no_schedule_leaves_a_dialog_stuck() -> None:
    verdicts = play_all(range(1, 501), None, Play(), processes=1)
    assert wrongs(verdicts) == []
    visible = [one for one in verdicts if one.schedule.beats and not one.schedule.stays_hidden]
    times = [one.truth_s for one in visible if one.truth_s is not None]
    assert percentile(times, 0.5) <= 1.0
    assert percentile(times, 0.99) <= 10.0
    assert max(times) <= VISIBLE_S


@pytest.mark.parametrize("kind", KINDS)
def test_each_fault_alone(kind: str) -> None:
    assert wrongs([play(draw(seed, kind)) for seed in (1, 2)]) == []


@pytest.mark.parametrize("net", ALONE)
def test_each_net_alone_is_enough(net: str) -> None:
    nets, bounds = ALONE[net]
    assert wrongs(play_all(range(1, 61), None, Play(nets, bounds), processes=1)) == []


def test_no_net_at_all_is_not_enough() -> None:
    verdicts = play_all(
        range(1, 21), None, Play(Nets(broadcast=False, comparison=False, polls=False)), processes=1
    )
    assert any("stuck" in line for line in wrongs(verdicts))


def test_every_kind_of_fault_is_drawn() -> None:
    assert {fault.kind for seed in range(1_000) for fault in draw(seed).faults} == set(KINDS)


def test_a_seed_brings_back_everything_that_happened() -> None:
    for seed in (3, 8, 21):
        first: list[str] = []
        again: list[str] = []
        assert play(draw(seed), Play(tell=first.append)) == play(draw(seed), Play(tell=again.append))
        assert first == again
        assert first


# -- the judge notices what is wrong


class NoWatchdog(Dialog):
    """Waits for events, and sets no timer."""

    def set_timer(self, at: int | None) -> None:
        return


class Credulous(Dialog):
    """Shows every job event, however old."""

    def hear(self, number: int, name: str, text: str) -> None:
        if name == "job" and not self.ended.is_set():
            self.state.seq = -1
        super().hear(number, name, text)


class Liar(Dialog):
    """Shows every end as a success."""

    def act(self, action: WatchAction, event: WatchEvent) -> None:
        super().act(action, event)
        if action["type"] == "show" and event["job"]["done"]:
            self.screens[-1] = replace(self.screens[-1], state="completed", counts=(99, 0))


class Undone(Dialog):
    """Shows an earlier state after the end."""

    def close(self) -> None:
        super().close()
        self.screens.append(self.screens[0])


class KeepsStreams(Dialog):
    """Forgets to close its streams."""

    def act(self, action: WatchAction, event: WatchEvent) -> None:
        if action["type"] != "close_stream":
            super().act(action, event)

    def close(self) -> None:
        self.ended.set()


class KeepsTimer(Dialog):
    """Forgets to stop its timer."""

    def set_timer(self, at: int | None) -> None:
        super().set_timer(self._tell_time() + 60_000 if at is None else at)

    def close(self) -> None:
        self.ended.set()


class Restless(Dialog):
    """Polls once more after the end."""

    def close(self) -> None:
        super().close()
        self._ask(self.state.next_poll, "fallback")


class Twice(Dialog):
    """Sends every poll a second time before the first is answered."""

    def act(self, action: WatchAction, event: WatchEvent) -> None:
        super().act(action, event)
        if action["type"] == "poll":
            super().act(action, event)


class Storming(Dialog):
    """Opens every stream ten times."""

    def act(self, action: WatchAction, event: WatchEvent) -> None:
        super().act(action, event)
        if action["type"] == "open_stream":
            for _ in range(9):
                self._net.abort(self._net.ask(STREAM, {}, _Nobody()))


class _Nobody:
    def head(self, status: int, headers: Mapping[str, str]) -> None: ...
    def piece(self, data: bytes) -> None: ...
    def over(self, whole: bool) -> None: ...


@pytest.mark.parametrize(
    ("client", "kind", "word"),
    [
        (NoWatchdog, "half open", "stuck"),
        (Credulous, "reordered", "went back"),
        (Liar, "doubled", "untrue"),
        (Undone, "doubled", "after the end"),
        (KeepsStreams, "204", "there are streams"),
        (KeepsTimer, "doubled", "there is a timer"),
        (Restless, "doubled", "there is a poll"),
        (Twice, "refused", "polls in flight"),
        (Storming, "502", "storm"),
    ],
)
def test_the_judge_notices_a_broken_client(client: type[Dialog], kind: str, word: str) -> None:
    found = wrongs([play(draw(seed, kind), Play(client=client)) for seed in range(1, 7)])
    assert any(word in line for line in found), found


def test_the_judge_notices_a_hub_that_compares_nothing() -> None:
    """Only the comparison or a poll finds a broadcast that falsely claims success."""
    lamed = [Nets(polls=False), Nets(comparison=False, polls=False)]
    kind = "broadcast does nothing"
    bounds = ALONE["comparison"][1]
    whole, broken = (
        wrongs([play(draw(seed, kind), Play(nets, bounds)) for seed in range(1, 13)]) for nets in lamed
    )
    assert whole == []
    assert any("late" in line or "stuck" in line for line in broken)


# -- virtual time


def test_waiting_takes_no_time_and_keeps_its_order() -> None:
    async def main() -> list[float]:
        loop, times = asyncio.get_running_loop(), []
        for wait_s in (3_600.0, 60.0, 1.0):
            loop.call_later(wait_s, lambda: times.append(loop.time()))
        await asyncio.sleep(7_200.0)
        return times

    assert run(main()) == [1.0, 60.0, 3_600.0]


def test_waiting_for_nothing_is_an_error() -> None:
    async def main() -> None:
        await asyncio.Event().wait()

    with pytest.raises(RuntimeError, match="nothing will ever happen"):
        run(main())


def test_running_in_a_circle_is_an_error() -> None:
    async def main() -> None:
        while True:
            await asyncio.sleep(0)

    with pytest.raises(RuntimeError, match="busy for ever"):
        run(main())
