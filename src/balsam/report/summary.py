"""The summary of a campaign, made in one pass over its events and one over its attempts.

Memory does not grow with the campaign: a million jobs and four million events pass through
the bins of a timeline.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import islice

from balsam.client.interface import Client
from balsam.model import query as queries
from balsam.model.job import Job
from balsam.model.query import Query
from balsam.model.wire import Attempt, Event
from balsam.report.records import Summary
from balsam.report.tally import REQUEST_FIELDS, Tally

_JOBS_PER_QUERY = 2000


def summarize(
    client: Client, query: Query = queries.ALL, *, selection: str = "", now: float | None = None
) -> Summary:
    """Return the summary of the jobs that *query* selects.

    Utilization is the core-seconds of their runs over those that the launchers offered
    between start and end: all launchers, or with a selection those that ran some of it.

    Parameters
    ----------
    selection
        How the user wrote the query, for the heading.
    now
        When runs and launchers that have not ended are counted to; default: the clock.
    """
    everything = not (query.filters or query.excludes)
    tally = Tally(client.launchers(live=False), time.time() if now is None else now)
    states = client.state_counts(query)
    for attempt, job in _attempts_of(client, query):
        tally.attempt(attempt, job)
    tally.offer(used_only=not everything)
    for event in client.iterate_events(Query()) if everything else _events_of(client, query):
        tally.event(event)
    return tally.summary(str(client.path), selection, states)


def _events_of(client: Client, query: Query) -> Iterator[Event]:
    """Yield the events of the selected jobs, some jobs at a time."""
    jobs = client.iterate_jobs(query, ("id",))
    while ids := [job.id for job in islice(jobs, _JOBS_PER_QUERY)]:
        yield from client.events(Query(filters=queries.parse({"job__in": ids}, "events")))


def _attempts_of(client: Client, query: Query) -> Iterator[tuple[Attempt, Job]]:
    """Yield the attempts of the selected jobs, each with its job."""
    jobs = client.iterate_jobs(query, REQUEST_FIELDS)
    while page := {job.id: job for job in islice(jobs, _JOBS_PER_QUERY) if job.id is not None}:
        for attempt in client.attempts(list(page)):
            yield attempt, page[attempt.job]
