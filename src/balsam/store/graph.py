"""Dependencies between jobs."""

from __future__ import annotations

from collections.abc import Callable

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from balsam.errors import AlreadyExists, CyclicDependency, IllegalMove, NotFound
from balsam.model.graph import Kind, Verdict, find_path, spelled_cycle, verdict
from balsam.model.states import LEASABLE_STATES, State
from balsam.store import dialect, jobs, moves
from balsam.store.moves import Change
from balsam.store.schema import dependencies
from balsam.store.schema import jobs as job_table

#: States in which a job can still be told to wait for one more parent.
_CAN_WAIT = (State.AWAITING_PARENTS, State.READY, State.PREPROCESSED, State.RESTART_READY)


def add(
    connection: Connection,
    parent: int,
    child: int,
    kind: Kind,
    now: float,
    short: Callable[[int], str],
) -> None:
    """Insert one dependency (see `Client.add_dependency`).

    Parameters
    ----------
    short
        Gives the first digits of a job's UUID, for messages.
    """
    # Two edges that are added at the same time could close a circle that neither sees.
    dialect.one_at_a_time(connection, "dependencies")
    states = jobs.require(connection, [parent, child], change=True)
    path = find_path(
        child,
        parent,
        lambda ids: jobs.children(connection, ids),
        lambda ids: _parents(connection, ids),
    )
    if path:
        names = moves.names(connection, path)
        labels = [f"{names[job]} [{job} | {short(job)}]" for job in path]
        circle = spelled_cycle([*labels, labels[0]])
        raise CyclicDependency(f"job {child} cannot wait for job {parent}, a cycle: {circle}")
    edge = sa.and_(dependencies.c.parent == parent, dependencies.c.child == child)
    if connection.execute(sa.select(dependencies.c.kind).where(edge)).first():
        raise AlreadyExists(f"job {child} already depends on job {parent}")
    state = states[child]
    leased = connection.execute(
        sa.select(job_table.c.launcher_id).where(job_table.c.id == child)
    ).scalar()
    if state not in _CAN_WAIT or leased is not None:
        why = "is about to run" if state in LEASABLE_STATES else f"is {state}"
        raise IllegalMove(f"job {child} {why} and cannot wait for another parent")
    connection.execute(dependencies.insert().values(parent=parent, child=child, kind=kind))
    match verdict(kind, states[parent]), state:
        case Verdict.MET, _:
            return
        case Verdict.WAIT, State.AWAITING_PARENTS:
            dialect.count_down(connection, job_table, "pending_parents", [(-1, child)])
            return
        case Verdict.WAIT, _:
            # Other parents can be on their way again since the child was freed.
            moves.count_parents(connection, child)
            changes = [Change(child, state, State.AWAITING_PARENTS, f"depends on job {parent}")]
        case _:
            back = Change(child, state, State.CREATED, f"depends on job {parent}")
            moves.apply(connection, [back], now, by_user=True)
            changes = moves.settle(connection, [child])
    moves.apply(connection, changes, now)


def remove(connection: Connection, parent: int, child: int, now: float) -> None:
    """Remove one dependency (see `Client.remove_dependency`)."""
    dialect.one_at_a_time(connection, "dependencies")
    states = jobs.require(connection, [parent, child], change=True)
    edge = sa.and_(dependencies.c.parent == parent, dependencies.c.child == child)
    if not connection.execute(sa.delete(dependencies).where(edge)).rowcount:
        raise NotFound(f"job {child} does not depend on job {parent}")
    if states[child] is State.AWAITING_PARENTS:
        moves.count_parents(connection, child)
        moves.apply(connection, moves.free_to_go(connection, [child]), now)


def _parents(connection: Connection, children: list[int]) -> dict[int, list[int]]:
    """Return the parents of each of *children*."""
    found: dict[int, list[int]] = {}
    statement = sa.select(dependencies.c.parent, dependencies.c.child)
    for parent, child in connection.execute(
        statement.where(dialect.among(dependencies.c.child, children))
    ):
        found.setdefault(child, []).append(parent)
    return found


def around(connection: Connection, ids: list[int]) -> list[tuple[int, int, Kind]]:
    """Return all (parent, child, kind) in which one of *ids* takes part."""
    rows = connection.execute(
        sa.select(dependencies.c.parent, dependencies.c.child, dependencies.c.kind)
        .where(
            sa.or_(
                dialect.among(dependencies.c.parent, ids),
                dialect.among(dependencies.c.child, ids),
            )
        )
        .order_by(dependencies.c.parent, dependencies.c.child)
    )
    return [(parent, child, Kind(kind)) for parent, child, kind in rows]
