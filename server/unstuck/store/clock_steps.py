"""Shifts the times of the SQLite store when the machine's clock was set, and notes by how much.

It must not decide that it was set.
See also: clock.py (decides that).
"""

from __future__ import annotations

import sqlite3


def shift_times(connection: sqlite3.Connection, jump: float) -> None:
    """Shift stored times by the `jump` of the clock (seconds), so that running durations keep their length."""
    connection.execute(
        "UPDATE items SET lease_until = lease_until + :jump WHERE lease_until IS NOT NULL", {"jump": jump}
    )
    connection.execute(
        # Only waiting items pause. The condition makes SQLite use the index of waiting items, not read all items.
        "UPDATE items SET not_before = not_before + :jump "
        "WHERE state = 'pending' AND lease_until IS NULL AND not_before IS NOT NULL",
        {"jump": jump},
    )
    connection.execute(
        "UPDATE jobs SET created_at = created_at + :jump, started_at = started_at + :jump, "
        "progress_at = progress_at + :jump, heartbeat_at = heartbeat_at + :jump, "
        "cancel_requested_at = cancel_requested_at + :jump WHERE finished_at IS NULL",
        {"jump": jump},
    )
    connection.execute(
        "UPDATE deliveries SET made_at = made_at + :jump, next_at = next_at + :jump WHERE next_at IS NOT NULL",
        {"jump": jump},
    )


#: The newest steps of the clock that are kept.
CLOCK_STEPS_KEPT = 1_000


def add_clock_step(connection: sqlite3.Connection, now: float, jump: float) -> None:
    """Note that the clock was set by `jump` (seconds) and shows `now`."""
    n = connection.execute("INSERT INTO clock_steps (at, jump) VALUES (?, ?)", (now, jump)).lastrowid
    assert n is not None
    connection.execute("DELETE FROM clock_steps WHERE n <= ?", (n - CLOCK_STEPS_KEPT,))
