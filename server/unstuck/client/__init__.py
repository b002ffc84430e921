"""The public names of the Python client, which needs the extra `client`.

See also: client.py, and plain.py for code without asyncio.
"""

from unstuck.address import DEFAULT_URL
from unstuck.client.client import Client
from unstuck.client.plain import (
    cancel,
    download,
    download_errors,
    items,
    job,
    jobs,
    kinds,
    remove,
    report,
    retry,
    submit,
    wait,
    watch,
)
from unstuck.wire import Item, Items, Job, Jobs, Progress

__all__ = [
    "DEFAULT_URL",
    "Client",
    "Item",
    "Items",
    "Job",
    "Jobs",
    "Progress",
    "cancel",
    "download",
    "download_errors",
    "items",
    "job",
    "jobs",
    "kinds",
    "remove",
    "report",
    "retry",
    "submit",
    "wait",
    "watch",
]
