"""Which jobs are counted together though their estimates differ."""

from __future__ import annotations

from typing import Any

import msgspec

from balsam.model.batch_job import BatchState
from balsam.report.reasons.facts import Facts, Subject, class_of
from balsam.report.reasons.kinds import merged
from balsam.report.reasons.walk import decisive, layers
from tests.unit.why import NOW, batch_job, facts, job, launcher, queue, service


def kind(minutes: float, count: int, example: int, **fields: Any) -> Subject:
    asked = class_of(job(wall_time_minutes=minutes, **fields))
    return Subject(waiting=msgspec.structs.replace(asked, count=count, example=example))


def found(site: Facts, *subjects: Subject) -> list[tuple[int, int, float]]:
    """How many there are of each kind, with the example and its estimate."""
    kinds = [each.waiting for each in merged(subjects, site)]
    return sorted((each.count, each.example, each.wall_time_minutes) for each in kinds)


def test_estimates_do_not_matter_where_nothing_limits_time() -> None:
    some = [kind(5, 2, 30), kind(6, 3, 10), kind(7, 4, 20)]
    assert found(facts(), *some) == [(9, 10, 6.0)]


def test_jobs_without_an_estimate_stay_apart() -> None:
    assert found(facts(), kind(0, 1, 1), kind(5, 1, 2)) == [(1, 1, 0.0), (1, 2, 5.0)]


def test_what_else_differs_stays_apart() -> None:
    assert len(found(facts(), kind(5, 1, 1), kind(5, 1, 2, num_nodes=2))) == 2


def test_the_limits_of_queues_batch_jobs_and_launchers_divide() -> None:
    site = facts(
        service=service(queues=[queue(max_minutes=62.0), queue(name="long", max_minutes=122.0)]),
        batch_jobs=[
            batch_job(wall_time_minutes=32.2),
            batch_job(id=5, wall_time_minutes=22.2, state=BatchState.RUNNING, started_at=NOW),
        ],
        launchers=[launcher(batch_job_id=5, started_at=NOW)],
    )
    minutes = [10, 19.9, 20.1, 29.9, 30.1, 58.9, 59.1, 118.9, 119.1, 500]
    kinds = [kind(m, 1, n) for n, m in enumerate(minutes)]
    assert [count for count, *_ in found(site, *kinds)] == [2] * 5


def test_what_is_joined_has_one_reason() -> None:
    site = facts(
        service=service(budget_node_hours=2.0, spent_node_hours=1.5),
        launchers=[launcher(batch_job_id=4, started_at=NOW)],
        batch_jobs=[batch_job(state=BatchState.RUNNING, started_at=NOW - 1800)],
    )
    kinds = [
        kind(minutes, 1, number, num_nodes=nodes)
        for number, (minutes, nodes) in enumerate((m, n) for m in range(90) for n in (1, 2, 3))
    ]
    counted: dict[str, int] = {}
    for each in merged(kinds, site):
        reason = decisive(layers(each, site), site).reason
        counted[reason] = counted.get(reason, 0) + each.waiting.count
    apart: dict[str, int] = {}
    for each in kinds:
        reason = decisive(layers(each, site), site).reason
        apart[reason] = apart.get(reason, 0) + 1
    assert counted == apart
    assert len(counted) > 3
