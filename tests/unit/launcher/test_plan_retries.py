"""The planner and jobs that run again: delays, growth, crashes."""

from __future__ import annotations

from balsam.launcher.leasing import LOOK_SECONDS
from balsam.model.job import Job
from balsam.model.resources import NodeResources
from balsam.model.retry import parse_rules
from balsam.model.states import State
from tests.unit.launcher.simulation import World
from tests.unit.launcher.worlds import APPS, NODE, job, jobs

S = State


def starts(world: World) -> list[int]:
    return [id_ for id_, _ in world.executed]


def failing(*found: Job, **options: float) -> World:
    """A world where each run fails after a second."""
    world = World(1, NODE, list(found), APPS, **options)
    world.behaviour = lambda job, attempt: (1.0, 1)
    return world


def test_a_launcher_waits_for_a_retry_without_polling() -> None:
    """Other than by the look that it takes every few seconds anyhow."""
    world = failing(job(1, retry=parse_rules("any: delay=1000, backoff=2, max=2")))
    begun = world.now
    world.run()
    world.check()
    first, second, third = (time - begun for time, _ in world.started_at)
    assert 1001 < second - first < 1003
    assert 2001 < third - second < 2003
    assert world.database.jobs[1].state is S.FAILED
    assert world.database.leases < 3100 / LOOK_SECONDS + 20


def test_a_retry_that_comes_too_late_for_this_launcher_is_not_waited_for() -> None:
    world = failing(job(1, retry=parse_rules("any: delay=1000")), ends_at=900.0)
    begun = world.now
    world.run()
    world.check()
    assert world.finished == "nothing left to do"
    assert world.now - begun < 30
    assert world.database.jobs[1].state is S.RESTART_READY


def test_a_launcher_that_waits_for_a_retry_stops_when_it_is_told() -> None:
    world = failing(job(1, retry=parse_rules("any: delay=1000")))
    world.after(100.0, lambda: world.planner.stop("stopped"))
    begun = world.now
    world.run()
    world.check()
    assert (world.finished, round(world.now - begun)) == ("stopped", 100)


def test_a_retry_that_somebody_removed_is_waited_for_no_longer() -> None:
    world = failing(job(1, retry=parse_rules("any: delay=1000")))
    world.after(100.0, lambda: world.kill(1))
    begun = world.now
    world.run()
    assert world.finished == "nothing left to do"
    assert world.now - begun < 100 + 2 * LOOK_SECONDS


def test_while_a_retry_waits_others_run() -> None:
    world = failing(job(1, retry=parse_rules("any: delay=50")), *jobs(300)[1:])
    world.behaviour = lambda job, attempt: (1.0, int(job.id == 1))
    world.run()
    world.check()
    assert starts(world).index(1) == 0
    assert starts(world)[1:].index(1) > 100


def test_a_job_that_grew_is_placed_with_its_new_request() -> None:
    """The world fails when memory is over-committed."""
    rules = parse_rules("any: memory*2, max=9")
    world = failing(*jobs(16, memory_mib=1000, retry=rules))
    world.run()
    world.check()
    grown = world.database.jobs.values()
    assert {(job.memory_mib, job.retries, job.state) for job in grown} == {
        (16000, 4, S.RESTART_READY)  # the node has 8000
    }


def test_a_job_that_kills_its_worker_fails_and_those_behind_it_do_not() -> None:
    one_core = NodeResources(host="n", cores=1, threads=1, memory_mib=1000)
    deadly = job(1, priority=1)
    world = World(1, one_core, [deadly, *jobs(20)[1:]], APPS, crash_limit=3)

    def behaviour(job: Job, attempt: int) -> tuple[float, int]:
        if job.id == 1:
            world.after(0.05, world.lose)
        return (1000.0 if job.id == 1 else 0.001), 0

    world.behaviour = behaviour
    world.run()
    world.check()
    states = {id_: job.state for id_, job in world.database.jobs.items()}
    assert states == {1: S.FAILED} | dict.fromkeys(range(2, 21), S.JOB_FINISHED)
    crashes = [job.crashes for job in world.database.jobs.values()]
    assert crashes == [3] + [0] * 19
