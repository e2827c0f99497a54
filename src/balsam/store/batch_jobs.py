"""Batch jobs: the record of what was asked of the batch scheduler. Nothing is ever removed."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from balsam.errors import BudgetSpent, NotFound
from balsam.model import records
from balsam.model.batch_job import ENDED_STATES, LIVE_STATES, BatchJob, BatchState
from balsam.model.query import Query
from balsam.model.wire import LauncherInfo
from balsam.store import dialect, select
from balsam.store.rows import reader_of
from balsam.store.schema import batch_jobs

_NAMES = [field.name for field in records.fields(BatchJob)]


def fetch(connection: Connection, query: Query) -> list[BatchJob]:
    """Return the batch jobs that *query* selects."""
    statement = (
        sa.select(*(batch_jobs.c[name] for name in _NAMES))
        .where(*select.conditions(query, "batch_jobs"))
        .order_by(*select.ordering(query, "batch_jobs"))
    )
    rows = connection.execute(select.sliced(statement, query))
    return list(map(reader_of(BatchJob, _NAMES), rows))


def insert(connection: Connection, new: BatchJob, now: float, budget: float) -> BatchJob:
    """Record *new* and return it with its id; with a *budget* (node-hours) only within it."""
    if budget:
        dialect.one_at_a_time(connection, "balsam-batch-jobs")
        spent, asked = node_hours(connection, now), new.node_hours(now)
        if spent + asked > budget:
            raise BudgetSpent(
                f"{new.num_nodes} nodes for {new.wall_time_minutes:g} minutes are {asked:g}"
                f" node-hours; of the budget of {budget:g}, {max(0.0, budget - spent):g} are left"
                " (service.budget_node_hours)"
            )
    values = msgspec.structs.asdict(new) | {"created_at": now}
    del values["id"]
    statement = batch_jobs.insert().values(**values).returning(batch_jobs.c.id)
    row = int(connection.execute(statement).scalar_one())
    return msgspec.structs.replace(new, id=row, created_at=now)


def update(
    connection: Connection, batch_job: int, changes: dict[str, Any], states: Collection[str]
) -> bool:
    """Set fields of a batch job that is in one of *states*; tell whether it was."""
    changed = connection.execute(
        sa.update(batch_jobs)
        .where(batch_jobs.c.id == batch_job, batch_jobs.c.state.in_(sorted(states)))
        .values(**changes)
    )
    return bool(changed.rowcount)


def node_hours(connection: Connection, now: float) -> float:
    """Return what all batch jobs cost: until they have ended, all that they asked for."""
    c = batch_jobs.c
    ended = c.state.in_(sorted(ENDED_STATES))
    used = sa.case((ended, c.ended_at), else_=sa.literal(now)) - c.started_at
    seconds = sa.func.coalesce(used, 0.0)
    asked = sa.case((ended, 0.0), else_=c.wall_time_minutes * 60)
    most = sa.case((seconds > asked, seconds), else_=asked)
    total = connection.execute(sa.select(sa.func.sum(c.num_nodes * most))).scalar()
    return float(total or 0.0) / 3600


def launcher_started(connection: Connection, info: LauncherInfo, now: float) -> int | None:
    """Note that the launcher of a batch job runs, whatever the scheduler says of it.

    Returns the id of the batch job: the one that the launcher names, else the live one that has
    its allocation; None when there is none.

    Raises
    ------
    NotFound
        The site has no batch job of the id that the launcher names.
    """
    c = batch_jobs.c
    batch_job = info.batch_job_id
    if batch_job is None:
        mine = sa.and_(c.scheduler_id == info.scheduler_id, c.state.in_(sorted(LIVE_STATES)))
        newest = sa.select(sa.func.max(c.id)).where(mine)
        batch_job = connection.execute(newest).scalar() if info.scheduler_id else None
        if batch_job is None:
            return None
    over = sorted(ENDED_STATES - {BatchState.LOST, BatchState.SUBMIT_FAILED})
    known = connection.execute(
        sa.update(batch_jobs)
        .where(c.id == batch_job)
        .values(
            scheduler_id=sa.case((c.scheduler_id == "", info.scheduler_id), else_=c.scheduler_id),
            started_at=sa.func.coalesce(c.started_at, now),
            state=sa.case((c.state.in_(over), c.state), else_=BatchState.RUNNING.value),
            message=sa.case((c.state.in_(over), c.message), else_=""),
        )
    )
    if not known.rowcount:
        raise NotFound(f"there is no batch job {batch_job} on this site; see `balsam queue ls`")
    return int(batch_job)
