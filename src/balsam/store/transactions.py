"""Transactions on a whole database, for as long as they take: to copy it, to change its schema."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection

from balsam.errors import (
    AlreadyExists,
    BalsamError,
    StoreBusy,
    StoreError,
    StoreFull,
    StoreUnreadable,
)
from balsam.store import upkeep
from balsam.store.database import Database
from balsam.store.schema import metadata

#: Seconds to wait for who is at a file that is ours alone.
OWN_FILE_SECONDS = 10.0


class Transaction(NamedTuple):
    """A transaction that is under way."""

    database: Database
    connection: Connection

    @property
    def name(self) -> str:
        return self.database.name


@contextmanager
def snapshot(database: Database) -> Iterator[Transaction]:
    """Yield a transaction that sees the database as it is now, and holds nobody up.

    Raises
    ------
    StoreError
        The database cannot be read.
    """
    with _translated(database), database.system.reading(database.engine).begin() as connection:
        upkeep.of(connection).take_time(connection)
        yield Transaction(database, connection)


@contextmanager
def sole_writer(database: Database) -> Iterator[Transaction]:
    """Yield a transaction during which nobody else writes: they wait, and can read.

    Raises
    ------
    StoreBusy
        Another writer did not end in time.
    StoreError
        It cannot be done. Whatever was raised, nothing has changed.
    """
    upkeep.of(database.engine).spare_memory(database.engine)
    with _translated(database), database.system.writing(database.engine).begin() as connection:
        system = upkeep.of(connection)
        system.take_time(connection)
        there = set(sa.inspect(connection).get_table_names())
        system.keep_writers_out(connection, [name for name in metadata.tables if name in there])
        yield Transaction(database, connection)


@contextmanager
def undone(database: Database) -> Iterator[Transaction]:
    """Yield a transaction that may do anything, and comes to nothing."""
    with _translated(database), database.system.writing(database.engine).connect() as connection:
        upkeep.of(connection).take_time(connection)
        yield Transaction(database, connection)


@contextmanager
def no_transaction(database: Database) -> Iterator[Connection]:
    """Yield a connection for what cannot be done in a transaction, by the driver alone."""
    engine = database.engine.execution_options(isolation_level="AUTOCOMMIT")
    with _translated(database), engine.connect() as connection:
        yield connection


def now(opened: Transaction) -> float:
    """Return the database's time, in seconds since the epoch."""
    found: float = upkeep.of(opened.connection).now(opened.connection)
    return found


@contextmanager
def _translated(database: Database) -> Iterator[None]:
    try:
        yield
    except database.errors as error:
        raise database.translate(error) from error
    finally:
        database.engine.dispose()


_LAUNCHERS = sa.table(
    "launchers",
    *(sa.column(name) for name in ("id", "host", "pid", "owner", "expires_at", "ended_at")),
)


def require_idle(opened: Transaction) -> None:
    """Raise `StoreBusy`, naming them, when launchers work on the site; of whatever revision."""
    today = now(opened)
    rows = opened.connection.execute(
        sa.select(_LAUNCHERS)
        .where(_LAUNCHERS.c.ended_at.is_(None), _LAUNCHERS.c.expires_at > today)
        .order_by(_LAUNCHERS.c.id)
    ).all()
    if rows:
        named = ", ".join(
            f"launcher {row.id} of {row.owner or 'an unknown user'} (host {row.host}, process"
            f" {row.pid}, for {row.expires_at - today:.0f} s more unless it renews)"
            for row in rows
        )
        raise StoreBusy(f"{opened.name} is in use by {named}; end what runs, or wait for its end")


# files ------------------------------------------------------------------------------


def file_url(file: Path) -> URL:
    """Return the URL of an SQLite file, whatever characters are in its name."""
    return URL.create("sqlite", database=str(file))


def reading_file(file: Path) -> Database:
    """Return the SQLite database in *file*, never to be written.

    Raises
    ------
    StoreUnreadable
        There is no such file, or it may not be read.
    """
    try:
        os.close(os.open(file, os.O_RDONLY))
    except OSError as error:
        raise StoreUnreadable(f"cannot read {file}: {error.strerror}") from error
    address = file.absolute().as_uri()
    url = URL.create("sqlite", database=address, query={"mode": "ro", "uri": "true"})
    return Database(url, str(file), OWN_FILE_SECONDS)


@contextmanager
def new_file(file: Path, *, for_site: bool) -> Iterator[Transaction]:
    """Yield a transaction on a new SQLite database, which is at *file* when all has gone well.

    Until then it has another name. What a process that was killed left of it is removed by
    the next.

    Parameters
    ----------
    for_site
        Make it one for many processes; else one that is only read, wherever it is carried.

    Raises
    ------
    AlreadyExists
        There is something at *file*. It is not touched.
    StoreError
        It cannot be written. Nothing is left.
    """
    if os.path.lexists(file):
        raise AlreadyExists(f"there is a file {file} already; name another")
    aside = file.with_name(f"{file.name}{_mark()}{os.getpid()}")
    try:
        _remove_leftovers(file)
        mode = 0o666 if for_site else 0o600  # a site is as open as its directory
        os.close(os.open(aside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode))
    except OSError as error:
        raise _cannot_write(file, error) from error
    try:
        database = Database(file_url(aside), str(file), OWN_FILE_SECONDS)
        upkeep.of(database.engine).do_without_journal(database.engine)
        with sole_writer(database) as new:
            yield new
        if for_site:
            with _translated(database):
                database.system.prepare_new(database.engine)
        _put(aside, file)
    except OSError as error:
        raise _cannot_write(file, error) from error
    finally:
        _remove(aside)


def _mark() -> str:
    return f".part-{socket.gethostname()}-"


def _put(aside: Path, file: Path) -> None:
    """Give *aside*, once it is on the disk, the name *file*; what has that name stays."""
    with open(aside, "rb+") as written:
        os.fsync(written.fileno())
    try:
        os.link(aside, file)
    except FileExistsError as error:
        raise AlreadyExists(f"there is a file {file} already; name another") from error
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EMLINK):
            raise
        aside.rename(file)  # a file system without links
    directory = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _remove(aside: Path) -> None:
    for suffix in ("", "-journal", "-wal", "-shm"):
        with suppress(OSError):
            os.unlink(f"{aside}{suffix}")


def _remove_leftovers(file: Path) -> None:
    """Remove what processes of this host that are gone left of *file*."""
    prefix = f"{file.name}{_mark()}"
    for aside in file.parent.iterdir():
        pid = aside.name.removeprefix(prefix)
        if pid.isdecimal() and pid != aside.name and not os.path.exists(f"/proc/{pid}"):
            _remove(aside)


def _cannot_write(file: Path, error: OSError) -> BalsamError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StoreFull(f"cannot write {file}: the disk or your quota is full")
    return StoreError(f"cannot write {file}: {error.strerror}")
