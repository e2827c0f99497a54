"""The timelines that 0.x offered, under their names, from events held in memory.

These return a point for each event, for scripts that plot; `summary` makes binned
timelines in constant memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from itertools import accumulate

from balsam.model.states import State
from balsam.model.wire import Event

JobTimes = Mapping[str, list[datetime]]

#: What ends a run.
_ENDS = (State.RUN_DONE, State.RUN_ERROR, State.RUN_TIMEOUT)
_BIN_SECONDS = 60


def process_job_times(events: Iterable[Event]) -> dict[str, list[datetime]]:
    """Return, for each state, the UTC times at which jobs entered it, in order of *events*."""
    times: dict[str, list[datetime]] = {}
    for event in events:
        times.setdefault(event.to_state, []).append(datetime.fromtimestamp(event.time, UTC))
    return times


def utilization_report(job_times: JobTimes) -> tuple[list[datetime], list[int]]:
    """Return the times at which jobs started or ended and how many ran from then on."""
    steps: dict[datetime, int] = {}
    for time in job_times.get(State.RUNNING, ()):
        steps[time] = steps.get(time, 0) + 1
    for state in _ENDS:
        for time in job_times.get(state, ()):
            steps[time] = steps.get(time, 0) - 1
    times = sorted(steps)
    return times, list(accumulate(steps[time] for time in times))


def throughput_report(job_times: JobTimes) -> tuple[list[datetime], list[int]]:
    """Return the times at which runs succeeded and how many had by then.

    The first point is the first start, with 0. Both lists are empty when none succeeded.
    """
    done = sorted(job_times.get(State.RUN_DONE, ()))
    if not done:
        return [], []
    start = min(job_times.get(State.RUNNING, done))
    return [start, *done], list(range(len(done) + 1))


def error_report(job_times: JobTimes) -> tuple[list[datetime], list[int]] | None:
    """Return when each minute began and how many runs failed in it, from the first failure.

    None when no run failed.
    """
    errors = sorted(job_times.get(State.RUN_ERROR, ()))
    if not errors:
        return None
    start = errors[0].timestamp()
    minutes = [int((error.timestamp() - start) // _BIN_SECONDS) for error in errors]
    counts = [0] * (minutes[-1] + 1)
    for minute in minutes:
        counts[minute] += 1
    begins = [datetime.fromtimestamp(start + n * _BIN_SECONDS, UTC) for n in range(len(counts))]
    return begins, counts
