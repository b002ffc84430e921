"""Kinds whose package is missing say so before they are used."""

from __future__ import annotations

import subprocess
import sys

from unstuck.kinds.extras import missing


def test_a_missing_package_is_a_reason_with_the_remedy() -> None:
    assert missing("msgspec", "msgspec", "all") is None
    reason = missing("no_such_module_here", "Nothing", "csv")
    assert reason == "this kind needs Nothing on the server: pip install 'unstuck[csv]'"


def test_built_in_kinds_without_their_extra_are_unavailable() -> None:
    program = (
        "import sys; sys.modules['PIL'] = None\n"
        "from unstuck.kinds import load\n"
        "print(*[name for name, kind in load(None, []).items() if kind.info.unavailable])"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert told.stdout.split() == ["thumbnail"]
