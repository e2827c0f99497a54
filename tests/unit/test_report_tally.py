"""The numbers of a campaign whose course is known by hand."""

from __future__ import annotations

import pytest

from balsam.model.job import Job
from balsam.model.states import State
from balsam.model.wire import Attempt, Event, LauncherInfo, Outcome
from balsam.report.durations import Durations
from balsam.report.records import Summary
from balsam.report.tally import Tally

START = 1_900_000_000.0


def launcher(
    number: int, start: float, end: float | None, cores: int, **more: float
) -> LauncherInfo:
    return LauncherInfo(
        id=number,
        host=f"h{number}",
        pid=1,
        cores=cores,
        started_at=START + start,
        ended_at=None if end is None else START + end,
        expires_at=START + more.get("expires", 1e6),
    )


def ran(job: int, start: float, end: float | None, outcome: Outcome, **more: int) -> Attempt:
    return Attempt(
        job=job,
        number=1,
        launcher_id=more.get("launcher", 1),
        node="h1",
        started_at=START + start,
        ended_at=None if end is None else START + end,
        outcome=outcome,
        exit_code=more.get("exit_code"),
        message="went wrong" if outcome == Outcome.ERROR else "",
    )


def summary(
    launchers: list[LauncherInfo],
    runs: list[tuple[Attempt, Job]],
    events: list[Event] | None = None,
    now: float = 1000,
    used_only: bool = False,
    states: dict[State, int] | None = None,
) -> Summary:
    tally = Tally(launchers, START + now)
    for attempt, job in runs:
        tally.attempt(attempt, job)
    tally.offer(used_only=used_only)
    for event in events or []:
        tally.event(event)
    return tally.summary("/site", "", states or {})


SERIAL = Job(id=1, application="sim")
WIDE = Job(id=2, application="mpi", num_nodes=2, ranks_per_node=4, threads_per_rank=2)
PACKED = Job(id=3, application="sim", node_packing_count=4)


def test_utilization_is_busy_over_offered_core_seconds() -> None:
    found = summary(
        [launcher(1, 0, 100, 8)],
        [(ran(1, 10, 60, Outcome.DONE), SERIAL), (ran(2, 20, 40, Outcome.DONE), WIDE)],
        states={State.JOB_FINISHED: 2},
    )
    assert found.busy_core_seconds == 50 * 1 + 20 * 16
    assert found.offered_core_seconds == 800
    assert found.utilization == pytest.approx(370 / 800)
    assert found.wall_seconds == 50
    assert found.finished_per_second == pytest.approx(2 / 50)
    assert [app.name for app in found.apps] == ["mpi", "sim"]


def test_a_packed_job_takes_its_share_of_the_launchers_node() -> None:
    found = summary([launcher(1, 0, 10, 8)], [(ran(3, 0, 10, Outcome.DONE), PACKED)])
    assert found.busy_core_seconds == 20


def test_what_has_not_ended_counts_until_now() -> None:
    found = summary([launcher(1, 0, None, 2)], [(ran(1, 5, None, Outcome.RUNNING), SERIAL)], now=25)
    assert found.busy_core_seconds == 20
    assert found.offered_core_seconds == 50
    assert found.launchers[0].ended_at is None


def test_a_lost_launcher_offers_until_its_lease_ends_and_its_runs_with_it() -> None:
    found = summary(
        [launcher(1, 0, 90_000, 2, expires=60)], [(ran(1, 30, 90_000, Outcome.LOST), SERIAL)]
    )
    assert found.offered_core_seconds == 120
    assert found.busy_core_seconds == 30
    assert found.failed_runs == 1
    assert found.error_rate == 1


def test_a_selection_counts_only_the_launchers_that_ran_it() -> None:
    launchers = [launcher(1, 0, 10, 1), launcher(2, 0, 10, 4)]
    runs = [(ran(1, 0, 5, Outcome.DONE), SERIAL)]
    assert summary(launchers, runs).offered_core_seconds == 50
    assert summary(launchers, runs, used_only=True).offered_core_seconds == 10


def test_the_course_follows_the_events_and_ignores_the_wait_before_the_first_launcher() -> None:
    events = [
        Event(time=START - 5e5, job=1, from_state="", to_state="PREPROCESSED"),
        Event(time=START - 5e5, job=2, from_state="", to_state="CREATED"),
        Event(time=START - 5e5, job=2, from_state="CREATED", to_state="AWAITING_PARENTS"),
        Event(time=START + 1, job=1, from_state="PREPROCESSED", to_state="RUNNING"),
        Event(time=START + 3, job=1, from_state="RUNNING", to_state="RUN_DONE"),
        Event(time=START + 3, job=1, from_state="RUN_DONE", to_state="JOB_FINISHED"),
        Event(time=START + 3, job=2, from_state="AWAITING_PARENTS", to_state="PREPROCESSED"),
    ]
    course = summary([launcher(1, 0, 4, 1)], [(ran(1, 1, 3, Outcome.DONE), SERIAL)], events).course
    assert course.started_at == START
    assert course.seconds[-1] == 4
    at = {second: n for n, second in enumerate(course.seconds)}
    half = {phase: values[at[2]] for phase, values in course.phases.items()}
    assert {phase for phase, jobs in half.items() if jobs} == {"waiting", "running"}
    last = {phase: values[-1] for phase, values in course.phases.items()}
    assert {phase for phase, jobs in last.items() if jobs} == {"ready", "finished"}
    assert sum(half.values()) == sum(last.values()) == 2
    assert course.busy_cores[at[2]] == 1
    assert course.busy_cores[-1] == 0
    assert course.offered_cores[-1] == 1


def test_failures_of_runs_come_from_attempts_and_those_of_hooks_from_events() -> None:
    events = [
        Event(time=START + 3, job=1, from_state="RUNNING", to_state="RUN_ERROR", message="x"),
        Event(time=START + 3, job=1, from_state="RUN_ERROR", to_state="FAILED", message="x"),
        Event(time=START + 3, job=2, from_state="READY", to_state="FAILED", message="no hook"),
    ]
    found = summary(
        [launcher(1, 0, 10, 1)],
        [(ran(1, 1, 3, Outcome.ERROR, exit_code=7), SERIAL), (ran(4, 3, 5, Outcome.DONE), SERIAL)],
        events,
    )
    kinds = {(g.outcome, g.exit_code, g.message): g.count for g in found.failures}
    assert kinds == {("error", 7, "went wrong"): 1, ("preprocess", None, "no hook"): 1}
    assert found.error_rate == 0.5
    assert found.course.failed_runs[-1] == 1


def test_an_empty_campaign_has_no_rates() -> None:
    found = summary([], [])
    assert (found.utilization, found.finished_per_second, found.error_rate) == (None, None, None)
    assert found.course.seconds == []


def test_quantiles_of_run_times_are_near_the_exact_ones() -> None:
    durations = Durations()
    for n in range(1, 1001):
        durations.add(n / 10)
    assert durations.mean == pytest.approx(50.05)
    assert durations.quantile(0.5) == pytest.approx(50, rel=0.03)
    assert durations.quantile(0.95) == pytest.approx(95, rel=0.03)
    assert durations.quantile(1) <= durations.longest == 100
