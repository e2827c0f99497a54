"""What launchers report, applied by set: the hot path of every campaign."""

from __future__ import annotations

from operator import attrgetter, itemgetter
from typing import Any, NamedTuple

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from balsam.model.states import END_STATES, State, legal
from balsam.model.wire import Attempt, Move, Outcome, Refusal, Report, Topic
from balsam.store import dialect, moves, run_times, transfers
from balsam.store.launchers import is_live
from balsam.store.schema import attempts, events, jobs

ATTEMPT_COLUMNS = tuple(column.name for column in attempts.c)
_attempt_row = attrgetter(*ATTEMPT_COLUMNS)
#: What reports change in jobs, beside their holder: in most of them, and in few.
_OFTEN = ("state", "attempt", "retries", "exit_code", "updated_at")
_SELDOM = ("timeouts", "crashes", "retry_at", "memory_mib", "wall_time_minutes")
#: Where moves lead that are charged or remembered.
_COUNTED = (State.RUN_DONE, State.RUN_TIMEOUT, State.RESTART_READY)
_STATES = {str(state): state for state in State}
_often, _seldom = attrgetter(*_OFTEN), attrgetter(*_SELDOM)


class _Job(msgspec.Struct):
    """A job while a report is applied to it: columns of its row, then what becomes of them.

    Thousands are made each second: a struct takes a row as it is, by position.
    """

    id: int
    launcher_id: int | None
    state: State
    attempt: int
    retries: int
    exit_code: int | None
    updated_at: float
    timeouts: int
    crashes: int
    retry_at: float | None
    memory_mib: int
    wall_time_minutes: float
    application: str
    num_nodes: int
    ranks_per_node: int
    changed: bool = False
    came_to_harm: bool = False  #: and so it is counted, or runs again with other terms
    refused: str = ""  #: why its moves are not applied
    late: set[int] = set()  #: attempts that came after the lease had ended
    taken: list[Move] = []  #: moves that are applied
    done: int = 0  #: the attempt that these moves say ended well

    def follow(self, path: list[Move], launcher: int, live: bool, now: float) -> None:
        """Go along *path* from where the job is; moves before that were applied earlier."""
        if not live or self.launcher_id != launcher:
            self.refused = "the lease has ended"
            return
        start = next((i for i, move in enumerate(path) if self._can_take(move)), None)
        if start is None:
            self.refused = (
                f"the job is {self.state} at attempt {self.attempt}, not {path[0].from_state} at"
                f" {path[0].attempt}"
            )
            return
        was = self.state, self.attempt
        for move in path[start:]:
            if not self._can_take(move) or not legal(move.from_state, move.to_state):
                self.refused = f"{move.from_state} → {move.to_state} is no legal move here"
                self.state, self.attempt = was
                return
            self.state, self.attempt = move.to_state, move.attempt
        self.taken, self.changed = path[start:], True
        self.updated_at = max(self.updated_at, path[-1].time, now)
        for move in self.taken:
            if move.to_state in _COUNTED or move.aftermath is not None:
                self._count(move)

    def _count(self, move: Move) -> None:
        """Charge what the move is, and change what it brings."""
        way = move.from_state, move.to_state
        self.retries += way == (State.RUN_ERROR, State.RESTART_READY)
        timed_out = way == (State.RUNNING, State.RUN_TIMEOUT)
        self.timeouts += timed_out
        if move.to_state == State.RUN_DONE:
            self.done = move.attempt
        after = move.aftermath
        self.came_to_harm = self.came_to_harm or timed_out or after is not None
        if after is None:
            return
        self.crashes += after.crashed
        self.retry_at = after.retry_at
        # What a user has given it meanwhile stays when it is more.
        self.memory_mib = max(self.memory_mib, after.memory_mib or 0)
        self.wall_time_minutes = max(self.wall_time_minutes, after.wall_time_minutes or 0.0)

    def take_end(self, attempt: Attempt) -> None:
        """Keep the exit code of the execution that is the job's last."""
        if self.refused:  # it was killed, say, as it started: its number is not used again
            self.changed = self.changed or attempt.number > self.attempt
            self.attempt = max(self.attempt, attempt.number)
        elif attempt.number == self.attempt and attempt.ended_at:
            self.exit_code, self.changed = attempt.exit_code, True

    def _can_take(self, move: Move) -> bool:
        starts = move.to_state == State.RUNNING
        return self.state == move.from_state and move.attempt == self.attempt + starts


class Applied(NamedTuple):
    """What came of a report."""

    refusals: list[Refusal]
    topics: tuple[Topic, ...]  #: what there is to be told


def apply(connection: Connection, launcher: int, report: Report, now: float) -> Applied:
    """Apply *report* of *launcher* (see `Client.report`)."""
    live = is_live(connection, launcher)
    told = {m.job for m in report.moves} | {a.job for a in report.attempts}
    told |= {transfer.job for transfer in report.transfers}
    known = _load(connection, list(told | set(report.released)))
    refusals = _take_moves(connection, known, report, launcher, live, now)
    for attempt in report.attempts:
        job = known.get(attempt.job)
        if job and job.launcher_id == launcher and live:
            job.take_end(attempt)
    for released in report.released:
        job = known.get(released)
        # A job that runs stays with its launcher: nobody else would look after it.
        if job and job.launcher_id == launcher and job.state != State.RUNNING:
            job.launcher_id, job.changed = None, True
    ended = {job.id: job.state for job in known.values() if job.taken and job.state in END_STATES}
    for id_ in ended:
        known[id_].launcher_id = None
    _save(connection, [job for job in known.values() if job.changed])
    lines = [
        (m.time, m.job, m.from_state, m.to_state, m.message)
        for job in known.values()
        for m in job.taken
    ]
    moves.write_events(connection, sorted(lines, key=itemgetter(0)))
    _save_attempts(connection, report.attempts, known, live, now)
    if live:
        transfers.save(connection, report.transfers, known)
    freed = moves.release(connection, ended)
    moves.apply_released(connection, freed, now)
    run_times.learn(connection, _run_times(report.attempts, known))
    topics = (Topic.ENDS,) if ended else ()
    return Applied(refusals, (*topics, Topic.WORK) if freed or report.released else topics)


def _take_moves(
    connection: Connection,
    known: dict[int, _Job],
    report: Report,
    launcher: int,
    live: bool,
    now: float,
) -> list[Refusal]:
    """Bring the jobs along the moves they can take; return what is refused."""
    paths: dict[int, list[Move]] = {}
    for move in report.moves:
        paths.setdefault(move.job, []).append(move)
    refusals = [Refusal(id_, "", "the job was removed") for id_ in paths if id_ not in known]
    before = _applied_before(connection, list(known)) if report.again else set()
    for id_, path in paths.items():
        left = [m for m in path if _event_of(m) not in before] if report.again else path
        if id_ in known and left:
            known[id_].follow(left, launcher, live, now)
    refused = [job for job in known.values() if job.refused]
    if not report.again:
        before = _applied_before(connection, [job.id for job in refused])
    for job in refused:
        path = paths[job.id]
        if _event_of(path[-1]) in before:
            continue
        refusals.append(Refusal(job.id, job.state, job.refused))
        if job.launcher_id != launcher or not live:
            runs = {m.attempt: m for m in path if State.RUNNING in (m.from_state, m.to_state)}
            job.late = {number for number, m in runs.items() if _event_of(m) not in before}
    return refusals


def _event_of(move: Move) -> tuple[Any, ...]:
    return move.job, move.time, str(move.from_state), str(move.to_state)


def _applied_before(connection: Connection, ids: list[int]) -> set[tuple[Any, ...]]:
    """Return the events of the jobs *ids*: a move that is among them was applied.

    The state alone does not tell: another launcher can have brought the job to the same.
    """
    if not ids:
        return set()
    columns = (events.c.job, events.c.time, events.c.from_state, events.c.to_state)
    rows = connection.execute(sa.select(*columns).where(dialect.among(events.c.job, ids)))
    return {tuple(row) for row in rows}


def _load(connection: Connection, ids: list[int]) -> dict[int, _Job]:
    columns = [jobs.c[name] for name in _Job.__struct_fields__ if name in jobs.c]
    statement = moves.locked(sa.select(*columns).where(dialect.among(jobs.c.id, ids)))
    found = [_Job(*row) for row in connection.execute(statement).all()]
    for job in found:
        job.state = _STATES[job.state]
    return {job.id: job for job in found}


def _save(connection: Connection, changed: list[_Job]) -> None:
    rows = [(*_often(job), job.launcher_id, job.id) for job in changed]
    dialect.update_rows(connection, jobs, (*_OFTEN, "launcher_id"), rows)
    rows = [(*_seldom(job), job.id) for job in changed if job.came_to_harm]
    dialect.update_rows(connection, jobs, _SELDOM, rows)


def _save_attempts(
    connection: Connection,
    reported: list[Attempt],
    known: dict[int, _Job],
    live: bool,
    now: float,
) -> None:
    rows = []
    for attempt in reported:
        job = known.get(attempt.job)
        if job is None:
            continue
        late = attempt.number in job.late
        if not live and not late and not attempt.ended_at:
            continue  # what was running was ended with the launcher
        if late and attempt.outcome is not Outcome.LOST:
            result = f"{attempt.outcome}, exit code {attempt.exit_code}"
            attempt = msgspec.structs.replace(
                attempt,
                ended_at=attempt.ended_at or now,
                outcome=Outcome.REFUSED,
                message=f"reported after the lease had ended: {result}",
            )
        rows.append(_attempt_row(attempt))
    dialect.upsert_rows(connection, attempts, ATTEMPT_COLUMNS, rows)


def _run_times(reported: list[Attempt], known: dict[int, _Job]) -> dict[run_times.Key, list[float]]:
    """Return the seconds of the runs that this very report brings to their good end.

    One that is reported again is not among them: its move was applied before.
    """
    found: dict[run_times.Key, list[float]] = {}
    for attempt in reported:
        job = known.get(attempt.job)
        if job is None or not job.done or attempt.number != job.done:
            continue
        if attempt.started_at is None or attempt.ended_at is None:
            continue
        key = job.application, job.num_nodes * job.ranks_per_node
        found.setdefault(key, []).append(attempt.ended_at - attempt.started_at)
    return found
