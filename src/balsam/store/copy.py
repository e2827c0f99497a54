"""All rows of a database into another, whatever the two systems are, and proof that they arrived.

A row is compared by the values that Balsam reads: whole numbers, floating-point numbers by their
bits, texts and JSON by their characters. Each row is digested for itself and the digests are
added up, so that the order of rows does not matter.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from hashlib import blake2b
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from balsam.errors import StoreError
from balsam.store import dialect, revisions, upkeep
from balsam.store.rows import encode
from balsam.store.schema import REVISION, Json, metadata
from balsam.store.transactions import Transaction

#: Rows in memory at a time.
PAGE = 500
_MODULUS = 2**64
_DIGEST_BYTES = 8
#: How the JSON of a mere number begins.
_NUMBER = tuple("-0123456789")

Rows = list[tuple[Any, ...]]
#: Is told of progress: the table, how many of its rows are done, and how many there are.
Tell = Callable[[str, int, int], None]


class Contents(msgspec.Struct, frozen=True):
    """What is in a table: how many rows, and the sum of their digests modulo 2^64."""

    rows: int = 0
    checksum: str = f"{0:016x}"


def tables(connection: Connection) -> list[sa.Table]:
    """Return Balsam's tables with the columns that they have, in the order of their references.

    They can be of an older revision. Columns are in the order of their names: in a database
    that was upgraded they are in another than in a new one.
    """
    inspector = sa.inspect(connection)
    there = set(inspector.get_table_names())
    found = []
    for declared in metadata.sorted_tables:
        if declared.name in there:
            keys = [column.name for column in declared.primary_key]
            columns = sorted(inspector.get_columns(declared.name), key=lambda each: each["name"])
            found.append(
                sa.Table(
                    declared.name,
                    sa.MetaData(),
                    *(
                        sa.Column(c["name"], c["type"], primary_key=c["name"] in keys)
                        for c in columns
                    ),
                )
            )
    return found


def pages(
    source: Transaction, table: sa.Table, *where: sa.ColumnElement[bool]
) -> Generator[Rows, None, None]:
    """Yield the rows of *table*, a few at a time, as every system takes them.

    Raises
    ------
    StoreError
        They cannot be read.
    """
    json = [i for i, column in enumerate(table.c) if _is_json(column)]
    statement = sa.select(*map(_plain, table.c)).where(*where).order_by(*table.primary_key)
    try:
        options = {"yield_per": PAGE}
        with source.connection.execute(statement, execution_options=options) as result:
            for part in result.partitions():
                rows = list(map(tuple, part))
                yield [_with_texts(row, json) for row in rows] if json else rows
    except source.database.errors as error:
        raise source.database.translate(error) from error


def _is_json(column: sa.Column[Any]) -> bool:
    return isinstance(column.type, sa.JSON | Json)


def _plain(column: sa.Column[Any]) -> sa.ColumnElement[Any]:
    if _is_json(column):
        return dialect.json_text(column)
    if isinstance(column.type, sa.Boolean):
        return sa.cast(column, sa.Integer())
    if isinstance(column.type, sa.Float):
        return column + sa.literal_column("0.0")  # SQLite does not keep the sign of zero
    return column


def _with_texts(row: tuple[Any, ...], json: Sequence[int]) -> tuple[Any, ...]:
    """Return *row* with texts in its columns of JSON: SQLite keeps a mere number as one."""
    for i in json:
        if type(row[i]) is not str:
            values = list(row)
            for j in json:
                if type(row[j]) is not str:
                    values[j] = encode(row[j])
            return tuple(values)
    return row


class _Sum:
    """Adds up the contents of a table."""

    def __init__(self, table: sa.Table) -> None:
        self.rows = 0
        self._json = [i for i, column in enumerate(table.c) if _is_json(column)]
        self._total = 0

    def add(self, rows: Rows) -> None:
        pack, json = msgspec.msgpack.Encoder().encode, self._json
        total = 0
        for row in rows:
            if any(row[i].startswith(_NUMBER) for i in json):
                row = _with_equal_numbers(row, json)
            total += int.from_bytes(blake2b(pack(row), digest_size=_DIGEST_BYTES).digest())
        self._total = (self._total + total) % _MODULUS
        self.rows += len(rows)

    @property
    def contents(self) -> Contents:
        return Contents(self.rows, f"{self._total:016x}")


def _with_equal_numbers(row: tuple[Any, ...], json: Sequence[int]) -> tuple[Any, ...]:
    """Return *row* with 1.0 as 1 in columns of JSON that are a mere number, as in SQLite."""
    values = list(row)
    for i in json:
        if values[i].startswith(_NUMBER):
            number = msgspec.json.decode(values[i])
            whole = isinstance(number, float) and number.is_integer()
            values[i] = encode(int(number) if whole else number)
    return tuple(values)


def contents(source: Transaction, tell: Tell) -> dict[str, Contents]:
    """Return what is in each table.

    Raises
    ------
    StoreError
        A table cannot be read.
    """
    found = {}
    for table in tables(source.connection):
        summed, total = _Sum(table), _count(source, table)
        with closing(pages(source, table)) as each:
            for rows in each:
                summed.add(rows)
                tell(f"checking {table.name}", summed.rows, total)
        found[table.name] = summed.contents
    return found


def fill(source: Transaction, target: Transaction, tell: Tell) -> dict[str, Contents]:
    """Copy all rows of *source* into *target*, whose tables are empty and of the same revision.

    What arrived is read back and compared before the transaction of *target* ends.

    Raises
    ------
    StoreError
        Rows cannot be read or written, or are not the same when they are read back.
    """
    sent = {}
    there = tables(source.connection)
    with _without_indexes(target):
        for table in there:
            sent[table.name] = _send(source, target, table, tell)
    upkeep.of(target.connection).raise_ids(target.connection, there)
    compare(sent, contents(target, tell), target.name)
    return sent


def _send(source: Transaction, target: Transaction, table: sa.Table, tell: Tell) -> Contents:
    names = [column.name for column in table.c]
    summed, total = _Sum(table), _count(source, table)
    with closing(pages(source, table)) as each:
        for rows in each:
            summed.add(rows)
            dialect.insert_rows(target.connection, table, names, rows)
            tell(f"copying {table.name}", summed.rows, total)
    return summed.contents


def _count(source: Transaction, table: sa.Table) -> int:
    try:
        count = sa.select(sa.func.count()).select_from(table)
        return int(source.connection.execute(count).scalar_one())
    except source.database.errors as error:
        raise source.database.translate(error) from error


def compare(sent: Mapping[str, Contents], found: Mapping[str, Contents], where: str) -> None:
    """Raise `StoreError` unless what was *sent* is what was *found*."""
    for name, expected in sent.items():
        there = found.get(name, Contents())
        if there != expected:
            raise StoreError(
                f"{where}: the table {name} is not what it should be: {there.rows} rows with"
                f" checksum {there.checksum} instead of {expected.rows} with {expected.checksum}"
            )


@contextmanager
def _without_indexes(target: Transaction) -> Iterator[None]:
    """Leave out, while many rows are written, what is made faster afterwards."""
    newest = revisions.found(target.connection, target.name) == REVISION
    indexes = [index for table in metadata.sorted_tables for index in table.indexes]
    for index in indexes if newest else ():
        index.drop(target.connection)
    yield
    for index in indexes if newest else ():
        index.create(target.connection)
