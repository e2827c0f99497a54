"""The planner against a world that plays workers, database, users and clock by a seed.

A test that fails names its seed: the same one plays the same story again.
"""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from balsam.model.resources import NodeResources
from balsam.model.states import END_STATES, State
from balsam.model.wire import Outcome
from tests.unit.launcher.simulation import World
from tests.unit.launcher.worlds import APPS, NODE, job, jobs, random_world

S = State


@pytest.mark.parametrize("seed", range(120))
def test_whatever_happens_every_job_ends_and_is_accounted_for(seed: int) -> None:
    world = random_world(seed)
    world.run(hours=100)
    world.check()
    assert world.finished == "nothing left to do"
    for one in world.database.jobs.values():
        assert one.state in END_STATES or one.memory_mib > NODE.memory_mib, (one.id, one.state)


@pytest.mark.parametrize("count", [2, 3, 7])
@pytest.mark.parametrize("seed", range(3000, 3040))
def test_the_same_holds_on_many_nodes(seed: int, count: int) -> None:
    world = random_world(seed, count, node_failure_limit=(0, 3)[seed % 2])
    world.run(hours=100)
    world.check()
    for one in world.database.jobs.values():
        fits = one.memory_mib <= NODE.memory_mib
        # A node that was set aside leaves too few for the largest.
        assert one.state in END_STATES or not fits or one.num_nodes > 1, (one.id, one.state)


@pytest.mark.parametrize("seed", range(1000, 1080))
def test_a_launcher_that_is_stopped_gives_back_all_it_holds(seed: int) -> None:
    world = random_world(seed)
    world.after(Random(seed).uniform(0, 20), lambda: world.planner.stop("stopped"))
    world.run(hours=1)
    world.check()


@pytest.mark.parametrize("seed", range(2000, 2080))
def test_time_over_is_charged_to_nobody(seed: int) -> None:
    world = random_world(seed, ends_at=Random(seed).choice((5.0, 30.0, 100.0)))
    start = world.now
    world.run(hours=1)
    world.check()
    ends_at = world.options.ends_at
    assert ends_at is not None
    for attempt in world.database.attempts.values():
        assert attempt.started_at is not None
        assert attempt.started_at < max(start + 0.1, ends_at)


# the order of things ----------------------------------------------------------------------


def starts(world: World) -> list[int]:
    return [id_ for id_, _ in world.executed]


def test_jobs_run_by_priority_then_in_the_order_they_were_made() -> None:
    wanted = [job(1), job(2, priority=1), job(3, priority=-1), job(4), job(5, priority=1)]
    world = World(1, NodeResources(host="n", cores=1, threads=1, memory_mib=1000), wanted, APPS)
    world.run()
    assert starts(world) == [2, 5, 1, 4, 3]


def test_urgent_jobs_that_come_later_pass_those_in_stock() -> None:
    one_core = NodeResources(host="n", cores=1, threads=1, memory_mib=1000)
    world = World(1, one_core, jobs(10), APPS)
    world.behaviour = lambda job, attempt: (3600.0, 0)

    def come() -> None:
        world.database.jobs[11] = job(11, priority=5)
        world.database.paths[11] = [S.PREPROCESSED]
        world.planner.work_may_have_come()

    world.after(60.0, come)
    world.run(hours=20)
    assert starts(world)[:3] == [1, 11, 2]


def test_a_job_that_runs_again_goes_first_among_its_equals() -> None:
    one_core = NodeResources(host="n", cores=1, threads=1, memory_mib=1000)
    wanted = [job(1, max_retries=1), job(2), job(3), job(4, priority=1, max_retries=1)]
    world = World(1, one_core, wanted, APPS)
    world.behaviour = lambda job, attempt: (60.0, int(attempt == 1 and job.max_retries > 0))
    world.run()
    assert starts(world) == [4, 4, 1, 1, 2, 3]


@pytest.mark.parametrize("seconds", [0.01, 1.0, 20.0])
def test_small_jobs_do_not_starve_a_large_one(seconds: float) -> None:
    wanted = [*jobs(3000, wall_time_minutes=1), job(5000, threads_per_rank=4)]
    world = World(1, NODE, wanted, APPS)
    world.behaviour = lambda job, attempt: (seconds * world.random.uniform(0.5, 1.5), 0)
    world.run()
    world.check()
    (leased,) = (time for time, id_ in world.leased_at if id_ == 5000)
    (started,) = (time for time, id_ in world.started_at if id_ == 5000)
    assert started - leased < 2 * 1.5 * seconds + 1


def test_few_jobs_are_kept_from_other_launchers() -> None:
    """Fault S10: of long jobs as many are held back as run, and not more."""
    world = World(1, NODE, jobs(1000), APPS)
    world.behaviour = lambda job, attempt: (3600.0, 0)
    most: list[int] = []

    def look() -> None:
        most.append(sum(j.launcher_id is not None for j in world.database.jobs.values()))
        world.after(600.0, look)

    world.after(60.0, look)
    world.after(36_000.0, lambda: world.planner.stop("enough"))
    world.run(hours=20)
    assert max(most) <= 3 * NODE.cores


def test_jobs_that_fit_pass_one_that_does_not_for_now() -> None:
    wanted = [job(1, threads_per_rank=3), job(2, threads_per_rank=2), job(3)]
    world = World(1, NODE, wanted, APPS)
    world.behaviour = lambda job, attempt: (5.0, 0)
    world.run()
    assert starts(world) == [1, 3, 2]


def test_a_killed_job_whose_hook_was_lost_with_the_worker_is_let_go() -> None:
    world = World(1, NODE, [job(1, "after")], APPS)
    world.hook = lambda job: (60.0, 0, None)
    world.after(5.0, lambda: world.kill(1))
    world.after(5.31, world.lose)
    world.run()
    world.check()


def test_what_never_fits_a_node_is_left_to_others() -> None:
    """Two devices hold two shares of 0.6, not three, though 1.8 is less than 2."""
    wanted = [job(1, gpus_per_rank=0.6, ranks_per_node=3), *(job(n) for n in range(2, 50))]
    world = World(1, NODE, wanted, APPS)
    world.behaviour = lambda job, attempt: (60.0, 0)
    world.run()
    world.check()
    assert sorted(starts(world)) == list(range(2, 50))
    assert world.database.jobs[1].state == S.PREPROCESSED


# resources ----------------------------------------------------------------------------------


def most_at_once(world: World) -> int:
    """Return how many runs there were at most at one time."""
    spans = [(a.started_at, a.ended_at) for a in world.database.attempts.values()]
    changes = sorted([(s or 0, 1) for s, _ in spans] + [(e or 0, -1) for _, e in spans])
    running = most = 0
    for _, change in changes:
        running += change
        most = max(most, running)
    return most


@pytest.mark.parametrize(
    ("fields", "most"),
    [
        ({}, 4),
        ({"node_packing_count": 64}, 64),
        ({"node_packing_count": 2}, 2),
        ({"threads_per_rank": 2}, 2),
        ({"threads_per_rank": 2, "threads_per_core": 2}, 4),
        ({"cores_per_rank": 3}, 1),
        ({"ranks_per_node": 4}, 1),
        ({"gpus_per_rank": 1.0}, 2),
        ({"gpus_per_rank": 0.25, "node_packing_count": 64}, 8),
        ({"gpus_per_rank": 0.4, "node_packing_count": 64}, 4),
        ({"memory_mib": 3000}, 2),
    ],
)
def test_as_many_run_at_once_as_fit(fields: dict[str, Any], most: int) -> None:
    world = World(1, NODE, jobs(150, **fields), APPS)
    world.behaviour = lambda job, attempt: (30.0, 0)
    world.run()
    world.check()
    assert most_at_once(world) == most


# ends and retries ---------------------------------------------------------------------------


def outcomes(world: World, id_: int) -> list[Outcome]:
    last = world.database.jobs[id_].attempt
    return [world.database.attempts[id_, number].outcome for number in range(1, last + 1)]


def test_an_error_is_retried_as_often_as_wanted_and_never_by_itself() -> None:
    """Fault S1."""
    world = World(1, NODE, [job(1), job(2, max_retries=2)], APPS)
    world.behaviour = lambda job, attempt: (1.0, 1)
    world.run()
    assert outcomes(world, 1) == [Outcome.ERROR]
    assert outcomes(world, 2) == [Outcome.ERROR] * 3
    assert world.database.jobs[2].retries == 2
    assert {j.state for j in world.database.jobs.values()} == {S.FAILED}


def test_a_retry_gives_its_cores_back() -> None:
    """Fault S3: a job that needs the whole node runs after many that failed."""
    wanted = [*jobs(8, max_retries=5), job(100, threads_per_rank=NODE.cores, priority=-1)]
    world = World(1, NODE, wanted, APPS)
    world.behaviour = lambda job, attempt: (1.0, int(job.id != 100))
    world.run()
    world.check()
    assert outcomes(world, 8) == [Outcome.ERROR] * 6
    assert outcomes(world, 100) == [Outcome.DONE]


def test_time_over_is_no_retry() -> None:
    world = World(1, NODE, [job(1, max_retries=1)], APPS, ends_at=60.0, grace_seconds=5.0)
    world.behaviour = lambda job, attempt: (3600.0, 0)
    world.run()
    world.check()
    assert outcomes(world, 1) == [Outcome.TIMEOUT]
    assert world.database.paths[1][-2:] == [S.RUN_TIMEOUT, S.RESTART_READY]
    assert world.database.jobs[1].retries == 0
    assert world.finished == "the launcher's time is over"
    assert world.options.ends_at is not None
    assert world.now < world.options.ends_at


def test_a_job_too_long_for_the_time_left_is_not_started() -> None:
    """Fault L3."""
    wanted = [job(1, wall_time_minutes=2), job(2, wall_time_minutes=0.5)]
    world = World(1, NODE, wanted, APPS, ends_at=90.0)
    world.run()
    world.check()
    assert starts(world) == [2]
    assert world.database.paths[1] == [S.PREPROCESSED]


def test_a_job_that_had_time_when_it_was_leased_is_given_back_when_that_has_passed() -> None:
    one_core = NodeResources(host="n", cores=1, threads=1, memory_mib=1000)
    world = World(1, one_core, jobs(3, wall_time_minutes=1), APPS, ends_at=130.0)
    world.behaviour = lambda job, attempt: (59.0, 0)
    world.run()
    world.check()
    assert len(starts(world)) == 1  # 12 s are kept for the end: a second could end, if in time
    assert S.RUN_TIMEOUT not in [s for path in world.database.paths.values() for s in path]


def test_a_launcher_goes_on_while_the_database_is_away() -> None:
    world = World(1, NODE, jobs(12), APPS)
    world.behaviour = lambda job, attempt: (10.0, 0)
    calls = iter([0.01, 0.01, 600.0])
    world.database_seconds = lambda: next(calls, 0.01)
    world.run()
    world.check()
    assert all(j.state == S.JOB_FINISHED for j in world.database.jobs.values())


def test_a_lost_worker_is_nobodys_fault() -> None:
    world = World(1, NODE, jobs(4), APPS)
    world.behaviour = lambda job, attempt: (30.0, 0)
    world.after(10.0, world.lose)
    world.run()
    world.check()
    for id_ in world.database.jobs:
        assert outcomes(world, id_) == [Outcome.LOST, Outcome.DONE]
        assert world.database.jobs[id_].retries == 0


def test_an_idle_launcher_waits_and_then_ends() -> None:
    world = World(1, NODE, [], APPS, idle_seconds=30.0)
    began = world.now
    world.run()
    assert world.finished == "nothing left to do"
    assert 30.0 <= world.now - began < 36.0


def test_a_persistent_launcher_waits_for_ever() -> None:
    world = World(1, NODE, [], APPS, persistent=True, idle_seconds=1.0)
    world.after(7200.0, lambda: world.planner.stop("enough"))
    began = world.now
    world.run()
    assert world.finished == "enough"
    assert world.now - began >= 7200.0
