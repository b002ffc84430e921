"""Decides what the measurements of `unstuck doctor` mean, and what to change: one finding for each question.

It must not know how anything was measured or how a finding is shown.
See also: measure.py, which measures; unstuck/cli/doctor.py, which shows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise

#: Every client gives up a stream whose first byte takes longer (PROTOCOL.md, section 5).
SPEAK_WITHIN_S = 10.0
#: An event that is this much older on arrival than the network explains was held back on its way.
HELD_S, HELD_LONG_S = 0.7, 2.0
#: Heartbeats are uneven if one arrives this much later than announced, or, where none is announced, if the
#: longest pause exceeds the shortest by this much.
UNEVEN_S = 2.0
#: After two heartbeats of 15 s and 5 s more a client treats its stream as dead.
SILENCE_S = 35.0
#: Clocks that are further apart make the times on screen wrong.
CLOCKS_APART_S = 2.0
#: A poll that takes longer feels broken.
SLOW_POLL_S = 2.0


class Level(StrEnum):
    """How serious a finding is; anything but `ok` is something to fix."""

    OK = "ok"
    ATTENTION = "attention"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the result; `mend` holds, for each kind of proxy, what to write."""

    about: str
    level: Level
    says: str
    mend: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Event:
    """One event of the stream; times in seconds."""

    at_s: float  # since the stream was requested
    name: str
    age_s: float | None = None  # on arrival, by the server's clock; None if it carries no time
    next_s: float | None = None  # within which a heartbeat announced the next one


@dataclass(slots=True)
class Measured:
    """Everything that was measured; times in seconds since the stream was requested."""

    url: str
    unreachable: str | None = None
    api: bool = False
    wire: str | None = None
    troubles: list[str] = field(default_factory=list)
    rehearsed: bool = False
    leftover_job: str | None = None  # the rehearsal job, if it could not be removed
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    headers_s: float | None = None
    first_byte_s: float | None = None
    last_byte_s: float | None = None
    events: list[Event] = field(default_factory=list)
    watched_s: float = 0.0
    cut: bool = False  # the stream ended without a `leaving` event from the server
    polls_s: list[float] = field(default_factory=list)
    polls_failed: int = 0
    clock_s: float | None = None  # the server's clock minus ours
    clock_unsure_s: float = 0.0
    protocol: str | None = None  # negotiated by TLS: h2 or http/1.1; None without TLS

    @property
    def streamed(self) -> bool:
        """True if the answer was a stream of events."""
        return self.status == 200 and self.headers.get("content-type", "").startswith("text/event-stream")


#: What to write, ready to paste, in place of any line on the same subject.
NO_BUFFER = {
    "nginx": "proxy_buffering off;",
    "Caddy": "reverse_proxy HOST:PORT {\n\tflush_interval -1\n}",
    "load balancer": "switch response buffering off for /api/events/ and /api/jobs/*/events",
}
NO_COMPRESSION = {
    "nginx": "gzip off;",
    "Caddy": "@plain not path /api/events/* /api/jobs/*/events\nencode @plain gzip",
    "load balancer": "exclude text/event-stream from compression; CDNs obey Cache-Control: no-transform",
}
UNCHANGED = {
    "nginx": "expires off; # and no add_header or proxy_hide_header for Cache-Control",
    "Caddy": "header ?Cache-Control no-store # and no header_down for it",
    "load balancer": "bypass the cache for /api/, and keep the origin's Cache-Control",
}
LONGER_IDLE = {
    "nginx": "proxy_read_timeout 75s;",
    "Caddy": "reverse_proxy HOST:PORT {\n\ttransport http {\n\t\tread_timeout 75s\n\t}\n}",
    "HAProxy": "timeout server 75s\ntimeout client 75s",
    "load balancer": "raise the idle timeout to 75 s or more (AWS ALB: idle_timeout.timeout_seconds=75)",
}
#: A stream that is cut although it is active meets a limit on the time of a whole answer; nginx has no such limit.
NO_TIME_LIMIT = {
    "Caddy": "servers {\n\ttimeouts {\n\t\twrite 0\n\t}\n}",
    "Envoy": "timeout: 0s",
    "load balancer": "allow answers that take hours (Google Cloud: the backend service's timeout, 86400 s)",
    "server": "check its log: it may have been stopped or killed at that moment",
}


def judge(measured: Measured) -> list[Finding]:
    """Return one finding for each question that the measurements can answer."""
    if measured.unreachable is not None:
        return [Finding("server", Level.BAD, measured.unreachable)]
    if not measured.api:
        return [_no_api(measured)]
    findings = [_api(measured), *_left_behind(measured), _stream(measured)]
    if measured.streamed:
        findings += [
            _buffered(measured),
            _compressed(measured),
            *_headers(measured),
            _cut(measured),
            _heartbeats(measured),
        ]
    return [*findings, _polls(measured), _protocol(measured), _clocks(measured)]


def exit_code(measured: Measured, findings: list[Finding]) -> int:
    """Return 0 if all is well, 1 if there is something to fix, 2 if nothing could be measured."""
    if measured.unreachable is not None or not measured.api:
        return 2
    return int(any(one.level is not Level.OK for one in findings))


def _no_api(measured: Measured) -> Finding:
    says = (
        f"Something answers at {measured.url}, but it is not unstuck: /api/health does not answer as unstuck does."
    )
    return Finding(
        "server",
        Level.BAD,
        says,
        {"proxy": "pass /api/ on to unstuck, or add its prefix: unstuck doctor URL/PREFIX"},
    )


def _api(measured: Measured) -> Finding:
    if measured.troubles:
        return Finding("server", Level.BAD, "unstuck answers, but is not ready: " + " ".join(measured.troubles))
    wire = f" (wire version {measured.wire})" if measured.wire else ""
    return Finding("server", Level.OK, f"unstuck answers and is ready{wire}.")


def _left_behind(measured: Measured) -> list[Finding]:
    if measured.leftover_job is None:
        return []
    says = f"The rehearsal job {measured.leftover_job} could not be removed."
    mend = {"curl": f"curl -X DELETE {measured.url}/api/jobs/{measured.leftover_job}"}
    return [Finding("rehearsal", Level.ATTENTION, says, mend)]


def _stream(measured: Measured) -> Finding:
    if measured.status is None:
        says = (
            f"The stream got no answer at all in {measured.watched_s:.0f} s: something on the way holds it back."
        )
        return Finding("stream", Level.BAD, says, NO_BUFFER)
    kind = measured.headers.get("content-type", "none")
    if measured.streamed:
        return Finding("stream", Level.OK, f"The stream opens in {measured.headers_s or 0.0:.2f} s.")
    says = f"The stream is answered with {measured.status} and content type {kind} instead of events."
    return Finding("stream", Level.BAD, says, {"proxy": "pass /api/events/ and /api/jobs/*/events on unchanged"})


def _buffered(measured: Measured) -> Finding:
    first = measured.first_byte_s
    if first is None:
        says = f"Buffered: the stream opened, but not one byte arrived in {measured.watched_s:.0f} s."
        return Finding("buffering", Level.BAD, says, NO_BUFFER)
    held = held_back(measured)
    if first > SPEAK_WITHIN_S:
        says = f"Buffered: the first byte took {first:.1f} s; clients give up after {SPEAK_WITHIN_S:.0f} s."
        return Finding("buffering", Level.BAD, says, NO_BUFFER)
    if held is None:
        says = "No event carried a time, so their delay is not known."
        return Finding("buffering", Level.ATTENTION, says, {"doctor": "measure longer: --seconds 60"})
    if held >= HELD_S:
        level = Level.BAD if held >= HELD_LONG_S else Level.ATTENTION
        says = f"Buffered: events arrive up to {held:.1f} s late{_together(measured)}."
        return Finding("buffering", level, says, NO_BUFFER)
    says = f"Not buffered: first byte after {first:.2f} s, {len(measured.events)} events, none more than"
    return Finding("buffering", Level.OK, f"{says} {max(held, 0.01):.2f} s late.")


def held_back(measured: Measured) -> float | None:
    """Return the longest time for which an event was held back (seconds), or None if no event carries a time.

    Where the clocks are known well, that is the age of the oldest event minus their uncertainty, half a poll;
    otherwise the difference between the ages of the oldest and the youngest event.
    """
    ages = [event.age_s for event in measured.events if event.age_s is not None]
    if not ages:
        return None
    if measured.clock_s is not None and measured.clock_unsure_s < HELD_S / 2:
        return max(max(ages) - measured.clock_unsure_s, 0.0)
    return max(ages) - min(ages)


def _together(measured: Measured) -> str:
    bursts = {round(event.at_s, 1) for event in measured.events}
    count = len(measured.events)
    if len(bursts) == 1 < count:
        return f", all {count} at once"
    return f", {count} of them in {len(bursts)} bursts" if count >= 3 * len(bursts) else ""


def _compressed(measured: Measured) -> Finding:
    encoding = measured.headers.get("content-encoding", "identity")
    if encoding in ("", "identity"):
        return Finding("compression", Level.OK, "Not compressed.")
    says = (
        f"Compressed on the way ({encoding}), which often leads to buffering; unstuck never compresses a stream."
    )
    return Finding("compression", Level.ATTENTION, says, NO_COMPRESSION)


def _headers(measured: Measured) -> list[Finding]:
    control = measured.headers.get("cache-control", "")
    missing = [word for word in ("no-store", "no-transform") if word not in control]
    if missing:
        says = f"Cache-Control arrives as {control!r}: a proxy has removed {' and '.join(missing)}."
        return [Finding("headers", Level.ATTENTION, says, UNCHANGED)]
    # nginx obeys X-Accel-Buffering and does not pass it on, so its absence alone is no fault.
    if "x-accel-buffering" in measured.headers:
        return [Finding("headers", Level.OK, "Cache-Control and X-Accel-Buffering arrive unchanged.")]
    says = "Cache-Control arrives unchanged; a proxy has removed X-Accel-Buffering, which is fine."
    return [Finding("headers", Level.OK, says)]


def longest_pause(measured: Measured) -> float:
    """Return the longest time without an event while the stream was open (seconds)."""
    moments = [measured.headers_s or 0.0, *(one.at_s for one in measured.events), measured.watched_s]
    return max(_pauses(moments), default=0.0)


def _pauses(moments: Sequence[float]) -> list[float]:
    return [after - before for before, after in pairwise(moments)]


def _cut(measured: Measured) -> Finding:
    if measured.cut:
        last = measured.last_byte_s or measured.headers_s or 0.0
        idle = measured.watched_s - last
        when = f"{measured.watched_s:.0f} s after it was requested"
        if idle < 1:
            return Finding("idle", Level.BAD, f"Cut while events were arriving, {when}.", NO_TIME_LIMIT)
        # Two heartbeats within the limit, so that a late one does not cost the stream.
        more_often = {"or unstuck": f"UNSTUCK_HEARTBEAT_S={int(idle / 2)}"} if idle >= 2 else {}
        says = f"Cut after {idle:.1f} s without a byte, {when}."
        return Finding("idle", Level.BAD, says, {**LONGER_IDLE, **more_often})
    says = f"Not cut in {measured.watched_s:.0f} s, with up to {longest_pause(measured):.1f} s between events."
    return Finding("idle", Level.OK, says)


def _heartbeats(measured: Measured) -> Finding:
    beats = [event for event in measured.events if event.name == "heartbeat"]
    pauses = _pauses([beat.at_s for beat in beats])
    if not beats and measured.watched_s > SILENCE_S:
        return Finding("heartbeats", Level.BAD, f"No heartbeat in {measured.watched_s:.0f} s.", NO_BUFFER)
    if not beats:
        says = f"None in {measured.watched_s:.0f} s. They are sent every 15 s; --seconds 40 would see two."
        return Finding("heartbeats", Level.OK, says)
    if not pauses:
        return Finding("heartbeats", Level.OK, "One heartbeat arrived; a longer --seconds would see more.")
    summary = f"{len(beats)} arrived, {min(pauses):.1f} to {max(pauses):.1f} s apart"
    if max(pauses) > SILENCE_S - 5:
        mend = {"unstuck": "UNSTUCK_HEARTBEAT_S=15"}
        says = f"{summary}: clients treat {SILENCE_S:.0f} s of silence as a dead stream."
        return Finding("heartbeats", Level.BAD, says, mend)
    late = [pause - beat.next_s for pause, beat in zip(pauses, beats, strict=False) if beat.next_s is not None]
    if max(late, default=max(pauses) - min(pauses)) > UNEVEN_S:
        return Finding("heartbeats", Level.ATTENTION, f"Uneven: {summary}.", NO_BUFFER)
    return Finding("heartbeats", Level.OK, f"{'As announced' if late else 'Even'}: {summary}.")


def _polls(measured: Measured) -> Finding:
    answered, failed = len(measured.polls_s), measured.polls_failed
    if failed or not answered:
        says = f"{failed} of {answered + failed} polls failed while the stream was open."
        mend = {"proxy": "pass /api/jobs on to unstuck, and allow two connections at once"}
        return Finding("polls", Level.BAD, says, mend)
    median = sorted(measured.polls_s)[answered // 2]
    if median > SLOW_POLL_S:
        mend = {"server": "check whether it is overloaded (/api/health) or far away"}
        return Finding("polls", Level.ATTENTION, f"Polls take {median:.1f} s while the stream is open.", mend)
    return Finding("polls", Level.OK, f"Polls are answered while the stream is open ({median * 1000:.0f} ms).")


def _protocol(measured: Measured) -> Finding:
    if measured.protocol == "h2":
        return Finding("HTTP/2", Level.OK, "In use: any number of tabs can have a stream.")
    why = "not offered" if measured.protocol else "browsers use it over HTTPS only"
    says = f"Not in use ({why}). A browser's tabs share one stream, so its six connections are enough."
    return Finding("HTTP/2", Level.OK, says)


def _clocks(measured: Measured) -> Finding:
    apart, unsure = measured.clock_s, measured.clock_unsure_s
    if apart is None:
        return Finding("clocks", Level.OK, "The server's answers carried no time to compare with.")
    if abs(apart) - unsure > CLOCKS_APART_S:
        side = "ahead of" if apart > 0 else "behind"
        says = f"The server's clock is {abs(apart):.1f} s {side} ours: progress is right, the times shown are not."
        return Finding("clocks", Level.ATTENTION, says, {"both": "timedatectl set-ntp true"})
    return Finding("clocks", Level.OK, f"Within {max(abs(apart), unsure, 0.01):.2f} s of each other.")
