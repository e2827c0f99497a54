"""The rows of the report's job table."""

from __future__ import annotations

from typing import NamedTuple

from balsam.client.interface import Client
from balsam.model.job import Job
from balsam.model.query import Query
from balsam.model.states import State
from balsam.model.wire import Attempt

#: A page with more rows is slow in browsers.
MOST_ROWS = 5000
_ENDED_BADLY = [State.FAILED, State.USER_KILLED, State.RUN_ERROR, State.RUN_TIMEOUT]
_FIELDS = ("name", "workflow", "application", "args", "state", "attempt", "exit_code")


class JobRow(NamedTuple):
    """A job with its last attempt, if it ran."""

    job: Job
    attempt: Attempt | None

    @property
    def seconds(self) -> float | None:
        """How long the last attempt ran."""
        ran = self.attempt
        if ran is None or ran.started_at is None or ran.ended_at is None:
            return None
        return ran.ended_at - ran.started_at


def job_rows(client: Client, query: Query, most: int = MOST_ROWS) -> list[JobRow]:
    """Return up to *most* of the selected jobs: those that ended badly, then the others, by id."""
    bad = query.where(state__in=_ENDED_BADLY)
    others = Query(
        filters=query.filters,
        excludes=(*query.excludes, Query().where(state__in=_ENDED_BADLY).filters),
    )
    jobs: list[Job] = []
    for part in (bad, others):
        if room := most - len(jobs):
            sliced = Query(filters=part.filters, excludes=part.excludes, limit=room)
            jobs += client.jobs(sliced, _FIELDS)
    last: dict[int, Attempt] = {}
    for attempt in client.attempts([job.id for job in jobs if job.id is not None]):
        last[attempt.job] = attempt
    return [JobRow(job, last.get(job.id or 0)) for job in jobs]
