"""What the measurements of `unstuck doctor` mean, and what to change: one finding for each question.

Pure: `judge(measured)` reads numbers and headers, and answers sentences. It decides what counts as held
back, cut or uneven; it must not know how anything was measured or how a finding is shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise

#: A stream whose first byte takes longer is given up by every client (PROTOCOL.md section 5).
SPEAK_WITHIN_S = 10.0
#: An event that is this much older on arrival than the network explains was held back on the way.
HELD_S, HELD_LONG_S = 0.7, 2.0
#: What a heartbeat may come later than the one before it said; where that said nothing, between the shortest
#: and the longest pause of heartbeats that come evenly.
UNEVEN_S = 2.0
#: After two beats of 15 s and 5 s more a client takes its stream for dead.
SILENCE_S = 35.0
#: Clocks that are further apart show people wrong times.
CLOCKS_APART_S = 2.0
#: A poll that takes longer feels broken.
SLOW_POLL_S = 2.0


class Level(StrEnum):
    """How a finding is meant; anything but `ok` is something to mend."""

    OK = "ok"
    ATTENTION = "attention"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the answer; `mend` says for each kind of proxy what to write."""

    about: str
    level: Level
    says: str
    mend: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Event:
    """One event of the stream: seconds since it was asked for, its name, how old it was on arrival by the
    server's clock (seconds, None where it carries no time), and the time within which a heartbeat said that
    the next one comes."""

    at_s: float
    name: str
    age_s: float | None = None
    next_s: float | None = None


@dataclass(slots=True)
class Measured:
    """Everything that was measured; times in seconds since the stream was asked for."""

    url: str
    unreachable: str | None = None
    api: bool = False
    wire: str | None = None
    troubles: list[str] = field(default_factory=list)
    rehearsed: bool = False
    leftover_job: str | None = None  # a job that could not be removed again
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    headers_s: float | None = None
    first_byte_s: float | None = None
    last_byte_s: float | None = None
    events: list[Event] = field(default_factory=list)
    watched_s: float = 0.0
    cut: bool = False  # the stream ended, and the server had not said so
    polls_s: list[float] = field(default_factory=list)
    polls_failed: int = 0
    clock_s: float | None = None  # the server's clock minus ours
    clock_unsure_s: float = 0.0
    protocol: str | None = None  # what TLS agreed on: h2, http/1.1; None without TLS

    @property
    def streamed(self) -> bool:
        """There is a stream of events to judge."""
        return self.status == 200 and self.headers.get("content-type", "").startswith("text/event-stream")


#: What to write, ready to be pasted, in place of what is said there on the same matter.
NO_BUFFER = {
    "nginx": "proxy_buffering off;",
    "Caddy": "reverse_proxy HOST:PORT {\n\tflush_interval -1\n}",
    "load balancer": "switch response buffering off for /api/events/ and /api/jobs/*/events",
}
NO_COMPRESSION = {
    "nginx": "gzip off;",
    "Caddy": "@plain not path /api/events/* /api/jobs/*/events\nencode @plain gzip",
    "load balancer": "exclude text/event-stream from compression; a CDN obeys Cache-Control: no-transform",
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
#: Where a stream is cut although it speaks, something limits how long any answer may take; nginx cannot.
NO_TIME_LIMIT = {
    "Caddy": "servers {\n\ttimeouts {\n\t\twrite 0\n\t}\n}",
    "Envoy": "timeout: 0s",
    "load balancer": "allow answers that take hours (Google Cloud: the backend service's timeout, 86400 s)",
    "server": "or was it stopped or killed just then? see its log",
}


def judge(measured: Measured) -> list[Finding]:
    """One finding for each question that could be asked of this path."""
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
    """0 fine, 1 something to mend, 2 nothing could be measured."""
    if measured.unreachable is not None or not measured.api:
        return 2
    return int(any(one.level is not Level.OK for one in findings))


def _no_api(measured: Measured) -> Finding:
    says = f"Something answers at {measured.url}, but it is not unstuck: /api/health is not its own."
    return Finding("server", Level.BAD, says, {"proxy": "pass /api/ on; or give the prefix: doctor URL/PREFIX"})


def _api(measured: Measured) -> Finding:
    if measured.troubles:
        return Finding("server", Level.BAD, "It answers, but cannot work: " + " ".join(measured.troubles))
    wire = f" (wire version {measured.wire})" if measured.wire else ""
    return Finding("server", Level.OK, f"unstuck answers, and is able to work{wire}.")


def _left_behind(measured: Measured) -> list[Finding]:
    if measured.leftover_job is None:
        return []
    says = f"The rehearsal job {measured.leftover_job} could not be removed again."
    mend = {"curl": f"curl -X DELETE {measured.url}/api/jobs/{measured.leftover_job}"}
    return [Finding("rehearsal", Level.ATTENTION, says, mend)]


def _stream(measured: Measured) -> Finding:
    if measured.status is None:
        says = f"The stream gave no answer at all in {measured.watched_s:.0f} s: something holds it back."
        return Finding("stream", Level.BAD, says, NO_BUFFER)
    kind = measured.headers.get("content-type", "none")
    if measured.streamed:
        return Finding("stream", Level.OK, f"The stream opens ({measured.headers_s or 0.0:.2f} s).")
    says = f"The stream is answered with {measured.status} and content type {kind}, not with events."
    return Finding("stream", Level.BAD, says, {"proxy": "pass /api/events/ and /api/jobs/*/events on unchanged"})


def _buffered(measured: Measured) -> Finding:
    first = measured.first_byte_s
    if first is None:
        says = f"Buffered: the stream opened, and not one byte came in {measured.watched_s:.0f} s."
        return Finding("buffering", Level.BAD, says, NO_BUFFER)
    held = held_back(measured)
    if first > SPEAK_WITHIN_S:
        says = f"Buffered: the first byte took {first:.1f} s; clients give up after {SPEAK_WITHIN_S:.0f} s."
        return Finding("buffering", Level.BAD, says, NO_BUFFER)
    if held is None:
        says = "No event carried a time, so how long events take is not known."
        return Finding("buffering", Level.ATTENTION, says, {"doctor": "measure longer: --seconds 60"})
    if held >= HELD_S:
        level = Level.BAD if held >= HELD_LONG_S else Level.ATTENTION
        says = f"Buffered: events come up to {held:.1f} s late{_together(measured)}."
        return Finding("buffering", level, says, NO_BUFFER)
    says = f"Not buffered: first byte after {first:.2f} s, {len(measured.events)} events, none later than"
    return Finding("buffering", Level.OK, f"{says} {max(held, 0.01):.2f} s.")


def held_back(measured: Measured) -> float | None:
    """The longest that an event was held back: beyond what the youngest event took, or, where the clocks
    are known well, beyond what half a poll takes."""
    ages = [event.age_s for event in measured.events if event.age_s is not None]
    if not ages:
        return None
    if measured.clock_s is not None and measured.clock_unsure_s < HELD_S / 2:
        return max(max(ages) - measured.clock_unsure_s, 0.0)
    return max(ages) - min(ages)


def _together(measured: Measured) -> str:
    moments = {round(event.at_s, 1) for event in measured.events}
    many = len(measured.events)
    if len(moments) == 1 < many:
        return f", all {many} at once"
    return f", {many} of them in {len(moments)} bursts" if many >= 3 * len(moments) else ""


def _compressed(measured: Measured) -> Finding:
    encoding = measured.headers.get("content-encoding", "identity")
    if encoding in ("", "identity"):
        return Finding("compression", Level.OK, "Not compressed.")
    says = f"Compressed on the way ({encoding}), which invites holding back; unstuck never compresses a stream."
    return Finding("compression", Level.ATTENTION, says, NO_COMPRESSION)


def _headers(measured: Measured) -> list[Finding]:
    control = measured.headers.get("cache-control", "")
    missing = [word for word in ("no-store", "no-transform") if word not in control]
    if missing:
        says = f"Cache-Control arrives as {control!r}: {' and '.join(missing)} got lost on the way."
        return [Finding("headers", Level.ATTENTION, says, UNCHANGED)]
    # nginx obeys X-Accel-Buffering and does not pass it on; so its absence alone is no fault.
    taken = "x-accel-buffering" not in measured.headers
    says = "Cache-Control is kept; X-Accel-Buffering " + ("was taken by a proxy." if taken else "too.")
    return [Finding("headers", Level.OK, says)]


def longest_pause(measured: Measured) -> float:
    """The longest time without any event, while the stream was open (seconds)."""
    moments = [measured.headers_s or 0.0, *(one.at_s for one in measured.events), measured.watched_s]
    return max(_pauses(moments), default=0.0)


def _pauses(moments: Sequence[float]) -> list[float]:
    return [after - before for before, after in pairwise(moments)]


def _cut(measured: Measured) -> Finding:
    if measured.cut:
        last = measured.last_byte_s or measured.headers_s or 0.0
        idle = measured.watched_s - last
        asked = f"{measured.watched_s:.0f} s after it was asked for"
        if idle < 1:
            return Finding("idle", Level.BAD, f"Cut in the middle of its events, {asked}.", NO_TIME_LIMIT)
        # Two beats within the limit, so that one that comes late does not cost the stream.
        often = {"or unstuck": f"UNSTUCK_HEARTBEAT_S={int(idle / 2)}"} if idle >= 2 else {}
        says = f"Cut after {idle:.1f} s without a byte, {asked}."
        return Finding("idle", Level.BAD, says, {**LONGER_IDLE, **often})
    says = f"Not cut in {measured.watched_s:.0f} s, with up to {longest_pause(measured):.1f} s between events."
    return Finding("idle", Level.OK, says)


def _heartbeats(measured: Measured) -> Finding:
    beats = [event for event in measured.events if event.name == "heartbeat"]
    pauses = _pauses([beat.at_s for beat in beats])
    if not beats and measured.watched_s > SILENCE_S:
        return Finding("heartbeats", Level.BAD, f"No heartbeat in {measured.watched_s:.0f} s.", NO_BUFFER)
    if not beats:
        says = f"None in {measured.watched_s:.0f} s. They come every 15 s; --seconds 40 would see two."
        return Finding("heartbeats", Level.OK, says)
    if not pauses:
        return Finding("heartbeats", Level.OK, "One heartbeat came; more need a longer --seconds.")
    told = f"{len(beats)} came, {min(pauses):.1f} to {max(pauses):.1f} s apart"
    if max(pauses) > SILENCE_S - 5:
        mend = {"unstuck": "UNSTUCK_HEARTBEAT_S=15"}
        says = f"{told}: clients take {SILENCE_S:.0f} s of silence for a dead stream."
        return Finding("heartbeats", Level.BAD, says, mend)
    late = [pause - beat.next_s for pause, beat in zip(pauses, beats, strict=False) if beat.next_s is not None]
    if max(late, default=max(pauses) - min(pauses)) > UNEVEN_S:
        return Finding("heartbeats", Level.ATTENTION, f"Uneven: {told}.", NO_BUFFER)
    return Finding("heartbeats", Level.OK, f"{'As announced' if late else 'Even'}: {told}.")


def _polls(measured: Measured) -> Finding:
    many = len(measured.polls_s)
    if measured.polls_failed or not many:
        says = f"{measured.polls_failed} of {many + measured.polls_failed} polls failed while the stream was open."
        return Finding("polls", Level.BAD, says, {"proxy": "pass /api/jobs on, and allow two connections at once"})
    middle = sorted(measured.polls_s)[many // 2]
    if middle > SLOW_POLL_S:
        says = f"Polls beside the stream take {middle:.1f} s."
        return Finding(
            "polls", Level.ATTENTION, says, {"server": "is it overloaded, or far away? see /api/health"}
        )
    return Finding("polls", Level.OK, f"Polls pass beside the open stream ({middle * 1000:.0f} ms).")


def _protocol(measured: Measured) -> Finding:
    if measured.protocol == "h2":
        return Finding("HTTP/2", Level.OK, "Spoken: any number of tabs may stream.")
    why = "not offered" if measured.protocol else "browsers speak it over HTTPS only"
    says = f"Not spoken ({why}): six connections for all tabs of a browser. They share one stream; that is enough."
    return Finding("HTTP/2", Level.OK, says)


def _clocks(measured: Measured) -> Finding:
    apart, unsure = measured.clock_s, measured.clock_unsure_s
    if apart is None:
        return Finding("clocks", Level.OK, "The server's answers carried no time to compare.")
    if abs(apart) - unsure > CLOCKS_APART_S:
        side = "ahead of" if apart > 0 else "behind"
        says = f"The server's clock is {abs(apart):.1f} s {side} ours: progress is safe, times are shown wrong."
        return Finding("clocks", Level.ATTENTION, says, {"both": "timedatectl set-ntp true"})
    return Finding("clocks", Level.OK, f"Together within {max(abs(apart), unsure, 0.01):.2f} s.")
