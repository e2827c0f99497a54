"""Jobs: insert, select, change, remove."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from operator import attrgetter
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from balsam.errors import AlreadyExists, IllegalMove, InvalidInput, NotFound
from balsam.model.graph import Kind
from balsam.model.job import EDITABLE, Job
from balsam.model.query import Query
from balsam.model.states import END_STATES, LEASABLE_STATES, LIVE_STATES, State, may_ask
from balsam.store import dialect, moves, select
from balsam.store.moves import Change
from balsam.store.rows import JOB_COLUMNS, JobReader, encoded
from balsam.store.schema import (
    attempts,
    counters,
    dependencies,
    events,
    jobs,
    launchers,
    transfers,
)

_PROTOTYPE: dict[str, Any] = msgspec.structs.asdict(Job())
#: Columns that an insert takes from the caller's jobs, where one differs from the default.
_GIVEN = tuple(name for name in JOB_COLUMNS if name in EDITABLE)


def insert(
    connection: Connection,
    ids: list[int],
    new: list[Job],
    edges: list[tuple[int, int, Kind]],
    preparing: set[str],
    owner: str,
    now: float,
) -> None:
    """Insert *new* jobs, with an event each.

    Parameters
    ----------
    ids
        Those that were reserved for them.
    edges
        (parent, child, kind); the child as position in *new*; a parent of the same call
        as minus its position counted from 1.
    preparing
        Names of the apps that have a preprocess hook.
    """
    waiting = {child for _, child, _ in edges}
    states = [_first_state(i in waiting, job, preparing) for i, job in enumerate(new)]
    columns: dict[str, Sequence[Any]] = {
        "id": ids,
        "state": states,
        "owner": [owner] * len(new),
        "created_at": [now] * len(new),
        "updated_at": [now] * len(new),
    }
    for name, values in zip(_GIVEN, zip(*map(attrgetter(*_GIVEN), new), strict=True), strict=True):
        if values.count(_PROTOTYPE[name]) < len(values):
            columns[name] = encoded(name, values)
    dialect.insert_rows(connection, jobs, list(columns), list(zip(*columns.values(), strict=True)))
    created = sa.select(jobs.c.created_at, jobs.c.id, sa.literal(""), jobs.c.state, sa.literal(""))
    connection.execute(
        events.insert().from_select(
            moves.EVENT_COLUMNS, created.where(_are(ids)).order_by(jobs.c.id)
        )
    )
    if edges:
        rows = [(p if p > 0 else ids[-p - 1], ids[child], kind) for p, child, kind in edges]
        dialect.insert_rows(connection, dependencies, ("parent", "child", "kind"), rows)
        to_settle = [ids[child] for child in waiting]
        moves.apply(connection, moves.settle(connection, to_settle), now)


def hold(connection: Connection, ids: list[int], until: float) -> None:
    """Let no launcher take the jobs *ids* before a time."""
    connection.execute(sa.update(jobs).where(_are(ids)).values(retry_at=until))


def _are(ids: list[int]) -> sa.ColumnElement[bool]:
    """Return the term for jobs of *ids*: a range where they are one."""
    if ids[-1] - ids[0] == len(ids) - 1 and ids == list(range(ids[0], ids[-1] + 1)):
        return jobs.c.id.between(ids[0], ids[-1])
    return dialect.among(jobs.c.id, ids)


def check_reserved(connection: Connection, ids: list[int]) -> None:
    """Raise unless the *ids* for new jobs were reserved, once each, and are unused.

    Raises
    ------
    InvalidInput
        One was never reserved, or is given twice.
    AlreadyExists
        There is a job of this id.
    """
    name = counters.c.name == "job"
    last = connection.scalar(sa.select(counters.c.value).where(name)) or 0
    for job, count in Counter(ids).items():
        if not 0 < job <= last:
            raise InvalidInput(f"id {job} of a new job was not reserved")
        if count > 1:
            raise InvalidInput(f"{count} new jobs have the id {job}")
    found = connection.scalar(sa.select(jobs.c.id).where(dialect.among(jobs.c.id, ids)).limit(1))
    if found is not None:
        raise AlreadyExists(f"there is a job {found} already")


def _first_state(waits: bool, job: Job, preparing: set[str]) -> State:
    if waits:
        return State.CREATED
    if job.input_files or job.stage_in_url or job.application in preparing:
        return State.READY
    return State.PREPROCESSED


def fetch(
    connection: Connection, reader: JobReader, query: Query, fields: Iterable[str] | None
) -> list[Job]:
    """Return the jobs that *query* selects, in its order."""
    fields = None if fields is None else list(fields)
    statement = (
        sa.select(*reader.columns(fields))
        .where(*select.conditions(query, "jobs"))
        .order_by(*select.ordering(query, "jobs"))
    )
    rows = connection.execute(select.sliced(statement, query)).all()
    return reader.read(connection, rows, fields)


def count(connection: Connection, query: Query, kind: str = "jobs") -> int:
    """Return how many rows *query* selects."""
    inner = select.ids(query, kind).subquery()
    return int(connection.execute(sa.select(sa.func.count()).select_from(inner)).scalar_one())


def state_counts(connection: Connection, query: Query) -> dict[State, int]:
    """Return how many of the selected jobs are in each state."""
    statement = sa.select(jobs.c.state, sa.func.count()).group_by(jobs.c.state)
    rows = connection.execute(statement.where(*_selected(query)))
    return {State(state): n for state, n in sorted(rows, key=lambda r: list(State).index(r[0]))}


def workflow_counts(connection: Connection, query: Query) -> dict[str, dict[State, int]]:
    """Return the counts by state of each workflow among the selected jobs."""
    statement = (
        sa.select(jobs.c.workflow, jobs.c.state, sa.func.count())
        .group_by(jobs.c.workflow, jobs.c.state)
        .order_by(jobs.c.workflow, jobs.c.state)
        .where(*_selected(query))
    )
    found: dict[str, dict[State, int]] = {}
    for workflow, state, n in connection.execute(statement):
        found.setdefault(workflow, {})[State(state)] = n
    return found


def _selected(query: Query) -> list[sa.ColumnElement[bool]]:
    if query.limit is not None or query.offset:
        return [jobs.c.id.in_(select.ids(query))]
    return select.conditions(query, "jobs")


def update(connection: Connection, query: Query, changes: dict[str, Any]) -> int:
    """Set *changes* (checked by the caller) in the selected jobs; return how many."""
    if not changes:
        return count(connection, query)
    statement = sa.update(jobs).where(*_selected(query)).values(**changes)
    return int(connection.execute(statement).rowcount)


def _states_of(
    connection: Connection, query: Query, *extra: sa.ColumnElement[bool]
) -> list[tuple[int, State]]:
    """Return the selected jobs and their states, which nobody else changes from here on."""
    statement = moves.locked(sa.select(jobs.c.id, jobs.c.state).where(*_selected(query), *extra))
    return [(job, State(state)) for job, state in connection.execute(statement)]


def move(
    connection: Connection,
    query: Query,
    state: State,
    message: str,
    now: float,
    hold_seconds: float = 0.0,
) -> int:
    """Move the selected jobs as a user may (see `Client.move_jobs`)."""
    found = _states_of(connection, query)
    for job, old in found:
        if old == State.USER_KILLED and old != state:
            raise IllegalMove(f"Cannot mutate state of a killed job: job {job}; use `balsam rerun`")
        if old != state and not may_ask(old, state):
            hint = "; kill it first" if old == State.RUNNING else ""
            raise IllegalMove(f"job {job} is {old} and cannot become {state}{hint}")
    changes = [Change(job, old, state, message) for job, old in found if old != state]
    waiting = _waiting_children(connection, [c.job for c in changes]) if hold_seconds else []
    restart(connection, changes, now)
    if waiting:
        freed = sa.and_(dialect.among(jobs.c.id, waiting), jobs.c.state.in_(LEASABLE_STATES))
        connection.execute(sa.update(jobs).where(freed).values(retry_at=now + hold_seconds))
    return len(changes)


def _waiting_children(connection: Connection, parents: list[int]) -> list[int]:
    """Return the children of *parents* that wait."""
    statement = (
        sa.select(dependencies.c.child)
        .join(jobs, jobs.c.id == dependencies.c.child)
        .where(
            dialect.among(dependencies.c.parent, parents), jobs.c.state == State.AWAITING_PARENTS
        )
        .distinct()
    )
    return list(connection.scalars(statement))


def restart(connection: Connection, changes: list[Change], now: float) -> None:
    """Apply a user's *changes*; those to CREATED start from the beginning and are settled."""
    moves.apply(connection, changes, now, by_user=True)
    moved = dialect.among(jobs.c.id, [c.job for c in changes])
    delayed = sa.and_(moved, jobs.c.retry_at.is_not(None))
    connection.execute(sa.update(jobs).where(delayed).values(retry_at=None))
    created = [c.job for c in changes if c.new == State.CREATED]
    if created:
        connection.execute(
            sa.update(jobs)
            .where(dialect.among(jobs.c.id, created))
            .values(retries=0, timeouts=0, crashes=0, exit_code=None)
        )
        moves.apply(connection, moves.settle(connection, created), now)


def rerun(connection: Connection, query: Query, now: float) -> int:
    """Send the selected ended jobs back to the beginning; return how many."""
    found = _states_of(
        connection, query, jobs.c.state.in_(END_STATES), jobs.c.launcher_id.is_(None)
    )
    changes = [Change(job, old, State.CREATED, "to be run again") for job, old in found]
    restart(connection, changes, now)
    return len(changes)


def kill(connection: Connection, query: Query, recursive: bool, now: float) -> list[int]:
    """Move the selected live jobs, and with *recursive* their descendants, to USER_KILLED."""
    live = jobs.c.state.in_(LIVE_STATES)
    if recursive:
        chosen = list(connection.execute(sa.select(jobs.c.id).where(*_selected(query))).scalars())
        family = list(descendants(connection, chosen) | set(chosen))
        found = _live(connection, family)
    else:
        found = _states_of(connection, query, live)
    moves.apply(
        connection,
        [Change(job, old, State.USER_KILLED, "killed by user") for job, old in found],
        now,
    )
    return [job for job, _ in found]


def _live(connection: Connection, ids: list[int]) -> list[tuple[int, State]]:
    statement = sa.select(jobs.c.id, jobs.c.state).where(
        dialect.among(jobs.c.id, ids), jobs.c.state.in_(LIVE_STATES)
    )
    return [(job, State(state)) for job, state in connection.execute(moves.locked(statement))]


def children(connection: Connection, parents: list[int]) -> dict[int, list[int]]:
    """Return the children of each of *parents*."""
    found: dict[int, list[int]] = {}
    statement = sa.select(dependencies.c.parent, dependencies.c.child)
    for parent, child in connection.execute(
        statement.where(dialect.among(dependencies.c.parent, parents))
    ):
        found.setdefault(parent, []).append(child)
    return found


def descendants(connection: Connection, ids: list[int]) -> set[int]:
    """Return all jobs below *ids*, one query a level."""
    seen: set[int] = set()
    level = list(ids)
    while level:
        below = {child for cs in children(connection, level).values() for child in cs}
        level = list(below - seen)
        seen |= below
    return seen


def delete(connection: Connection, query: Query, now: float) -> int:
    """Remove the selected jobs and all that belongs to them (see `Client.delete_jobs`)."""
    columns = sa.select(jobs.c.id, jobs.c.state, jobs.c.launcher_id)
    found = connection.execute(moves.locked(columns.where(*_selected(query)), to_delete=True)).all()
    running = next((row.id for row in found if row.state == State.RUNNING), None)
    if running is not None:
        raise IllegalMove(f"job {running} is running; kill it before removing it")
    # Its launcher learns of a kill from the row: without it the program would run on.
    killed = {row.launcher_id: row.id for row in found if row.state == State.USER_KILLED}
    alive = sa.select(launchers.c.id).where(
        launchers.c.ended_at.is_(None), launchers.c.expires_at > now
    )
    ending = [killed[launcher] for launcher in connection.scalars(alive) if launcher in killed]
    if ending:
        raise IllegalMove(f"job {ending[0]} is being ended by its launcher; try again in a moment")
    doomed = [row.id for row in found]
    # A parent that is removed before it ended no longer holds its children back.
    counts = Counter(
        connection.execute(
            sa.select(dependencies.c.child)
            .join(jobs, jobs.c.id == dependencies.c.parent)
            .where(dialect.among(dependencies.c.parent, doomed), jobs.c.state.in_(LIVE_STATES))
        ).scalars()
    )
    freed = list(moves.awaiting(connection, list(counts)).difference(doomed))
    dialect.count_down(connection, jobs, "pending_parents", [(counts[c], c) for c in freed])
    for table, column in (
        (dependencies, dependencies.c.parent),
        (dependencies, dependencies.c.child),
        (events, events.c.job),
        (attempts, attempts.c.job),
        (transfers, transfers.c.job),
        (jobs, jobs.c.id),
    ):
        connection.execute(sa.delete(table).where(dialect.among(column, doomed)))
    moves.apply(connection, moves.free_to_go(connection, freed), now)
    return len(doomed)


def require(
    connection: Connection, ids: Iterable[int], *, change: bool = False
) -> dict[int, State]:
    """Return the state of each of *ids*, which are there until the transaction ends.

    With *change* nobody else changes them, either.

    Raises
    ------
    NotFound
        One of them does not exist; it is named.
    """
    wanted = list(ids)
    statement = sa.select(jobs.c.id, jobs.c.state).where(dialect.among(jobs.c.id, wanted))
    kept = statement.order_by(jobs.c.id).with_for_update(read=not change, key_share=True)
    found = {job: State(state) for job, state in connection.execute(kept)}
    for job in wanted:
        if job not in found:
            raise NotFound(f"there is no job {job}")
    return found
