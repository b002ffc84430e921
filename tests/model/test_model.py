"""Models of the design, in which Spin tries every order of events.

Every property must hold for the whole design. Then each part of the design is removed in turn: some property must
break, or the model would prove nothing. Where another part alone upholds the property, it must still hold: this
shows that each safety net works by itself.
Next: watching.pml, connections.pml and runners.pml, the models.
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
#: Steps in a row that Spin follows; a deeper search fails a test here, and is not silently cut short.
DEPTH = 200_000
MEMORY_MIB = 1_000
#: The longest search takes five seconds on an idle core, but the machine may be busy.
PATIENCE_S = 300

pytestmark = [needs("spin", "spin"), needs("cc", "gcc")]


#: A search to the end is worth the compiler's optimizer; one that soon finds an error is not.
LONG, SHORT = "-O1", "-O0"
#: (model, switches, effort) → the program that searches it.
Build = Callable[..., Path]


@dataclass(frozen=True)
class Verdict:
    errors: int
    output: str


@pytest.fixture(scope="session")
def verifier(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Build the program that searches a variant of a model, once for all its properties."""

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
    """Let Spin check one property."""
    output = _run(pan.parent, str(pan), "-a", "-f", "-N", claim, f"-m{DEPTH}")
    assert f"ltl formula {claim}" in output, output
    # A search that was cut short proves nothing.
    for gap in ("max search depth too small", "reached -DMEMLIM bound", "aborted", "out of memory"):
        assert gap not in output, output
    found = re.search(r"errors: (\d+)", output)
    assert found, output
    return Verdict(int(found.group(1)), output)


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
    assert verdict.errors == 0, verdict.output


@pytest.mark.parametrize(
    ("model", "claim", "without"),
    [
        # Without a watchdog, one refused stream, or one that dies silently, leaves the dialog stuck.
        ("watching", "truth", "NO_POLL NO_REOPEN"),
        ("watching", "truth", "NO_POLL NO_HEARTBEAT"),
        # The dirty mark is cleared before the read; without any other net, the other order loses the end.
        ("watching", "truth", "NO_POLL NO_HEARTBEAT CLEAR_AFTER_READ FAULTS=0"),
        # A stale answer arrives late, or a poll overtakes the first event of a connection.
        ("watching", "never_back", "STALE_BELIEVED"),
        ("watching", "never_back", "FIRST_BELIEVED"),
        ("watching", "never_back", "ANY_AUDIENCE"),
        ("watching", "terminal_sticks", "STALE_BELIEVED NOT_ENDED"),
        # Six streams leave no connection for a poll.
        ("connections", "everywhere", "STREAM_PER_TAB TABS=7"),
        ("runners", "no_write_after_takeover", "NO_LEASE_CHECK"),
        ("runners", "one_row_each", "NO_LEASE_CHECK NO_FINAL_CHECK"),
        ("runners", "quiet_when_done", "NO_LEASE_CHECK NO_FINAL_CHECK"),
        ("runners", "ends", "NO_RESCUE"),
        ("runners", "seq_rises", "TWO_WRITERS"),
    ],
)
def test_a_property_breaks_without_a_part(verifier: Build, model: str, claim: str, without: str) -> None:
    verdict = search(verifier(model, without, SHORT), claim)
    assert verdict.errors == 1, verdict.output
    reason = "acceptance cycle" if claim in ("truth", "everywhere", "ends") else "assertion violated"
    assert reason in verdict.output, verdict.output


@pytest.mark.parametrize(
    ("model", "claim", "without"),
    [
        # Each safety net alone. Without polls, the end must come over a stream.
        ("watching", "truth", "NO_HEARTBEAT NO_POLL FAULTS=0"),
        ("watching", "truth", "NO_BROADCAST NO_POLL"),
        ("watching", "truth", "NO_BROADCAST NO_HEARTBEAT"),
        ("watching", "truth", "NO_STREAM"),
        # Two guards for the same thing: comparing seqs, and ignoring everything after the end.
        ("watching", "terminal_sticks", "STALE_BELIEVED"),
        ("watching", "terminal_sticks", "NOT_ENDED"),
        # The heartbeat or the poll makes up for a wake that the hub has lost.
        ("watching", "truth", "CLEAR_AFTER_READ FAULTS=1"),
        # The lease ends with the item, and final states cannot be left, whichever process writes.
        ("runners", "one_row_each", "NO_FINAL_CHECK"),
        ("runners", "one_row_each", "NO_LEASE_CHECK"),
    ],
)
def test_a_property_holds_even_without_a_part(verifier: Build, model: str, claim: str, without: str) -> None:
    verdict = search(verifier(model, without), claim)
    assert verdict.errors == 0, verdict.output
