"""Work that waits, counted by class."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from balsam.model import records
from balsam.model.demand import Waiting
from balsam.model.states import END_STATES, LEASABLE_STATES, State
from balsam.store import dialect
from balsam.store.rows import reader_of
from balsam.store.schema import DELAYED, FREE_TO_STAGE, QUEUED, TO_STAGE, jobs

_PLAIN = (
    *("num_nodes", "ranks_per_node", "threads_per_rank", "threads_per_core", "cores_per_rank"),
    *("gpus_per_rank", "memory_mib", "node_packing_count", "wall_time_minutes"),
    *("application", "owner", "state", "launcher_id"),
)
_COMPUTED = ("is_delayed", "to_stage", "was_timed_out", "workflow")
_NAMES = [field.name for field in records.fields(Waiting)]


def fetch(connection: Connection, limit: int | None, *, by_workflow: bool) -> list[Waiting]:
    """Return the jobs that have not ended, by class.

    Parameters
    ----------
    limit
        Look at so many at most of those that are free (the first in the queue), whose files are to
        be moved, that launchers have, that wait for their retry, and that wait for parents; None:
        at all.
    """
    delayed = dialect.using_index(_jobs(by_workflow), jobs, "ix_jobs_retry_at")
    free = dialect.using_index(_jobs(by_workflow), jobs, "ix_jobs_queue")
    to_stage = dialect.using_index(_jobs(by_workflow), jobs, "ix_jobs_to_stage")
    held = jobs.c.launcher_id.is_not(None)
    if limit is None:
        parts = [_jobs(by_workflow).where(jobs.c.state.not_in(END_STATES))]
    else:
        order = jobs.c.priority.desc(), jobs.c.num_nodes.desc(), jobs.c.wall_time_minutes.desc()
        waits = jobs.c.state == State.AWAITING_PARENTS
        unheld = jobs.c.launcher_id.is_(None), jobs.c.state.in_(LEASABLE_STATES)
        parts = [
            free.where(sa.text(QUEUED)).order_by(*order, jobs.c.id),
            to_stage.where(sa.text(FREE_TO_STAGE)),
            _jobs(by_workflow).where(held, jobs.c.state.not_in(END_STATES)),
            delayed.where(sa.text(DELAYED), *unheld).order_by(jobs.c.retry_at),
            _jobs(by_workflow).where(waits).order_by(jobs.c.id),
        ]
    found: list[Waiting] = []
    for part in parts:
        found += _counted(connection, part.limit(limit) if limit else part)
    return found


def _jobs(by_workflow: bool) -> sa.Select[Any]:
    workflow = jobs.c.workflow if by_workflow else sa.literal("").label("workflow")
    return sa.select(
        *(jobs.c[name] for name in _PLAIN),
        jobs.c.id,
        jobs.c.retry_at,
        jobs.c.updated_at,
        jobs.c.retry_at.is_not(None).label("is_delayed"),
        sa.literal_column(TO_STAGE, sa.Boolean()).label("to_stage"),
        (jobs.c.timeouts > 0).label("was_timed_out"),
        workflow,
    )


def _counted(connection: Connection, statement: sa.Select[Any]) -> list[Waiting]:
    some = statement.subquery()
    kinds = [some.c[name] for name in (*_PLAIN, *_COMPUTED)]
    counts = {
        "count": sa.func.count().label("count"),
        "example": sa.func.min(some.c.id).label("example"),
        "since": sa.func.coalesce(
            sa.func.avg(sa.case((some.c.state == State.RUNNING, some.c.updated_at))), 0.0
        ).label("since"),
        "retry_at": sa.func.min(some.c.retry_at).label("retry_at"),
    }
    grouped = sa.select(*kinds, *counts.values()).group_by(*kinds)
    names = [column.name for column in grouped.selected_columns]
    read = reader_of(Waiting, names)
    return [read(row) for row in connection.execute(grouped)]
