"""Classes of equal jobs, and the places that nodes grant them."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from balsam.launcher.messages import Task
from balsam.launcher.placement import DEEPEST_QUEUE, HOOKS, Classes, JobClass, Node
from balsam.model.job import Job
from balsam.model.resources import UNITS, NodeResources, Request


def node(cores: int = 4, gpus: int = 0) -> Node:
    resources = NodeResources(
        host="h", cores=cores, threads=cores, memory_mib=1000, gpus=tuple(map(str, range(gpus)))
    )
    return Node("h:1", resources)


def job(id_: int, **fields: Any) -> Job:
    return Job(id=id_, name=f"j{id_}", **fields)


def task(id_: int, class_id: int) -> Task:
    return Task(id=id_, class_id=class_id, argv=[], cwd="", environ={}, output="")


def ids(job_class: JobClass) -> list[int | None]:
    return [job.id for job in job_class.ready]


# classes --------------------------------------------------------------------------------


def test_equal_requests_are_one_class() -> None:
    classes = Classes()
    first = classes.of(job(1, threads_per_rank=2))
    assert classes.of(job(2, threads_per_rank=2, priority=5, wall_time_minutes=9)) is first
    assert classes.of(job(3, threads_per_rank=3)) is not first
    assert classes[first.id] is first
    assert first.id != HOOKS


def test_jobs_wait_in_their_order_however_they_come() -> None:
    jobs = [
        job(7, priority=9),
        job(3, priority=5, attempt=1),
        job(8, priority=5, attempt=2),
        job(1, priority=5, wall_time_minutes=60),
        job(2, priority=5, wall_time_minutes=60),
        job(4, priority=5),
        job(6, attempt=1),
        job(5),
        job(9, priority=-1),
    ]
    for seed in range(50):
        job_class = JobClass(1, Request())
        for one in Random(seed).sample(jobs, len(jobs)):
            job_class.insert(one)
        assert ids(job_class) == [7, 3, 8, 1, 2, 4, 6, 5, 9]


def test_classes_are_served_by_their_first_jobs() -> None:
    classes = Classes()
    wanted = [
        job(1, threads_per_rank=1),
        job(2, threads_per_rank=2, priority=1),
        job(3, threads_per_rank=3, wall_time_minutes=5),
        job(4, threads_per_rank=4, num_nodes=2),
    ]
    for one in wanted:
        classes.of(one).insert(one)
    assert [c.ready[0].id for c in classes.ranked()] == [2, 4, 3, 1]
    assert classes.highest_priority() == 1
    classes.remove(wanted[1])
    assert [c.ready[0].id for c in classes.ranked()] == [4, 3, 1]
    assert classes.highest_priority() == 0


def test_what_is_ready_is_counted_in_cores() -> None:
    classes = Classes()
    for one in (job(1), job(2), job(3, threads_per_rank=2), job(4, node_packing_count=8)):
        classes.of(one).insert(one)
    assert classes.ready_units(4) == (4, 4 * UNITS + UNITS // 2)


def test_a_queue_behind_places_is_for_short_jobs() -> None:
    job_class = JobClass(1, Request())
    assert job_class.depth == 0  # not known yet
    job_class.ran(3600.0)
    assert job_class.depth == 0
    short = JobClass(2, Request())
    short.ran(0.05)
    assert short.depth == 5
    short.ran(0.05)
    assert short.depth == 5
    shortest = JobClass(3, Request())
    shortest.ran(0.0)
    assert shortest.depth == DEEPEST_QUEUE
    for _ in range(100):
        shortest.ran(10.0)
    assert shortest.depth == 0


# places ---------------------------------------------------------------------------------


def test_places_take_resources_and_give_them_back() -> None:
    one, job_class = node(), JobClass(1, Request(threads_per_rank=2))
    places = [one.grant(n, job_class) for n in (1, 2, 3)]
    assert [place is not None for place in places] == [True, True, False]
    assert (job_class.places, one.placed[1], one.slots.core_units) == (2, 2, 0)
    one.free(1)
    assert (job_class.places, one.placed[1], one.slots.core_units) == (1, 1, 2 * UNITS)
    one.free(2)
    assert one.slots.idle
    assert one.grants == {}


def test_hooks_take_no_resources_only_places() -> None:
    one, hooks = node(1), JobClass(HOOKS, Request())
    granted = [one.grant_hook(n, hooks, 2) for n in (1, 2, 3)]
    assert [place is not None for place in granted] == [True, True, False]
    assert one.slots.idle
    one.free(1)
    assert one.grant_hook(4, hooks, 2)


def test_a_place_names_its_devices() -> None:
    one, job_class = node(4, 2), JobClass(1, Request(gpus_per_rank=1.0))
    places = [one.grant(n, job_class) for n in (1, 2)]
    assert [p.environ["CUDA_VISIBLE_DEVICES"] for p in places if p] == ["0", "1"]
    assert one.grant(3, job_class) is None


def test_tasks_are_counted_by_class() -> None:
    one, job_class = node(), JobClass(1, Request())
    assert one.queued(job_class) == 0
    one.grant(1, job_class)
    assert one.queued(job_class) == -1
    assert one.short_of_places() == []
    for n in (10, 11, 12):
        one.send(task(n, 1))
    assert one.queued(job_class) == 2
    assert one.short_of_places() == [1]
    one.forget(11, 1)
    assert one.tasks == {10, 12}
    assert one.queued(job_class) == 1
    one.free(1)
    assert one.short_of_places() == [1]


@pytest.mark.parametrize(("seconds", "room"), [(0.05, 10), (60.0, 0)])
def test_room_behind_places(seconds: float, room: int) -> None:
    one, job_class = node(), JobClass(1, Request())
    one.grant(1, job_class)
    one.grant(2, job_class)
    job_class.ran(seconds)
    assert one.room_behind(job_class) == room
