"""Jobs that have the same reasons, though they are not quite alike. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable

import msgspec

from balsam.report.reasons import offers
from balsam.report.reasons.facts import Facts, Subject


def merged(subjects: Iterable[Subject], facts: Facts) -> list[Subject]:
    """Return *subjects*, those joined whose estimates differ where that makes no difference.

    Estimates are often a number of each job's own. What matters is on which side of what launchers
    have left, batch jobs will have, queues allow and the budget pays for they are.
    """
    limits = _limits(facts)
    found: dict[tuple[Subject, int, bool], Subject] = {}
    counts: dict[tuple[Subject, int, bool], int] = {}
    for subject in subjects:
        minutes = subject.waiting.wall_time_minutes
        side = bisect_left(limits, minutes)
        paid = minutes * subject.waiting.num_nodes <= _paid(facts)
        key = _without_estimate(subject), side, paid
        first = found.setdefault(key, subject)
        if subject.waiting.example < first.waiting.example:
            found[key] = subject
        counts[key] = counts.get(key, 0) + subject.waiting.count
    return [_counted(first, counts[key]) for key, first in found.items()]


def _limits(facts: Facts) -> list[float]:
    """Return the minutes at which the reasons of a job may become others, ascending."""
    all_of_them = [
        *(offers.of_launcher(one, facts) for one in facts.live),
        *(offers.of_batch_job(one, facts) for one in facts.coming),
        *(offers.of_queue(one, facts) for one in offers.queues(facts)),
    ]
    # With 0 among them, jobs without an estimate stay apart: for these counts what was learned.
    return sorted({0.0, *(one.minutes for one in all_of_them if one.minutes is not None)})


def _paid(facts: Facts) -> float:
    """Return the node-minutes that the budget has left."""
    status = facts.service.status if facts.service else None
    if status is None or not status.budget_node_hours:
        return float("inf")
    return 60 * (status.budget_node_hours - status.spent_node_hours)


def _without_estimate(subject: Subject) -> Subject:
    waiting = msgspec.structs.replace(
        subject.waiting, wall_time_minutes=0.0, count=0, example=0, retry_at=None, workflow=""
    )
    return msgspec.structs.replace(subject, waiting=waiting)


def _counted(subject: Subject, count: int) -> Subject:
    waiting = msgspec.structs.replace(subject.waiting, count=count)
    return msgspec.structs.replace(subject, waiting=waiting)
