"""The plan, held to its promises on random sites and work, and to plain cases."""

from __future__ import annotations

import re

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from balsam.model.service import QueueState
from balsam.schedulers.scheduler import Window
from balsam.service.estimate import Work, absorb
from balsam.service.offer import most_nodes, overhead
from balsam.service.plan import Allocation, Site, impossible, plan
from tests.unit.service.plan_worlds import (
    allocation,
    applied,
    copied,
    counts,
    node,
    sites,
    work,
    works,
)


def site(*queues: QueueState, cores: int = 4, **fields: object) -> Site:
    nodes = {queue.name: node(cores) for queue in queues}
    return msgspec.structs.replace(Site(queues=queues, nodes=nodes), **fields)


# on anything ----------------------------------------------------------------------------


@given(works(), sites())
def test_requests_keep_the_limits_of_their_queues(waiting: list[Work], where: Site) -> None:
    result = plan(waiting, where)
    queues = {queue.name: queue for queue in where.queues}
    for each in result.submissions:
        queue = queues[each.queue]
        assert queue.is_open
        assert queue.min_nodes <= each.num_nodes <= most_nodes(queue)
        assert queue.min_minutes <= each.minutes
        assert queue.max_minutes is None or each.minutes <= queue.max_minutes
    for queue in where.queues:
        asked = sum(each.queue == queue.name for each in result.submissions)
        there = sum(each.queue == queue.name for each in where.allocations)
        assert queue.max_queued is None or asked == 0 or there + asked <= queue.max_queued


@given(works(), sites())
def test_requests_keep_the_budget(waiting: list[Work], where: Site) -> None:
    result = plan(waiting, where)
    cost = sum(each.node_hours for each in result.submissions)
    assert where.budget_left is None or not cost or cost <= where.budget_left + 1e-9


@given(works(), sites())
def test_each_request_has_a_job_that_can_start(waiting: list[Work], where: Site) -> None:
    left = copied(waiting)
    result = plan(waiting, where)
    for each in sorted(where.allocations, key=lambda a: (a.is_waiting, a.batch_job)):
        take(left, each)
    for asked in result.submissions:
        ready = sum(w.count for w in left if not w.is_soon)
        take(left, allocation(asked, 0, where))
        assert sum(w.count for w in left if not w.is_soon) < ready, asked
        assert asked.jobs >= 1


def take(left: list[Work], each: Allocation) -> None:
    ordered = sorted(left, key=lambda w: (w.is_soon, -w.request.num_nodes, -w.minutes, w.example))
    # Of what runs the plan takes it that it does one job more than there seems to be time for.
    more = 0.0 if each.is_waiting else 1.0
    absorb(ordered, each.node, each.num_nodes, each.minutes - each.is_waiting, each.used, more)


@given(works(), sites())
def test_all_work_is_asked_for_or_it_is_said_why_not(waiting: list[Work], where: Site) -> None:
    result = plan(waiting, where)
    unmet = {each.example for each in result.unmet}
    left = [each for each in waiting if each.count and not each.is_soon]
    assert result.waits or all(each.example in unmet for each in left)
    if result.waits:
        assert any(each.example not in unmet for each in left)
    for each in waiting:
        if each.example in unmet:
            assert impossible(each, where)
            assert each.count  # nothing was asked for


@given(works(), sites())
def test_what_is_unmet_names_numbers(waiting: list[Work], where: Site) -> None:
    for each in plan(waiting, where).unmet:
        assert len(re.findall(r"\d+", each.reason)) >= 2, each.reason


@given(works(), sites())
def test_a_plan_that_was_carried_out_is_followed_by_none(waiting: list[Work], where: Site) -> None:
    before = copied(waiting)
    first = plan(waiting, where)
    second = plan(copied(before), applied(where, first))
    assert second.surplus == []
    if not first.surplus:  # what was surplus had a place in its queue
        assert second.submissions == []


@given(works(), sites(), st.randoms(use_true_random=False))
def test_the_order_of_the_work_does_not_matter(
    waiting: list[Work], where: Site, random: object
) -> None:
    shuffled = copied(waiting)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    one, other = plan(waiting, where), plan(shuffled, where)
    assert one.submissions == other.submissions
    assert one.surplus == other.surplus
    assert counts(waiting) == counts(shuffled)


@given(works(), sites())
def test_surplus_is_only_what_is_ours_and_waits(waiting: list[Work], where: Site) -> None:
    result = plan(waiting, where)
    for number in result.surplus:
        (each,) = [each for each in where.allocations if each.batch_job == number]
        assert each.is_waiting
        assert each.is_ours


def test_large_sites_are_planned_in_few_steps() -> None:
    """20 queues, 4,000 nodes, 10⁶ jobs in 300 classes: few requests, each of many jobs."""
    queues = [
        QueueState(name=f"q{n}", max_nodes=4000, nodes=4000, max_minutes=60.0 * (n + 1))
        for n in range(20)
    ]
    where = site(*queues, cores=64)
    waiting = [
        work(3334, 1 + n % 50, example=n + 1, num_nodes=1 + n % 7, ranks_per_node=1 + n % 64)
        for n in range(300)
    ]
    result = plan(waiting, where)
    assert sum(each.count for each in waiting) == 0
    assert sum(each.jobs for each in result.submissions) == 300 * 3334
    assert len(result.submissions) <= 30


def test_the_order_of_work_that_takes_as_long_does_not_matter() -> None:
    some = [work(9, 10, example=1), work(9, 10, example=2, ranks_per_node=3)]
    where = site(QueueState(name="q", max_nodes=2, max_minutes=30))
    assert plan(copied(some), where).submissions == plan(copied(some[::-1]), where).submissions


# plain cases ----------------------------------------------------------------------------


def test_many_small_jobs_go_into_one_request() -> None:
    waiting = [work(400, 10)]
    (asked,) = plan(waiting, site(QueueState(name="q", max_nodes=50))).submissions
    assert asked.jobs == 400
    assert asked.num_nodes == 17  # 4 cores a node: 68 at a time, 6 times 10 minutes in the hour
    assert 60 <= asked.minutes - overhead(asked.minutes) < 61


def test_a_job_of_many_nodes_decides_how_many() -> None:
    (asked,) = plan([work(1, 5, num_nodes=12)], site(QueueState(name="q"))).submissions
    assert asked.num_nodes == 12


@pytest.mark.parametrize(
    ("waiting", "num_nodes"),
    [
        ([work(1, 1380.0)], 1),
        ([work(3, 90.0, num_nodes=2)], 2),
        ([work(100, 90.0)], 13),
        ([work(1, 59.0), work(1, 5.0, example=2)], 1),
        ([work(1, 1380.0), work(50, 5.0, example=2)], 1),
    ],
)
def test_work_that_no_nodes_end_in_the_target_gets_no_nodes_that_it_cannot_use(
    waiting: list[Work], num_nodes: int
) -> None:
    """Nodes of 8 cores; the target is an hour."""
    queue = QueueState(name="", nodes=1000, max_minutes=1440.0)
    (asked,) = plan(copied(waiting), Site(queues=[queue], nodes={"": node()})).submissions
    assert asked.num_nodes == num_nodes


def test_many_nodes_are_not_kept_for_one_long_job() -> None:
    queue = QueueState(name="", nodes=1000, max_minutes=1440.0)
    waiting = [work(1, 1.0, num_nodes=900), work(1, 1300.0, example=2)]
    asked = plan(waiting, Site(queues=[queue], nodes={"": node()})).submissions
    assert [(each.num_nodes, each.jobs) for each in asked] == [(900, 1), (1, 1)]
    assert sum(each.node_hours for each in asked) < 100


@given(works(), sites())
def test_no_request_is_wider_than_the_work(waiting: list[Work], where: Site) -> None:
    most = sum(each.count * each.request.num_nodes for each in waiting)
    least = {queue.name: queue.min_nodes for queue in where.queues}
    for asked in plan(copied(waiting), where).submissions:
        assert asked.num_nodes <= max(most, least[asked.queue])


def test_the_queue_that_does_most_is_taken_the_first_among_equals() -> None:
    small = QueueState(name="small", max_nodes=1, max_minutes=60)
    large = QueueState(name="large", max_nodes=9, max_minutes=60)
    assert plan([work(400)], site(small, large)).submissions[0].queue == "large"
    equal = QueueState(name="equal", max_nodes=9, max_minutes=60)
    assert plan([work(400)], site(equal, large)).submissions[0].queue == "equal"


def test_work_that_comes_soon_asks_for_nothing_by_itself() -> None:
    result = plan([work(10, is_soon=True)], site(QueueState(name="q")))
    assert (result.submissions, result.waits) == ([], "")


def test_a_request_that_only_work_that_comes_soon_fits_is_not_made() -> None:
    long = [work(1, 30), work(5, 1, example=2, is_soon=True)]
    result = plan(long, site(QueueState(name="q"), budget_left=0.2))
    assert result.submissions == []
    assert "0.2 node-hours left" in result.waits


def test_work_that_comes_soon_makes_requests_longer() -> None:
    now = [work(4, 10)]
    soon = [*copied(now), work(8, 10, example=2, is_soon=True)]
    (short,) = plan(now, site(QueueState(name="q", max_nodes=1))).submissions
    (long,) = plan(soon, site(QueueState(name="q", max_nodes=1))).submissions
    assert long.minutes >= short.minutes + 20
    assert long.jobs == 12


def test_work_that_comes_soon_keeps_a_request_that_waits() -> None:
    there = Allocation(
        batch_job=7, queue="q", num_nodes=1, minutes=60, is_waiting=True, node=node(4)
    )
    where = site(QueueState(name="q"), allocations=[there])
    assert plan([work(1, is_soon=True)], where).surplus == []
    assert plan([], where).surplus == [7]


def test_a_request_is_made_to_fit_nodes_that_are_free() -> None:
    free = Window(queue="q", num_nodes=10, minutes=45.0)
    result = plan([work(400, 10)], site(QueueState(name="q", max_nodes=50), windows=[free]))
    first = result.submissions[0]
    assert (first.num_nodes, first.minutes <= 45) == (10, True)
    assert "free now" in first.why


def test_a_window_that_would_do_little_is_passed_over() -> None:
    free = Window(queue="q", num_nodes=1, minutes=12.0)
    result = plan([work(400, 10)], site(QueueState(name="q", max_nodes=50), windows=[free]))
    assert [each.num_nodes for each in result.submissions] == [17]


def test_a_queue_that_can_take_no_request_is_said_so() -> None:
    upside_down = QueueState(name="q", min_nodes=8, max_nodes=4)
    (unmet,) = plan([work(1)], site(upside_down)).unmet
    assert "8" in unmet.reason
    assert "4" in unmet.reason


def test_the_budget_is_named() -> None:
    result = plan([work(400, 10)], site(QueueState(name="q"), budget_left=0.01))
    assert result.submissions == []
    assert "0.01 node-hours left" in result.waits


def test_what_the_budget_allows_is_done() -> None:
    result = plan([work(400, 10)], site(QueueState(name="q"), budget_left=1.0))
    assert sum(each.jobs for each in result.submissions) >= 4
    assert "node-hours left" in result.waits


def test_requests_of_a_full_queue_wait() -> None:
    waiting = [work(4000, 10)]
    result = plan(waiting, site(QueueState(name="q", max_nodes=2, max_minutes=60, max_queued=3)))
    assert len(result.submissions) == 3
    assert "queue q has 3 requests, the most allowed" in result.waits


def test_the_time_that_launchers_keep_for_their_end_is_asked_for() -> None:
    where = site(QueueState(name="q", max_minutes=10), grace_minutes=4.0)
    (asked,) = plan([work(1, 3)], where).submissions
    assert asked.minutes == 9  # 1 to start, 3 to run, 4 and 1 to end
    assert plan([work(1, 3)], applied(where, plan([work(1, 3)], where))).submissions == []
    (unmet,) = plan([work(1, 5)], where).unmet
    assert "of which 6 are for start and end" in unmet.reason
