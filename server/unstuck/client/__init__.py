"""The Python client. Needs the extra `client`."""

from unstuck.client.client import DEFAULT_URL, Client, cancel, remove, report, retry, submit, wait, watch

__all__ = ["DEFAULT_URL", "Client", "cancel", "remove", "report", "retry", "submit", "wait", "watch"]
