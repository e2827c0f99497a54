"""Changing states: the one place that writes `jobs.state`, with an event for each change."""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from balsam.model.graph import Kind, Verdict, settled_state, verdict
from balsam.model.states import END_STATES, LIVE_STATES, State, legal
from balsam.store import dialect
from balsam.store.children import NEEDS_PREPARATION, Children, Edge
from balsam.store.children import locked as locked  # for those who move jobs
from balsam.store.children import names as names
from balsam.store.schema import dependencies, events, jobs

EVENT_COLUMNS = ("time", "job", "from_state", "to_state", "message")


class Change(NamedTuple):
    """One state change; the caller has read the old state in the same transaction."""

    job: int
    old: State
    new: State
    message: str = ""


def write_events(connection: Connection, rows: list[tuple[Any, ...]]) -> None:
    """Append events; each row is (time, job, from_state, to_state, message)."""
    dialect.insert_rows(connection, events, EVENT_COLUMNS, rows)


def apply(
    connection: Connection, changes: list[Change], now: float, *, by_user: bool = False
) -> None:
    """Make *changes* and release the children of jobs that ended, and all that follows."""
    _make(connection, changes, now, by_user=by_user)
    _make(connection, release(connection, _ended(changes)), now)


def apply_released(connection: Connection, released: list[Change], now: float) -> None:
    """Make the changes that `release` returned: nothing follows from them."""
    _make(connection, released, now)


def _ended(changes: list[Change]) -> dict[int, State]:
    return {change.job: change.new for change in changes if change.new in END_STATES}


def _make(
    connection: Connection, changes: list[Change], now: float, *, by_user: bool = False
) -> None:
    if not changes:
        return
    for change in changes:
        if not legal(change.old, change.new, by_user=by_user):
            raise AssertionError(f"illegal move {change}")
    times = _times(connection, [c.job for c in changes], now)
    rows = [(c.new, times[c.job], c.job) for c in changes if not _is_freed(c)]
    dialect.update_rows(connection, jobs, ("state", "updated_at"), rows)
    freed = [(c.new, times[c.job], 0, c.job) for c in changes if _is_freed(c)]
    dialect.update_rows(connection, jobs, ("state", "updated_at", "pending_parents"), freed)
    lines = [(times[c.job], c.job, c.old, c.new, c.message) for c in changes]
    write_events(connection, lines)
    _hold_back(connection, [c.job for c in changes if c.old in END_STATES])


#: Where jobs go on from whose parents have ended.
_FREE = (State.READY, State.PREPROCESSED)


def _is_freed(change: Change) -> bool:
    """Tell whether a job waits for its parents no more, and may go on."""
    return change.old == State.AWAITING_PARENTS and change.new in _FREE


def _times(connection: Connection, ids: list[int], now: float) -> dict[int, float]:
    """Return when each of *ids* moves: now, but never before its last move.

    The clock that told of that may since have been set, or be another machine's.
    """
    statement = sa.select(jobs.c.id, jobs.c.updated_at).where(
        dialect.among(jobs.c.id, ids), jobs.c.updated_at > now
    )
    ahead = {row.id: row.updated_at for row in connection.execute(statement)}
    return {job: ahead.get(job, now) for job in ids}


def _hold_back(connection: Connection, back: list[int]) -> None:
    """Count the parents that came *back* from their end up at the children that still wait."""
    if not back:
        return
    children = connection.execute(
        sa.select(dependencies.c.child).where(dialect.among(dependencies.c.parent, back))
    ).scalars()
    counts = Counter(children)
    waiting = awaiting(connection, list(counts))
    dialect.count_down(
        connection, jobs, "pending_parents", [(-counts[child], child) for child in waiting]
    )


def count_parents(connection: Connection, child: int) -> None:
    """Count anew the parents that *child* waits for."""
    parents = connection.execute(
        sa.select(sa.func.count())
        .select_from(dependencies.join(jobs, jobs.c.id == dependencies.c.parent))
        .where(dependencies.c.child == child, jobs.c.state.in_(LIVE_STATES))
    ).scalar_one()
    dialect.update_rows(connection, jobs, ("pending_parents",), [(parents, child)])


def release(connection: Connection, ended: dict[int, State]) -> list[Change]:
    """Count the *ended* parents down at their children; return what follows, level by level.

    A child that ends without having run settles its own children. Costs the edges below
    what ends, and no statement for each level; waiting jobs are never scanned.
    """
    children = Children(connection)
    changes: dict[int, Change] = {}
    met: Counter[int] = Counter()
    while ended:
        edges = [edge for edge in children.of(ended) if edge[0] not in changes]
        followers = _fallen(children, ended, edges)
        fallen = {change.job for change in followers}
        followers += _freed(children, met, [edge for edge in edges if edge[0] not in fallen])
        changes |= {change.job: change for change in followers}
        ended = _ended(followers)
    # A child that waits for nothing more gets its 0 with its new state: one update a job.
    counts = [(count, child) for child, count in met.items() if child not in changes]
    dialect.count_down(connection, jobs, "pending_parents", counts)
    return list(changes.values())


def _fallen(children: Children, ended: dict[int, State], edges: list[Edge]) -> list[Change]:
    """Return the ends of those that will never have what they need."""
    never: dict[int, tuple[int, Kind]] = {}
    for child, parent, kind in edges:
        if verdict(kind, ended[parent]) is Verdict.NEVER:
            never.setdefault(child, (parent, kind))
    called = children.names({parent for parent, _ in never.values()})
    return [
        Change(
            child,
            State.AWAITING_PARENTS,
            settled_state(kind),
            never_reason(parent, called[parent], kind, ended[parent]),
        )
        for child, (parent, kind) in never.items()
    ]


def _freed(children: Children, met: Counter[int], edges: list[Edge]) -> list[Change]:
    """Count in *met* the edges that are met; return the moves of those that can go."""
    now = Counter(child for child, _, _ in edges)
    met.update(now)
    return [
        Change(
            child,
            State.AWAITING_PARENTS,
            State.READY if children.waiting[child].prepare else State.PREPROCESSED,
        )
        for child in now
        if met[child] >= children.waiting[child].pending
    ]


def never_reason(parent: int, name: str, kind: Kind, state: State) -> str:
    """Return why a child that needed *kind* of *parent* in *state* will not run."""
    if kind is Kind.FAIL:
        return f"not needed: parent {parent} ({name}) finished"
    return f"parent {parent} ({name}) ended as {state}"


def awaiting(connection: Connection, ids: list[int]) -> set[int]:
    """Return those of *ids* that wait for parents, and lock them."""
    statement = sa.select(jobs.c.id).where(
        dialect.among(jobs.c.id, ids), jobs.c.state == State.AWAITING_PARENTS
    )
    return set(connection.scalars(locked(statement)))


def free_to_go(connection: Connection, ids: list[int]) -> list[Change]:
    """Return the changes of those AWAITING_PARENTS among *ids* that wait for nothing any more."""
    if not ids:
        return []
    rows = connection.execute(
        sa.select(jobs.c.id, NEEDS_PREPARATION).where(
            dialect.among(jobs.c.id, ids),
            jobs.c.state == State.AWAITING_PARENTS,
            jobs.c.pending_parents == 0,
        )
    )
    return [
        Change(job, State.AWAITING_PARENTS, State.READY if prepare else State.PREPROCESSED)
        for job, prepare in rows
    ]


def _states_of_parents(connection: Connection, parents: set[int]) -> dict[int, State]:
    """Return the states of *parents*, none of which can end before this transaction does.

    One that ended meanwhile would look for its children before they are there to be seen.
    """
    if not parents:
        return {}
    statement = sa.select(jobs.c.id, jobs.c.state).where(dialect.among(jobs.c.id, list(parents)))
    kept = statement.order_by(jobs.c.id).with_for_update(read=True)
    return {job: State(state) for job, state in connection.execute(kept)}


def settle(connection: Connection, ids: list[int]) -> list[Change]:
    """Count anew what each CREATED job among *ids* waits for; return where it goes.

    Costs the in-degree of the jobs.
    """
    rows = connection.execute(
        sa.select(jobs.c.id, NEEDS_PREPARATION).where(
            dialect.among(jobs.c.id, ids), jobs.c.state == State.CREATED
        )
    ).all()
    prepare = {job: bool(flag) for job, flag in rows}
    edges = connection.execute(
        sa.select(dependencies.c.child, dependencies.c.parent, dependencies.c.kind)
        .where(dialect.among(dependencies.c.child, list(prepare)))
        .order_by(dependencies.c.child, dependencies.c.parent)
    ).all()
    states = _states_of_parents(connection, {edge.parent for edge in edges})
    pending = dict.fromkeys(prepare, 0)
    never: dict[int, tuple[int, Kind, State]] = {}
    for child, of, kind in edges:
        if of not in states:
            continue  # removed since the edges were read
        match verdict(Kind(kind), states[of]):
            case Verdict.WAIT:
                pending[child] += 1
            case Verdict.NEVER:
                never.setdefault(child, (of, Kind(kind), states[of]))
            case Verdict.MET:
                pass
    dialect.update_rows(
        connection, jobs, ("pending_parents",), [(n, child) for child, n in pending.items()]
    )
    called = names(connection, {of for of, _, _ in never.values()})
    changes = []
    for job, n in pending.items():
        if job in never:
            of, kind, state = never[job]
            reason = never_reason(of, called[of], kind, state)
            changes.append(Change(job, State.CREATED, settled_state(kind), reason))
        elif n:
            changes.append(Change(job, State.CREATED, State.AWAITING_PARENTS))
        else:
            new = State.READY if prepare[job] else State.PREPROCESSED
            changes.append(Change(job, State.CREATED, new))
    return changes
