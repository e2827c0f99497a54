"""History: events, attempts and batch jobs, which are only read here."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from balsam.model import records
from balsam.model.batch_job import BatchJob
from balsam.model.identity import JobIdentity
from balsam.model.query import Query
from balsam.model.wire import Attempt, Event
from balsam.store import dialect, select
from balsam.store.rows import reader_of
from balsam.store.schema import attempts, batch_jobs, events

_ATTEMPT_COLUMNS = [column.name for column in attempts.c]


def fetch(connection: Connection, identity: JobIdentity, query: Query) -> list[Event]:
    """Return the events that *query* selects, by default oldest first."""
    statement = (
        sa.select(events)
        .where(*select.conditions(query, "events"))
        .order_by(*select.ordering(query, "events"))
    )
    rows = connection.execute(select.sliced(statement, query))
    names = [column.name for column in events.c]
    found = [Event(**dict(zip(names, row, strict=True))) for row in rows]
    for event in found:
        event.job_id = identity.text(event.job)
    return found


def fetch_attempts(connection: Connection, identity: JobIdentity, jobs: list[int]) -> list[Attempt]:
    """Return all attempts of *jobs*, by job and number."""
    rows = connection.execute(
        sa.select(attempts)
        .where(dialect.among(attempts.c.job, jobs))
        .order_by(attempts.c.job, attempts.c.number, attempts.c.launcher_id)
    )
    found = list(map(reader_of(Attempt, _ATTEMPT_COLUMNS), rows))
    for attempt in found:
        attempt.job_id = identity.text(attempt.job)
    return found


def fetch_batch_jobs(connection: Connection, query: Query) -> list[BatchJob]:
    names = [field.name for field in records.fields(BatchJob)]
    statement = (
        sa.select(*(batch_jobs.c[name] for name in names))
        .where(*select.conditions(query, "batch_jobs"))
        .order_by(*select.ordering(query, "batch_jobs"))
    )
    rows = connection.execute(select.sliced(statement, query))
    return list(map(reader_of(BatchJob, names), rows))
