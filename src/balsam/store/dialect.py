"""All that differs between database systems. Nothing else in the store is SQL of one system."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects.sqlite.base import SQLiteCompiler
from sqlalchemy.engine import URL, Connection, Engine, make_url
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler

from balsam.errors import InvalidInput, StoreBusy, StoreError, StoreFull, StoreUnreadable

# expressions ------------------------------------------------------------------------


class integers_in(sa.sql.functions.GenericFunction[int]):
    """``integers_in(text)``: the integers of a JSON array, as rows."""

    inherit_cache = True


@compiles(integers_in, "sqlite")
def _integers_in_sqlite(element: Any, compiler: SQLCompiler, **kwargs: Any) -> str:
    return f"(SELECT value FROM json_each({compiler.process(element.clauses, **kwargs)}))"


def among(column: Any, ids: Sequence[int]) -> sa.ColumnElement[bool]:
    """Return ``column IN ids`` with one bound parameter, however many ids there are."""
    # An operator, not a boolean function: SQLAlchemy compares those with 1, and then SQLite
    # uses no index.
    term: sa.ColumnElement[bool] = column.bool_op("IN")(
        integers_in(msgspec.json.encode(list(ids)).decode())
    )
    return term


class has_text(sa.sql.functions.GenericFunction[bool]):
    """``has_text(column, part)``: *part* occurs in *column*, upper and lower case distinct."""

    type = sa.Boolean()
    inherit_cache = True


@compiles(has_text, "sqlite")
def _has_text_sqlite(element: Any, compiler: SQLCompiler, **kwargs: Any) -> str:
    return f"(instr({compiler.process(element.clauses, **kwargs)}) > 0)"


class json_value(sa.sql.functions.GenericFunction[Any]):
    """``json_value(column, path)``: the scalar at *path*, NULL when absent."""

    inherit_cache = True


class json_kind(sa.sql.functions.GenericFunction[str]):
    """``json_kind(column, path)``: number, string, true, false, null, array, object or NULL."""

    type = sa.Text()
    inherit_cache = True


@compiles(json_value, "sqlite")
def _json_value_sqlite(element: Any, compiler: SQLCompiler, **kwargs: Any) -> str:
    return f"json_extract({compiler.process(element.clauses, **kwargs)})"


@compiles(json_kind, "sqlite")
def _json_kind_sqlite(element: Any, compiler: SQLCompiler, **kwargs: Any) -> str:
    inner = f"json_type({compiler.process(element.clauses, **kwargs)})"
    return (
        f"(CASE {inner} WHEN 'integer' THEN 'number' WHEN 'real' THEN 'number'"
        f" WHEN 'text' THEN 'string' ELSE {inner} END)"
    )


def value_at(column: Any, keys: Sequence[str]) -> sa.ColumnElement[Any]:
    """Return the scalar that *keys* lead to in *column*, NULL when absent (see `json_paths`)."""
    values = [json_value(column, path) for path in json_paths(keys)]
    return values[0] if len(values) == 1 else sa.func.coalesce(*values)


def kind_at(column: Any, keys: Sequence[str]) -> sa.ColumnElement[str]:
    """Return the kind of what *keys* lead to in *column* (see `json_kind`)."""
    kinds = [json_kind(column, path) for path in json_paths(keys)]
    return kinds[0] if len(kinds) == 1 else sa.func.coalesce(*kinds)


def json_paths(keys: Sequence[str]) -> list[str]:
    """Return the paths that *keys* can mean: digits are a position in an array, or a key.

    Raises
    ------
    InvalidInput
        SQLite has no path to a key with a quotation mark or a backslash.
    """
    paths = ["$"]
    for key in keys:
        if '"' in key or "\\" in key:
            raise InvalidInput(f"cannot look for the key {key!r}: it has a quote or a backslash")
        steps = [f'."{key}"', f"[{key}]"] if key.isdecimal() and key.isascii() else [f'."{key}"']
        paths = [path + step for path in paths for step in steps]
    return paths


@compiles(sa.schema.CreateIndex, "postgresql")
def _create_index_postgresql(element: Any, compiler: Any, **kwargs: Any) -> str:
    text: str = compiler.visit_create_index(element, **kwargs)
    where = element.element.info.get("where")
    return f"{text} WHERE {where}" if where else text


class _SqliteCompiler(SQLiteCompiler):
    """SQLite's, with hints: it alone chooses the state's index for a lease, and sorts a million."""

    def get_from_hint_text(self, table: sa.FromClause, text: str | None) -> str | None:
        return text


def using_index(statement: sa.Select[Any], table: sa.Table, index: str) -> sa.Select[Any]:
    """Have *statement* read *table* by *index*, where the database would not by itself."""
    return statement.with_hint(table, f"INDEXED BY {index}", "sqlite")


# connections ------------------------------------------------------------------------


def open_sqlite(url: URL, busy_seconds: float) -> Engine:
    """Return an engine whose writers take the write lock at once (`BEGIN IMMEDIATE`).

    A reader that later wrote would have to upgrade its lock, which SQLite refuses at once
    when another writer was faster; hence readers and writers are told apart at the start.
    """
    engine = sa.create_engine(
        url,
        connect_args={"timeout": busy_seconds, "check_same_thread": False},
        json_serializer=lambda value: msgspec.json.encode(value).decode(),
        json_deserializer=msgspec.json.decode,
        pool_size=1,
        max_overflow=2,
    )

    engine.dialect.statement_compiler = _SqliteCompiler

    @sa.event.listens_for(engine, "connect")
    def _connected(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # transactions are begun below, not by the driver
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA temp_store = MEMORY")
        connection.execute("PRAGMA cache_size = -65536")
        connection.execute("PRAGMA journal_size_limit = 67108864")

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        writer = connection.get_execution_options().get("balsam_writer", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writer else "BEGIN")

    return engine


def prepare_new(engine: Engine) -> None:
    """Set what a database keeps for good, before its tables are made."""
    if engine.dialect.name == "sqlite":
        with engine.connect() as connection:
            raw: Any = connection.connection.driver_connection
            raw.execute("COMMIT") if raw.in_transaction else None
            raw.execute("PRAGMA journal_mode = WAL")


def open_engine(url: str, busy_seconds: float) -> Engine:
    """Open the database at *url*.

    Raises
    ------
    StoreError
        The database system is not supported.
    """
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        return open_sqlite(parsed, busy_seconds)
    raise StoreError(f"database {parsed.get_backend_name()!r} is not supported; use sqlite")


# statements ---------------------------------------------------------------------------


def insert_rows(
    connection: Connection, table: sa.Table, columns: Sequence[str], rows: list[tuple[Any, ...]]
) -> None:
    """Insert many *rows* of plain driver values (JSON already encoded) as fast as it goes."""
    if not rows:
        return
    names, marks = ", ".join(columns), ", ".join("?" * len(columns))
    connection.exec_driver_sql(f"INSERT INTO {table.name} ({names}) VALUES ({marks})", rows)


def upsert_rows(
    connection: Connection,
    table: sa.Table,
    columns: Sequence[str],
    rows: list[tuple[Any, ...]],
) -> None:
    """Insert *rows*, replacing the other columns of rows whose primary key is there."""
    if not rows:
        return
    keys = [column.name for column in table.primary_key]
    names, marks = ", ".join(columns), ", ".join("?" * len(columns))
    changes = ", ".join(f"{c} = excluded.{c}" for c in columns if c not in keys)
    connection.exec_driver_sql(
        f"INSERT INTO {table.name} ({names}) VALUES ({marks})"
        f" ON CONFLICT ({', '.join(keys)}) DO UPDATE SET {changes}",
        rows,
    )


def update_rows(
    connection: Connection, table: sa.Table, columns: Sequence[str], rows: list[tuple[Any, ...]]
) -> None:
    """Set *columns* of many rows; each tuple is the new values, then the id."""
    if not rows:
        return
    changes = ", ".join(f"{column} = ?" for column in columns)
    connection.exec_driver_sql(f"UPDATE {table.name} SET {changes} WHERE id = ?", rows)


def count_down(
    connection: Connection, table: sa.Table, column: str, rows: list[tuple[int, int]]
) -> None:
    """Subtract from *column* of many rows; each tuple is the amount, then the id."""
    if rows:
        connection.exec_driver_sql(
            f"UPDATE {table.name} SET {column} = {column} - ? WHERE id = ?", rows
        )


def reserve_ids(connection: Connection, counters: sa.Table, name: str, count: int) -> int:
    """Take *count* consecutive numbers that nobody else gets; return the first."""
    last = connection.execute(
        sa.update(counters)
        .where(counters.c.name == name)
        .values(value=counters.c.value + count)
        .returning(counters.c.value)
    ).scalar_one()
    return int(last) - count + 1


# errors -------------------------------------------------------------------------------


def translate(error: sa.exc.DBAPIError, where: str) -> StoreError:
    """Return Balsam's error for a driver's, naming the database *where*."""
    text = str(error.orig)
    if "locked" in text or "busy" in text:
        return StoreBusy(f"{where} is locked by another process; try again")
    if "disk is full" in text or "disk I/O error" in text or "No space left" in text:
        return StoreFull(f"cannot write to {where}: the disk or your quota is full ({text})")
    if "not a database" in text or "malformed" in text:
        return StoreUnreadable(f"{where} is damaged or not a Balsam database ({text})")
    if "unable to open" in text or "readonly" in text:
        return StoreUnreadable(f"cannot open {where}: {text}; check that it exists and is yours")
    return StoreError(f"{where}: {text}")
