"""History: events and attempts, which are only read here."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from balsam.model.identity import JobIdentity
from balsam.model.query import Query
from balsam.model.wire import Attempt, Event
from balsam.store import dialect, select
from balsam.store.rows import reader_of
from balsam.store.schema import attempts, events

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
