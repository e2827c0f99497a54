"""The 0.x reports, under their names and with their meaning."""

from __future__ import annotations

from datetime import UTC, datetime

from balsam.model.wire import Event
from balsam.report.history import (
    error_report,
    process_job_times,
    throughput_report,
    utilization_report,
)

START = 1_900_000_000.0


def at(seconds: float) -> datetime:
    return datetime.fromtimestamp(START + seconds, UTC)


def moves(*steps: tuple[float, str]) -> list[Event]:
    return [Event(time=START + s, job=1, from_state="", to_state=state) for s, state in steps]


TWO_RUNS_AND_A_FAILURE = moves(
    (0, "CREATED"),
    (1, "RUNNING"),
    (2, "RUNNING"),
    (4, "RUN_DONE"),
    (5, "RUN_DONE"),
    (5, "RUNNING"),
    (70, "RUN_ERROR"),
)


def test_job_times_by_state_are_aware_and_in_order() -> None:
    times = process_job_times(TWO_RUNS_AND_A_FAILURE)
    assert times["RUNNING"] == [at(1), at(2), at(5)]
    assert times["RUN_ERROR"] == [at(70)]
    assert times["RUNNING"][0].tzinfo is UTC


def test_utilization_counts_what_runs() -> None:
    times, running = utilization_report(process_job_times(TWO_RUNS_AND_A_FAILURE))
    assert times == [at(1), at(2), at(4), at(5), at(70)]
    assert running == [1, 2, 1, 1, 0]


def test_throughput_is_cumulative_from_the_first_start() -> None:
    times, done = throughput_report(process_job_times(TWO_RUNS_AND_A_FAILURE))
    assert times == [at(1), at(4), at(5)]
    assert done == [0, 1, 2]
    assert throughput_report({}) == ([], [])


def test_errors_by_minute() -> None:
    events = moves((0, "RUN_ERROR"), (59, "RUN_ERROR"), (150, "RUN_ERROR"))
    assert error_report(process_job_times(events)) == ([at(0), at(60), at(120)], [2, 0, 1])
    assert error_report({}) is None
