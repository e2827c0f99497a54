"""Run times are learned from reports: each run once, whoever reports at the same time."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from balsam import config
from balsam.client.local import LocalClient
from balsam.model.app import App
from balsam.model.job import Job
from balsam.model.query import ALL, Query, parse
from balsam.model.run_time import RunTime
from balsam.model.states import State
from balsam.model.wire import Outcome, Report
from tests.contract.pilot import Clock, Pilot, add, job, request, states

S = State


def named(name: str) -> Query:
    return Query(filters=parse({"name": name}, "apps"))


def learned(client: LocalClient, pilot: Pilot, application: str = "a") -> list[RunTime]:
    """What a launcher is told of an app, with a job of it."""
    (id_,) = add(client, "asks", application=application, priority=1000)
    told = client.lease(pilot.id, request(1)).run_times
    pilot.report(released=[id_])
    client.delete_jobs(ALL.where(id=id_))
    return told


def report_of(pilot: Pilot, job: Job, seconds: float, outcome: Outcome = Outcome.DONE) -> Report:
    """The report that the run of *job*, as leased and started since, took *seconds*."""
    report = pilot.ended([job], outcome)
    (attempt,) = report.attempts
    attempt.started_at = (attempt.ended_at or 0.0) - seconds
    return report


def run(
    client: LocalClient,
    pilot: Pilot,
    *seconds: float,
    outcome: Outcome = Outcome.DONE,
    **fields: Any,
) -> None:
    """Run a job for each of *seconds*, all in one report."""
    add(client, *(f"j{i}" for i in range(len(seconds))), **fields)
    leased = pilot.lease()
    pilot.start(*leased)
    reports = [
        report_of(pilot, one, time, outcome) for one, time in zip(leased, seconds, strict=True)
    ]
    whole = Report(
        moves=[m for r in reports for m in r.moves],
        attempts=[a for r in reports for a in r.attempts],
        released=[j for r in reports for j in r.released],
    )
    assert client.report(pilot.id, whole) == []
    if outcome is Outcome.TIMEOUT:
        client.kill_jobs(ALL)


# what is learned --------------------------------------------------------------------


def test_nothing_is_known_at_first(client: LocalClient, pilot: Pilot) -> None:
    assert learned(client, pilot) == []


def test_the_mean_and_the_deviation_over_several_reports(client: LocalClient, pilot: Pilot) -> None:
    for times in ([10.0, 20.0, 60.0], [5.0], [100.0, 1.0]):
        run(client, pilot, *times)
    all_times = [10.0, 20.0, 60.0, 5.0, 100.0, 1.0]
    (told,) = learned(client, pilot)
    assert (told.application, told.ranks, told.count) == ("a", 1, 6)
    assert told.mean_seconds == pytest.approx(statistics.fmean(all_times))
    assert told.deviation == pytest.approx(statistics.stdev(all_times))


def test_apps_and_numbers_of_ranks_are_apart(client: LocalClient, pilot: Pilot) -> None:
    client.add_app(App(name="b", executable="x"))
    run(client, pilot, 4.0)
    run(client, pilot, 2.0, ranks_per_node=2)
    run(client, pilot, 1.0, num_nodes=2, ranks_per_node=2)
    run(client, pilot, 3.0, num_nodes=4)
    run(client, pilot, 9.0, application="b")
    found = [(t.ranks, t.count, t.mean_seconds) for t in learned(client, pilot)]
    assert found == [(1, 1, 4.0), (2, 1, 2.0), (4, 2, 2.0)]
    assert [t.mean_seconds for t in learned(client, pilot, "b")] == [9.0]


@pytest.mark.parametrize("outcome", [Outcome.ERROR, Outcome.TIMEOUT])
def test_only_runs_that_end_well_count(client: LocalClient, pilot: Pilot, outcome: Outcome) -> None:
    run(client, pilot, 4.0, outcome=outcome)
    assert learned(client, pilot) == []


@pytest.mark.parametrize("seconds", [-1.0, float("inf"), float("nan")])
def test_what_no_clock_measured_is_no_run_time(
    client: LocalClient, pilot: Pilot, seconds: float
) -> None:
    run(client, pilot, seconds, 5.0)
    assert [(t.count, t.mean_seconds) for t in learned(client, pilot)] == [(1, 5.0)]


def test_a_run_without_times_teaches_nothing(client: LocalClient, pilot: Pilot) -> None:
    add(client, "x")
    (leased,) = pilot.lease()
    pilot.start(leased)
    report = pilot.ended([leased], Outcome.DONE)
    report.attempts[0].started_at = None
    assert client.report(pilot.id, report) == []
    assert learned(client, pilot) == []


# each once --------------------------------------------------------------------------


def test_a_report_that_comes_again_counts_once(
    client: LocalClient, pilot: Pilot, clock: Clock
) -> None:
    add(client, "x", "y")
    leased, other = pilot.lease()
    pilot.start(leased, other)
    report = report_of(pilot, leased, 4.0)
    clock.now += 1
    assert client.report(pilot.id, report) == []
    for again in (False, True):
        report.again = again
        client.report(pilot.id, report)
        assert [t.count for t in learned(client, pilot)] == [1]
    more = report_of(pilot, other, 6.0)
    together = Report(
        moves=report.moves + more.moves, attempts=report.attempts + more.attempts, again=True
    )
    assert client.report(pilot.id, together) == []
    assert [(t.count, t.mean_seconds) for t in learned(client, pilot)] == [(2, 5.0)]


def test_a_run_told_too_late_does_not_count(
    client: LocalClient, pilot: Pilot, rival: Pilot
) -> None:
    add(client, "x")
    (leased,) = pilot.lease()
    pilot.start(leased)
    client.retire_launcher(pilot.id, "died", lost=True)
    assert len(client.report(pilot.id, report_of(pilot, leased, 4.0))) == 1
    assert learned(client, rival) == []


def test_a_killed_run_does_not_count(client: LocalClient, pilot: Pilot) -> None:
    (id_,) = add(client, "x")
    (leased,) = pilot.lease()
    pilot.start(leased)
    client.kill_jobs(ALL.where(id=id_))
    assert len(client.report(pilot.id, report_of(pilot, leased, 4.0))) == 1
    assert learned(client, pilot) == []


def test_the_attempt_that_was_done_counts_alone(
    client: LocalClient, pilot: Pilot, clock: Clock
) -> None:
    """An error, its retry and the end of that in one report."""
    add(client, "x", max_retries=1)
    (leased,) = pilot.lease()
    way = (S.RUNNING, S.RUN_ERROR, S.RESTART_READY, S.RUNNING, S.RUN_DONE, S.JOB_FINISHED)
    failed, done = pilot.attempt(leased, Outcome.ERROR), pilot.attempt(leased, Outcome.DONE, 2)
    failed.started_at, done.started_at = clock.now - 50, clock.now - 7
    assert pilot.report(moves=pilot.path(leased, *way), attempts=[failed, done]) == []
    assert [(t.count, t.mean_seconds) for t in learned(client, pilot)] == [(1, 7.0)]


@pytest.fixture
def beside(site: Path, clock: Clock) -> Iterator[list[LocalClient]]:
    """Four clients with connections of their own."""
    clients = [LocalClient(site, config.load(site), clock) for _ in range(4)]
    yield clients
    for each in clients:
        each.close()


def test_many_launchers_at_once(
    client: LocalClient, pilot: Pilot, clock: Clock, beside: list[LocalClient]
) -> None:
    """Each reports runs of two apps, one run at a time: nothing is lost, nobody waits for ever."""
    client.add_app(App(name="b", executable="x"))
    each = 20
    pilots = [Pilot(other, clock) for other in beside]
    new = [
        Job(name=f"j{i}", workflow="w", application="ab"[i % 2])
        for i in range(2 * each * len(pilots))
    ]
    ids = client.create_jobs(new)
    shares = [one.lease(2 * each) for one in pilots]
    for one, jobs in zip(pilots, shares, strict=True):
        one.start(*jobs)

    def report(share: tuple[int, Pilot, list[Job]]) -> None:
        number, one, jobs = share
        for place in range(0, len(jobs), 2):
            pair = jobs[place : place + 2][:: 1 if number % 2 else -1]
            parts = [report_of(one, done, 1.0 + number) for done in pair]
            moves = [move for part in parts for move in part.moves]
            attempts = [attempt for part in parts for attempt in part.attempts]
            assert one.report(moves=moves, attempts=attempts) == []

    work = [
        (number, one, share) for number, (one, share) in enumerate(zip(pilots, shares, strict=True))
    ]
    with ThreadPoolExecutor(len(pilots)) as threads:
        list(threads.map(report, work))
    assert set(states(client, ids)) == {S.JOB_FINISHED}
    told = learned(client, pilot) + learned(client, pilot, "b")
    assert sum(t.count for t in told) == len(ids)
    total = sum(t.count * t.mean_seconds for t in told)
    assert total == pytest.approx(2 * each * (1 + 2 + 3 + 4))


# apps -------------------------------------------------------------------------------


def test_another_program_is_learned_anew(client: LocalClient, pilot: Pilot) -> None:
    run(client, pilot, 4.0)
    client.update_apps(named("a"), {"description": "new", "executable": "/bin/true"})
    assert len(learned(client, pilot)) == 1, "it is the same program"
    client.update_apps(named("a"), {"executable": "/bin/false"})
    assert learned(client, pilot) == []


def test_an_app_that_is_renamed_keeps_its_times(client: LocalClient, pilot: Pilot) -> None:
    run(client, pilot, 4.0)
    client.update_apps(named("a"), {"name": "a"})
    assert len(learned(client, pilot)) == 1
    client.update_apps(named("a"), {"name": "b"})
    assert [t.mean_seconds for t in learned(client, pilot, "b")] == [4.0]
    client.add_app(App(name="a", executable="x"))
    assert learned(client, pilot) == []


def test_a_removed_app_leaves_nothing_to_the_next_of_its_name(
    client: LocalClient, pilot: Pilot
) -> None:
    run(client, pilot, 4.0)
    client.delete_apps(named("a"))
    client.add_app(App(name="a", executable="x"))
    assert learned(client, pilot) == []


def test_times_outlive_their_jobs(client: LocalClient, pilot: Pilot) -> None:
    run(client, pilot, 4.0)
    client.delete_jobs(ALL)
    assert len(learned(client, pilot)) == 1


# leases -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "too_long", "taken"),
    [
        ({}, [("a", 1)], False),
        ({}, [("a", 2)], True),
        ({}, [("b", 1)], True),
        ({}, [("b", 1), ("a", 1), ("a", 2)], False),
        ({"ranks_per_node": 2}, [("a", 2)], False),
        ({"num_nodes": 2, "ranks_per_node": 2}, [("a", 4)], False),
        ({"num_nodes": 4}, [("a", 4)], False),
        ({"wall_time_minutes": 0.1}, [("a", 1)], True),
    ],
)
def test_what_takes_too_long_is_left(
    client: LocalClient,
    pilot: Pilot,
    fields: dict[str, Any],
    too_long: list[tuple[str, int]],
    taken: bool,
) -> None:
    add(client, "x", **fields)
    seen = client.outlook(pilot.id, request(minutes_left=5.0, too_long=too_long))
    assert (seen.leasable, seen.unfit, seen.too_long) == (int(taken), 0, int(not taken))
    assert len(pilot.lease(minutes_left=5.0, too_long=too_long)) == taken


def test_what_was_cut_off_once_is_tried_again(client: LocalClient, pilot: Pilot) -> None:
    """It goes on where it was, or would never run at all."""
    (id_,) = add(client, "x")
    pilot.run(*pilot.lease(), outcome=Outcome.TIMEOUT)
    assert job(client, id_).timeouts == 1
    assert [one.id for one in pilot.lease(too_long=[("a", 1)])] == [id_]


@pytest.mark.parametrize("state", [S.RUN_DONE, S.RUN_ERROR, S.RUN_TIMEOUT, S.POSTPROCESSED])
def test_after_its_run_no_job_takes_too_long(
    client: LocalClient, pilot: Pilot, rival: Pilot, state: State
) -> None:
    (id_,) = add(client, "x")
    (leased,) = pilot.lease()
    way = (S.RUNNING, S.RUN_DONE) if state is S.POSTPROCESSED else (S.RUNNING,)
    pilot.report(moves=pilot.path(leased, *way, state), released=[id_])
    assert [one.id for one in rival.lease(too_long=[("a", 1)])] == [id_]


def test_the_outlook_tells_what_lacks_time_from_what_lacks_room(
    client: LocalClient, pilot: Pilot
) -> None:
    add(client, "declared", wall_time_minutes=9.0)
    add(client, "learned")
    add(client, "large", "larger", num_nodes=200, wall_time_minutes=9.0)
    add(client, "fits", "also", "third", wall_time_minutes=1.0)
    seen = client.outlook(pilot.id, request(minutes_left=5.0, too_long=[("a", 1)]))
    assert (seen.leasable, seen.unfit, seen.too_long) == (3, 2, 2)
    assert client.outlook(pilot.id, request()).too_long == 0


def test_a_lease_tells_of_its_own_apps_only(client: LocalClient, pilot: Pilot) -> None:
    client.add_app(App(name="b", executable="x"))
    run(client, pilot, 1.0)
    run(client, pilot, 2.0, application="b")
    assert [t.application for t in learned(client, pilot, "b")] == ["b"]
    assert client.lease(pilot.id, request()).run_times == []
    add(client, "x")
    add(client, "y", application="b")
    again = request(number=7)
    first = client.lease(pilot.id, again)
    assert [t.application for t in first.run_times] == ["a", "b"]
    assert client.lease(pilot.id, again).run_times == first.run_times
