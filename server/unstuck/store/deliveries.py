"""Webhook deliveries: which are due, and the outcome of each attempt.

Runs inside a transaction of the one writer. A delivery is taken for `hold_s` seconds and is not taken again
before; if a crash interrupts it, it is taken again afterwards. Its row is created in the transaction that ends the
job, and deleted with the job.
It must not know HTTP.
See also: webhooks/dispatcher.py (makes the attempts).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from unstuck.jobs.timeline import Entry, What
from unstuck.store.database import Connection
from unstuck.store.protocol import Delivery, DeliveryAttempt, DueDeliveries
from unstuck.store.transaction import Transaction


def take(
    transaction: Transaction, limit: int, lanes: int, busy: Mapping[str, int], hold_s: float
) -> DueDeliveries:
    """Take due deliveries; see DeliveryQueue.take_deliveries."""
    transaction.flush()
    connection, now = transaction.connection, transaction.now
    in_progress = Counter(busy)
    taken: list[Delivery] = []
    for job_n, job_id, url, host, attempts, made_at in connection.execute(
        connection.statements.due_deliveries, {"now": now, "lanes": lanes}
    ).fetchall():
        if len(taken) == limit:
            break
        if in_progress[host] < lanes:
            in_progress[host] += 1
            connection.execute(connection.statements.take_delivery, (now + hold_s, job_n))
            taken.append(Delivery(job_id, url, host, max(0, min(attempts, 999_999)) + 1, now - made_at))
    following = connection.execute(connection.statements.next_delivery, (now,)).fetchone()[0]
    return DueDeliveries(taken, None if following is None else following - now)


def finish_attempt(transaction: Transaction, delivery: Delivery, outcome: DeliveryAttempt) -> bool:
    """Record the outcome of an attempt; see DeliveryQueue.finish_attempt."""
    job_n, _ = transaction.job(delivery.job_id)
    next_at = None if outcome.pause_s is None else transaction.now + outcome.pause_s
    values = (next_at, outcome.trouble, job_n, delivery.attempt)
    if transaction.connection.execute(transaction.connection.statements.finish_delivery, values).rowcount == 0:
        return False
    entry = Entry(transaction.now, What.WEBHOOK, outcome.text, attempt=delivery.attempt)
    transaction.add_entry(job_n, entry)
    return True


def counts(connection: Connection) -> dict[str, int]:
    """Return how many deliveries wait for their first attempt or for another one, or were given up."""
    waiting, failing = connection.execute(connection.statements.deliveries_waiting).fetchone()
    (given_up,) = connection.execute(connection.statements.deliveries_given_up).fetchone()
    return {"waiting": waiting, "failing": failing, "given_up": given_up}
