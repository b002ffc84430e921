"""Hypothesis strategies for reports of external work."""

from __future__ import annotations

from hypothesis import strategies as st

from unstuck.jobs.decide import NEXT
from unstuck.jobs.external import ExternalReport, ItemReport
from unstuck.jobs.job import ItemState, State

counts = st.none() | st.integers(0, 7)
states = st.sampled_from([*ItemState, ItemState.RUNNING, ItemState.RUNNING]).filter(lambda s: s != "pending")
item_reports = st.builds(
    ItemReport, st.integers(0, 4), states, st.none() | st.floats(0, 1), st.none() | st.just("m")
)
reports = st.builds(
    ExternalReport,
    items=st.lists(item_reports, max_size=3).map(tuple),
    processed=counts,
    failed=st.none() | st.integers(0, 2),
    skipped=st.none() | st.integers(0, 1),
    total=st.none() | st.none() | st.integers(0, 9),
    message=st.none() | st.just("word"),
    state=st.none() | st.none() | st.none() | st.sampled_from(sorted(NEXT[State.RUNNING])),
)
