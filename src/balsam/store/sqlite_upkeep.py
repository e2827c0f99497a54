"""The care of an SQLite file (see `upkeep`)."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from balsam.errors import StoreFull

#: What we call triggers that refuse every change.
_CLOSED = "balsam_closed"
#: Most complaints of SQLite that are told.
_MOST = 20


def take_time(_connection: Connection) -> None:
    """Let the transaction take as long as it needs: SQLite lets it anyway."""


def keep_writers_out(_connection: Connection, _tables: Sequence[str]) -> None:
    """Let nobody else write until the transaction ends: its BEGIN IMMEDIATE did."""


def spare_memory(engine: Engine) -> None:
    """Sort many rows in files, not in memory as is good for few."""

    @sa.event.listens_for(engine, "connect")
    def _connected(connection: Any, _record: Any) -> None:
        connection.execute("PRAGMA temp_store = FILE")


def do_without_journal(engine: Engine) -> None:
    """Write a file fast that is thrown away unless all goes well."""

    @sa.event.listens_for(engine, "connect")
    def _connected(connection: Any, _record: Any) -> None:
        connection.execute("PRAGMA journal_mode = OFF")
        connection.execute("PRAGMA synchronous = OFF")


def now(_connection: Connection) -> float:
    """Return the time of this machine, in seconds since the epoch."""
    return time.time()


# contents ---------------------------------------------------------------------------


def empty(connection: Connection, tables: Sequence[sa.Table]) -> None:
    """Remove all rows of *tables*, which are in the order of their references."""
    for table in reversed(tables):
        connection.execute(sa.delete(table))


def raise_ids(_connection: Connection, _tables: Sequence[sa.Table]) -> None:
    """See to it that new rows get ids above all that are there: SQLite counts from the highest."""


def ids_too_low(_connection: Connection, _tables: Sequence[sa.Table]) -> list[str]:
    """Return the tables whose next id would be one that is there."""
    return []


# its own checks ---------------------------------------------------------------------


def damages(connection: Connection) -> list[str]:
    """Return what SQLite finds wrong with the file, a line each."""
    rows = connection.exec_driver_sql(f"PRAGMA integrity_check({_MOST})").scalars()
    found = [" ".join(str(row).split()) for row in rows if row != "ok"]
    for table, row, parent, _ in connection.exec_driver_sql("PRAGMA foreign_key_check"):
        found.append(f"a row of {table} ({row}) refers to one of {parent} that is not there")
        if len(found) >= _MOST:
            break
    return found


def unchecked(_connection: Connection) -> str:
    """Return what could not be checked, and why; '' when everything was."""
    return ""


# closed databases -------------------------------------------------------------------


def close(connection: Connection, tables: Sequence[str], message: str) -> None:
    """Refuse, with *message*, every change from the end of the transaction on."""
    text = message.replace("'", "''")
    for table in tables:
        for change in ("INSERT", "UPDATE", "DELETE"):
            connection.exec_driver_sql(
                f"CREATE TRIGGER {_CLOSED}_{table}_{change.lower()} BEFORE {change} ON {table}"
                f" BEGIN SELECT RAISE(ABORT, '{text}'); END"
            )


def reopen(connection: Connection) -> None:
    """Let a closed database be changed again."""
    for name in _triggers(connection):
        connection.exec_driver_sql(f"DROP TRIGGER {name}")


def is_closed(connection: Connection) -> bool:
    return bool(_triggers(connection))


def _triggers(connection: Connection) -> list[str]:
    names = connection.exec_driver_sql(
        "SELECT name FROM sqlite_master WHERE type = 'trigger' AND name LIKE ?", (f"{_CLOSED}%",)
    )
    return list(names.scalars())


# size -------------------------------------------------------------------------------


def size(connection: Connection) -> int:
    """Return how many bytes the database takes on the disk."""
    file = connection.engine.url.database or ""
    return sum(_size(f"{file}{suffix}") for suffix in ("", "-wal"))


def _size(file: str) -> int:
    try:
        return os.stat(file).st_size
    except FileNotFoundError:
        return 0


def room_to_vacuum(connection: Connection) -> int:
    """Return how many bytes must be free: for a new copy, and for the log of writing it back."""
    pages, free, page = (
        connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
        for name in ("page_count", "freelist_count", "page_size")
    )
    return int(2 * (pages - free) * page)


def require_room(connection: Connection) -> None:
    """Raise `StoreFull` when there is not the room to vacuum."""
    directory = _directory(connection)
    needed, there = room_to_vacuum(connection), shutil.disk_usage(directory).free
    if there < needed:
        raise StoreFull(
            f"vacuum needs {needed / 1e6:.1f} MB of room in {directory}, where"
            f" {there / 1e6:.1f} MB are free; make room first"
        )


def vacuum(connection: Connection, _tables: Collection[str]) -> None:
    """Write the file anew without gaps, and measure it; *connection* has no transaction."""
    raw: Any = connection.connection.driver_connection
    place = str(_directory(connection)).replace("'", "''")
    raw.execute("PRAGMA temp_store = FILE")
    # /tmp is often small, or memory; and room has been looked for here.
    raw.execute(f"PRAGMA temp_store_directory = '{place}'")
    try:
        raw.execute("VACUUM")
        raw.execute("ANALYZE")
        raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    finally:
        raw.execute("PRAGMA temp_store_directory = ''")


def measure(_connection: Connection) -> None:
    """Count rows for plans: SQLite's are good without."""


def _directory(connection: Connection) -> Path:
    return Path(connection.engine.url.database or "").absolute().parent


def is_same(one: Connection, other: Connection) -> bool:
    """Tell whether two connections are to one database."""
    files = [each.engine.url.database or "" for each in (one, other)]
    return os.path.exists(files[1]) and os.path.samefile(*files)
