"""Launchers and the leases they hold: who may run what, and until when.

A job's lease is its `launcher_id`. A launcher's id is never used again, so it fences all
that the launcher reports: once its lease has ended, nothing it says changes a job.
"""

from __future__ import annotations

from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from balsam.errors import LeaseLost
from balsam.model import records
from balsam.model.app import App
from balsam.model.job import Job, needs_transfer
from balsam.model.payload import REFERS
from balsam.model.resources import UNITS
from balsam.model.retry import crash_reason, is_over_limit
from balsam.model.states import LEASABLE_STATES, State
from balsam.model.wire import (
    LauncherInfo,
    LauncherKind,
    Lease,
    LeaseRequest,
    Outcome,
    Outlook,
    Renewal,
)
from balsam.store import batch_jobs, dialect, moves, run_times, to_stage, transfers
from balsam.store import rows as row_mapping
from balsam.store.moves import Change
from balsam.store.rows import JobReader
from balsam.store.schema import DELAYED, FREE_TO_STAGE, QUEUED, apps, attempts, jobs, launchers

#: What a launcher needs to know of a job: everything but what only users read.
_NOT_NEEDED = ("data", "description", "owner", "created_at", "pending_parents")
_LEASED_COLUMNS = [column for column in jobs.c if column.name not in _NOT_NEEDED]
_LEASED_FIELDS = (*(column.name for column in _LEASED_COLUMNS), "job_id", "workdir", "parents")
_INFO_COLUMNS = [field.name for field in records.fields(LauncherInfo)]
#: Counting stops here: the launcher asks only whether there are any, and says "many".
_COUNT_LIMIT = 1000
#: Most jobs whose retry has come that one lease puts back into the queue.
_MOST_RETRIED = 10_000


def register(connection: Connection, info: LauncherInfo, now: float, expires_at: float) -> int:
    """Insert a launcher and return its id."""
    batch_job = batch_jobs.launcher_started(connection, info, now)
    values = msgspec.structs.asdict(info) | {"started_at": now, "expires_at": expires_at}
    values["batch_job_id"] = batch_job
    del values["id"]
    statement = launchers.insert().values(**values).returning(launchers.c.id)
    return int(connection.execute(statement).scalar_one())


def fetch(
    connection: Connection, *, live: bool, kind: LauncherKind | None = None
) -> list[LauncherInfo]:
    """Return launchers (of one kind, or all), oldest first."""
    statement = sa.select(*(launchers.c[name] for name in _INFO_COLUMNS)).order_by(launchers.c.id)
    if live:
        statement = statement.where(launchers.c.ended_at.is_(None))
    if kind is not None:
        statement = statement.where(launchers.c.kind == kind)
    read = row_mapping.reader_of(LauncherInfo, _INFO_COLUMNS)
    return [read(row) for row in connection.execute(statement)]


def is_live(connection: Connection, launcher: int) -> bool:
    """Tell whether *launcher* has not ended; if so, it does not before this transaction does."""
    statement = sa.select(launchers.c.ended_at).where(launchers.c.id == launcher)
    row = connection.execute(statement.with_for_update(read=True)).first()
    return row is not None and row.ended_at is None


def check_live(connection: Connection, launcher: int) -> None:
    """Raise `LeaseLost` when *launcher* has ended (see `is_live`)."""
    if is_live(connection, launcher):
        return
    message = sa.select(launchers.c.message).where(launchers.c.id == launcher)
    ended = connection.execute(message).first()
    why = ended[0] if ended else "it is not known"
    raise LeaseLost(f"launcher {launcher} has lost its lease: {why}")


def renew(connection: Connection, launcher: int, expires_at: float) -> Renewal:
    """Prolong the lease, and tell which of its jobs a user killed."""
    renewed = connection.execute(
        sa.update(launchers)
        .where(launchers.c.id == launcher, launchers.c.ended_at.is_(None))
        .values(expires_at=expires_at)
    )
    if not renewed.rowcount:
        check_live(connection, launcher)
    killed = connection.execute(
        sa.select(jobs.c.id).where(
            jobs.c.launcher_id == launcher, jobs.c.state == State.USER_KILLED
        )
    )
    return Renewal(expires_at=expires_at, killed=list(killed.scalars()))


def _scope(request: LeaseRequest) -> list[sa.ColumnElement[bool]]:
    """Return the terms for jobs that the launcher may take at all."""
    terms: list[sa.ColumnElement[bool]] = []
    if request.workflow_filter:
        terms.append(dialect.has_text(jobs.c.workflow, request.workflow_filter))
    if request.owner:
        terms.append(jobs.c.owner == request.owner)
    terms += [dialect.string_at(jobs.c.tags, [key]) == v for key, v in request.tags.items()]
    serial = sa.and_(jobs.c.num_nodes == 1, jobs.c.ranks_per_node == 1)
    if not request.parallel:
        terms.append(serial)
    if not request.serial:
        terms.append(sa.not_(serial))
    return terms


def _fits(request: LeaseRequest, *, whole_time: bool = False) -> sa.ColumnElement[bool]:
    """Return the term for jobs that the launcher's nodes and time can hold.

    Jobs that only need a hook or a handler are always fit. With *whole_time* it is not asked
    how much time is left.
    """
    cores = sa.case(
        (jobs.c.cores_per_rank > 0, jobs.c.ranks_per_node * jobs.c.cores_per_rank),
        else_=jobs.c.ranks_per_node * jobs.c.threads_per_rank // jobs.c.threads_per_core,
    )
    terms = [
        jobs.c.num_nodes <= request.num_nodes,
        sa.or_(jobs.c.node_packing_count > 1, cores <= request.cores),
        # Compared as `Request.gpu_units` counts them: fractions add up despite rounding.
        jobs.c.gpus_per_rank * jobs.c.ranks_per_node < request.gpus + 0.5 / UNITS,
        jobs.c.memory_mib <= request.memory_mib,
    ]
    if request.gpus:
        devices = int(request.gpus)
        sharing = (jobs.c.ranks_per_node + devices - 1) // devices  # on the fullest device
        on_one = jobs.c.gpus_per_rank * sharing < 1 + 0.5 / UNITS
        terms.append(sa.or_(jobs.c.gpus_per_rank >= 1, on_one))
    if request.minutes_left is not None and not whole_time:
        terms.append(jobs.c.wall_time_minutes <= request.minutes_left)
    if request.too_long and not whole_time:
        kind = sa.tuple_(jobs.c.application, jobs.c.num_nodes * jobs.c.ranks_per_node)
        # A run that was cut off once goes on, or is tried once more, as far as it gets.
        learned = sa.and_(jobs.c.wall_time_minutes == 0, jobs.c.timeouts == 0)
        terms.append(sa.not_(sa.and_(learned, kind.in_(request.too_long))))
    after_run = [s for s in LEASABLE_STATES if s.startswith(("RUN_", "POST"))]
    return sa.or_(sa.and_(*terms), jobs.c.state.in_(after_run))


def lease(
    connection: Connection, reader: JobReader, launcher: int, request: LeaseRequest, now: float
) -> Lease:
    """Lease free jobs, by priority, then large and long first.

    Jobs that wait for their retry are passed over until *now* is their time.

    A request with the number of the last one is that one again, whose answer was lost: it gets
    the same jobs, as far as the launcher still has them.
    """
    check_live(connection, launcher)
    again = _leased_before(connection, launcher, request.number)
    if again is None:
        _end_delays(connection, now)
    movers = to_stage.movers(connection, now)
    rows = again
    if rows is None:
        rows = _take_free(connection, launcher, request) if request.limit else []
        rows += _take_to_stage(connection, launcher, request, movers)
    found = reader.read(connection, rows, _LEASED_FIELDS)
    found.sort(key=lambda j: (-j.priority, -j.num_nodes, -j.wall_time_minutes, j.id))
    if again is None and request.number and found:
        noted = {"lease_number": request.number, "leased": [job.id for job in found]}
        connection.execute(sa.update(launchers).where(launchers.c.id == launcher).values(**noted))
    names = {job.application for job in found}
    read = row_mapping.reader_of(App, [c.name for c in apps.c])
    chosen_apps = connection.execute(sa.select(apps).where(apps.c.name.in_(names))) if names else ()
    return Lease(
        jobs=found,
        apps={app.name: app for app in map(read, chosen_apps)},
        results=_results(connection, [job for job in found if job.payload[:1] == REFERS]),
        run_times=run_times.fetch(connection, names) if names else [],
        next_in=None if _is_filled(request, found) else _next_in(connection, request, now),
        has_mover=request.owner in movers,
    )


def _is_filled(request: LeaseRequest, found: list[Job]) -> bool:
    """Tell whether as many jobs as were asked for are *found*, beside those with files to move."""
    return len(found) - sum(map(needs_transfer, found)) >= request.limit


def _results(connection: Connection, leased: list[Job]) -> dict[int, str]:
    """Return what the parents of *leased* jobs returned, by their ids."""
    parents = {parent for job in leased for parent in job.parents}
    if not parents:
        return {}
    columns = attempts.c.job, attempts.c.result
    done = attempts.c.outcome == Outcome.DONE
    statement = sa.select(*columns).where(dialect.among(attempts.c.job, list(parents)), done)
    ordered = statement.order_by(attempts.c.job, attempts.c.number)  # the last one holds
    return {job: result for job, result in connection.execute(ordered) if result}


def _end_delays(connection: Connection, now: float) -> None:
    """Put the jobs whose retry has come into the queue."""
    delayed = dialect.using_index(sa.select(jobs.c.id), jobs, "ix_jobs_retry_at")
    due = (
        delayed.where(sa.text(DELAYED), jobs.c.retry_at <= now)
        .order_by(jobs.c.retry_at)
        .limit(_MOST_RETRIED)
        .with_for_update(skip_locked=True, key_share=True)
        .cte("due")
    )
    chosen = jobs.c.id.in_(sa.select(due.c.id))
    connection.execute(sa.update(jobs).where(chosen).values(retry_at=None))


def _waits_free() -> tuple[sa.ColumnElement[bool], ...]:
    """Return the terms for jobs that could be leased if they did not wait for their retry."""
    return jobs.c.launcher_id.is_(None), jobs.c.state.in_(LEASABLE_STATES)


def _next_in(connection: Connection, request: LeaseRequest, now: float) -> float | None:
    """Return the seconds until the launcher can lease a job that waits for its retry."""
    delayed = dialect.using_index(sa.select(jobs.c.retry_at), jobs, "ix_jobs_retry_at")
    first = connection.execute(
        delayed.where(sa.text(DELAYED), *_waits_free(), *_scope(request), _fits(request))
        .order_by(jobs.c.retry_at)
        .limit(1)
    ).scalar()
    return None if first is None else max(0.0, first - now)


def _leased_before(connection: Connection, launcher: int, number: int) -> list[sa.Row[Any]] | None:
    """Return what the launcher has of its lease *number*; None when that is a new one."""
    same = sa.and_(launchers.c.id == launcher, launchers.c.lease_number == number)
    noted = (
        connection.execute(sa.select(launchers.c.leased).where(same)).scalar() if number else None
    )
    if noted is None:
        return None
    mine = sa.and_(dialect.among(jobs.c.id, noted), jobs.c.launcher_id == launcher)
    return list(connection.execute(sa.select(*_LEASED_COLUMNS).where(mine)))


def _take_free(connection: Connection, launcher: int, request: LeaseRequest) -> list[sa.Row[Any]]:
    """Give the launcher the first free jobs that it can take."""
    terms = _scope(request)
    if request.only_priority_from is not None:
        terms.append(jobs.c.priority >= request.only_priority_from)
    order = (
        jobs.c.priority.desc(),
        jobs.c.num_nodes.desc(),
        jobs.c.wall_time_minutes.desc(),
        jobs.c.id,
    )
    chosen = (
        dialect.using_index(sa.select(jobs.c.id), jobs, "ix_jobs_queue")
        .where(sa.text(QUEUED), *terms, _fits(request))
        .order_by(*order)
        .limit(request.limit)
        .with_for_update(skip_locked=True, key_share=True)
        .cte("chosen")  # which PostgreSQL surely evaluates once
    )
    return _given(connection, launcher, chosen, with_batch_job=True)


def _given(
    connection: Connection, launcher: int, chosen: sa.CTE, *, with_batch_job: bool
) -> list[sa.Row[Any]]:
    """Give the launcher the jobs *chosen*."""
    statement = sa.update(jobs).where(jobs.c.id.in_(sa.select(chosen.c.id)))
    given: dict[str, Any] = {"launcher_id": launcher}
    if with_batch_job:
        batch_job = sa.select(launchers.c.batch_job_id).where(launchers.c.id == launcher)
        given["batch_job_id"] = batch_job.scalar_subquery()
    taken = statement.values(**given).returning(*_LEASED_COLUMNS)
    return list(connection.execute(taken))


def _take_to_stage(
    connection: Connection, launcher: int, request: LeaseRequest, movers: set[str]
) -> list[sa.Row[Any]]:
    """Give the launcher the first jobs whose files it is to move: results go before inputs."""
    found: list[sa.Row[Any]] = []
    if request.leave_files and request.owner in movers:
        return found
    scope = _scope(request)
    if request.leave_files and movers:
        scope.append(jobs.c.owner.not_in(movers))
    ways = (State.POSTPROCESSED, request.stage_out), (State.READY, request.stage_in)
    for state, most in ways:
        terms = [*scope, _fits(request)] if request.limit and state == State.READY else scope
        if state == State.READY and request.staged_ahead is not None:
            most = min(most, to_stage.room_ahead(connection, launcher, request.staged_ahead))
        if most > 0:
            chosen = to_stage.first(state, terms, most)
            # Who takes its results away does not change who ran it.
            ran = state != State.READY
            found += _given(connection, launcher, chosen, with_batch_job=not ran)
    return found


def outlook(connection: Connection, launcher: int, request: LeaseRequest) -> Outlook:
    """Count (up to a limit) what is left for a launcher."""

    def count(*terms: sa.ColumnElement[bool]) -> int:
        some = sa.select(jobs.c.id).where(*terms).limit(_COUNT_LIMIT).subquery()
        return int(connection.execute(sa.select(sa.func.count()).select_from(some)).scalar_one())

    scope, free = _scope(request), sa.text(QUEUED)
    now, ever = _fits(request), _fits(request, whole_time=True)
    has_end = request.minutes_left is not None or bool(request.too_long)
    return Outlook(
        leasable=count(free, *scope, now),  # type: ignore[arg-type]
        unfit=count(free, *scope, sa.not_(ever)),  # type: ignore[arg-type]
        waiting=count(jobs.c.state == State.AWAITING_PARENTS, *scope),
        held_elsewhere=count(
            jobs.c.launcher_id.is_not(None), jobs.c.launcher_id != launcher, *scope
        ),
        delayed=count(sa.text(DELAYED), *_waits_free(), *scope),  # type: ignore[arg-type]
        too_long=count(free, *scope, ever, sa.not_(now)) if has_end else 0,  # type: ignore[arg-type]
        to_stage=count(sa.text(FREE_TO_STAGE), *scope),  # type: ignore[arg-type]
    )


def retire(
    connection: Connection, launcher: int, message: str, lost: bool, crash_limit: int, now: float
) -> int:
    """End a launcher; its jobs go back, running ones to RESTART_READY (see `Client`)."""
    ended = connection.execute(
        sa.update(launchers)
        .where(launchers.c.id == launcher, launchers.c.ended_at.is_(None))
        .values(ended_at=now, message=message)
    )
    if not ended.rowcount:
        return 0
    columns = jobs.c.id, jobs.c.state, jobs.c.crashes
    statement = sa.select(*columns).where(jobs.c.launcher_id == launcher)
    held: Any = connection.execute(moves.locked(statement)).all()
    crashes = {job: count for job, state, count in held if state == State.RUNNING}
    counted = _count_crashes(connection, launcher, crashes) if lost else {}
    changes = [
        Change(job, State.RUNNING, State.FAILED, crash_reason(counted[job], message))
        if is_over_limit(counted.get(job, 0), crash_limit)
        else Change(job, State.RUNNING, State.RESTART_READY, message)
        for job in crashes
    ]
    moves.apply(connection, changes, now)
    connection.execute(
        sa.update(jobs).where(jobs.c.launcher_id == launcher).values(launcher_id=None)
    )
    outcome = Outcome.LOST if lost else Outcome.TIMEOUT
    connection.execute(
        sa.update(attempts)
        .where(attempts.c.launcher_id == launcher, attempts.c.ended_at.is_(None))
        .values(ended_at=now, outcome=outcome, message=message)
    )
    transfers.stop(connection, launcher, now)
    return len(held)


def _count_crashes(
    connection: Connection, launcher: int, crashes: dict[int, int]
) -> dict[int, int]:
    """Count the loss of *launcher* at those of its running jobs that may be why; return these.

    They are those that were heard to run; when there is none, all that were sent to a worker.
    """
    heard = connection.execute(
        sa.select(attempts.c.job).where(
            attempts.c.launcher_id == launcher, attempts.c.ended_at.is_(None), attempts.c.pid != 0
        )
    ).scalars()
    suspects = crashes.keys() & set(heard) or crashes.keys()
    counted = {job: crashes[job] + 1 for job in suspects}
    dialect.update_rows(connection, jobs, ("crashes",), [(n, job) for job, n in counted.items()])
    return counted


def expired(connection: Connection, now: float) -> list[LauncherInfo]:
    """Return the live launchers whose lease has run out."""
    return [info for info in fetch(connection, live=True) if info.expires_at < now]
