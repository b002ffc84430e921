"""Random but schema-valid values in every column of the store, and then every view of the server.

Whatever stands in a row, each view answers, in JSON that any reader accepts, the other jobs are shown, and the
server goes on working. A seed draws the same values again.
"""

from __future__ import annotations

import asyncio
import math
import random
import re
import sqlite3
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from itertools import chain
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec

from tests.support.asgi import InProcess, in_process
from unstuck import wire
from unstuck.jobs.job import HealthLimits, Item, Job, is_job_id
from unstuck.store import rows
from unstuck.store.sqlite_statements import INSERT_ITEM, SQLITE

#: The columns that are damaged, by table. The others tell rows apart, or belong to other parts of the server.
LEFT_ALONE = {("jobs", "n"), ("items", "job"), ("timeline", "n"), ("timeline", "job"), ("deliveries", "job")}
TABLES = ("jobs", "items", "timeline", "deliveries")
NUMBERS = [0, 1, -1, 2, 99, 101, 1_000, -7, 2**31, 2**53 - 1, 2**53, 2**53 + 1, -(2**53) - 1, 2**62, 2**63 - 1,
           -(2**63)]  # fmt: skip
FLOATS = [0.0, -0.0, 0.5, 1.0, -1.0, 1e-320, 99.9, 100.1, 1e9, 1.8e9, -1e9, 253_402_300_800.0, 1e17, 1e300, -1e300,
          math.inf, -math.inf]  # fmt: skip
TEXTS = [
    "", "x", "\0", "a\0b", "é", "\u2028", "🂡", "\ufffe", "null", "[]", "{}", "{", '"', "NaN", "1e400", "-1",
    '{"a":1}',    '{"a": 1e400}', '{"a": 12345678901234567890123}', '{"at":1e308,"work":1e308,"span":1e-308}',
    '{"work":-5.0,"span":-20.0,"at":-1e308}', '{"work":1e-300,"span":19.9,"at":1.0}', '{"at":null}',
    '{"code":"x","message":"y"}', '{"code":1}', '{"code":"\\ud800","message":""}', '"\\ud800"', "[" * 3_000,
    '{"code":"c","message":"m","transient":1}', "queued", "running", "completed", "failed", "cancelled", "pending",
    "succeeded", "skipped", "ok", "stalled", "sleeping", "../../x", "/etc/passwd", "a" * 300, "http://[", "https://",
    "ftp://x/", "http://127.0.0.1:1/", "x" * 5_000,
]  # fmt: skip
#: Bytes that are no UTF-8, among them a lone surrogate; SQLite keeps them as text all the same.
BYTES = [b"\xed\xa0\x80", b"\xff", b"ok\xc3", b'{"a":"\xed\xbf\xbf"}']
VIEWS = [
    "/api/jobs", "/api/jobs?limit=1", "/api/jobs?state=running", "/api/jobs?state=completed&kind=rehearsal",
    "/api/jobs?health=stalled,unresponsive,waiting_long,ok", "/api/jobs?finished_before=9999-12-30T00:00:00Z",
    "/api/health", "/api/health/live", "/api/health/ready", "/metrics", "/api/kinds", "/api/events/stream",
]  # fmt: skip
OF_JOB = [
    "", "/items", "/items?state=failed,running,succeeded", "/items?after_seq=0", "/timeline", "/timeline?limit=1",
    "/results", "/items/0/result", "/items/1/result", "/events",
]  # fmt: skip
#: How long a stream may take to begin (seconds).
FIRST_S = 5.0
ACTS = [
    ("POST", "/progress", b'{"processed": 2}'), ("POST", "/rescue", b""), ("POST", "/cancel", b""),
    ("POST", "/fail", b'{"why": "no"}'), ("POST", "/retry", b'{"only": "all"}'), ("DELETE", "", b""),
]  # fmt: skip


class Damage:
    """A server in this process, its database, and a few jobs of every sort."""

    def __init__(self, here: InProcess, database: Path, seed: int) -> None:
        self.here = here
        self.chance = random.Random(seed)
        self._database = database

    def fill(self) -> None:
        """Submit jobs: one that succeeds, one that fails, one that waits, and external ones that run."""
        post = self.here.post
        for order in (
            {"kind": "rehearsal", "total": 2, "options": {"seconds": 0}},
            {"kind": "rehearsal", "total": 2, "options": {"seconds": 0, "failures": 1.0}},
            {"kind": "rehearsal", "total": 1, "options": {"seconds": 30}, "priority": -1},
        ):
            assert post("/api/jobs", {**order, "webhook_url": "http://127.0.0.1:9/"}).status == 202
        self._store_waiting_job()
        for more in ({"items": ["a", "b", "c"]}, {}):
            job = post("/api/jobs", {"kind": "import", "external": True, **more}).json()
            link = f"/api/jobs/{job['id']}/progress"
            assert post(link, {"processed": 1, "message": "half"}).status == 200

    def _store_waiting_job(self) -> None:
        """Store a job whose items pause: they are looked at with each claim, and never taken."""
        job = Job(str(UUID(int=self.chance.getrandbits(128))), "rehearsal", "waits", 2, 2, time.time(), priority=1)
        with closing(sqlite3.connect(self._database, isolation_level=None, timeout=10)) as connection:
            job_n = connection.execute(SQLITE.insert_job, rows.job_values(job)).fetchone()[0]
            for index in range(2):
                item = Item(index, f"{index}", not_before=time.time() + 1e6)
                connection.execute(INSERT_ITEM, rows.item_values(job_n, item))

    def damage(self, count: int) -> list[str]:
        """Put random values into so many columns, and return what was done."""
        done = []
        with closing(sqlite3.connect(self._database, isolation_level=None, timeout=10)) as connection:
            for _ in range(count):
                done += self._damage_one(connection)
        self.forget()
        return done

    def forget(self) -> None:
        """Let the server read everything anew, as after a restart."""
        self.here.run(_forget(self.here))

    def _damage_one(self, connection: sqlite3.Connection) -> list[str]:
        table = self.chance.choice(TABLES)
        columns = [
            (row[1], row[2], row[3])
            for row in connection.execute(f"PRAGMA table_info({table})")
            if (table, row[1]) not in LEFT_ALONE
        ]
        name, kind, required = self.chance.choice(columns)
        value = self._value(kind, bool(required))
        form = "CAST(? AS TEXT)" if isinstance(value, bytes) else "?"
        key = {"jobs": "n", "items": "job, idx", "timeline": "n", "deliveries": "job"}[table]
        row = connection.execute(f"SELECT {key} FROM {table} ORDER BY random() LIMIT 1").fetchone()
        if row is None:
            return []
        where = " AND ".join(f"{one} = ?" for one in key.split(", "))
        try:
            connection.execute(f"UPDATE {table} SET {name} = {form} WHERE {where}", (value, *row))
        except sqlite3.IntegrityError:  # not unique, or NULL where that is not allowed
            return []
        return [f"{table}{row}.{name} = {value!r:.80}"]

    def _value(self, kind: str, required: bool) -> Any:
        if not required and self.chance.random() < 0.1:
            return None
        if kind == "INTEGER":
            return self.chance.choice(NUMBERS)
        if kind == "REAL":
            return self.chance.choice(FLOATS)
        if self.chance.random() < 0.15:
            return self.chance.choice(BYTES)
        if self.chance.random() < 0.2:
            return "".join(chr(self.chance.choice([*range(1, 0xD800), 0x1F600])) for _ in range(5))
        return self.chance.choice(TEXTS)

    # -- looking

    def faults(self) -> Iterator[str]:
        """Yield what is wrong with any view."""
        for path in VIEWS:
            yield from self.look(path)
        for job_id in self.ids():
            for path in OF_JOB:
                yield from self.look(f"/api/jobs/{job_id}{path}")

    def ids(self) -> list[str]:
        with closing(sqlite3.connect(self._database, timeout=10)) as connection:
            connection.text_factory = bytes
            raw = [row[0] for row in connection.execute("SELECT id FROM jobs")]
        return [text for text in (one.decode(errors="replace") for one in raw) if is_job_id(text)]

    def look(self, path: str) -> Iterator[str]:
        """Yield what is wrong with this view."""
        if "/events" in path:
            yield from self._look_at_stream(path)
            return
        try:
            answer = self.here.call("GET", *_split(path))
        except Exception as error:  # the body broke off after its head
            yield f"{path}: {error!r}"
            return
        if answer.status >= 500:
            yield f"{path}: {answer.status} {answer.body[:200]!r}"
        elif answer.status == 200 and answer.headers.get(b"content-type", b"").startswith(b"application/json"):
            yield from (f"{path}: {fault}" for fault in wrong_json(answer.body))
            yield from _typed(path, answer.body)

    def _look_at_stream(self, path: str) -> Iterator[str]:
        found = re.match(r"/api/jobs/(.*)/events", path)
        events = self.here.run(_first_events(self.here, [found[1]] if found else None))
        for line in events.splitlines():
            if line.startswith(b"data: "):
                yield from (f"{path}: {fault}" for fault in wrong_json(line[6:]))
        if b"event: job\n" not in events and b"event: gone\n" not in events:
            yield f"{path}: no job event but {events[:80]!r}"

    def sweep(self) -> Iterator[str]:
        """Let time pass, and yield what that breaks: a loop of the server, or a broadcast."""
        services = self.here.app.state.services
        try:
            services.store.sweep(HealthLimits(reporter_lost_s=3_600.0, expiry_s=86_400.0))
        except Exception as error:
            yield f"the sweep: {error!r}"
        for name, loop in services.supervisor.loops.items():
            if loop.restarts or loop.down:
                yield f"the loop {name} broke"
        if services.hub.stats.broadcast_retries:
            yield "a broadcast failed"
        if services.store.trouble is not None:
            yield f"the store is in trouble: {services.store.trouble}"

    def act(self) -> Iterator[str]:
        """Ask for every change of every job, and yield what fails otherwise than by a refusal."""
        for job_id in self.ids():
            for method, path, body in ACTS:
                given = self.here.call(
                    method, f"/api/jobs/{job_id}{path}", b"", [(b"content-type", b"application/json")], body
                )
                if given.status >= 500:
                    yield f"{method} {path}: {given.status} {given.body[:200]!r}"

    def still_works(self) -> Iterator[str]:
        """Submit a job and expect it to be done."""
        order = {"kind": "rehearsal", "total": 2, "options": {"seconds": 0}, "priority": 1_000_000}
        answer = self.here.post("/api/jobs", order)
        if answer.status != 202:
            yield f"a submission: {answer.status} {answer.body[:200]!r}"
            return
        job_id = answer.json()["id"]
        seen = self.here.run(_until_done(self.here, job_id))
        if seen != "completed":
            yield f"a new job is {seen}"
        self.here.call("DELETE", f"/api/jobs/{job_id}")


def play(folder: Path, seed: int, rounds: int, *, columns: int = 3) -> Iterator[str]:
    """Damage so many columns in each round, and yield what is wrong then."""
    with in_process(
        data=str(folder), workers=2, webhook_secret="whsec_" + "A" * 32, webhook_allow_private=1
    ) as here:
        damage = Damage(here, folder / "unstuck.db", seed)
        damage.fill()
        for number in range(rounds):
            done = damage.damage(columns)
            faults = chain(damage.faults(), damage.sweep())
            yield from (f"seed {seed}, round {number}, {done}: {fault}" for fault in faults)
        faults = chain(damage.still_works(), damage.act(), damage.sweep())
        yield from (f"seed {seed}, at the end: {fault}" for fault in faults)


def wrong_json(body: bytes) -> list[str]:
    """Return what in this JSON a strict reader cannot take: no JSON, or a number beyond 2^53 that is ours."""
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        return [f"no JSON: {error}"]
    return [f"{path} = {number}" for path, number in _numbers(value, "") if not abs(number) <= 2**53]


def _numbers(value: Any, path: str) -> Iterator[tuple[str, float]]:
    if isinstance(value, dict):
        for key, one in value.items():
            if key != "result":  # is a user's own
                yield from _numbers(one, f"{path}.{key}")
    elif isinstance(value, list):
        for one in value:
            yield from _numbers(one, f"{path}[]")
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield path, value


def _typed(path: str, body: bytes) -> Iterator[str]:
    """Yield why the typed client would refuse the answer."""
    kind: Any = None
    if path.startswith("/api/jobs"):
        tail = path.partition("?")[0].removeprefix("/api/jobs")
        kind = wire.Jobs if not tail else {1: wire.Job}.get(tail.count("/"))
        kind = wire.Items if tail.endswith("/items") else wire.Timeline if tail.endswith("/timeline") else kind
    if kind is not None:
        try:
            msgspec.json.decode(body, type=kind)
        except msgspec.ValidationError as error:
            yield f"{path}: the client refuses it: {error}"


def _split(path: str) -> tuple[str, bytes]:
    head, _, query = path.partition("?")
    return head, query.encode()


async def _forget(here: InProcess) -> None:
    store = here.app.state.services.store
    store._snapshots.clear()


async def _first_events(here: InProcess, job_ids: list[str] | None) -> bytes:
    hub = here.app.state.services.hub
    with ExitStack() as owner:
        viewer = await hub.join(owner, job_ids, base="", wants_items=True, ends=job_ids is not None)
        taken = b""
        with suppress(TimeoutError):
            async with asyncio.timeout(FIRST_S):
                while not (viewer.ended or (taken and viewer.has_begun)):
                    await viewer.wait_ready()
                    taken += viewer.take()
        return taken


async def _until_done(here: InProcess, job_id: str) -> str:
    store = here.app.state.services.store
    for _ in range(150):
        job = (await store.snapshot(job_id)).job
        if job.done:
            return str(job.state)
        await asyncio.sleep(0.02)
    return f"still {job.state}"
