"""Classes of equal jobs, and the places that nodes grant them."""

from __future__ import annotations

from random import Random
from typing import Any

from balsam.launcher.messages import Place, Task
from balsam.launcher.placement import DEEPEST_QUEUE, HOOKS, Classes, Grant, Grants, JobClass, Node
from balsam.model.job import Job
from balsam.model.resources import UNITS, NodeResources, Request
from balsam.model.wire import Placement, parts_of
from balsam.nodes.slots import Taken


def node(
    cores: int = 4, gpus: int = 0, host: str = "h", spawners: list[str] | None = None, **more: Any
) -> Node:
    devices = tuple(map(str, range(gpus)))
    resources = NodeResources(
        host=host, cores=cores, threads=cores, memory_mib=1000, gpus=devices, **more
    )
    return Node(host, resources, spawners or [host])


def job(id_: int, **fields: Any) -> Job:
    return Job(id=id_, name=f"j{id_}", **fields)


def task(id_: int, lane: int) -> Task:
    return Task(id=id_, lane=lane, argv=[], cwd="", environ={}, output="")


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
    assert classes.stock(4) == (4, 4 * UNITS + UNITS // 2, 0)
    classes.of(job(3, threads_per_rank=2)).is_new = False  # it was looked at, and has no place
    assert classes.stock(4) == (4, 2 * UNITS + UNITS // 2, 2 * UNITS)


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
        shortest.ran(11.0)
    assert shortest.depth == 0
    middling = JobClass(4, Request())
    middling.ran(2.0)
    assert middling.depth == 1
    parallel = JobClass(5, Request(ranks_per_node=2))
    parallel.ran(0.05)
    assert parallel.depth == 0


# places ---------------------------------------------------------------------------------


class Allocation:
    """Grants places as the board does."""

    def __init__(self, *nodes: Node) -> None:
        self.nodes = nodes
        self.grants = Grants()
        self.number = 0

    def grant(self, job_class: JobClass) -> Place | None:
        parts: list[tuple[Node, Taken]] = []
        for node in self.nodes[: job_class.request.num_nodes]:
            taken = node.take(job_class.request, parts[0][1] if parts else None)
            if taken is None:
                for each, had in parts:
                    each.give_back(had)
                return None
            parts.append((node, taken))
        self.number += 1
        lane = -self.number if job_class.is_parallel else job_class.id
        spawner = self.nodes[0].spawner_for(lane)
        return self.grants.add(self.number, Grant(job_class, lane, parts, spawner))

    def placements(self) -> list[list[Placement]]:
        return [parts_of(grant.text) for _, grant in self.grants.items()]


def test_places_take_resources_and_give_them_back() -> None:
    one, job_class = node(), JobClass(1, Request(threads_per_rank=2))
    allocation = Allocation(one)
    places = [allocation.grant(job_class) for _ in range(3)]
    (spawner,) = one.spawners
    assert [place is not None for place in places] == [True, True, False]
    assert (job_class.places, spawner.placed[1], one.slots.core_units) == (2, 2, 0)
    allocation.grants.free(1)
    assert (job_class.places, spawner.placed[1], one.slots.core_units) == (1, 1, 2 * UNITS)
    allocation.grants.free(2)
    assert allocation.grants.free(2) is None  # once is enough
    assert one.slots.idle
    assert one.grants == {}
    assert spawner.placed == {}
    assert job_class.spawners == set()


def test_a_place_of_several_nodes_takes_of_all() -> None:
    nodes = [node(4, 2, host=f"h{n}") for n in (1, 2, 3)]
    request = Request(num_nodes=2, ranks_per_node=2, gpus_per_rank=0.5)
    job_class, allocation = JobClass(1, request), Allocation(*nodes)
    assert allocation.grant(job_class) is not None
    assert [n.slots.core_units for n in nodes] == [2 * UNITS, 2 * UNITS, 4 * UNITS]
    assert allocation.placements() == [
        [Placement(node=h, cores="0-1", count=2.0, gpus={"0": 1.0}) for h in ("h1", "h2")]
    ]
    allocation.grants.free(1)
    assert all(n.slots.idle for n in nodes)


def test_a_job_has_the_same_devices_on_all_its_nodes() -> None:
    first, second = node(4, 2, host="h1"), node(4, 2, host="h2")
    busy = JobClass(1, Request(gpus_per_rank=1.0))
    assert Allocation(second).grant(busy) is not None  # its device 0
    wide = JobClass(2, Request(num_nodes=2, gpus_per_rank=1.0))
    assert Allocation(first, second).grant(wide) is None  # device 0 here, not free there
    assert first.slots.idle


def test_whole_cores_are_told_apart() -> None:
    one, job_class = node(), JobClass(1, Request(threads_per_rank=2))
    allocation = Allocation(one)
    allocation.grant(job_class)
    allocation.grant(job_class)
    assert [p.cores for (p,) in allocation.placements()] == ["0-1", "2-3"]
    allocation.grants.free(1)
    shared = JobClass(2, Request(node_packing_count=8))
    allocation.grant(shared)
    assert [(p.cores, p.count) for (p,) in allocation.placements()] == [("2-3", 2.0), ("", 0.5)]


def test_a_task_is_bound_to_the_threads_of_its_cores_when_that_is_asked_for() -> None:
    threads = tuple((core, core + 4) for core in range(4))
    one = node(core_cpus=threads)
    allocation = Allocation(one)
    for affinity, per_core, cpus in (
        ("", 1, []),
        ("none", 1, []),
        ("depth", 1, [2]),
        ("depth", 2, [3, 7]),
    ):
        request = Request(cpu_affinity=affinity, threads_per_core=per_core)
        place = allocation.grant(JobClass(1, request))
        assert place is not None
        assert place.cpus == cpus


def test_cores_near_the_devices_go_first() -> None:
    one = node(4, 2, gpu_cores=((2, 3), (0, 1)))
    allocation = Allocation(one)
    for _ in range(2):
        allocation.grant(JobClass(1, Request(threads_per_rank=2, gpus_per_rank=1.0)))
    assert [(p.cores, p.gpus) for (p,) in allocation.placements()] == [
        ("2-3", {"0": 1.0}),
        ("0-1", {"1": 1.0}),
    ]


def test_a_place_names_its_devices() -> None:
    allocation, job_class = Allocation(node(4, 2)), JobClass(1, Request(gpus_per_rank=1.0))
    places = [allocation.grant(job_class) for _ in range(3)]
    assert [p.environ["CUDA_VISIBLE_DEVICES"] for p in places if p] == ["0", "1"]


def test_places_are_spread_over_the_spawners_of_a_node() -> None:
    one = node(4, spawners=["h/1", "h/2"])
    allocation, job_class = Allocation(one), JobClass(1, Request())
    for _ in range(4):
        allocation.grant(job_class)
    assert [spawner.placed for spawner in one.spawners] == [{1: 2}, {1: 2}]


def test_tasks_are_counted_by_lane() -> None:
    one, job_class = node(), JobClass(1, Request())
    (spawner,) = one.spawners
    allocation = Allocation(one)
    assert spawner.queued(1) == 0
    allocation.grant(job_class)
    assert spawner.queued(1) == -1
    for n in (10, 11, 12):
        spawner.send(task(n, 1))
    assert spawner.queued(1) == 2
    spawner.forget(11, 1)
    assert one.tasks == {10, 12}
    assert spawner.queued(1) == 1
    allocation.grants.free(1)
    assert spawner.queued(1) == 2
    assert job_class.spawners == {spawner}  # it has tasks that want a place
