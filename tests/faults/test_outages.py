"""Test short outages of a real network; the long ones, up to 300 s, are `scripts/faults --outages`."""

from __future__ import annotations

import pytest

from tests.faults.namespaces import Way, missing
from tests.faults.outages import Outage, Trouble, play_outages

pytestmark = [pytest.mark.browser, pytest.mark.alone]

SHORT = (
    Outage(4),
    Outage(4, way=Way.ANSWERS),
    Outage(4, Trouble.REFUSED),
    Outage(6, Trouble.KILLED),
)


def test_the_truth_is_shown_after_a_real_outage() -> None:
    if reason := missing():
        pytest.skip(reason)
    results = play_outages(SHORT, lambda _: None)
    assert [outage for outage, _, _ in results] == list(SHORT)
    wrong = [f"{outage}: {truth_s} {found}" for outage, truth_s, found in results if found or truth_s is None]
    assert not wrong, "\n".join(wrong)
