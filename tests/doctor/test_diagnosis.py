"""The diagnosis: findings from given measurements, without any network."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from unstuck.doctor.diagnosis import Event, Finding, Level, Measured, exit_code, held_back, judge, longest_pause

AS_SENT = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-store, no-transform",
    "x-accel-buffering": "no",
}
#: A rehearsal of six seconds, then a heartbeat every 15 s.
EVENTS = [
    *(Event(0.2 + n / 5, "job", 0.01) for n in range(30)),
    Event(13.0, "heartbeat", 0.01),
    Event(28.0, "heartbeat", 0.01),
]
#: Events sent over four seconds that all arrived at once.
BURST = [Event(5.0, "job", 4.01 - n / 5) for n in range(20)]
HEALTHY = Measured(
    url="https://example.org", api=True, rehearsed=True, status=200, headers=AS_SENT, headers_s=0.05,
    first_byte_s=0.06, last_byte_s=28.0, events=EVENTS, watched_s=40.0, polls_s=[0.02, 0.03, 0.04],
    clock_s=0.1, clock_unsure_s=0.01, protocol="h2",
)  # fmt: skip


def found(**changed: Any) -> dict[str, Finding]:
    return {finding.about: finding for finding in judge(replace(HEALTHY, **changed))}


def test_a_healthy_path_needs_no_advice() -> None:
    findings = judge(HEALTHY)
    assert {finding.level for finding in findings} == {Level.OK}
    assert not any(finding.mend for finding in findings)
    assert exit_code(HEALTHY, findings) == 0


@pytest.mark.parametrize(
    ("about", "level", "says", "changed"),
    [
        ("server", "bad", "is not ready", {"troubles": ["No worker can be started."]}),
        ("rehearsal", "attention", "could not be removed", {"leftover_job": "some-id"}),
        ("stream", "bad", "no answer at all", {"status": None, "headers": {}, "headers_s": None, "events": []}),
        ("stream", "bad", "502", {"status": 502, "headers": {"content-type": "text/html"}}),
        ("stream", "bad", "text/html", {"headers": {"content-type": "text/html"}}),
        ("buffering", "bad", "not one byte", {"first_byte_s": None, "events": []}),
        ("buffering", "bad", "give up", {"first_byte_s": 11.0}),
        ("buffering", "bad", "4.0 s late, all 20 at once", {"events": BURST}),
        ("buffering", "bad", "40 of them in 2 bursts", {"events": BURST + [Event(9.0, "job", 2.0)] * 20}),
        ("buffering", "attention", "1.0 s late", {"events": [Event(1.0, "job", 1.01), Event(2.0, "job", 0.01)]}),
        ("buffering", "attention", "not known", {"events": [Event(1.0, "gone")]}),
        ("compression", "attention", "gzip", {"headers": {**AS_SENT, "content-encoding": "gzip"}}),
        ("headers", "attention", "no-transform", {"headers": {**AS_SENT, "cache-control": "no-store"}}),
        ("idle", "bad", "12.0 s without a byte", {"cut": True, "last_byte_s": 28.0, "watched_s": 40.0}),
        ("idle", "bad", "while events were arriving", {"cut": True, "last_byte_s": 39.9, "watched_s": 40.0}),
        ("heartbeats", "bad", "No heartbeat", {"events": EVENTS[:30]}),
        ("heartbeats", "bad", "dead stream", {"events": [Event(1.0, "heartbeat"), Event(36.0, "heartbeat")]}),
        ("heartbeats", "attention", "Uneven", {"events": [Event(t, "heartbeat", 0.0) for t in (1.0, 2.0, 30.0)]}),
        ("heartbeats", "attention", "Uneven", {"events": [Event(at, "heartbeat", None, 5.0) for at in (1, 9)]}),
        ("polls", "bad", "2 of 5", {"polls_failed": 2}),
        ("polls", "bad", "0 of 0", {"polls_s": []}),
        ("polls", "attention", "3.0 s", {"polls_s": [3.0]}),
        ("clocks", "attention", "3600.0 s behind", {"clock_s": -3600.0}),
        ("clocks", "attention", "ahead of", {"clock_s": 3600.0}),
    ],
)  # fmt: skip
def test_faults(about: str, level: str, says: str, changed: dict[str, Any]) -> None:
    measured = replace(HEALTHY, **changed)
    finding = found(**changed)[about]
    assert finding.level == level
    assert says in finding.says
    assert exit_code(measured, judge(measured)) == 1
    # Each fault comes with what to change and where; the server's own troubles say so themselves.
    assert finding.mend or about == "server"


@pytest.mark.parametrize(
    ("about", "says", "changed"),
    [
        ("headers", "a proxy has removed X-Accel-Buffering", {"headers": dict(tuple(AS_SENT.items())[:2])}),
        ("heartbeats", "--seconds 40", {"events": EVENTS[:30], "watched_s": 8.0}),
        ("heartbeats", "One heartbeat", {"events": EVENTS[:31]}),
        ("HTTP/2", "over HTTPS only", {"protocol": None}),
        ("HTTP/2", "not offered", {"protocol": "http/1.1"}),
        ("clocks", "no time", {"clock_s": None}),
        # A difference that the measurement cannot tell from its own error is none.
        ("clocks", "Within 2.50 s of each other", {"clock_s": 2.5, "clock_unsure_s": 1.0}),
        ("compression", "Not compressed", {"headers": {**AS_SENT, "content-encoding": "identity"}}),
    ],
)  # fmt: skip
def test_no_fault(about: str, says: str, changed: dict[str, Any]) -> None:
    finding = found(**changed)[about]
    assert finding.level is Level.OK
    assert says in finding.says


def test_a_wrong_clock_is_not_taken_for_buffering() -> None:
    """Where the offset of the clocks is unknown, only differences between events count."""
    hour_off = [replace(event, age_s=(event.age_s or 0.0) + 3600.0) for event in EVENTS]
    measured = replace(HEALTHY, events=hour_off, clock_s=None, clock_unsure_s=0.0)
    assert held_back(measured) == pytest.approx(0.0, abs=1e-6)


def test_heartbeats_sooner_than_announced_are_fine() -> None:
    finding = found(events=[Event(at, "heartbeat", None, 15.0) for at in (1.0, 3.0, 18.0)])["heartbeats"]
    assert (finding.level, finding.says.split(":")[0]) == (Level.OK, "As announced")


def test_the_advice_names_a_heartbeat_interval_that_would_do() -> None:
    cut = {"cut": True, "watched_s": 40.0}
    assert found(**cut, last_byte_s=30.0)["idle"].mend["or unstuck"] == "UNSTUCK_HEARTBEAT_S=5"
    assert "or unstuck" not in found(**cut, last_byte_s=39.0)["idle"].mend


def test_a_limit_on_the_whole_response_is_not_fixed_by_an_idle_limit() -> None:
    mend = found(cut=True, last_byte_s=39.9, watched_s=40.0)["idle"].mend
    assert "write 0" in mend["Caddy"]
    assert "nginx" not in mend


def test_silence_at_the_end_counts_as_a_pause() -> None:
    assert longest_pause(replace(HEALTHY, events=EVENTS[:30], watched_s=40.0)) == pytest.approx(34.0)


def test_nothing_could_be_measured() -> None:
    for measured in (Measured("http://x", unreachable="It cannot be reached."), Measured("http://x")):
        findings = judge(measured)
        assert [finding.level for finding in findings] == [Level.BAD]
        assert exit_code(measured, findings) == 2
