"""Mending what `check` finds, where it is sure what is right: moves as any other, with events."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from balsam.model.states import State
from balsam.model.wire import Outcome
from balsam.store import check, dialect, moves, upkeep
from balsam.store.check import Finding
from balsam.store.moves import Change
from balsam.store.schema import attempts, counters, jobs, launchers, metadata

_BY = "by balsam db check"


def repair(connection: Connection, found: list[Finding], now: float) -> None:
    """Do for each of *found* what it says; nobody else may write meanwhile."""
    for finding in found:
        mend = _MENDERS.get(finding.name)
        if mend:
            mend(connection, now)


def _concerned(connection: Connection, name: str) -> list[int]:
    _, statement, _ = check.QUESTIONS[name]
    return list(connection.scalars(statement()))


def _give_back(name: str) -> Callable[[Connection, float], None]:
    def mend(connection: Connection, now: float) -> None:
        ids = _concerned(connection, name)
        running = connection.scalars(
            sa.select(jobs.c.id).where(dialect.among(jobs.c.id, ids), jobs.c.state == State.RUNNING)
        ).all()
        reason = f"its launcher has ended: given back {_BY}"
        changes = [Change(job, State.RUNNING, State.RESTART_READY, reason) for job in running]
        moves.apply(connection, changes, now)
        free = sa.update(jobs).where(dialect.among(jobs.c.id, ids)).values(launcher_id=None)
        connection.execute(free)

    return mend


def _close_attempts(connection: Connection, now: float) -> None:
    concerned = check.QUESTIONS["open attempt"][1]().with_only_columns(
        attempts.c.job, attempts.c.number, attempts.c.launcher_id
    )
    for key in connection.execute(concerned).all():
        same = zip((attempts.c.job, attempts.c.number, attempts.c.launcher_id), key, strict=True)
        ended = sa.select(launchers.c.ended_at).where(launchers.c.id == key.launcher_id)
        connection.execute(
            sa.update(attempts)
            .where(*(column == value for column, value in same))
            .values(
                ended_at=connection.scalar(ended) or now,
                outcome=Outcome.LOST,
                message=f"closed {_BY}: no launcher looks after it",
            )
        )


def _count_attempts(connection: Connection, _now: float) -> None:
    ids = _concerned(connection, "attempt number")
    highest: Any = connection.execute(
        sa.select(sa.func.max(attempts.c.number), attempts.c.job)
        .where(dialect.among(attempts.c.job, ids))
        .group_by(attempts.c.job)
    ).all()
    dialect.update_rows(connection, jobs, ("attempt",), [tuple(row) for row in highest])


def _settle(connection: Connection, now: float) -> None:
    waiting = {i for name in ("parents", "release") for i in _concerned(connection, name)}
    reason = f"parents counted anew {_BY}"
    anew = [Change(i, State.AWAITING_PARENTS, State.CREATED, reason) for i in sorted(waiting)]
    moves.apply(connection, anew, now, by_user=True)
    moves.apply(connection, moves.settle(connection, _concerned(connection, "created")), now)


def _count_on(connection: Connection, _now: float) -> None:
    highest = connection.scalar(sa.select(sa.func.max(jobs.c.id)))
    of_jobs = counters.c.name == "job"
    if not connection.execute(sa.update(counters).where(of_jobs).values(value=highest)).rowcount:
        connection.execute(counters.insert().values(name="job", value=highest))


def _raise_ids(connection: Connection, _now: float) -> None:
    upkeep.of(connection).raise_ids(connection, metadata.sorted_tables)


def _reopen(connection: Connection, _now: float) -> None:
    upkeep.of(connection).reopen(connection)


_MENDERS: dict[str, Callable[[Connection, float], None]] = {
    "lease of the ended": _give_back("lease of the ended"),
    "lease after the end": _give_back("lease after the end"),
    "running free": _give_back("running free"),
    "open attempt": _close_attempts,
    "attempt number": _count_attempts,
    "parents": _settle,
    "release": _settle,
    "created": _settle,
    "job numbers": _count_on,
    "row numbers": _raise_ids,
    "closed": _reopen,
}
