"""Encodes one change of one job, once for all its viewers. Pure.

Must not know: which viewer is sent which of the bytes; viewer.py decides that.
See also: jobs/snapshot.py (what the job object says), sse.py (how an event is written).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from unstuck import wire
from unstuck.jobs.job import Item, Job
from unstuck.jobs.snapshot import public_item
from unstuck.streaming import sse

#: Most items in one `items` event; a viewer that missed more fetches them.
ITEMS_SHOWN = 100


@dataclass(frozen=True, slots=True)
class EncodedChange:
    """One change of a job, in every form that a viewer may be sent.

    `job` is the job's event with an id (its seq), `without_id` the same without one, since an id means nothing on
    a stream of several jobs. `with_items` holds these two, each after the items that changed since the seq
    `since`.
    """

    job_id: str
    seq: int
    since: int
    final: bool
    job: bytes
    without_id: bytes
    with_items: tuple[bytes, bytes]

    def missed(self) -> bytes:
        """Return the event that makes a viewer fetch the items that it missed before `since`."""
        return sse.items(self.job_id, self.seq, [], more=True)


def encode_change(job: Job, shown: wire.Job, changed: Sequence[Item], since: int, base: str) -> EncodedChange:
    """Encode a job, as it is `shown` to viewers, and the items that `changed` after the seq `since`.

    One item more than ITEMS_SHOWN means that there are others. `base` is as for `snapshot.public`.
    """
    named = sse.event("job", shown, job.seq)
    without_id = named[named.index(b"\n") + 1 :]
    listed = [public_item(item, job.id, base) for item in changed[:ITEMS_SHOWN]]
    items = sse.items(job.id, job.seq, listed, more=len(changed) > ITEMS_SHOWN) if listed else b""
    return EncodedChange(job.id, job.seq, since, job.done, named, without_id, (items + named, items + without_id))
