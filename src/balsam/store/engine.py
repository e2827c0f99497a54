"""Opening a site's database, its version, and transactions."""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from balsam.errors import (
    AlreadyExists,
    BalsamError,
    StoreAway,
    StoreConflict,
    StoreUncertain,
    StoreUnreadable,
)
from balsam.model.wire import Topic
from balsam.store import dialect, revisions
from balsam.store.bell import Bell, ring
from balsam.store.database import Database
from balsam.store.schema import counters, meta

if TYPE_CHECKING:
    from balsam.store.listen import Listener
    from balsam.store.postgres import Mark

#: First and longest pause, in seconds, before a transaction that was undone runs again.
FIRST_PAUSE, LONGEST_PAUSE = 0.01, 1.0
#: Seconds after which the server's clock is read again.
CLOCK_SECONDS = 300.0

R = TypeVar("R")
#: Which topics to wake, by what a transaction returned.
Tell = Callable[[Any], Collection[Topic]]


def nobody(_result: Any) -> Collection[Topic]:
    return ()


class Store:
    """An open database. Opening checks that it can be read and has the right version.

    Work is given as functions of a connection. Each runs in one transaction, and runs again
    when that was undone for the sake of another writer or the connection was lost: a function
    must do the same when it is called again.

    Parameters
    ----------
    run
        Directory for what wakes waiting processes of this machine.

    Raises
    ------
    StoreUnreadable
        There is no Balsam database, or it is damaged or may not be read.
    StoreVersion
        It was made by another version of Balsam.
    StoreAway
        Its server cannot be reached.
    """

    def __init__(self, url: str, name: str, run: Path, busy_seconds: float = 60.0) -> None:
        self.name = name
        self._database = Database(url, name, busy_seconds)
        self.engine = self._database.engine
        self._reader = self._database.system.reading(self.engine)
        self._writer = self._database.system.writing(self.engine)
        self._run = run
        self._token = secrets.token_hex(8)
        self._bells: set[str] = set()
        self._clock_offset = self._clock_read_at = 0.0
        try:
            self.read(self._check_version)
            found = self.read(
                lambda c: c.scalar(sa.select(meta.c.value).where(meta.c.key == "key"))
            )
            if found is None:
                raise StoreUnreadable(f"{self.name} has lost its key: it is not a whole database")
            self.key = bytes.fromhex(found)
        except BalsamError:
            self.close()
            raise

    def _check_version(self, connection: Connection) -> None:
        version = sa.table("alembic_version", sa.column("version_num"))
        found = connection.execute(sa.select(version)).scalar_one_or_none()
        if found is None:
            raise StoreUnreadable(f"{self.name} is not a Balsam database")
        revisions.require_newest(found, self.name)
        self._read_clock(connection)

    def close(self) -> None:
        self.engine.dispose()

    # time -----------------------------------------------------------------------------
    def now(self) -> float:
        """Return the time, in seconds since the epoch: the server's, where there is one.

        Leases of launchers on many hosts are measured by one clock, which goes on steadily when
        that of a machine is set.
        """
        return time.monotonic() + self._clock_offset

    def _read_clock(self, connection: Connection) -> None:
        before = time.monotonic()
        now = self._database.system.now(connection) if self._database.is_server else time.time()
        self._clock_read_at = time.monotonic()
        self._clock_offset = now - (before + self._clock_read_at) / 2

    # transactions ---------------------------------------------------------------------
    def read(self, work: Callable[[Connection], R]) -> R:
        """Return what *work* reads, all of it at one moment."""
        return self._insist(lambda: self._read_once(work))

    def write(self, work: Callable[[Connection], R], tell: Tell = nobody) -> R:
        """Do *work* in one transaction that may write, and wake who waits for what it did.

        Raises
        ------
        StoreError
            It cannot be done; nothing has changed.
        StoreUncertain
            The connection was lost at the very end, and the server did not come back in time to
            say whether the change was made.
        """
        return self._insist(lambda: self._write_once(work, tell))

    def _insist(self, once: Callable[[], R]) -> R:
        """Call *once* again when it was in others' way, or its connection was lost."""
        deadline, pause = time.monotonic() + self._database.busy_seconds, FIRST_PAUSE
        while True:
            try:
                return once()
            except (StoreConflict, StoreAway):
                left = deadline - time.monotonic()
                if left <= 0:
                    raise
            time.sleep(min(left, pause * random.uniform(0.5, 1.5)))
            pause = min(LONGEST_PAUSE, 2 * pause)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Wait for a connection that is free; give what then goes wrong as Balsam's error.

        A connection that is of no more use is let go of before the next one's turn.
        """
        with self._database.turn():
            try:
                yield
            except self._database.errors as error:
                failure = self._database.translate(error)
                if isinstance(failure, StoreAway):
                    self.engine.dispose()
                raise failure from error

    def _read_once(self, work: Callable[[Connection], R]) -> R:
        with self._turn(), self._reader.begin() as connection:
            return work(connection)

    def _write_once(self, work: Callable[[Connection], R], tell: Tell) -> R:
        mark: Mark | None = None
        try:
            with self._turn(), self._writer.begin() as connection:
                result = work(connection)
                topics = tell(result)
                if self._database.is_server:
                    if time.monotonic() - self._clock_read_at > CLOCK_SECONDS:
                        self._read_clock(connection)
                    self._notify(connection, topics)
                    mark = self._database.system.mark(connection)
        except StoreAway as failure:
            if mark is None:
                raise
            self._find_out(mark, failure)
        if not self._database.is_server:
            ring(self._run, topics, but=self._bells)
        return result

    def _find_out(self, mark: Mark, failure: StoreAway) -> None:
        """Return when the transaction of *mark*, whose end we did not hear, was committed.

        Raises
        ------
        StoreAway
            It was not: it can run again.
        StoreUncertain
            The server does not tell.
        """

        def ask_once() -> None:
            with self._turn(), self._writer.begin() as connection:
                done = self._database.system.was_committed(connection, mark)
            if done is None:
                raise StoreConflict(f"{self.name}: the transaction is still under way")
            if not done:
                raise _NotCommitted

        try:
            self._insist(ask_once)
        except _NotCommitted:
            raise failure from None
        except (StoreAway, StoreConflict) as error:
            raise StoreUncertain(
                f"{failure}; whether the change was made is not known: look before you repeat it"
            ) from error

    def reserve_job_ids(self, count: int) -> int:
        """Take *count* consecutive job ids; return the first.

        In a transaction of its own: nobody waits for whoever inserts long. Ids of jobs that are
        then not inserted are never used.
        """
        return self.write(lambda c: dialect.reserve_ids(c, counters, "job", count))

    # changes --------------------------------------------------------------------------
    def watch(self, topic: Topic) -> Bell | Listener:
        """Return a watch that wakes on what others do about *topic*.

        Raises
        ------
        StoreAway
            The database's server cannot be reached.
        """
        if self._database.is_server:
            from balsam.store.listen import Listener

            with self._turn():
                return Listener(self._database, topic, self._token)
        bell = Bell(self._run, topic)
        self._bells.add(bell.name)
        return bell

    def _notify(self, connection: Connection, topics: Collection[Topic]) -> None:
        from balsam.store.listen import notify

        notify(connection, topics, self._token)


class _NotCommitted(Exception):
    """A transaction whose end was not heard came to nothing."""


def create_database(url: str, name: str) -> None:
    """Make the tables of a new site at *url*, and the site's key.

    Raises
    ------
    AlreadyExists
        There is a database already.
    StoreError
        It cannot be made.
    """
    database = Database(url, name, busy_seconds=10)
    try:
        if sa.inspect(database.engine).has_table("alembic_version"):
            raise AlreadyExists(f"there is a database at {name} already")
        if not database.is_server:
            database.system.prepare_new(database.engine)
        upgrade(database)
    except database.errors as error:
        raise database.translate(error) from error
    finally:
        database.engine.dispose()


def upgrade(database: Database) -> None:
    """Bring the schema to the newest, in one transaction; make the site's key if it has none."""
    try:
        with database.system.writing(database.engine).begin() as connection:
            dialect.one_at_a_time(connection, "schema")
            revisions.upgrade(connection)
            if connection.execute(sa.select(meta.c.key)).first() is None:
                connection.execute(meta.insert().values(key="key", value=secrets.token_hex(16)))
                connection.execute(counters.insert().values(name="job", value=0))
    except database.errors as error:
        raise database.translate(error) from error
