"""PostgreSQL: opening a database, rows by COPY, and what its errors mean."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import psycopg
import sqlalchemy as sa
from psycopg import errors
from sqlalchemy.engine import URL, Connection, Engine

from balsam.errors import (
    StoreAway,
    StoreBusy,
    StoreConflict,
    StoreError,
    StoreFull,
    StoreMoved,
    StoreUnreadable,
)

DRIVER_ERROR = psycopg.Error
#: Connections of one process, whose threads take turns: a server has few for all.
MOST_CONNECTIONS = 1
#: Seconds to wait for a server to answer a new connection.
CONNECT_SECONDS = 10
#: Seconds after which the server ends a transaction whose client does nothing: a client that
#: is stopped must not hold up the others.
IDLE_SECONDS = 60
#: Our own code (class BA) for a change of a closed database.
CLOSED = "BA001"
#: What another writer did in between; a second run of the transaction sees it, and goes on from
#: there or says what is wrong.
_CONFLICTS = (
    errors.DeadlockDetected,
    errors.SerializationFailure,
    errors.UniqueViolation,
    errors.ForeignKeyViolation,
)
_AWAY = (
    errors.AdminShutdown,
    errors.CrashShutdown,
    errors.CannotConnectNow,
    errors.TooManyConnections,
    errors.IdleInTransactionSessionTimeout,
    errors.IdleSessionTimeout,
)
_NOT_OURS = (
    errors.InvalidPassword,
    errors.InvalidAuthorizationSpecification,
    errors.InvalidCatalogName,
    errors.InsufficientPrivilege,
    errors.ReadOnlySqlTransaction,
)


def open_engine(url: URL, busy_seconds: float) -> Engine:
    """Return an engine with one connection, made when first needed."""
    milliseconds = max(1, int(busy_seconds * 1000))
    settings = {
        "lock_timeout": milliseconds,
        "idle_in_transaction_session_timeout": IDLE_SECONDS * 1000,
        "jit": "off",
        "timezone": "UTC",
    }
    program = os.path.basename(sys.argv[0] or "python")
    return sa.create_engine(
        url.set(drivername="postgresql+psycopg"),
        connect_args={
            "connect_timeout": CONNECT_SECONDS,
            "options": " ".join(f"-c {name}={value}" for name, value in settings.items()),
            # Shown by `balsam server --list-active-connections`; names are cut at 63 bytes.
            "application_name": f"{program} {socket.gethostname()}:{os.getpid()}",
            "keepalives_idle": 30,
            "keepalives_interval": 10,
            "keepalives_count": 3,
            # A plan is made for the sizes at hand: a table grows from nothing to a million rows.
            "prepare_threshold": None,
        },
        json_serializer=lambda value: msgspec.json.encode(value).decode(),
        json_deserializer=msgspec.json.decode,
        pool_size=MOST_CONNECTIONS,
        max_overflow=0,
        use_native_hstore=False,
    )


def reading(engine: Engine) -> Engine:
    """Return *engine* for transactions that see the database as it was at their start."""
    return engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)


def writing(engine: Engine) -> Engine:
    """Return *engine* for transactions that lock the rows they change."""
    return engine.execution_options(isolation_level="READ COMMITTED", postgresql_readonly=False)


def is_crowded(connection: psycopg.Connection[Any]) -> bool:
    """Tell whether more than half of the server's connections are taken.

    Whoever comes then keeps none: so a hundred launchers, with two connections each where there
    is room, get by with the hundred that a server has by default.
    """
    taken = connection.execute(
        "SELECT sum(numbackends) * 2 > current_setting('max_connections')::int"
        " FROM pg_stat_database"
    ).fetchone()
    connection.rollback()
    return bool(taken and taken[0])


def copy_rows(
    connection: Connection, table: sa.Table, columns: Sequence[str], rows: list[tuple[Any, ...]]
) -> None:
    """Insert *rows* by COPY."""
    raw: Any = connection.connection.driver_connection
    with (
        raw.cursor() as cursor,
        cursor.copy(f"COPY {table.name} ({', '.join(columns)}) FROM STDIN") as copy,
    ):
        for row in rows:
            copy.write_row(row)


def now(connection: Connection) -> float:
    """Return the server's time, in seconds since the epoch."""
    seconds = sa.select(sa.func.extract("epoch", sa.func.clock_timestamp()))
    return float(connection.execute(seconds).scalar_one())


class Mark(NamedTuple):
    """What tells later whether a transaction was committed."""

    number: str
    written: str  #: the end of the write-ahead log when all but the commit was in it
    checkpoint: str  #: where recovery would have begun then


def mark(connection: Connection) -> Mark | None:
    """Return the mark of the current transaction; None when it has written nothing."""
    row = connection.exec_driver_sql(
        "SELECT pg_current_xact_id_if_assigned()::text, pg_current_wal_insert_lsn()::text,"
        " redo_lsn::text FROM pg_control_checkpoint()"
    ).one()
    return Mark(*row) if row[0] is not None else None


def was_committed(connection: Connection, made: Mark) -> bool | None:
    """Tell whether the transaction *made* was committed; None when it is still under way.

    A server that crashed before the transaction was on the disk gives its number to another.
    But recovery ends with a checkpoint at the end of the log that it found; no other checkpoint
    is later than that of the mark and lies before what the transaction wrote.
    """
    lost = connection.exec_driver_sql(
        "SELECT redo_lsn <> %s::pg_lsn AND redo_lsn < %s::pg_lsn FROM pg_control_checkpoint()",
        (made.checkpoint, made.written),
    ).scalar_one()
    if lost:
        return False
    try:
        status = connection.exec_driver_sql(
            "SELECT pg_xact_status(%s::xid8)", (made.number,)
        ).scalar()
    except sa.exc.DBAPIError as error:
        if isinstance(error.orig, errors.InvalidParameterValue):
            return False  # "in the future": the server crashed and has forgotten it
        raise
    return None if status == "in progress" else status == "committed"


def is_lost(error: Exception) -> bool:
    """Tell whether the connection ended with *error*."""
    state = getattr(error, "sqlstate", None) or ""
    return isinstance(error, (*_AWAY, psycopg.InterfaceError)) or (
        isinstance(error, psycopg.OperationalError) and (not state or state.startswith("08"))
    )


def translate(error: Exception, where: str) -> StoreError:
    """Return Balsam's error for a driver's, naming the database *where*."""
    text = " ".join(str(error).split())
    if isinstance(error, psycopg.Error) and error.sqlstate == CLOSED:
        return StoreMoved(error.diag.message_primary or text)
    match error:
        case errors.DiskFull():
            return StoreFull(f"cannot write to {where}: its server's disk is full ({text})")
        case errors.LockNotAvailable():
            return StoreBusy(f"{where} is locked by another process; try again")
        case errors.UndefinedTable():
            return StoreUnreadable(f"{where} is not a Balsam database")
    if "too many clients" in text or "connection slots are reserved" in text:
        return StoreAway(
            f"{where}: its database server has no connection left; see who has them with"
            " `balsam server --list-active-connections`"
        )
    if isinstance(error, _CONFLICTS):
        return StoreConflict(f"{where}: other writers were in the way ({text}); try again")
    if isinstance(error, _NOT_OURS) or _is_refusal(text):
        return StoreUnreadable(f"{where}: the database server refuses us: {text}")
    if is_lost(error):
        return StoreAway(f"{where}: the database server cannot be reached ({text})")
    return StoreError(f"{where}: {text}")


def _is_refusal(text: str) -> bool:
    """Tell a server that answers "no" from one that is away: before log-in there is no code."""
    words = ("authentication failed", "no password supplied", "does not exist", "no pg_hba.conf")
    return "connection" in text and any(word in text for word in words)
