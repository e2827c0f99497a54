"""The arithmetic of the plan against what nodes really hold and launchers really do."""

from __future__ import annotations

from heapq import heappop, heappush

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balsam.model.resources import NodeResources, Request
from balsam.model.walltime import START_MINUTES, time_limit
from balsam.nodes.slots import Slots, Taken
from balsam.service.estimate import Kind, Work, absorb, fewest_nodes, kind, makespan, places
from balsam.service.offer import overhead, request_minutes
from tests.unit.service.plan_worlds import MINUTES, NODES, REQUESTS, copied, node, work, works


@given(NODES, REQUESTS)
def test_a_node_holds_as_many_as_is_said(of: NodeResources, request: Request) -> None:
    slots = Slots(of)
    held = 0
    while held < 1000 and slots.take(request):
        held += 1
    assert places(of, request) == held


def finished(works_: list[Work], of: NodeResources, num_nodes: int) -> float:
    """Return when the last job ends on real nodes, each started as soon as there is room."""
    free = [Slots(of) for _ in range(num_nodes)]
    waiting = [each for each in works_ if each.count]
    running: list[tuple[float, int, list[tuple[Slots, Taken]]]] = []
    now, number = 0.0, 0
    while waiting or running:
        for each in waiting:
            while each.count:
                room = [slots for slots in free if slots.has_room(each.request)]
                if len(room) < each.request.num_nodes:
                    break
                chosen = room[: each.request.num_nodes]
                kept = [(s, taken) for s in chosen if (taken := s.take(each.request))]
                number += 1
                heappush(running, (now + each.minutes, number, kept))
                each.count -= 1
        waiting = [each for each in waiting if each.count]
        now, _, ended = heappop(running)
        for slots, what in ended:
            slots.give_back(what)
    return now


@given(
    NODES,
    REQUESTS,
    st.integers(1, 40),
    st.integers(1, 20),
    MINUTES,
)
def test_jobs_of_one_class_end_in_the_time_that_is_said(
    of: NodeResources, request: Request, count: int, num_nodes: int, minutes: float
) -> None:
    each = Work(request=request, minutes=minutes, count=count, example=1)
    fits = kind(of, each)
    if fits is None or request.num_nodes > num_nodes:
        return
    told = makespan([(fits, count)], num_nodes)
    assert finished([each], of, num_nodes) <= told * (1 + 1e-9)


@given(st.lists(st.tuples(st.integers(1, 30), st.floats(0.5, 60)), min_size=1, max_size=5))
def test_jobs_of_many_lengths_end_in_the_time_that_is_said(
    lengths: list[tuple[int, float]],
) -> None:
    of = node(cores=4)
    some = [work(count, minutes, example=n) for n, (count, minutes) in enumerate(lengths)]
    some.sort(key=lambda each: -each.minutes)
    counts = [(fits, each.count) for each in some if (fits := kind(of, each))]
    assert finished(copied(some), of, 3) <= makespan(counts, 3) * (1 + 1e-9)


def test_nodes_that_a_job_leaves_over_are_not_counted_as_work_time() -> None:
    """Jobs of 2 nodes use 2 of 3: ten of a minute need ten minutes."""
    assert makespan([(Kind(2, 1, 1.0), 10)], 3) == pytest.approx(10.0)


def test_jobs_of_too_many_nodes_never_end() -> None:
    assert makespan([(Kind(4, 1, 1.0), 1)], 3) == float("inf")


@given(works(), NODES, st.integers(1, 50), st.floats(1, 200))
def test_fewest_nodes_is_enough_and_one_less_is_not(
    some: list[Work], of: NodeResources, least: int, minutes: float
) -> None:
    counts = [(fits, each.count) for each in some if (fits := kind(of, each))]
    most = least + 500
    found = fewest_nodes(counts, least, most, minutes)
    assert least <= found <= most
    if found < most:
        assert makespan(counts, found) <= minutes
    if found > least:
        assert makespan(counts, found - 1) > minutes


@given(works(), NODES, st.integers(1, 50), st.floats(0, 300), st.floats(0, 2000))
def test_an_allocation_takes_no_more_than_its_area(
    some: list[Work], of: NodeResources, num_nodes: int, minutes: float, used: float
) -> None:
    before = {each.example: each.count for each in some}
    taken = absorb(some, of, num_nodes, minutes, used)
    assert 0 <= taken <= max(0.0, num_nodes * minutes - used) * (1 + 1e-6) + 1e-6
    cost = 0.0
    for each in some:
        gone = before[each.example] - each.count
        assert gone >= 0
        if gone:
            fits = kind(of, each)
            assert fits is not None
            assert fits.minutes <= minutes
            assert fits.nodes <= num_nodes
            cost += gone * fits.cost
    assert cost == pytest.approx(taken)


@given(works(), NODES, st.integers(1, 20), st.floats(1, 300))
def test_work_that_ends_in_the_time_is_taken_whole(
    some: list[Work], of: NodeResources, num_nodes: int, minutes: float
) -> None:
    fitting = [each for each in some if (fits := kind(of, each)) and fits.abreast(num_nodes)]
    fitting.sort(key=lambda each: (-each.request.num_nodes, -each.minutes))
    counts = [(fits, each.count) for each in fitting if (fits := kind(of, each))]
    if makespan(counts, num_nodes) <= minutes:
        absorb(fitting, of, num_nodes, minutes)
        assert [each.count for each in fitting] == [0] * len(fitting)


def test_nodes_that_a_wide_job_leaves_keep_their_time() -> None:
    whole = {"threads_per_rank": 8}
    wide = work(minutes=60, num_nodes=2, **whole)
    some = [work(minutes=30, **whole), wide, work(minutes=30)]
    assert absorb(some, node(cores=8), 3, 60) == pytest.approx(30 + 120 + 30 / 8)
    assert [each.count for each in some] == [0, 0, 0]


@given(st.floats(0.001, 100_000))
def test_a_request_leaves_its_jobs_the_time_they_need(minutes: float) -> None:
    asked = request_minutes(minutes)
    assert time_limit(asked) - START_MINUTES >= minutes
    assert asked - overhead(asked) >= minutes
    assert time_limit(asked - 1) - START_MINUTES < minutes
