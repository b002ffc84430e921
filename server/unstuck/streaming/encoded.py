"""One change of one job as the bytes that its viewers are sent: made once, shared by all.

Pure. Who is sent which of them is the viewer's business (viewer.py), what they say that of snapshot.py and sse.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from unstuck.jobs.job import Item
from unstuck.jobs.snapshot import Snapshot, public, public_item
from unstuck.streaming import sse

#: Items in one `items` event; a viewer that missed more fetches them.
ITEMS_SHOWN = 100


@dataclass(frozen=True, slots=True)
class EncodedChange:
    """One change: the job's event, with an id (its seq) and without, since on a stream of several jobs it would
    mean nothing; and `both`, the same behind the items that changed after the seq `since`."""

    job_id: str
    seq: int
    since: int
    final: bool
    job: bytes
    nameless: bytes
    both: tuple[bytes, bytes]

    def missed(self) -> bytes:
        """Instead of items, for who missed something before `since`: fetch them."""
        return sse.items(self.job_id, self.seq, [], more=True)


def encode_change(
    snapshot: Snapshot, changed: Sequence[Item], since: int, now: float, base: str, keep_s: float | None
) -> EncodedChange:
    """`changed` are the items after the seq `since`, one more than are shown if there are more; the rest is
    `snapshot.public`'s."""
    job = snapshot.job
    named = sse.event("job", public(snapshot, now, base, keep_s), job.seq)
    nameless = named[named.index(b"\n") + 1 :]
    shown = [public_item(item, job.id, base) for item in changed[:ITEMS_SHOWN]]
    items = sse.items(job.id, job.seq, shown, more=len(changed) > ITEMS_SHOWN) if shown else b""
    return EncodedChange(job.id, job.seq, since, job.done, named, nameless, (items + named, items + nameless))
