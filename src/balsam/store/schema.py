"""The tables. Columns of a record's table are its fields: one definition for each thing.

Times are seconds since the epoch, UTC (8 bytes, exact to under a microsecond, the same on
every database). Events and attempts are append-only and carry no foreign key: they are
written by the million, and removed with their job by `jobs.delete`.
"""

from __future__ import annotations

import types
from typing import Any, Union, get_args, get_origin

import msgspec
import sqlalchemy as sa

from balsam.model import records
from balsam.model.app import App
from balsam.model.batch_job import BatchJob
from balsam.model.job import DERIVED, Job
from balsam.model.service import ServiceInfo
from balsam.model.states import LEASABLE_STATES, STATES
from balsam.model.transfer import Transfer
from balsam.model.wire import Attempt, Event, LauncherInfo

#: The revision that this code reads and writes (the newest in `migrations/versions`).
REVISION = "0008"

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    }
)

#: SQLite numbers rows by themselves only in a column of exactly this type.
RowId = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


class Json(sa.types.TypeDecorator[Any]):
    """JSON, kept as the text that was stored: the order of keys is the user's."""

    impl = sa.JSON
    cache_ok = True


def _column(field: msgspec.structs.FieldInfo) -> sa.Column[Any]:
    """Return the column of a record's field: its type, and its default in the database."""
    kind = field.type
    if get_origin(kind) in (Union, types.UnionType):
        kind = get_args(kind)[0]
        return sa.Column(field.name, sa.BigInteger() if kind is int else sa.Double())
    if kind is bool:
        return sa.Column(field.name, sa.Boolean(), nullable=False, server_default=_flag(field))
    if kind is int:
        return sa.Column(field.name, sa.BigInteger(), nullable=False, server_default=_text(field))
    if kind is float:
        return sa.Column(field.name, sa.Double(), nullable=False, server_default=_text(field))
    if kind is Any or get_origin(kind) is dict or records.is_record(kind):
        return sa.Column(field.name, Json(), nullable=False, server_default="{}")
    if get_origin(kind) is list:
        return sa.Column(field.name, Json(), nullable=False, server_default="[]")
    return sa.Column(field.name, sa.Text(), nullable=False, server_default=_text(field))


def _flag(field: msgspec.structs.FieldInfo) -> sa.sql.expression.ColumnElement[bool]:
    return sa.true() if field.default else sa.false()


def _text(field: msgspec.structs.FieldInfo) -> str | None:
    return None if field.default is msgspec.NODEFAULT else str(field.default)


def _columns(record: type[msgspec.Struct], *without: str) -> list[sa.Column[Any]]:
    return [_column(f) for f in records.fields(record) if f.name not in without]


def _partial_index(name: str, *columns: Any, where: str) -> sa.Index:
    """Return an index of the rows where *where* holds, on every database (see `dialect`).

    PostgreSQL's own option for it would import its dialect at every start of a command.
    """
    return sa.Index(name, *columns, sqlite_where=sa.text(where), info={"where": where})


def _words(words: tuple[str, ...]) -> str:
    return ", ".join(f"'{word}'" for word in words)


#: A job with a `retry_at` is free for nobody, however many there are: `launchers.lease` puts
#: those whose time has come back.
DELAYED = "retry_at IS NOT NULL"
_FREE = f"launcher_id IS NULL AND retry_at IS NULL AND state IN ({_words(LEASABLE_STATES)})"
#: Free, and a launcher can do the next step on its nodes. Queries must hold this very text for
#: the partial index `ix_jobs_queue` to serve them.
QUEUED = (
    f"{_FREE} AND (state <> 'READY' OR stage_in_url = '')"
    " AND (state <> 'POSTPROCESSED' OR stage_out_url = '' OR stage_out_files = '')"
)
#: The next step is to move files from or to URLs.
TO_STAGE = (
    "((state = 'READY' AND stage_in_url <> '')"
    " OR (state = 'POSTPROCESSED' AND stage_out_url <> '' AND stage_out_files <> ''))"
)
#: Free, with files to be moved: the same for the partial index `ix_jobs_to_stage`. They wait
#: apart, for there may be very many that no launcher is to take.
FREE_TO_STAGE = f"{_FREE} AND {TO_STAGE}"

meta = sa.Table(
    "meta",
    metadata,
    sa.Column("key", sa.Text(), primary_key=True),
    sa.Column("value", sa.Text(), nullable=False),
)

counters = sa.Table(
    "counters",
    metadata,
    sa.Column("name", sa.Text(), primary_key=True),
    sa.Column("value", sa.BigInteger(), nullable=False),
)

apps = sa.Table(
    "apps",
    metadata,
    sa.Column("id", RowId, primary_key=True),
    *_columns(App, "id"),
    sa.UniqueConstraint("name"),
)

# Not bound to `apps` by a key: a run can end, and be counted, after its app was removed.
run_times = sa.Table(
    "run_times",
    metadata,
    sa.Column("application", sa.Text(), primary_key=True),
    sa.Column("ranks", sa.BigInteger(), primary_key=True, autoincrement=False),
    sa.Column("count", sa.BigInteger(), nullable=False),
    sa.Column("mean_seconds", sa.Double(), nullable=False),
    sa.Column("m2", sa.Double(), nullable=False),
    sa.CheckConstraint("count > 0 AND mean_seconds >= 0 AND m2 >= 0", name="moments"),
    sqlite_with_rowid=False,
)

batch_jobs = sa.Table(
    "batch_jobs",
    metadata,
    sa.Column("id", RowId, primary_key=True),
    *_columns(BatchJob, "id"),
)

services = sa.Table(
    "services",
    metadata,
    sa.Column("id", RowId, primary_key=True),
    *_columns(ServiceInfo, "id"),
)

launchers = sa.Table(
    "launchers",
    metadata,
    sa.Column("id", RowId, primary_key=True),
    *_columns(LauncherInfo, "id"),
    # The store's own, to answer a lease that is asked for again: its number, and its jobs.
    sa.Column("lease_number", sa.BigInteger(), nullable=False, server_default="0"),
    sa.Column("leased", Json(), nullable=False, server_default="[]"),
    sa.Index(None, "ended_at"),
)

jobs = sa.Table(
    "jobs",
    metadata,
    sa.Column("id", RowId, primary_key=True, autoincrement=False),
    *_columns(Job, "id", *DERIVED),
    sa.CheckConstraint(f"state IN ({_words(STATES)})", name="state"),
    sa.CheckConstraint("pending_parents >= 0", name="pending_parents"),
    sa.Index(None, "state", "id"),
    sa.Index(None, "workflow", "state"),
    _partial_index("ix_jobs_launcher_id", "launcher_id", where="launcher_id IS NOT NULL"),
    _partial_index("ix_jobs_batch_job_id", "batch_job_id", where="batch_job_id IS NOT NULL"),
    _partial_index("ix_jobs_retry_at", "retry_at", where=DELAYED),
)
_partial_index(
    "ix_jobs_queue",
    jobs.c.priority.desc(),
    jobs.c.num_nodes.desc(),
    jobs.c.wall_time_minutes.desc(),
    jobs.c.id,
    where=QUEUED,
)
_partial_index(
    "ix_jobs_to_stage",
    jobs.c.state,
    jobs.c.priority.desc(),
    jobs.c.id,
    where=FREE_TO_STAGE,
)

dependencies = sa.Table(
    "dependencies",
    metadata,
    sa.Column(
        "parent",
        sa.BigInteger(),
        sa.ForeignKey("jobs.id", ondelete="CASCADE"),
        primary_key=True,
        autoincrement=False,
    ),
    sa.Column(
        "child",
        sa.BigInteger(),
        sa.ForeignKey("jobs.id", ondelete="CASCADE"),
        primary_key=True,
        autoincrement=False,
    ),
    sa.Column("kind", sa.Text(), nullable=False),
    sa.CheckConstraint("kind IN ('ok', 'fail', 'any')", name="kind"),
    sa.Index(None, "child"),
    sqlite_with_rowid=False,
)

events = sa.Table(
    "events",
    metadata,
    sa.Column("id", RowId, primary_key=True),
    *_columns(Event, "id", "job_id"),
    sa.Index(None, "job"),
)

attempts = sa.Table(
    "attempts",
    metadata,
    sa.Column("job", sa.BigInteger(), primary_key=True, autoincrement=False),
    sa.Column("number", sa.BigInteger(), primary_key=True, autoincrement=False),
    # A lost launcher and its successor can both make an attempt of one number.
    sa.Column("launcher_id", sa.BigInteger(), primary_key=True, autoincrement=False),
    *_columns(Attempt, "job", "number", "launcher_id", "job_id"),
    _partial_index("ix_attempts_open", "launcher_id", where="ended_at IS NULL"),
    sqlite_with_rowid=False,
)

transfers = sa.Table(
    "transfers",
    metadata,
    sa.Column("job", sa.BigInteger(), primary_key=True, autoincrement=False),
    sa.Column("direction", sa.Text(), primary_key=True),
    sa.Column("number", sa.BigInteger(), primary_key=True, autoincrement=False),
    *_columns(Transfer, "job", "direction", "number", "job_id"),
    _partial_index("ix_transfers_open", "launcher_id", where="ended_at IS NULL"),
    sqlite_with_rowid=False,
)
