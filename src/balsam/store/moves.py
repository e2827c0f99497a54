"""Changing states: the one place that writes `jobs.state`, with an event for each change."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from balsam.model.graph import Kind, Verdict, settled_state, verdict
from balsam.model.states import END_STATES, LIVE_STATES, State, legal
from balsam.store import dialect
from balsam.store.schema import apps, dependencies, events, jobs

EVENT_COLUMNS = ("time", "job", "from_state", "to_state", "message")


class Change(NamedTuple):
    """One state change; the caller has read the old state in the same transaction."""

    job: int
    old: State
    new: State
    message: str = ""


def locked(statement: sa.Select[Any], *, to_delete: bool = False) -> sa.Select[Any]:
    """Return *statement* on jobs with the rows kept to this transaction, where rows have locks.

    Always in the order of ids: who locks in one order seldom meets head-on.
    """
    return statement.order_by(jobs.c.id).with_for_update(key_share=not to_delete)


def write_events(connection: Connection, rows: list[tuple[Any, ...]]) -> None:
    """Append events; each row is (time, job, from_state, to_state, message)."""
    dialect.insert_rows(connection, events, EVENT_COLUMNS, rows)


def apply(
    connection: Connection, changes: list[Change], now: float, *, by_user: bool = False
) -> None:
    """Make *changes* and release the children of jobs that ended.

    A child's own end settles its children in turn, level by level, in this transaction.
    """
    while changes:
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
        ended = {c.job: c.new for c in changes if c.new in END_STATES}
        changes, by_user = release(connection, ended), False


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
    """Count the *ended* parents down at their children; return what follows for those.

    Costs the out-degree of the ended jobs: waiting jobs are never scanned.
    """
    if not ended:
        return []
    edges = connection.execute(
        sa.select(dependencies.c.child, dependencies.c.parent, dependencies.c.kind).where(
            dialect.among(dependencies.c.parent, list(ended))
        )
    ).all()
    if not edges:
        return []
    met: dict[int, int] = {}
    never: dict[int, tuple[int, Kind]] = {}
    for child, parent, kind in edges:
        if verdict(Kind(kind), ended[parent]) is Verdict.MET:
            met[child] = met.get(child, 0) + 1
        else:
            never.setdefault(child, (parent, Kind(kind)))
    waiting = _waiting(connection, [*met, *never])
    # Counters are kept for waiting jobs alone: whatever comes back to CREATED is counted anew.
    # A child that waits for nothing more gets its 0 with its new state: one update a job.
    counts, changes = [], []
    for child, ended_now in met.items():
        if child in never or child not in waiting:
            continue
        pending, prepare = waiting[child]
        if ended_now < pending:
            counts.append((ended_now, child))
        else:
            new = State.READY if prepare else State.PREPROCESSED
            changes.append(Change(child, State.AWAITING_PARENTS, new))
    dialect.count_down(connection, jobs, "pending_parents", counts)
    called = names(connection, {parent for parent, _ in never.values()})
    return [
        Change(
            child,
            State.AWAITING_PARENTS,
            settled_state(kind),
            never_reason(parent, called[parent], kind, ended[parent]),
        )
        for child, (parent, kind) in never.items()
        if child in waiting
    ] + changes


def never_reason(parent: int, name: str, kind: Kind, state: State) -> str:
    """Return why a child that needed *kind* of *parent* in *state* will not run."""
    if kind is Kind.FAIL:
        return f"not needed: parent {parent} ({name}) finished"
    return f"parent {parent} ({name}) ended as {state}"


def names(connection: Connection, ids: Collection[int]) -> dict[int, str]:
    """Return the names of the jobs *ids*."""
    if not ids:
        return {}
    statement = sa.select(jobs.c.id, jobs.c.name).where(dialect.among(jobs.c.id, list(ids)))
    return {row.id: row.name for row in connection.execute(statement)}


def awaiting(connection: Connection, ids: list[int]) -> set[int]:
    """Return those of *ids* that wait for parents, and lock them."""
    statement = sa.select(jobs.c.id).where(
        dialect.among(jobs.c.id, ids), jobs.c.state == State.AWAITING_PARENTS
    )
    return set(connection.scalars(locked(statement)))


#: Apps that have a preprocess hook, as a command or in Python: looked up once a statement.
_PREPARING = sa.select(apps.c.name).where(
    sa.or_(
        apps.c.preprocess != "",
        dialect.has_text(dialect.json_text(apps.c.function), '"preprocess"'),
    )
)
#: Whether a job has something to do before it can run, in SQL.
NEEDS_PREPARATION = sa.or_(
    jobs.c.input_files != "", jobs.c.stage_in_url != "", jobs.c.application.in_(_PREPARING)
)


def _waiting(connection: Connection, ids: list[int]) -> dict[int, tuple[int, bool]]:
    """Return how many parents each waiting job of *ids* waits for, and whether it is READY then.

    Locks them.
    """
    statement = sa.select(jobs.c.id, jobs.c.pending_parents, NEEDS_PREPARATION).where(
        dialect.among(jobs.c.id, ids), jobs.c.state == State.AWAITING_PARENTS
    )
    rows = connection.execute(locked(statement))
    return {job: (pending, bool(prepare)) for job, pending, prepare in rows}


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
