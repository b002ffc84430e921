"""Holds the viewers, the jobs that they watch, and the subscriptions between them.

Must not know: what is sent, or when. It is plain state and decides nothing.
See also: watched_job.py (what one job waits for), hub.py (broadcasts), heartbeat.py (what is due by time).
"""

from __future__ import annotations

from unstuck.streaming.viewer import Subscription, Viewer
from unstuck.streaming.watched_job import WatchedJob


class Registry:
    """All viewers, those that watch all jobs, those without a heartbeat so far (`new`), and all watched jobs."""

    __slots__ = ("jobs", "new", "of_all_jobs", "viewers")

    def __init__(self) -> None:
        self.viewers: set[Viewer] = set()
        self.of_all_jobs: set[Viewer] = set()
        self.new: set[Viewer] = set()
        self.jobs: dict[str, WatchedJob] = {}

    def add(self, viewer: Viewer) -> None:
        """Add a viewer that has just joined."""
        self.viewers.add(viewer)
        self.new.add(viewer)

    def subscribe(self, viewer: Viewer, job_id: str, now: float) -> tuple[WatchedJob, Subscription] | None:
        """Subscribe the viewer to this job, and watch the job from now on; None if it is subscribed already."""
        if job_id in viewer.subscriptions:
            return None
        job = self.jobs.get(job_id)
        if job is None:
            job = self.jobs[job_id] = WatchedJob(job_id, now)
        subscription = viewer.subscriptions[job_id] = Subscription(viewer, job_id)
        job.subscriptions.add(subscription)
        job.want_items += viewer.wants_items
        return job, subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """End a subscription, and stop watching the job if that was its last one."""
        job = self.jobs.get(subscription.job_id)
        if job is None or subscription not in job.subscriptions:
            return
        job.subscriptions.discard(subscription)
        job.want_items -= subscription.viewer.wants_items
        if not job.subscriptions:
            self.forget(job)

    def forget(self, job: WatchedJob) -> None:
        """Stop watching this job."""
        job.subscriptions.clear()
        job.close()
        del self.jobs[job.job_id]

    def remove(self, viewer: Viewer) -> None:
        """Forget a viewer that has left."""
        for viewers in (self.viewers, self.of_all_jobs, self.new):
            viewers.discard(viewer)
        for subscription in viewer.subscriptions.values():
            self.unsubscribe(subscription)
        # A viewer and its subscriptions refer to each other: the cycle would keep them until a garbage collection.
        viewer.subscriptions.clear()
        viewer.waiting.clear()
