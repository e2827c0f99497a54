"""The reports of 0.x: points over time, for scripts that plot."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from itertools import accumulate
from typing import Any

from balsam.client.interface import Client
from balsam.compat.jobs import BalsamJob
from balsam.compat.texts import entered, local_time
from balsam.model.query import ALL, Query, parse
from balsam.model.states import RUNNABLE_STATES
from balsam.model.wire import Event
from balsam.report import history

JobTimes = Mapping[str, list[datetime]]

#: Jobs whose events are asked for at once.
_JOBS = 5000


def process_job_times(qs: Any = None) -> dict[str, list[datetime]]:
    """Return when jobs entered each state, in order; of the jobs of *qs*, or of all.

    The times have no zone: they are of this process's (see `get_state_times`).
    """
    times: defaultdict[str, list[datetime]] = defaultdict(list)
    for state, time, _ in entered(sorted(_events(qs), key=lambda event: (event.time, event.id))):
        times[state].append(local_time(time))
    return times


def utilization_report(time_data: JobTimes | None = None) -> tuple[list[datetime], list[int]]:
    """Return the times at which runs began or ended, and how many jobs ran from then on."""
    return history.utilization_report(process_job_times() if time_data is None else time_data)


def throughput_report(time_data: JobTimes | None = None) -> tuple[list[datetime], list[int]]:
    """Return the times at which runs ended well, and how many had by then."""
    done = sorted((process_job_times() if time_data is None else time_data).get("RUN_DONE", []))
    counts = {time: count for count, time in enumerate(done, 1)}
    return list(counts), list(counts.values())


def error_report(time_data: JobTimes | None = None) -> tuple[list[datetime], list[int]] | None:
    """Return the bounds of minutes, one more than minutes, and how many runs failed in each.

    None when no run failed.
    """
    found = history.error_report(process_job_times() if time_data is None else time_data)
    if found is None:
        return None
    begins, counts = found
    start = begins[0].astimezone().replace(tzinfo=None)
    bounds = [start + timedelta(minutes=minute) for minute in range(len(counts) + 1)]
    return bounds, counts


def job_waiting_report(qs: Any = None) -> tuple[list[datetime], list[int]]:
    """Return times, and how many jobs could run but did not from then on."""
    steps: dict[float, int] = {}
    for event in _events(qs):
        change = (event.to_state in RUNNABLE_STATES) - (event.from_state in RUNNABLE_STATES)
        if change:
            steps[event.time] = steps.get(event.time, 0) + change
    times = sorted(steps)
    return [local_time(time) for time in times], list(accumulate(steps[time] for time in times))


def _events(qs: Any) -> Iterator[Event]:
    if qs is None or not hasattr(qs, "values_list"):
        yield from BalsamJob.objects.site.client.iterate_events(ALL)
        return
    client: Client = qs.site.client
    ids = [job.id for job in client.jobs(qs._resolved(client), ["id"])]
    for start in range(0, len(ids), _JOBS):
        chosen = parse({"job__in": ids[start : start + _JOBS]}, "events")
        yield from client.iterate_events(Query(filters=chosen))
