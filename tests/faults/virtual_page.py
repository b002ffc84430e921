"""Simulates a page under virtual time, and the dialog in it, and records what the user sees.

The page has clocks, one timer, and may be hidden, frozen or asleep; the dialog does for the policy what
follower.js does. It must not know the network's faults, the server, or what is right.
Next: virtual_stage.py, which plays it; unstuck/client/watchdog.py, the policy.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tests.faults.virtual_net import Connection, Log, Network
from tests.faults.wire import POLL, STREAM
from unstuck.client.follower import job_of, next_ms, parsed
from unstuck.client.watch_state import SECOND_MS, WatchAction, WatchEvent, WatchState
from unstuck.client.watchdog import step

#: Timers of a hidden page fire at whole minutes.
MINUTE_S = 60.0
#: As in follower.js: the machine slept if the wall clock gained more than this on the steady one (milliseconds).
SLEPT_MS = 2_000


class Page:
    """The parts of a browser that a dialog can notice."""

    def __init__(self, seed: int) -> None:
        self.on_event: Callable[[str], None] = lambda name: None
        self.visible = True
        self.wall_offset_s = 0.0
        self._chance = random.Random(f"page {seed}")
        self._loop = asyncio.get_running_loop()
        self._stops: list[bool] = []  # why it is stopped: True for a sleeping machine, False for a frozen page
        self._asleep_at, self._slept_s = 0.0, 0.0
        self._waiting: list[Callable[[], None]] = []  # arrived while it was stopped
        self._timer: tuple[Callable[[], None], float] | None = None  # and when it is due by the steady clock (s)
        self._handle: asyncio.TimerHandle | None = None

    # -- clocks and the timer

    def wall(self) -> float:
        return (self._loop.time() + self.wall_offset_s) * SECOND_MS

    def steady(self) -> float:
        return (self._loop.time() - self._slept_s) * SECOND_MS

    @property
    def timer_is_set(self) -> bool:
        return self._timer is not None

    def set_timer(self, call: Callable[[], None], delay_ms: float) -> None:
        early_or_late = self._chance.uniform(-0.5, 4.0)
        self._timer = (call, (self.steady() + max(0.0, delay_ms + early_or_late)) / SECOND_MS)
        self._reschedule()

    def clear_timer(self) -> None:
        self._timer = None
        self._reschedule()

    def _reschedule(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        if self._timer is None or self._stops:
            return
        due = max(self._timer[1] + self._slept_s, self._loop.time())
        if not self.visible:
            due = math.ceil(due / MINUTE_S) * MINUTE_S
        self._handle = self._loop.call_at(due, self._fire)

    def _fire(self) -> None:
        self._handle = None
        if self._timer is not None:
            call, self._timer = self._timer[0], None
            call()

    # -- what happens to the page

    def receive(self, what: Callable[[], None]) -> None:
        """Deliver something from the network, or queue it while the page is stopped."""
        if self._stops:
            self._waiting.append(what)
        else:
            what()

    def show(self, visible: bool) -> None:
        self.visible = visible
        self._reschedule()
        if visible and not self._stops:
            self.on_event("page_shown")

    def stop(self, *, asleep: bool) -> None:
        """Freeze the page, or put its machine to sleep."""
        self._stops.append(asleep)
        if self._stops.count(True) == 1 and asleep:
            self._asleep_at = self._loop.time()
        self._reschedule()

    def resume(self, *, asleep: bool) -> None:
        """Thaw the page, or wake its machine; queued events come before or after the page notices that."""
        self._stops.remove(asleep)
        if asleep and True not in self._stops:
            self._slept_s += self._loop.time() - self._asleep_at
        if self._stops:
            return
        self._reschedule()
        thawed = [] if asleep else [lambda: self.on_event("page_shown")]
        waiting, self._waiting = self._waiting, []
        for what in waiting + thawed if self._chance.random() < 0.5 else thawed + waiting:
            what()

    def network(self, online: bool) -> None:
        self.receive(lambda: self.on_event("online" if online else "offline"))


@dataclass(frozen=True, slots=True)
class Screen:
    """The content of the screen from `at` on."""

    at: float
    history: int
    seq: int
    bar: float | None
    state: str
    done: bool
    counts: tuple[int, int]

    @staticmethod
    def of(job: Mapping[str, Any], at: float) -> Screen:
        shown = job["progress"]
        counts = (shown["succeeded"], shown["failed"])
        return Screen(at, int(job["name"]), job["seq"], shown["percent"], job["state"], job["done"], counts)


class Dialog:
    """Follows a job as follower.js does: passes events to the policy, and carries out its actions."""

    def __init__(self, page: Page, net: Network, seed: int, log: Log) -> None:
        self.screens: list[Screen] = []
        self.ended = asyncio.Event()
        self.state = WatchState()
        self.streams: dict[int, Connection] = {}
        self.poll: Connection | None = None
        self.max_polls = 0  # in flight at once
        self._page, self._net, self._log = page, net, log
        self._chance = random.Random(f"dialog {seed}")
        self._etag: tuple[str, int] | None = None
        self._now, self._wall, self._steady = 0.0, page.wall(), page.steady()
        page.on_event = lambda name: self.on({"type": name})

    def on(self, event: WatchEvent) -> None:
        if self.ended.is_set():
            return
        self.state, actions = step(self.state, event, self._read_clock(), self._chance.random())
        self._log(f"  {brief(event)} → {', '.join(map(brief, actions)) or '–'} [{self.state.link}]")
        for action in actions:
            self.act(action, event)
        if self.state.done:
            self.close()

    def act(self, action: WatchAction, event: WatchEvent) -> None:
        match action["type"]:
            case "show":
                self.screens.append(Screen.of(event["job"], asyncio.get_running_loop().time()))
            case "open_stream":
                self._open_stream(action["stream"])
            case "close_stream":
                self._net.abort(self.streams.pop(action["stream"]))
            case "poll":
                self._send_poll(action["poll"], action["reason"])
            case "abort_poll" if self.poll is not None:
                self._net.abort(self.poll)
                self.poll = None
            case "wake_at":
                self.set_timer(action["at_ms"])

    def set_timer(self, at: int | None) -> None:
        if at is None:
            self._page.clear_timer()
        else:
            self._page.set_timer(self._fire, max(0, at - self._read_clock()))

    def _fire(self) -> None:
        self.on({"type": "tick"})
        if not self._page.timer_is_set and self.state.wake_at is not None:
            self.set_timer(self.state.wake_at)  # the timer fired a little early

    def _read_clock(self) -> int:
        wall, steady = self._page.wall(), self._page.steady()
        by_wall, by_steady = wall - self._wall, steady - self._steady
        self._now += by_wall if by_wall > by_steady + SLEPT_MS else by_steady
        self._wall, self._steady = wall, steady
        return round(self._now)

    def close(self) -> None:
        for connection in self.streams.values():
            self._net.abort(connection)
        self.streams.clear()
        if self.poll is not None:
            self._net.abort(self.poll)
            self.poll = None
        self._page.clear_timer()
        self.ended.set()

    # -- streams and polls

    def _open_stream(self, number: int) -> None:
        self.streams[number] = self._net.request(STREAM, {}, _Stream(self, number))

    def on_message(self, number: int, name: str, text: str) -> None:
        if number not in self.streams or name not in ("job", "items", "heartbeat", "leaving", "gone"):
            return
        data = parsed(text)
        if data is None or (name == "job" and job_of(data) is None):
            self.on({"type": "stream_error", "stream": number})
        elif name == "job":
            self.on({"type": "job", "stream": number, "job": data})
        elif name == "heartbeat":
            seq = next(iter(data["jobs"].values()), None)
            self.on({"type": "heartbeat", "stream": number, "seq": seq, "next_ms": next_ms(data)})
        elif name == "leaving":
            self.on({"type": "leaving", "stream": number, "retry_ms": data["retry_ms"]})
        else:
            self.on({"type": name, "stream": number})

    def _send_poll(self, number: int, reason: str) -> None:
        headers = {"if-none-match": self._etag[0]} if self._etag and self._etag[1] == self.state.seq else {}
        self.max_polls = max(self.max_polls, 1 + (self.poll is not None))
        response = _PollResponse(self, number)
        response.connection = self.poll = self._net.request(POLL, {**headers, "reason": reason}, response)

    def on_poll_end(self, connection: Connection | None, event: dict[str, Any], tag: str | None) -> None:
        if connection is not self.poll or self.ended.is_set():
            return  # it was aborted
        self.poll = None
        if event["type"] == "poll_ok":
            self._etag = (tag, event["job"]["seq"]) if tag else None
        self.on(event)


class _Stream:
    """An EventSource: passes on whole events only, and closes permanently on anything but a stream."""

    def __init__(self, dialog: Dialog, number: int) -> None:
        self._dialog, self._number = dialog, number
        self._rest = b""
        self._closed = False

    def head(self, status: int, headers: Mapping[str, str]) -> None:
        if status == 200 and headers.get("content-type") == "text/event-stream":
            self._dialog.on({"type": "stream_open", "stream": self._number})
        else:
            self.on_close(True)

    def piece(self, data: bytes) -> None:
        *blocks, self._rest = (self._rest + data).split(b"\n\n")
        for block in blocks if not self._closed else []:
            fields = dict(line.split(": ", 1) for line in block.decode().split("\n") if not line.startswith(":"))
            if "data" in fields:
                self._dialog.on_message(self._number, fields["event"], fields["data"])

    def on_close(self, whole: bool) -> None:
        if not self._closed:
            self._closed = True
            self._dialog.on({"type": "stream_error", "stream": self._number})


class _PollResponse:
    """A fetch and its text()."""

    connection: Connection | None = None

    def __init__(self, dialog: Dialog, number: int) -> None:
        self._dialog, self._number = dialog, number
        self._status: int | None = None
        self._headers: Mapping[str, str] = {}
        self._body = b""

    def head(self, status: int, headers: Mapping[str, str]) -> None:
        self._status, self._headers = status, headers

    def piece(self, data: bytes) -> None:
        self._body += data

    def on_close(self, whole: bool) -> None:
        self._dialog.on_poll_end(self.connection, self._event(whole), self._headers.get("etag"))

    def _event(self, whole: bool) -> dict[str, Any]:
        failed = {"type": "poll_failed", "poll": self._number, "status": None, "code": "no_answer"}
        if not whole or self._status is None:
            return failed
        if self._status == 304:
            return {"type": "poll_not_modified", "poll": self._number}
        body = parsed(self._body.decode(errors="replace"))
        if self._status < 300 and job_of(body) is not None:
            return {"type": "poll_ok", "poll": self._number, "job": body}
        code = "not_our_answer" if self._status < 300 else (body or {}).get("code")
        again = int(self._headers.get("retry-after", 0)) * SECOND_MS
        return {**failed, "status": self._status, "code": code, "retry_after_ms": again}


def brief(what: Mapping[str, Any]) -> str:
    """Describe an event or an action in a few words."""
    words = [what["type"].replace("_", " ")]
    for key, value in what.items():
        if key == "job":
            words.append(f"seq {value['seq']} of history {value['name']} ({value['state']})")
        elif key != "type" and value is not None:
            words.append(f"{key} {value}" if key in ("status", "seq", "at_ms") else f"{value}")
    return " ".join(words)
