"""Jobs whose next step is to move files, and who moves them.

They stand apart from the launchers' queue (`ix_jobs_to_stage`): however many wait for their
files, no lease reads over them.
"""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from balsam.model.states import State
from balsam.model.wire import LauncherKind
from balsam.store import dialect
from balsam.store.schema import FREE_TO_STAGE, jobs, launchers


def movers(connection: Connection, now: float) -> set[str]:
    """Return the users whose jobs' files live services move."""
    live = launchers.c.ended_at.is_(None), launchers.c.expires_at >= now
    statement = sa.select(launchers.c.jobs_of).where(
        launchers.c.kind == LauncherKind.SERVICE, *live
    )
    return set(connection.execute(statement).scalars())


def first(state: State, terms: Sequence[sa.ColumnElement[bool]], limit: int) -> sa.CTE:
    """Return the first free jobs in *state* for which *terms* hold, by priority, and lock them."""
    return (
        dialect.using_index(sa.select(jobs.c.id), jobs, "ix_jobs_to_stage")
        .where(sa.text(FREE_TO_STAGE), jobs.c.state == state, *terms)
        .order_by(jobs.c.priority.desc(), jobs.c.id)
        .limit(limit)
        .with_for_update(skip_locked=True, key_share=True)
        .cte("chosen")
    )


def room_ahead(connection: Connection, launcher: int, most: int) -> int:
    """Return how many jobs more may be staged in, that *most* at a time wait to run.

    Those count whose files *launcher* is about to bring.
    """
    there = jobs.c.state == State.STAGED_IN, jobs.c.launcher_id.is_(None)
    coming = jobs.c.state == State.READY, jobs.c.launcher_id == launcher
    for terms in (there, coming):
        some = sa.select(jobs.c.id).where(*terms).limit(max(0, most)).subquery()
        most -= int(connection.execute(sa.select(sa.func.count()).select_from(some)).scalar_one())
    return most
