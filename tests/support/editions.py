"""Databases of older versions, in the middle of a job.

`tests/store/schemas/` holds the tables of every version there was, as that version created them.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from msgspec.structs import replace

from unstuck.jobs.job import Item, ItemState, Job, State
from unstuck.store import rows, schema

SCHEMAS = Path(__file__).parents[1] / "store" / "schemas"
EDITIONS = sorted(path.stem for path in SCHEMAS.iterdir())

JOB = Job(
    id="1b4e28ba-2fa1-4d3b-a3f5-ef19b5a7633b", kind="checksum", name="of old", total=3, waiting=1, created_at=1.0
)
RUNNING = replace(JOB, state=State.RUNNING, seq=7, leased=1, succeeded=1, attempt=1, started_at=2.0, percent=34.0)
DONE = Item(index=0, name="done", state=ItemState.SUCCEEDED, seq=5, lease=1, attempt=1, result={"rows": 7})
HELD = Item(index=1, name="under way", state=ItemState.RUNNING, seq=7, lease=1, lease_until=31.0, attempt=1)
ITEMS = (DONE, HELD, Item(index=2, name="waits"))


def made_by(edition: str, path: Path, version: int | None = None) -> None:
    """Create a database of that edition with a running job; with `version`, upgraded to it by its migrations."""
    with closing(sqlite3.connect(path, isolation_level=None)) as old:
        old.executescript((SCHEMAS / f"{edition}.sql").read_text())
        put(old, "jobs", dict(zip(rows.JOB_COLUMNS, rows.job_values(RUNNING), strict=True)))
        for item in ITEMS:
            names = ("job", *rows.ITEM_COLUMNS)
            put(old, "items", dict(zip(names, rows.item_values(1, item), strict=True)))
        if version is not None:
            old.executescript("".join(schema.MIGRATIONS[int(edition[0]) : version]))
            old.execute(f"PRAGMA user_version = {version}")


def put(connection: sqlite3.Connection, table: str, values: dict[str, object]) -> None:
    known = [row[1] for row in connection.execute(f"PRAGMA table_info({table})") if row[1] in values]
    marks = ", ".join("?" * len(known))
    connection.execute(
        f"INSERT INTO {table} ({', '.join(known)}) VALUES ({marks})", [values[name] for name in known]
    )
