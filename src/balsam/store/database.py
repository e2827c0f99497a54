"""A database: its system, its connection, its errors."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import URL, Engine, make_url
from sqlalchemy.engine import Connection as Connection  # for those who may not import SQLAlchemy

from balsam.errors import StoreBusy, StoreError
from balsam.store.turns import Turns


class Database:
    """What is needed to speak to the database at *url*.

    Parameters
    ----------
    url
        SQLAlchemy URL.
    name
        What error messages call it.
    busy_seconds
        How long to wait for another writer, or for a server that is away.

    Raises
    ------
    StoreError
        The database system is not supported.
    """

    def __init__(self, url: str | URL, name: str, busy_seconds: float) -> None:
        self.name = name
        self._given = url
        self.url: URL = make_url(url)
        self.busy_seconds = busy_seconds
        match self.url.get_backend_name():
            case "sqlite":
                from balsam.store import sqlite as system
            case "postgresql" | "postgres":
                from balsam.store import postgres as system  # type: ignore[no-redef]
            case other:
                raise StoreError(f"database {other!r} is not supported; use sqlite or postgresql")
        self.system: Any = system
        self.is_server = system.__name__.endswith("postgres")
        self.engine: Engine = system.open_engine(self.url, busy_seconds)
        #: The server had few connections left when we got ours: it is not ours to keep.
        self.crowded = False
        self._turns = Turns(system.MOST_CONNECTIONS)
        if self.is_server:
            sa.event.listen(self.engine, "connect", self._look_around)
        # Of a connection that Ctrl-C cut off SQLAlchemy would print a traceback; whoever wants to
        # read such things sets up logging.
        pool_log = logging.getLogger("sqlalchemy.pool")
        if not pool_log.handlers:
            pool_log.addHandler(logging.NullHandler())
        self.errors = (sa.exc.DBAPIError, system.DRIVER_ERROR)

    def _look_around(self, connection: Any, _record: Any) -> None:
        self.crowded = self.system.is_crowded(connection)

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait until one of our connections is free; give it back where others need it more.

        SQLAlchemy's pool would do the waiting, but not tell those who wait in it when another
        cannot connect, or throws the pool away: they would wait for nothing, until their time
        is over.

        Raises
        ------
        StoreBusy
            None came free in time.
        """
        if not self._turns.take(max(1.0, self.busy_seconds)):
            raise StoreBusy(f"{self.name}: our own connection is in use; try again")
        try:
            yield
        finally:
            if self.crowded:
                self.engine.dispose()
            self._turns.give_back()

    def another(self) -> Database:
        """Return the same database with a connection of its own."""
        return Database(self._given, self.name, self.busy_seconds)

    def translate(self, error: Exception) -> StoreError:
        """Return Balsam's error for *error* of SQLAlchemy or of the driver."""
        cause = error.orig if isinstance(error, sa.exc.DBAPIError) else error
        found: StoreError = self.system.translate(cause, self.name)
        return found
