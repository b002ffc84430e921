"""Webhook deliveries: which are due, and the outcome of each attempt.

Runs inside a transaction of the one writer. A delivery is taken for `hold_s` seconds and is not taken again
before; if a crash interrupts it, it is taken again afterwards. Its row is created in the transaction that ends the
job, and deleted with the job.
It must not know HTTP.
See also: webhooks/dispatcher.py (makes the attempts).
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Mapping

from unstuck.jobs.timeline import Entry, What
from unstuck.store.protocol import Delivery, DeliveryAttempt, DueDeliveries
from unstuck.store.transaction import Transaction

#: The first due deliveries of each host, at most as many as it has lanes. Steps from host to host along an index,
#: so ten thousand deliveries to one host cost no more than one.
_DUE = """
    WITH RECURSIVE hosts (host) AS (
        SELECT min(host) FROM deliveries WHERE next_at IS NOT NULL
        UNION ALL
        SELECT (SELECT min(host) FROM deliveries WHERE next_at IS NOT NULL AND host > hosts.host)
        FROM hosts WHERE hosts.host IS NOT NULL
    )
    SELECT due.job, jobs.id, due.url, due.host, due.attempts, due.made_at
    FROM hosts JOIN deliveries AS due ON due.job IN (
        SELECT job FROM deliveries WHERE host = hosts.host AND next_at <= :now ORDER BY next_at, job LIMIT :lanes)
    JOIN jobs ON jobs.n = due.job ORDER BY due.next_at, due.job
"""
_TAKE = "UPDATE deliveries SET attempts = max(0, min(attempts, 999999)) + 1, next_at = ? WHERE job = ?"
_FINISH = "UPDATE deliveries SET next_at = ?, trouble = ? WHERE job = ? AND attempts = ? AND next_at IS NOT NULL"


def take(
    transaction: Transaction, limit: int, lanes: int, busy: Mapping[str, int], hold_s: float
) -> DueDeliveries:
    """Take due deliveries; see DeliveryQueue.take_deliveries."""
    transaction.flush()
    connection, now = transaction.connection, transaction.now
    in_progress = Counter(busy)
    taken: list[Delivery] = []
    for job_n, job_id, url, host, attempts, made_at in connection.execute(
        _DUE, {"now": now, "lanes": lanes}
    ).fetchall():
        if len(taken) == limit:
            break
        if in_progress[host] < lanes:
            in_progress[host] += 1
            connection.execute(_TAKE, (now + hold_s, job_n))
            taken.append(Delivery(job_id, url, host, max(0, min(attempts, 999_999)) + 1, now - made_at))
    sql = "SELECT min(next_at) FROM deliveries WHERE next_at > ?"
    following = connection.execute(sql, (now,)).fetchone()[0]
    return DueDeliveries(taken, None if following is None else following - now)


def finish_attempt(transaction: Transaction, delivery: Delivery, outcome: DeliveryAttempt) -> bool:
    """Record the outcome of an attempt; see DeliveryQueue.finish_attempt."""
    job_n, _ = transaction.job(delivery.job_id)
    next_at = None if outcome.pause_s is None else transaction.now + outcome.pause_s
    values = (next_at, outcome.trouble, job_n, delivery.attempt)
    if transaction.connection.execute(_FINISH, values).rowcount == 0:
        return False
    entry = Entry(transaction.now, What.WEBHOOK, outcome.text, attempt=delivery.attempt)
    transaction.add_entry(job_n, entry)
    return True


def counts(connection: sqlite3.Connection) -> dict[str, int]:
    """Return how many deliveries wait for their first attempt or for another one, or were given up."""
    sql = (
        "SELECT count(*) FILTER (WHERE trouble IS NULL), count(*) FILTER (WHERE trouble IS NOT NULL) "
        "FROM deliveries WHERE next_at IS NOT NULL"
    )
    waiting, failing = connection.execute(sql).fetchone()
    sql = "SELECT count(*) FROM deliveries WHERE next_at IS NULL AND trouble IS NOT NULL"
    (given_up,) = connection.execute(sql).fetchone()
    return {"waiting": waiting, "failing": failing, "given_up": given_up}
