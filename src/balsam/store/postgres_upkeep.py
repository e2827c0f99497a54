"""The care of a PostgreSQL database (see `upkeep`)."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Sequence
from typing import Any

import sqlalchemy as sa
from psycopg import errors
from sqlalchemy.engine import Connection, Engine

from balsam.store import postgres

#: What we call the function and the triggers that refuse every change.
_CLOSED = "balsam_closed"
#: How often to try to lock all tables: others lock some of them, in another order.
_TRIALS = 10


def spare_memory(_engine: Engine) -> None:
    """Sort many rows in files, not in memory: the server does by itself."""


def take_time(connection: Connection) -> None:
    """Let the transaction take as long as it needs, also while we do other things."""
    connection.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = 0")


def keep_writers_out(connection: Connection, tables: Sequence[str]) -> None:
    """Let nobody else write until the transaction ends."""
    for trial in range(_TRIALS if tables else 0):
        try:
            with connection.begin_nested():
                connection.exec_driver_sql(
                    f"LOCK TABLE {', '.join(tables)} IN SHARE ROW EXCLUSIVE MODE"
                )
            return
        except sa.exc.OperationalError as error:
            if not isinstance(error.orig, errors.DeadlockDetected) or trial == _TRIALS - 1:
                raise


now = postgres.now


# contents ---------------------------------------------------------------------------


def empty(connection: Connection, tables: Sequence[sa.Table]) -> None:
    """Remove all rows of *tables*."""
    connection.exec_driver_sql(f"TRUNCATE {', '.join(table.name for table in tables)}")


def raise_ids(connection: Connection, tables: Sequence[sa.Table]) -> None:
    """See to it that new rows get ids above all that are there."""
    for table, sequence in _sequences(connection, tables):
        connection.exec_driver_sql(
            f"SELECT setval(%s, greatest(last_value, highest)) FROM {sequence},"
            f" (SELECT max(id) AS highest FROM {table}) AS ids WHERE highest IS NOT NULL",
            (sequence,),
        )


def ids_too_low(connection: Connection, tables: Sequence[sa.Table]) -> list[str]:
    """Return the tables whose next id would be one that is there."""
    return [
        table
        for table, sequence in _sequences(connection, tables)
        if connection.exec_driver_sql(
            f"SELECT coalesce(max(id), 0) >= (SELECT last_value + is_called::int FROM {sequence})"
            f" FROM {table}"
        ).scalar_one()
    ]


def _sequences(connection: Connection, tables: Sequence[sa.Table]) -> list[tuple[str, str]]:
    """Return the tables whose ids PostgreSQL counts, each with its sequence."""
    found = []
    for table in tables:
        if "id" in table.c:
            sequence = connection.exec_driver_sql(
                "SELECT pg_get_serial_sequence(%s, 'id')", (table.name,)
            ).scalar()
            if sequence:
                found.append((table.name, sequence))
    return found


# its own checks ---------------------------------------------------------------------


def damages(connection: Connection) -> list[str]:
    """Return what PostgreSQL finds wrong with its tables and indexes, a line each."""
    if unchecked(connection):
        return []
    found: list[str] = []
    with connection.begin_nested() as trial:
        connection.exec_driver_sql("CREATE EXTENSION IF NOT EXISTS amcheck")
        relations = connection.exec_driver_sql(
            "SELECT c.oid, c.relname, c.relkind FROM pg_class c"
            " LEFT JOIN pg_index i ON i.indexrelid = c.oid LEFT JOIN pg_am a ON a.oid = c.relam"
            " WHERE c.relnamespace = 'public'::regnamespace"
            " AND (c.relkind = 'r' OR c.relkind = 'i' AND a.amname = 'btree' AND i.indisvalid)"
            " ORDER BY c.relname"
        ).all()
        for relation in relations:
            found += _damages_of(connection, *relation)
        trial.rollback()  # an extension that was not there is not left behind
    return found


def _damages_of(connection: Connection, oid: int, name: str, kind: str) -> list[str]:
    try:
        with connection.begin_nested():
            if kind == "i":
                connection.exec_driver_sql("SELECT bt_index_check(%s::oid::regclass, true)", (oid,))
                return []
            rows = connection.exec_driver_sql(
                "SELECT msg FROM verify_heapam(%s::oid::regclass) LIMIT 5", (oid,)
            )
            return [f"table {name}: {message}" for message in rows.scalars()]
    except sa.exc.DBAPIError as error:
        if not isinstance(error.orig, (errors.DataCorrupted, errors.IndexCorrupted)):
            raise
        return [
            f"{'index' if kind == 'i' else 'table'} {name}: {' '.join(str(error.orig).split())}"
        ]


def unchecked(connection: Connection) -> str:
    """Return what could not be checked, and why; '' when everything was."""
    available = connection.exec_driver_sql(
        "SELECT count(*) FROM pg_available_extensions WHERE name = 'amcheck'"
    ).scalar_one()
    if not available:
        return "indexes and tables were not checked: the server has no extension amcheck"
    superuser = connection.exec_driver_sql(
        "SELECT rolsuper FROM pg_roles WHERE rolname = current_user"
    ).scalar_one()
    if not superuser:
        return "indexes and tables were not checked: only a superuser may (extension amcheck)"
    return ""


# closed databases -------------------------------------------------------------------


def close(connection: Connection, tables: Sequence[str], message: str) -> None:
    """Refuse, with *message*, every change from the end of the transaction on."""
    text = message.replace("'", "''").replace("%", "%%")
    connection.exec_driver_sql(
        f"CREATE OR REPLACE FUNCTION {_CLOSED}() RETURNS trigger LANGUAGE plpgsql AS"
        f" 'BEGIN RAISE EXCEPTION USING ERRCODE = ''{postgres.CLOSED}'', MESSAGE = TG_ARGV[0]; END'"
    )
    for table in tables:
        connection.exec_driver_sql(
            f"CREATE TRIGGER {_CLOSED} BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON {table}"
            f" FOR EACH STATEMENT EXECUTE FUNCTION {_CLOSED}('{text}')"
        )


def reopen(connection: Connection) -> None:
    """Let a closed database be changed again."""
    connection.exec_driver_sql(f"DROP FUNCTION IF EXISTS {_CLOSED}() CASCADE")


def is_closed(connection: Connection) -> bool:
    found = connection.exec_driver_sql(f"SELECT to_regproc('{_CLOSED}')").scalar()
    return found is not None


# size -------------------------------------------------------------------------------


def size(connection: Connection) -> int:
    """Return how many bytes the database takes on the disk."""
    size = connection.exec_driver_sql("SELECT pg_database_size(current_database())").scalar_one()
    return int(size)


def room_to_vacuum(_connection: Connection) -> int:
    """Return how many bytes must be free: none, for PostgreSQL reuses gaps where they are."""
    return 0


def require_room(_connection: Connection) -> None:
    """Raise `StoreFull` when there is not the room to vacuum."""


def vacuum(connection: Connection, tables: Collection[str]) -> None:
    """Make room for new rows, and measure for plans; *connection* has no transaction."""
    raw: Any = connection.connection.driver_connection
    raw.execute(f"VACUUM (ANALYZE) {', '.join(tables)}")


def measure(connection: Connection) -> None:
    """Count rows for plans, which are made before the server counts by itself."""
    connection.exec_driver_sql("ANALYZE")


def is_same(one: Connection, other: Connection) -> bool:
    """Tell whether two connections are to one database, whatever the addresses."""
    number = secrets.randbits(62)
    one.exec_driver_sql("SELECT pg_advisory_xact_lock(%s)", (number,))
    free = other.exec_driver_sql("SELECT pg_try_advisory_xact_lock(%s)", (number,)).scalar_one()
    return not free
