"""What differs between database systems: expressions, and statements on many rows.

How each is opened, and what its errors mean, stands in `sqlite` and `postgres`. Nothing else
in the store is SQL of one system.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler

from balsam.errors import InvalidInput

Rows = list[tuple[Any, ...]]
V = TypeVar("V")

# expressions ------------------------------------------------------------------------


class _Integers(sa.types.TypeDecorator[Any]):
    """A list of integers as one parameter: an array, or JSON where there is no such thing."""

    impl = sa.Text
    cache_ok = True

    def load_dialect_impl(self, dialect: sa.Dialect) -> sa.types.TypeEngine[Any]:
        if dialect.name == "postgresql":
            return dialect.type_descriptor(sa.ARRAY(sa.BigInteger()))
        return dialect.type_descriptor(sa.Text())

    def process_bind_param(self, value: Any, dialect: sa.Dialect) -> Any:
        return value if dialect.name == "postgresql" else msgspec.json.encode(value).decode()


class integers_in(sa.sql.functions.GenericFunction[int]):
    """``integers_in(list)``: the integers of a list, as rows."""

    inherit_cache = True


@compiles(integers_in, "sqlite")
def _integers_in_sqlite(element: Any, compiler: SQLCompiler, **kwargs: Any) -> str:
    return f"(SELECT value FROM json_each({compiler.process(element.clauses, **kwargs)}))"


@compiles(integers_in, "postgresql")
def _integers_in_postgresql(element: Any, compiler: SQLCompiler, **kwargs: Any) -> str:
    return f"(SELECT unnest({compiler.process(element.clauses, **kwargs)}))"


def among(column: Any, ids: Sequence[int]) -> sa.ColumnElement[bool]:
    """Return ``column IN ids`` with one bound parameter, however many ids there are."""
    # An operator, not a boolean function: SQLAlchemy compares those with 1, and then SQLite
    # uses no index.
    term: sa.ColumnElement[bool] = column.bool_op("IN")(
        integers_in(sa.literal(list(ids), _Integers()))
    )
    return term


class has_text(sa.sql.functions.GenericFunction[bool]):
    """``has_text(column, part)``: *part* occurs in *column*, upper and lower case distinct."""

    type = sa.Boolean()
    inherit_cache = True


@compiles(has_text, "sqlite")
def _has_text_sqlite(element: Any, compiler: SQLCompiler, **kwargs: Any) -> str:
    return f"(instr({compiler.process(element.clauses, **kwargs)}) > 0)"


@compiles(has_text, "postgresql")
def _has_text_postgresql(element: Any, compiler: SQLCompiler, **kwargs: Any) -> str:
    return f"(strpos({compiler.process(element.clauses, **kwargs)}) > 0)"


class json_text(sa.sql.functions.GenericFunction[str]):
    """``json_text(column)``: the JSON of *column* as it was stored."""

    type = sa.Text()
    inherit_cache = True


@compiles(json_text, "sqlite")
def _json_text_sqlite(element: Any, compiler: SQLCompiler, **kwargs: Any) -> str:
    return compiler.process(element.clauses, **kwargs)


@compiles(json_text, "postgresql")
def _json_text_postgresql(element: Any, compiler: SQLCompiler, **kwargs: Any) -> str:
    return f"({compiler.process(element.clauses, **kwargs)}::text)"


class json_kind(sa.sql.functions.GenericFunction[str]):
    """``json_kind(column, path)``: number, string, true, false, null, array, object or NULL."""

    type = sa.Text()
    inherit_cache = True


class json_number(sa.sql.functions.GenericFunction[float]):
    """``json_number(column, path)``: the number at *path*, NULL when there is none."""

    type = sa.Double()
    inherit_cache = True


class json_string(sa.sql.functions.GenericFunction[str]):
    """``json_string(column, path)``: the text at *path*, NULL when there is none."""

    type = sa.Text()
    inherit_cache = True


@compiles(json_number, "sqlite")
@compiles(json_string, "sqlite")
def _json_value_sqlite(element: Any, compiler: SQLCompiler, **kwargs: Any) -> str:
    return f"json_extract({compiler.process(element.clauses, **kwargs)})"


@compiles(json_kind, "sqlite")
def _json_kind_sqlite(element: Any, compiler: SQLCompiler, **kwargs: Any) -> str:
    inner = f"json_type({compiler.process(element.clauses, **kwargs)})"
    return (
        f"(CASE {inner} WHEN 'integer' THEN 'number' WHEN 'real' THEN 'number'"
        f" WHEN 'text' THEN 'string' ELSE {inner} END)"
    )


def _json_at(element: Any, compiler: SQLCompiler, **kwargs: Any) -> str:
    column, path = (compiler.process(clause, **kwargs) for clause in element.clauses)
    # strict: a path does not look into the elements of an array by itself.
    where = f"CAST('strict ' || {path} AS jsonpath)"
    return f"jsonb_path_query_first({column}::jsonb, {where}, '{{}}', true)"


@compiles(json_kind, "postgresql")
def _json_kind_postgresql(element: Any, compiler: SQLCompiler, **kwargs: Any) -> str:
    found = _json_at(element, compiler, **kwargs)
    kind = f"jsonb_typeof({found})"
    return f"(CASE {kind} WHEN 'boolean' THEN {found}::text ELSE {kind} END)"


@compiles(json_number, "postgresql")
def _json_number_postgresql(element: Any, compiler: SQLCompiler, **kwargs: Any) -> str:
    found = _json_at(element, compiler, **kwargs)
    return f"(CASE jsonb_typeof({found}) WHEN 'number' THEN {found}::numeric END)"


@compiles(json_string, "postgresql")
def _json_string_postgresql(element: Any, compiler: SQLCompiler, **kwargs: Any) -> str:
    found = _json_at(element, compiler, **kwargs)
    return f"(CASE jsonb_typeof({found}) WHEN 'string' THEN {found} #>> '{{}}' END)"


def kind_at(column: Any, keys: Sequence[str]) -> sa.ColumnElement[str]:
    """Return the kind of what *keys* lead to in *column* (see `json_kind`)."""
    return _first_of(json_kind, column, keys)


def number_at(column: Any, keys: Sequence[str]) -> sa.ColumnElement[float]:
    """Return the number that *keys* lead to in *column*, NULL when there is none."""
    return _first_of(json_number, column, keys)


def string_at(column: Any, keys: Sequence[str]) -> sa.ColumnElement[str]:
    """Return the text that *keys* lead to in *column*, NULL when there is none."""
    return _first_of(json_string, column, keys)


def _first_of(
    function: Callable[..., sa.ColumnElement[V]], column: Any, keys: Sequence[str]
) -> sa.ColumnElement[V]:
    found = [function(column, sa.literal(path)) for path in json_paths(keys)]
    return found[0] if len(found) == 1 else sa.func.coalesce(*found)


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


def using_index(statement: sa.Select[Any], table: sa.Table, index: str) -> sa.Select[Any]:
    """Have *statement* read *table* by *index*, where the database would not by itself."""
    return statement.with_hint(table, f"INDEXED BY {index}", "sqlite")


# statements on many rows --------------------------------------------------------------


def insert_rows(
    connection: Connection, table: sa.Table, columns: Sequence[str], rows: Rows
) -> None:
    """Insert many *rows* of plain driver values (JSON already encoded) as fast as it goes."""
    if not rows:
        return
    if connection.dialect.name == "postgresql":
        from balsam.store import postgres

        postgres.copy_rows(connection, table, columns, rows)
        return
    names, marks = ", ".join(columns), ", ".join("?" * len(columns))
    connection.exec_driver_sql(f"INSERT INTO {table.name} ({names}) VALUES ({marks})", rows)


def upsert_rows(
    connection: Connection, table: sa.Table, columns: Sequence[str], rows: Rows
) -> None:
    """Insert *rows*, replacing the other columns of rows whose primary key is there.

    Of several *rows* with one key the last stays.
    """
    keys = [column.name for column in table.primary_key]
    changes = ", ".join(f"{c} = excluded.{c}" for c in columns if c not in keys)
    what = f"INSERT INTO {table.name} ({', '.join(columns)})"
    clash = f"ON CONFLICT ({', '.join(keys)}) DO UPDATE SET {changes}"
    marks = ", ".join("?" * len(columns))
    if connection.dialect.name == "postgresql":
        at = [columns.index(key) for key in keys]
        rows = list({tuple(row[i] for i in at): row for row in rows}.values())
        _with_arrays(connection, table, columns, rows, lambda new: f"{what} SELECT * {new} {clash}")
    elif rows:
        connection.exec_driver_sql(f"{what} VALUES ({marks}) {clash}", rows)


def update_rows(
    connection: Connection, table: sa.Table, columns: Sequence[str], rows: Rows
) -> None:
    """Set *columns* of many rows; each tuple is the new values, then the id."""
    if connection.dialect.name == "postgresql":
        changes = ", ".join(f"{column} = new.{column}" for column in columns)
        _update_from(connection, table, columns, rows, changes)
    elif rows:
        changes = ", ".join(f"{column} = ?" for column in columns)
        connection.exec_driver_sql(f"UPDATE {table.name} SET {changes} WHERE id = ?", rows)


def count_down(
    connection: Connection, table: sa.Table, column: str, rows: list[tuple[int, int]]
) -> None:
    """Subtract from *column* of many rows; each tuple is the amount, then the id."""
    if connection.dialect.name == "postgresql":
        change = f"{column} = {table.name}.{column} - new.{column}"
        _update_from(connection, table, [column], rows, change)
    elif rows:
        connection.exec_driver_sql(
            f"UPDATE {table.name} SET {column} = {column} - ? WHERE id = ?", rows
        )


def _update_from(
    connection: Connection,
    table: sa.Table,
    columns: Sequence[str],
    rows: Sequence[tuple[Any, ...]],
    changes: str,
) -> None:
    head = f"UPDATE {table.name} SET {changes}"
    tail = f"WHERE {table.name}.id = new.id"
    _with_arrays(connection, table, [*columns, "id"], rows, lambda new: f"{head} {new} {tail}")


def _with_arrays(
    connection: Connection,
    table: sa.Table,
    columns: Sequence[str],
    rows: Sequence[tuple[Any, ...]],
    statement: Callable[[str], str],
) -> None:
    """Execute what *statement* makes of ``FROM unnest(…) AS new (columns)``: one array a column."""
    if not rows:
        return
    kinds = [table.c[name].type.compile(connection.dialect) for name in columns]
    arrays = ", ".join(f"%s::{kind}[]" for kind in kinds)
    values = tuple(list(column) for column in zip(*rows, strict=True))
    connection.exec_driver_sql(
        statement(f"FROM unnest({arrays}) AS new ({', '.join(columns)})"), values
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


def one_at_a_time(connection: Connection, what: str) -> None:
    """Wait until no other writer is at *what*, and keep it to this transaction."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtext(what))))


#: Each level is found from the last by the index, whatever the planner takes it to hold.
_FALLING = """
    WITH RECURSIVE falling (id, finished) AS (
        {heads}
        UNION
        SELECT below.child, below.kind = 'fail' FROM falling CROSS JOIN {below}
    )
    SELECT DISTINCT id FROM falling
"""
_BELOW_SQLITE = """dependencies AS below CROSS JOIN jobs
    WHERE below.parent = falling.id AND below.kind = CASE WHEN finished THEN 'fail' ELSE 'ok' END
    AND jobs.id = below.child AND jobs.state = 'AWAITING_PARENTS'"""
_BELOW_POSTGRESQL = """LATERAL (
        SELECT d.child, d.kind FROM dependencies AS d JOIN jobs ON jobs.id = d.child
        WHERE d.parent = falling.id AND d.kind = CASE WHEN finished THEN 'fail' ELSE 'ok' END
        AND jobs.state = 'AWAITING_PARENTS' OFFSET 0
    ) AS below"""


def falling(connection: Connection, heads: dict[int, bool]) -> list[int]:
    """Return the jobs that wait for what will never be, now that *heads* have ended.

    They wait that a job finishes which did not, or fails which finished: those right below
    *heads*, those below these, and so on. Where a job is the one by one way and the other by
    another, some too many are among them.

    Parameters
    ----------
    heads
        Whether each finished, by its id.
    """
    if connection.dialect.name == "postgresql":
        statement = _FALLING.format(
            heads="SELECT * FROM unnest(%s::bigint[], %s::boolean[])", below=_BELOW_POSTGRESQL
        )
        rows = connection.exec_driver_sql(statement, (list(heads), list(heads.values())))
    else:
        statement = _FALLING.format(
            heads="SELECT value ->> 0, value ->> 1 FROM json_each(?)", below=_BELOW_SQLITE
        )
        rows = connection.exec_driver_sql(
            statement, (msgspec.json.encode([*heads.items()]).decode(),)
        )
    return list(rows.scalars())
