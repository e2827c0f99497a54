"""What must hold in every site's database, asked of all its rows at once.

Each question is one statement, whatever the number of jobs. What is found names what `repair`
would do about it; what has no safe repair names none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from balsam.model.graph import Kind, Verdict, verdict
from balsam.model.states import END_STATES, LIVE_STATES, STATES, State, legal
from balsam.model.wire import Outcome
from balsam.store import upkeep
from balsam.store.schema import (
    attempts,
    counters,
    dependencies,
    events,
    jobs,
    launchers,
    metadata,
    transfers,
)
from balsam.store.transactions import Transaction

#: How many of those that are concerned are named.
FIRST = 5
#: What a job's first event may say.
_BEGINNINGS = (State.CREATED, State.READY, State.PREPROCESSED)
#: What a launcher told too late, or its successor found: such an attempt counts for no job.
_LATE = (Outcome.REFUSED, Outcome.LOST)

Ids = sa.Select[tuple[int]]


class Finding(msgspec.Struct, frozen=True):
    """Something that does not hold."""

    name: str
    what: str
    count: int
    #: The first ids of those concerned (jobs, unless `what` says something else).
    first: list[int]
    #: What `repair` does about it; '' when there is nothing that is surely right.
    repair: str = ""


def findings(connection: Connection) -> list[Finding]:
    """Return what does not hold; [] for a sound database. Changes nothing."""
    found: list[Finding] = []
    for name, (what, statement, repair) in QUESTIONS.items():
        concerned = statement().subquery()
        count = connection.scalar(sa.select(sa.func.count()).select_from(concerned))
        if count:
            some = sa.select(concerned.c.id).order_by(concerned.c.id).limit(FIRST)
            first = list(connection.scalars(some))
            found.append(Finding(name, what, count, first, repair))
    return [*found, *_numbers(connection), *_closed(connection)]


def damages(opened: Transaction) -> tuple[list[str], str]:
    """Return what the database system finds wrong with its files, and what it could not check.

    To be called in a transaction that is then undone.
    """
    system = upkeep.of(opened.connection)
    return system.damages(opened.connection), system.unchecked(opened.connection)


# history ----------------------------------------------------------------------------


def _without_history() -> Ids:
    return sa.select(jobs.c.id).where(~sa.exists().where(events.c.job == jobs.c.id))


def _not_in_last_state() -> Ids:
    last = sa.select(sa.func.max(events.c.id).label("id")).group_by(events.c.job).subquery()
    return (
        sa.select(jobs.c.id)
        .join(events, events.c.job == jobs.c.id)
        .join(last, last.c.id == events.c.id)
        .where(events.c.to_state != jobs.c.state)
    )


def _broken_chains() -> Ids:
    before = sa.func.lag(events.c.to_state, 1, "").over(
        partition_by=events.c.job, order_by=events.c.id
    )
    each = sa.select(events.c.job, events.c.from_state, before.label("before")).subquery()
    return sa.select(each.c.job.label("id")).where(each.c.from_state != each.c.before).distinct()


def _illegal_moves() -> Ids:
    allowed = [("", str(new)) for new in _BEGINNINGS]
    allowed += [(str(a), str(b)) for a in STATES for b in STATES if legal(a, b, by_user=True)]
    pair = sa.tuple_(events.c.from_state, events.c.to_state)
    return sa.select(events.c.job.label("id")).where(pair.not_in(allowed)).distinct()


# leases -----------------------------------------------------------------------------


def _lives(launcher: Any) -> sa.ColumnElement[bool]:
    """Return the term for *launcher* (a column) being one that has not ended."""
    return sa.exists().where(launchers.c.id == launcher, launchers.c.ended_at.is_(None))


def _ended_but_leased() -> Ids:
    # The launcher of a job that was killed learns it from the row, and then lets go.
    told = sa.and_(jobs.c.state == State.USER_KILLED, _lives(jobs.c.launcher_id))
    return sa.select(jobs.c.id).where(
        jobs.c.launcher_id.is_not(None), jobs.c.state.in_(END_STATES), ~told
    )


def _leased_by_the_ended() -> Ids:
    return sa.select(jobs.c.id).where(
        jobs.c.launcher_id.is_not(None),
        jobs.c.state.in_(LIVE_STATES),
        ~_lives(jobs.c.launcher_id),
    )


def _running_without_lease() -> Ids:
    return sa.select(jobs.c.id).where(jobs.c.state == State.RUNNING, jobs.c.launcher_id.is_(None))


def _open_attempt(*terms: sa.ColumnElement[bool]) -> sa.ColumnElement[bool]:
    return sa.exists().where(
        attempts.c.job == jobs.c.id,
        attempts.c.launcher_id == jobs.c.launcher_id,
        attempts.c.ended_at.is_(None),
        *terms,
    )


def _running_without_attempt() -> Ids:
    return sa.select(jobs.c.id).where(
        jobs.c.state == State.RUNNING,
        _lives(jobs.c.launcher_id),
        ~_open_attempt(attempts.c.number == jobs.c.attempt),
    )


def _open_attempts_of_none() -> Ids:
    held = sa.exists().where(
        jobs.c.id == attempts.c.job,
        jobs.c.launcher_id == attempts.c.launcher_id,
        jobs.c.state.in_((State.RUNNING, State.USER_KILLED)),
    )
    return sa.select(attempts.c.job.label("id")).where(
        attempts.c.ended_at.is_(None), sa.or_(~_lives(attempts.c.launcher_id), ~held)
    )


# attempts ---------------------------------------------------------------------------


def _attempts_beyond_the_count() -> Ids:
    return (
        sa.select(jobs.c.id)
        .join(attempts, attempts.c.job == jobs.c.id)
        .where(attempts.c.number > jobs.c.attempt, attempts.c.outcome.not_in(_LATE))
        .distinct()
    )


def _attempts_without_record() -> Ids:
    last = sa.and_(attempts.c.job == jobs.c.id, attempts.c.number == jobs.c.attempt)
    return sa.select(jobs.c.id).where(jobs.c.attempt > 0, ~sa.exists().where(last))


# dependencies -----------------------------------------------------------------------


def _parents_left() -> sa.ScalarSelect[int]:
    parent = jobs.alias("parent")
    return (
        sa.select(sa.func.count())
        .select_from(dependencies.join(parent, parent.c.id == dependencies.c.parent))
        .where(dependencies.c.child == jobs.c.id, parent.c.state.in_(LIVE_STATES))
        .scalar_subquery()
    )


def _wrong_counts() -> Ids:
    return sa.select(jobs.c.id).where(
        jobs.c.state == State.AWAITING_PARENTS, jobs.c.pending_parents != _parents_left()
    )


def _waiting_for_nothing() -> Ids:
    """Those whose parents have all ended, or one of them so that the job can never run."""
    never = [
        (str(kind), str(state))
        for kind in Kind
        for state in END_STATES
        if verdict(kind, state) is Verdict.NEVER
    ]
    parent = jobs.alias("parent")
    hopeless = sa.exists().where(
        dependencies.c.child == jobs.c.id,
        dependencies.c.parent == parent.c.id,
        sa.tuple_(dependencies.c.kind, parent.c.state).in_(never),
    )
    return sa.select(jobs.c.id).where(
        jobs.c.state == State.AWAITING_PARENTS, sa.or_(_parents_left() == 0, hopeless)
    )


def _never_settled() -> Ids:
    return sa.select(jobs.c.id).where(jobs.c.state == State.CREATED)


# rows of nothing --------------------------------------------------------------------


def _of_no_job(column: sa.Column[Any]) -> Callable[[], Ids]:
    known = sa.exists().where(jobs.c.id == column)
    return lambda: sa.select(column.label("id")).where(~known).distinct()


_ANEW = "their parents are counted anew, and they go on from there"
_BACK = "they are given back, to run again"
#: What is asked, in this order: what is found, the ids of those concerned, what is done about it.
QUESTIONS: dict[str, tuple[str, Callable[[], Ids], str]] = {
    "no history": ("jobs without an event", _without_history, ""),
    "state": ("jobs whose state is not that of their last event", _not_in_last_state, ""),
    "history": ("jobs with an event that does not follow from the last", _broken_chains, ""),
    "illegal move": ("jobs with a move that the state table forbids", _illegal_moves, ""),
    "lease of the ended": (
        "jobs leased by launchers that have ended, or never were",
        _leased_by_the_ended,
        _BACK,
    ),
    "lease after the end": (
        "jobs that have ended and are still leased",
        _ended_but_leased,
        "their leases end",
    ),
    "running free": ("jobs that run and are leased by no launcher", _running_without_lease, _BACK),
    "running unseen": (
        "jobs that run without an attempt that is under way",
        _running_without_attempt,
        "",
    ),
    "open attempt": (
        "jobs with an attempt under way that no launcher looks after",
        _open_attempts_of_none,
        "the attempts are closed as lost",
    ),
    "attempt number": (
        "jobs with more attempts than they count",
        _attempts_beyond_the_count,
        "they count on from the highest",
    ),
    "attempt record": ("jobs whose last attempt is not recorded", _attempts_without_record, ""),
    "parents": ("waiting jobs that count their parents wrongly", _wrong_counts, _ANEW),
    "release": ("jobs that wait for nothing any more", _waiting_for_nothing, _ANEW),
    "created": ("jobs left in CREATED, where nobody takes them on", _never_settled, _ANEW),
    "orphan event": ("events of jobs that are not there", _of_no_job(events.c.job), ""),
    "orphan attempt": ("attempts of jobs that are not there", _of_no_job(attempts.c.job), ""),
    "orphan transfer": (
        "transfers for jobs that are not there",
        _of_no_job(transfers.c.job),
        "",
    ),
    "orphan parent": (
        "dependencies on jobs that are not there",
        _of_no_job(dependencies.c.parent),
        "",
    ),
    "orphan child": (
        "dependencies of jobs that are not there",
        _of_no_job(dependencies.c.child),
        "",
    ),
}


# numbers ----------------------------------------------------------------------------


def _numbers(connection: Connection) -> Iterator[Finding]:
    repair = "numbers go on from the highest"
    last = connection.scalar(sa.select(counters.c.value).where(counters.c.name == "job")) or 0
    highest = connection.scalar(sa.select(sa.func.max(jobs.c.id))) or 0
    if highest > last:
        what = f"new jobs would get numbers from {last + 1} on, which are taken"
        yield Finding("job numbers", what, highest - last, [highest], repair)
    for table in upkeep.of(connection).ids_too_low(connection, metadata.sorted_tables):
        yield Finding(
            "row numbers", f"new rows of {table} would get ids that are taken", 1, [], repair
        )


def _closed(connection: Connection) -> Iterator[Finding]:
    if upkeep.of(connection).is_closed(connection):
        what = "the database is closed: the site was copied to another, and goes on there"
        yield Finding("closed", what, 1, [], "it is opened again, to be used instead of the copy")
