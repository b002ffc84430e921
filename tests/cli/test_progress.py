"""What `unstuck watch` shows: lines for a log, and a bar on a terminal."""

from __future__ import annotations

import time

import pytest
from rich.console import Console

from unstuck.cli import progress as watching
from unstuck.client import Job, Progress


def job(state: str = "running") -> Job:
    return Job(
        id="1b4e28ba", seq=1, name="night \x1b run", state=state, done=False,
        started_at="2026-01-01T00:00:00Z", server_time="2026-01-01T00:02:00Z",
        progress=Progress(
            total=25, processed=11, failed=2, percent=44.0, eta_seconds=185.0, current=["b.csv"], message="page 3"
        ),
    )  # fmt: skip


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that the test sets."""
    moment = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: moment[0])
    return moment


def test_a_log_gets_a_line_at_each_change_of_state_and_every_ten_seconds(
    now: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    lines = watching._Lines()
    lines.see_link("live")
    for seconds in (0, 1, 5, 3, 2):  # at 0, 1, 6, 9 and 11 seconds
        now[0] += seconds
        lines.see(job())
    lines.see_link("offline")
    lines.see_link("live")
    lines.see(job("cancelled"))
    printed = capsys.readouterr().err.splitlines()
    words = "night \\x1b run · 44 % · 11 of 25 items · 2 failed · about 3 min left · b.csv · page 3"
    assert printed == [
        words,
        words,
        f"{words} · offline",
        words,
        words.replace("run · 44", "run · cancelled · 44"),
    ]


def drawn(view: watching._Bar, columns: int) -> list[str]:
    console = Console(width=columns, force_terminal=True, color_system=None)
    with console.capture() as captured:
        console.print(view._draw())
    return captured.get().splitlines()


@pytest.mark.parametrize("columns", [40, 80, 120])
def test_a_terminal_gets_a_bar_with_failures_time_left_and_the_file(
    now: list[float], monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setattr(watching, "err", Console(width=columns, force_terminal=True))
    view = watching._Bar()
    view.see_link("live")
    view.see(job())
    now[0] += 61
    name, bar, doing = drawn(view, columns)
    assert (name, doing.rstrip()) == ("night \\x1b run", "b.csv · page 3")
    assert max(map(len, (name, bar, doing))) <= columns
    if columns == 120:
        assert bar.endswith("44 % · 11 of 25 items · 2 failed · about 3 min left · running for 3 min")
    view.see_link("offline")
    assert "offline" in drawn(view, columns)[-1]
