"""The planner against a world that plays workers, database, users and clock by a seed.

A test that fails names its seed: the same one plays the same story again.
"""

from __future__ import annotations

import signal
from random import Random
from typing import Any

import pytest

from balsam.launcher.leasing import LOOK_SECONDS
from balsam.model.job import needs_transfer
from balsam.model.resources import NodeResources
from balsam.model.run_time import RunTime
from balsam.model.states import END_STATES, State
from balsam.model.wire import Outcome, parts_of
from tests.unit.launcher.simulation import World
from tests.unit.launcher.worlds import APPS, NODE, job, jobs, nodes, random_world

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


@pytest.mark.parametrize("seed", range(500, 540))
def test_jobs_whose_files_a_service_moves_are_left_to_it(seed: int) -> None:
    world = random_world(seed)
    world.database.has_mover = True
    world.run(hours=100)
    world.check()
    assert world.finished == "nothing left to do"
    for one in world.database.jobs.values():
        fits = one.memory_mib <= NODE.memory_mib
        assert one.state in END_STATES or needs_transfer(one) or not fits, (one.id, one.state)
        assert one.launcher_id is None
    started = {id_ for id_, _ in world.executed}
    assert not any(world.database.jobs[id_].stage_in_url for id_ in started)


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


# calls that wait for others ---------------------------------------------------------------


def test_calls_that_wait_leave_their_places_and_get_others() -> None:
    """More wait at a time than there are cores: each for one that can only run meanwhile."""
    world = World(1, NODE, jobs(100), APPS)
    world.behaviour = lambda job, attempt: (1.0, 0)
    world.waits = lambda job: 1000.0 if (job.id or 0) <= 50 else 0.0
    world.run(hours=1)
    world.check()
    assert {one.state for one in world.database.jobs.values()} == {S.JOB_FINISHED}
    ends = {job: a.ended_at or 0.0 for (job, *_), a in world.database.attempts.items()}
    assert max(ends[n] for n in range(51, 101)) < min(ends[n] for n in range(1, 51))


# many nodes ---------------------------------------------------------------------------------


def used(world: World) -> float:
    """Return the share of all cores that ran something, from the first start to the last end."""
    spans = [
        (a.started_at or 0.0, a.ended_at or 0.0, sum(p.count for p in parts_of(a.placement)))
        for a in world.database.attempts.values()
    ]
    lasted = max(end for _, end, _ in spans) - min(start for start, _, _ in spans)
    cores = sum(node.cores for node in world.nodes)
    return sum((end - start) * count for start, end, count in spans) / (lasted * cores)


def test_a_mixed_campaign_keeps_the_nodes_busy() -> None:
    wanted = [
        *(job(n) for n in range(1, 501)),
        *(job(n, ranks_per_node=2) for n in range(501, 551)),
        *(job(n, num_nodes=2, ranks_per_node=2) for n in range(551, 561)),
        *(job(n, gpus_per_rank=0.5) for n in range(561, 581)),
    ]
    world = World(1, nodes(4), wanted, APPS)
    world.behaviour = lambda job, attempt: (world.random.uniform(0.5, 2.0) * job.num_nodes, 0)
    world.run()
    world.check()
    assert {one.state for one in world.database.jobs.values()} == {S.JOB_FINISHED}
    assert used(world) >= 0.95


@pytest.mark.parametrize("known", [True, False])
def test_small_jobs_do_not_starve_one_of_many_nodes(*, known: bool) -> None:
    """It starts when the jobs that ran as it came have ended, and none of its equals waits so."""
    minutes = 0.5 if known else 0
    wanted = [*jobs(2000, wall_time_minutes=minutes)]
    world = World(1, nodes(4), wanted, APPS)
    world.behaviour = lambda job, attempt: (world.random.uniform(5.0, 30.0), 0)

    def come() -> None:
        world.database.jobs[5000] = job(5000, num_nodes=3, threads_per_rank=4)
        world.database.paths[5000] = [S.PREPROCESSED]
        world.planner.work_may_have_come()

    world.after(100.0, come)
    world.run()
    world.check()
    (leased,) = (time for time, id_ in world.leased_at if id_ == 5000)
    (started,) = (time for time, id_ in world.started_at if id_ == 5000)
    assert started - leased <= 31.0 + LOOK_SECONDS


def test_short_jobs_pass_a_large_one_while_it_waits_for_a_long_one() -> None:
    """Fault: nodes that are held for long idle though there is work that would end in time."""
    wanted = [
        job(1, threads_per_rank=4, wall_time_minutes=20),
        job(2, num_nodes=2, threads_per_rank=4, wall_time_minutes=15, priority=-1),
        *(job(n, wall_time_minutes=2, priority=-2) for n in range(3, 23)),
        *(job(n, threads_per_rank=2, wall_time_minutes=30, priority=-3) for n in range(30, 33)),
    ]
    world = World(1, nodes(2), wanted, APPS)
    world.behaviour = lambda job, attempt: (60 * job.wall_time_minutes, 0)
    world.run()
    world.check()
    order = starts(world)
    assert set(order[1:21]) == set(range(3, 23))  # they end long before job 1 does
    assert order[21] == 2  # and those that would not, do not pass it
    began = {id_: time for time, id_ in world.started_at}
    assert began[2] - began[1] < 20 * 60 + 1


def test_what_a_held_node_has_beside_the_large_job_is_used() -> None:
    """A job that needs two cores of each node leaves two to others, whatever they take."""
    wanted = [
        job(1, threads_per_rank=3, priority=3),
        job(2, num_nodes=2, threads_per_rank=2, priority=2),
        job(3, threads_per_rank=2, priority=1),
        job(4, threads_per_rank=2),
    ]
    world = World(1, nodes(2), wanted, APPS)
    world.behaviour = lambda job, attempt: (100.0, 0)
    world.run()
    world.check()
    began = {id_: time for time, id_ in world.started_at}
    first = began[1]
    assert began[3] - first < 1  # beside what is held on the other node
    assert 99 < began[2] - first < 101
    assert began[4] - first > 99  # all four cores there would have made job 2 wait for it


def test_tasks_that_wait_behind_places_go_to_a_node_that_is_idle() -> None:
    wanted = jobs(400)
    world = World(1, nodes(2), wanted, APPS)
    slow = range(1, 400, 7)
    world.behaviour = lambda job, attempt: (9.0 if job.id in slow else 0.2, 0)
    world.run()
    world.check()
    assert used(world) >= 0.9


def test_a_node_where_jobs_fail_that_end_well_elsewhere_is_set_aside() -> None:
    wanted = jobs(300, max_retries=0)
    world = World(1, nodes(4), wanted, APPS, node_failure_limit=5)
    bad = "node3"
    world.on_node = lambda name, job: (0.01, 1) if name.startswith(bad) else None
    world.behaviour = lambda job, attempt: (1.0, 0)
    world.run()
    world.check()
    failed = [one for one in world.database.jobs.values() if one.state == S.FAILED]
    assert 5 <= len(failed) <= 20  # some were under way
    assert [text for text in world.said if bad in text and "set aside" in text]


def test_a_node_is_not_blamed_for_jobs_that_fail_everywhere() -> None:
    world = World(1, nodes(4), jobs(100), APPS, node_failure_limit=5)
    world.behaviour = lambda job, attempt: (0.5, 1)
    world.run()
    world.check()
    assert world.said == []


def test_a_parallel_job_that_loses_a_node_runs_again_and_what_is_left_is_swept() -> None:
    world = World(3, nodes(3), jobs(1, num_nodes=3, threads_per_rank=4), APPS)
    world.behaviour = lambda job, attempt: (60.0, 0)
    world.after(20.0, world.lose)
    world.run()
    world.check()
    assert outcomes(world, 1) == [Outcome.LOST, Outcome.DONE]
    assert {id_ for _, id_ in world.swept} == {1}


# time ---------------------------------------------------------------------------------------


def run_time(seconds: float, ranks: int = 1) -> RunTime:
    return RunTime(application="plain", ranks=ranks, count=10, mean_seconds=seconds)


def test_a_job_that_took_too_long_before_is_not_started() -> None:
    """Nothing is said of its time, but it is known from earlier runs."""
    wanted = [job(1), job(2, wall_time_minutes=0.5), job(3, "before"), job(4, timeouts=1)]
    world = World(1, NODE, wanted, APPS, ends_at=300.0)
    world.database.run_times = [run_time(600.0)]
    world.behaviour = lambda job, attempt: (10.0, 0)
    world.run()
    world.check()
    # It says itself that it is short; nothing is known of its app; it has only a rest to do.
    assert sorted(starts(world)) == [2, 3, 4]
    assert world.database.paths[1] == [S.PREPROCESSED]


def test_jobs_are_warned_before_the_end_once_and_only_those_that_wish_so() -> None:
    wanted = [job(1, signal="USR1@60"), job(2), job(3, signal="USR2@30"), job(4, signal="USR1@60")]
    world = World(1, NODE, wanted, APPS, ends_at=120.0, grace_seconds=5.0)
    world.behaviour = lambda job, attempt: (50.0 if job.id == 4 else 1000.0, 0)
    began = world.now
    world.run()
    world.check()
    assert [(round(t - began), id_, number) for t, id_, number in world.warned] == [
        (60, 1, signal.SIGUSR1),
        (90, 3, signal.SIGUSR2),
    ]
    assert outcomes(world, 1) == [Outcome.TIMEOUT]
    assert outcomes(world, 4) == [Outcome.DONE]
