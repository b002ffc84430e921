"""Test the policy and the real hub under virtual time: no dialog is ever stuck, and the judge notices any flaw.

The long form is `scripts/faults --virtual`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import replace

import pytest

from tests.faults.virtual_judge import Verdict
from tests.faults.virtual_page import Dialog
from tests.faults.virtual_play import ALONE, Play, play, play_all
from tests.faults.virtual_schedule import KINDS, VISIBLE_S, draw
from tests.faults.virtual_server import Nets
from tests.faults.virtual_time import run
from tests.faults.wire import STREAM
from tests.support.tables import percentile
from unstuck.client.watch_state import WatchAction, WatchEvent


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    """Silence the log: the hub logs every failed broadcast with its traceback, here thousands."""
    caplog.set_level(logging.CRITICAL + 1, logger="unstuck")


def violations(verdicts: list[Verdict]) -> list[str]:
    return [f"{verdict.schedule}: {'; '.join(verdict.violations)}" for verdict in verdicts if verdict.violations]


def test_no_schedule_leaves_a_dialog_stuck() -> None:
    verdicts = play_all(range(1, 501), None, Play(), processes=1)
    assert violations(verdicts) == []
    visible = [one for one in verdicts if one.schedule.heartbeats and not one.schedule.stays_hidden]
    times = [one.truth_s for one in visible if one.truth_s is not None]
    assert percentile(times, 0.5) <= 1.0
    assert percentile(times, 0.99) <= 10.0
    assert max(times) <= VISIBLE_S


@pytest.mark.parametrize("kind", KINDS)
def test_each_fault_alone(kind: str) -> None:
    assert violations([play(draw(seed, kind)) for seed in (1, 2)]) == []


@pytest.mark.parametrize("net", ALONE)
def test_each_safety_net_alone_is_enough(net: str) -> None:
    nets, bounds = ALONE[net]
    assert violations(play_all(range(1, 61), None, Play(nets, bounds), processes=1)) == []


def test_no_safety_net_is_not_enough() -> None:
    verdicts = play_all(
        range(1, 21), None, Play(Nets(broadcast=False, comparison=False, polls=False)), processes=1
    )
    assert any("stuck" in line for line in violations(verdicts))


def test_every_kind_of_fault_is_drawn() -> None:
    assert {fault.kind for seed in range(1_000) for fault in draw(seed).faults} == set(KINDS)


def test_a_seed_reproduces_everything_that_happened() -> None:
    for seed in (3, 8, 21):
        first: list[str] = []
        again: list[str] = []
        assert play(draw(seed), Play(log=first.append)) == play(draw(seed), Play(log=again.append))
        assert first == again
        assert first


# -- the judge notices every flaw


class NoWatchdog(Dialog):
    """A dialog that waits for events only, and sets no timer."""

    def set_timer(self, at: int | None) -> None:
        return


class Credulous(Dialog):
    """A dialog that shows every job event, however old."""

    def on_message(self, number: int, name: str, text: str) -> None:
        if name == "job" and not self.ended.is_set():
            self.state.seq = -1
        super().on_message(number, name, text)


class Liar(Dialog):
    """A dialog that shows every end as a success."""

    def act(self, action: WatchAction, event: WatchEvent) -> None:
        super().act(action, event)
        if action["type"] == "show" and event["job"]["done"]:
            self.screens[-1] = replace(self.screens[-1], state="completed", counts=(99, 0))


class Undone(Dialog):
    """A dialog that shows an earlier state after the end."""

    def close(self) -> None:
        super().close()
        self.screens.append(self.screens[0])


class KeepsStreams(Dialog):
    """A dialog that forgets to close its streams."""

    def act(self, action: WatchAction, event: WatchEvent) -> None:
        if action["type"] != "close_stream":
            super().act(action, event)

    def close(self) -> None:
        self.ended.set()


class KeepsTimer(Dialog):
    """A dialog that forgets to stop its timer."""

    def set_timer(self, at: int | None) -> None:
        super().set_timer(self._read_clock() + 60_000 if at is None else at)

    def close(self) -> None:
        self.ended.set()


class Restless(Dialog):
    """A dialog that polls once more after the end."""

    def close(self) -> None:
        super().close()
        self._send_poll(self.state.next_poll, "fallback")


class Twice(Dialog):
    """A dialog that sends every poll twice, without waiting for the first response."""

    def act(self, action: WatchAction, event: WatchEvent) -> None:
        super().act(action, event)
        if action["type"] == "poll":
            super().act(action, event)


class Storming(Dialog):
    """A dialog that opens every stream ten times."""

    def act(self, action: WatchAction, event: WatchEvent) -> None:
        super().act(action, event)
        if action["type"] == "open_stream":
            for _ in range(9):
                self._net.abort(self._net.request(STREAM, {}, _Discard()))


class _Discard:
    def head(self, status: int, headers: Mapping[str, str]) -> None: ...
    def piece(self, data: bytes) -> None: ...
    def on_close(self, whole: bool) -> None: ...


@pytest.mark.parametrize(
    ("client", "kind", "word"),
    [
        (NoWatchdog, "half open", "stuck"),
        (Credulous, "reordered", "went backwards"),
        (Liar, "duplicated", "untrue"),
        (Undone, "duplicated", "after the end"),
        (KeepsStreams, "204", "streams are open"),
        (KeepsTimer, "duplicated", "a timer is set"),
        (Restless, "duplicated", "a poll is in flight"),
        (Twice, "refused", "polls in flight"),
        (Storming, "502", "storm"),
    ],
)
def test_the_judge_notices_a_broken_client(client: type[Dialog], kind: str, word: str) -> None:
    found = violations([play(draw(seed, kind), Play(client=client)) for seed in range(1, 7)])
    assert any(word in line for line in found), found


def test_the_judge_notices_a_hub_that_compares_nothing() -> None:
    """Only the comparison or a poll detects a broadcast that falsely claims success."""
    with_and_without = [Nets(polls=False), Nets(comparison=False, polls=False)]
    kind = "broadcast does nothing"
    bounds = ALONE["comparison"][1]
    whole, broken = (
        violations([play(draw(seed, kind), Play(nets, bounds)) for seed in range(1, 13)])
        for nets in with_and_without
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


def test_a_busy_loop_is_an_error() -> None:
    async def main() -> None:
        while True:
            await asyncio.sleep(0)

    with pytest.raises(RuntimeError, match="busy forever"):
        run(main())
