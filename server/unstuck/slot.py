"""One change of one job as the bytes that its viewers are sent: made once, shared by all.

Pure. Who is sent which of them is the viewer's business (viewer.py), what they say that of snapshot.py and sse.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from unstuck import sse
from unstuck.job import Item
from unstuck.snapshot import Snapshot, public, public_item

#: Items in one `items` event; a viewer that missed more fetches them.
ITEMS_SHOWN = 100


@dataclass(frozen=True, slots=True)
class Slot:
    """One change. `items` are those that changed after the seq `since`; who missed something before is sent
    `missed` instead: fetch them."""

    seq: int
    since: int
    job: bytes
    items: bytes
    missed: bytes
    final: bool
    #: An id is a job's seq; on a stream of several jobs it would mean nothing.
    nameless: bytes = field(init=False)
    #: The items and the job in one piece, with and without an id: made here once, and not for each viewer.
    both: tuple[bytes, bytes] = field(init=False)

    def __post_init__(self) -> None:
        nameless = self.job[self.job.index(b"\n") + 1 :]
        object.__setattr__(self, "nameless", nameless)
        object.__setattr__(self, "both", (self.items + self.job, self.items + nameless))


def slot(
    snapshot: Snapshot, changed: Sequence[Item], since: int, now: float, base: str, keep_s: float | None
) -> Slot:
    """`changed` are the items after the seq `since`, one more than are shown if there are more; the rest is
    `snapshot.public`'s."""
    job = snapshot.job
    seen = public(snapshot, now, base, keep_s)
    shown = [public_item(item, job.id, base) for item in changed[:ITEMS_SHOWN]]
    return Slot(
        seq=job.seq,
        since=since,
        job=sse.event("job", seen, job.seq),
        items=sse.items(job.id, job.seq, shown, more=len(changed) > ITEMS_SHOWN) if shown else b"",
        missed=sse.items(job.id, job.seq, [], more=True),
        final=job.done,
    )
