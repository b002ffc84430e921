"""The design as a model: Spin tries every order of events, the worst ones too.

What must hold, holds for the whole design. And each part that was put in for a reason is taken out once:
then something must break, or the model would prove nothing. Where nothing breaks although a part is
missing, that is said, too: it is how the nets under a completion are shown to work alone.
"""

from __future__ import annotations

import functools
import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.machine import needs

MODELS = Path(__file__).parent
#: Steps in a row that Spin follows; what is deeper is an error here, not a silent gap.
DEPTH = 200_000
MEMORY_MIB = 1_000
#: The longest search takes five seconds of an idle core, and the machine may not be idle.
PATIENCE_S = 300

pytestmark = [needs("spin", "spin"), needs("cc", "gcc")]


#: A search to the end pays for the compiler's optimiser; one that soon finds what is broken does not.
LONG, SHORT = "-O1", "-O0"
#: Model and switches (and the effort) → the program that searches it.
Build = Callable[..., Path]


@dataclass(frozen=True)
class Verdict:
    errors: int
    said: str


@pytest.fixture(scope="session")
def verifier(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Makes the program that searches one variant of a model, once for all its properties."""

    @functools.cache
    def build(model: str, without: str, effort: str = LONG) -> Path:
        return _build(tmp_path_factory.mktemp(model), model, without, effort)

    return build


def _build(folder: Path, model: str, without: str, effort: str) -> Path:
    source = (MODELS / f"{model}.pml").read_text()
    switches = [f"-D{name}" for name in without.split()]
    for name in without.split():
        assert name.split("=")[0] in source, f"{model} has no switch {name}"
    (folder / "model.pml").write_text(source)
    _run(folder, "spin", *switches, "-a", "model.pml")
    limits = ["-DNFAIR=4", f"-DMEMLIM={MEMORY_MIB}"]
    _run(folder, "cc", effort, "-w", *limits, "-o", "pan", "pan.c")
    return folder / "pan"


def search(pan: Path, claim: str) -> Verdict:
    """What Spin says of one property."""
    said = _run(pan.parent, str(pan), "-a", "-f", "-N", claim, f"-m{DEPTH}")
    assert f"ltl formula {claim}" in said, said
    # A search that was cut short has proved nothing.
    for gap in ("max search depth too small", "reached -DMEMLIM bound", "aborted", "out of memory"):
        assert gap not in said, said
    found = re.search(r"errors: (\d+)", said)
    assert found, said
    return Verdict(int(found.group(1)), said)


def _run(folder: Path, *command: str) -> str:
    done = subprocess.run(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=PATIENCE_S
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}"
    return done.stdout


@pytest.mark.parametrize(
    ("model", "claim"),
    [
        ("watching", "truth"),
        ("watching", "terminal_sticks"),
        ("watching", "never_ahead"),
        ("watching", "never_back"),
        ("connections", "everywhere"),
        ("connections", "six_at_most"),
        ("runners", "ends"),
        ("runners", "one_row_each"),
        ("runners", "no_write_after_takeover"),
        ("runners", "quiet_when_done"),
        ("runners", "seq_rises"),
        ("runners", "counts_add_up"),
    ],
)
def test_the_design_holds(verifier: Build, model: str, claim: str) -> None:
    verdict = search(verifier(model, ""), claim)
    assert verdict.errors == 0, verdict.said


@pytest.mark.parametrize(
    ("model", "claim", "without"),
    [
        # No watchdog: one refused stream, or one that dies without a word, and the dialog is stuck.
        ("watching", "truth", "NO_POLL NO_REOPEN"),
        ("watching", "truth", "NO_POLL NO_HEARTBEAT"),
        # The bell is hung before the read: with nothing else to rely on, the other order loses the end.
        ("watching", "truth", "NO_POLL NO_HEARTBEAT CLEAR_AFTER_READ FAULTS=0"),
        # An old answer that arrives late, or the first event of a connection that a poll has overtaken.
        ("watching", "never_back", "STALE_BELIEVED"),
        ("watching", "never_back", "FIRST_BELIEVED"),
        ("watching", "never_back", "ANY_AUDIENCE"),
        ("watching", "terminal_sticks", "STALE_BELIEVED NOT_ENDED"),
        # Six streams leave no connection for the poll.
        ("connections", "everywhere", "STREAM_PER_TAB TABS=7"),
        ("runners", "no_write_after_takeover", "NO_LEASE_CHECK"),
        ("runners", "one_row_each", "NO_LEASE_CHECK NO_FINAL_CHECK"),
        ("runners", "quiet_when_done", "NO_LEASE_CHECK NO_FINAL_CHECK"),
        ("runners", "ends", "NO_RESCUE"),
        ("runners", "seq_rises", "TWO_WRITERS"),
    ],
)
def test_it_breaks_without(verifier: Build, model: str, claim: str, without: str) -> None:
    verdict = search(verifier(model, without, SHORT), claim)
    assert verdict.errors == 1, verdict.said
    reason = "acceptance cycle" if claim in ("truth", "everywhere", "ends") else "assertion violated"
    assert reason in verdict.said, verdict.said


@pytest.mark.parametrize(
    ("model", "claim", "without"),
    [
        # Each net alone. Without polls, all that is left has to bring the end over a stream.
        ("watching", "truth", "NO_HEARTBEAT NO_POLL FAULTS=0"),
        ("watching", "truth", "NO_BROADCAST NO_POLL"),
        ("watching", "truth", "NO_BROADCAST NO_HEARTBEAT"),
        ("watching", "truth", "NO_STREAM"),
        # Two locks on one door: comparing the seq, and listening to nothing after the end.
        ("watching", "terminal_sticks", "STALE_BELIEVED"),
        ("watching", "terminal_sticks", "NOT_ENDED"),
        # A wake lost in the hub is found by the heartbeat or the poll.
        ("watching", "truth", "CLEAR_AFTER_READ FAULTS=1"),
        # An item's lease ends with it; and final states have no way out, whoever writes.
        ("runners", "one_row_each", "NO_FINAL_CHECK"),
        ("runners", "one_row_each", "NO_LEASE_CHECK"),
    ],
)
def test_it_holds_even_without(verifier: Build, model: str, claim: str, without: str) -> None:
    verdict = search(verifier(model, without), claim)
    assert verdict.errors == 0, verdict.said
