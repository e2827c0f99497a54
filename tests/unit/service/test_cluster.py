"""The plan drives a cluster to the end of a campaign, whatever happens: in memory, by seeds."""

from __future__ import annotations

from random import Random
from typing import Any

from balsam.model.demand import Waiting
from balsam.model.service import QueueState
from balsam.model.states import State
from tests.unit.service.cluster import Cluster, Task
from tests.unit.service.plan_worlds import node

SEEDS = 100


def asks(random: Random) -> Waiting:
    return Waiting(
        state=State.PREPROCESSED,
        owner="me",
        num_nodes=random.choice((1, 1, 1, 2, 4)),
        ranks_per_node=random.choice((1, 1, 2, 4)),
        wall_time_minutes=random.choice((1, 5, 10, 30, 45)),
        application="app",
    )


def cluster(
    seed: int,
    *,
    least: float = 0.2,
    most: float = 1.0,
    late: float = 0.0,
    children: float = 0.0,
    limited: bool = False,
    **fields: Any,
) -> Cluster:
    """A campaign of some classes, whose times are *least* to *most* of the estimate."""
    random = Random(seed)
    tasks: list[Task] = []
    for each in [asks(random) for _ in range(random.randint(1, 3))]:
        for _ in range(random.choice((3, 20, 60))):
            task = Task(
                id=len(tasks) + 1,
                asks=each,
                rest=each.wall_time_minutes * random.uniform(least, most),
            )
            if random.random() < late:
                task.arrives = 60.0
            if tasks and random.random() < children:
                task.parents = [random.choice(tasks)]
            tasks.append(task)
    tasks.sort(key=lambda task: (-task.asks.num_nodes, -task.asks.wall_time_minutes, task.id))
    size = random.choice((4, 8, 20))
    large = QueueState(
        name="large",
        nodes=size,
        max_nodes=random.choice((4, 8)),
        max_minutes=random.choice((60, 120)),
        max_queued=random.choice((2, 5)) if limited else None,
    )
    small = QueueState(name="small", max_nodes=4, max_minutes=60, max_queued=2, nodes=4)
    return Cluster(
        random,
        tasks,
        [large, small] if limited else [large],
        {"large": node(4), "small": node(4)},
        sizes={"large": size, "small": 4} if limited else {"large": size},
        **fields,
    )


def ended(here: Cluster) -> None:
    """Run to the end, at which all must be done."""
    here.run()
    assert all(task.is_done for task in here.tasks), here.tell()


def test_campaigns_end_with_as_many_requests_as_were_foretold_and_one() -> None:
    """Where queues take all requests at once; else the later ones depend on what went before."""
    for seed in range(SEEDS):
        here = cluster(seed)
        foretold = len(here.foresee().submissions)
        ended(here)
        assert len(here.batches) <= foretold + 1, here.tell()


def test_estimates_that_are_exact_are_enough() -> None:
    for seed in range(SEEDS):
        here = cluster(seed, least=1.0)
        foretold = len(here.foresee().submissions)
        ended(here)
        assert len(here.batches) <= foretold + 1, here.tell()
        assert here.taken_back <= 1, here.tell()


def test_an_allocation_that_starts_runs_something() -> None:
    for seed in range(SEEDS):
        here = cluster(seed, limited=True)
        ended(here)
        for batch in here.batches:
            assert batch.ran or batch.record.started_at is None, here.tell()


def test_jobs_that_take_longer_than_they_say_end() -> None:
    for seed in range(SEEDS):
        ended(cluster(seed, least=0.5, most=1.3, limited=True))


def test_campaigns_survive_failures_and_cancelled_allocations() -> None:
    for seed in range(SEEDS):
        here = cluster(seed, chance=0.3)
        foretold = len(here.foresee().submissions)
        ended(here)
        assert len(here.batches) <= foretold + here.failed + 1, here.tell()


def test_jobs_that_come_later_end() -> None:
    for seed in range(SEEDS):
        ended(cluster(seed, late=0.3, limited=True))


def test_children_end_after_their_parents() -> None:
    for seed in range(SEEDS):
        ended(cluster(seed, children=0.3, limited=True))


def test_requests_made_for_free_nodes_end_campaigns() -> None:
    for seed in range(SEEDS):
        ended(cluster(seed, backfill=True, limited=True))


def test_the_budget_is_kept_and_its_end_is_said() -> None:
    """What it allows is done; then the plan says why it asks for nothing more."""
    for seed in range(SEEDS):
        here = cluster(seed, budget=10.0, chance=0.1, limited=True)
        here.run()  # fails where more is spent
        left = [task for task in here.tasks if not task.is_done]
        assert here.last is not None
        if left:
            assert "node-hours left" in here.last.waits, here.tell()
            assert here.spent() > 0, here.tell()
