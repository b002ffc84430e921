"""The public names of the Python client, which needs the extra `client`.

See also: client.py.
"""

from unstuck.address import DEFAULT_URL
from unstuck.client.client import Client, cancel, remove, report, retry, submit, wait, watch
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
    "remove",
    "report",
    "retry",
    "submit",
    "wait",
    "watch",
]
