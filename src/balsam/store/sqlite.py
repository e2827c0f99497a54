"""SQLite: opening a file, and what its errors mean."""

from __future__ import annotations

import sqlite3
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects.sqlite.base import SQLiteCompiler
from sqlalchemy.engine import URL, Connection, Engine

from balsam.errors import StoreBusy, StoreError, StoreFull, StoreMoved, StoreUnreadable

DRIVER_ERROR = sqlite3.Error
#: Connections of one process, kept: to open one takes milliseconds.
MOST_CONNECTIONS = 3


class _Compiler(SQLiteCompiler):
    """SQLite's, with hints: it alone chooses the state's index for a lease, and sorts a million."""

    def get_from_hint_text(self, table: sa.FromClause, text: str | None) -> str | None:
        return text


def open_engine(url: URL, busy_seconds: float) -> Engine:
    """Return an engine whose writers take the write lock at once (`BEGIN IMMEDIATE`).

    A reader that later wrote would have to upgrade its lock, which SQLite refuses at once
    when another writer was faster; hence readers and writers are told apart at the start.
    """
    engine = sa.create_engine(
        url,
        connect_args={"timeout": busy_seconds, "check_same_thread": False},
        json_serializer=lambda value: msgspec.json.encode(value).decode(),
        json_deserializer=msgspec.json.decode,
        pool_size=MOST_CONNECTIONS,
        max_overflow=0,
    )

    engine.dialect.statement_compiler = _Compiler

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


def reading(engine: Engine) -> Engine:
    """Return *engine* for transactions that only read."""
    return engine


def writing(engine: Engine) -> Engine:
    """Return *engine* for transactions that hold the right to write from their start."""
    return engine.execution_options(balsam_writer=True)


def prepare_new(engine: Engine) -> None:
    """Set what a database keeps for good, before its tables are made."""
    with engine.connect() as connection:
        raw: Any = connection.connection.driver_connection
        raw.execute("COMMIT") if raw.in_transaction else None
        raw.execute("PRAGMA journal_mode = WAL")


def translate(error: Exception, where: str) -> StoreError:
    """Return Balsam's error for a driver's, naming the database *where*."""
    text = str(error)
    if getattr(error, "sqlite_errorname", "") == "SQLITE_CONSTRAINT_TRIGGER":
        return StoreMoved(text)
    if "locked" in text or "busy" in text:
        return StoreBusy(f"{where} is locked by another process; try again")
    if "disk is full" in text or "disk I/O error" in text or "No space left" in text:
        return StoreFull(f"cannot write to {where}: the disk or your quota is full ({text})")
    if "not a database" in text or "malformed" in text:
        return StoreUnreadable(f"{where} is damaged or not a Balsam database ({text})")
    if "unable to open" in text or "readonly" in text:
        return StoreUnreadable(f"cannot open {where}: {text}; check that it exists and is yours")
    if "no such table" in text:
        return StoreUnreadable(f"{where} is not a Balsam database")
    return StoreError(f"{where}: {text}")
