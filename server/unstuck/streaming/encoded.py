"""Encodes one change of one job, once for all its viewers. Pure.

Must not know: which viewer is sent which of the bytes; viewer.py decides that.
See also: jobs/snapshot.py (what the job object says), sse.py (how an event is written).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from unstuck import wire
from unstuck.jobs.job import Item, Job
from unstuck.jobs.snapshot import only_progress, public_item
from unstuck.streaming import sse

#: Most items in one `items` event; a viewer that missed more fetches them.
ITEMS_SHOWN = 100
#: An event with its id, and without.
Forms = tuple[bytes, bytes]


@dataclass(slots=True)
class EncodedChange:
    """One change of a job, in every form that a viewer may be sent.

    Each form is a pair: with an id (the job's seq), and without one, since an id means nothing on a stream of
    several jobs. `whole` is the job's event; `with_items` has the items that changed since the seq `since` before
    it. `progress` is encoded when the first viewer asks for it.
    """

    job_id: str
    seq: int
    since: int
    final: bool
    whole: Forms
    with_items: Forms
    _shown: wire.Job
    _progress: Forms | None = None

    @property
    def progress(self) -> Forms:
        """The event of viewers that need no more than a progress bar; the final one is whole for them too."""
        if self._progress is None:
            self._progress = _forms(only_progress(self._shown), self.seq)
        return self._progress

    def missed(self) -> bytes:
        """Return the event that makes a viewer fetch the items that it missed before `since`."""
        return sse.items(self.job_id, self.seq, [], more=True)


def encode_change(job: Job, shown: wire.Job, changed: Sequence[Item], since: int, base: str) -> EncodedChange:
    """Encode a job, as it is `shown` to viewers, and the items that `changed` after the seq `since`.

    One item more than ITEMS_SHOWN means that there are others. `base` is as for `snapshot.public`.
    """
    whole = _forms(shown, job.seq)
    listed = [public_item(item, job.id, base) for item in changed[:ITEMS_SHOWN]]
    items = sse.items(job.id, job.seq, listed, more=len(changed) > ITEMS_SHOWN) if listed else b""
    with_items = (items + whole[0], items + whole[1]) if items else whole
    return EncodedChange(job.id, job.seq, since, job.done, whole, with_items, shown)


def _forms(shown: wire.Job | wire.JobProgress, seq: int) -> Forms:
    named = sse.event("job", shown, seq)
    return named, named[named.index(b"\n") + 1 :]
