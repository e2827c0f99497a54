"""Opening a site's database, its version, and transactions."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from balsam.errors import AlreadyExists, BalsamError, StoreUnreadable, StoreVersion
from balsam.store import dialect
from balsam.store.schema import REVISION, counters, meta

MIGRATIONS = Path(__file__).parent / "migrations"


class Store:
    """An open database. Opening checks that it can be read and has the right version.

    Parameters
    ----------
    url
        SQLAlchemy URL.
    name
        What error messages call it.
    busy_seconds
        How long to wait for another writer.

    Raises
    ------
    StoreUnreadable
        There is no Balsam database, or it is damaged or may not be read.
    StoreVersion
        It was made by another version of Balsam.
    """

    def __init__(self, url: str, name: str, busy_seconds: float = 60.0) -> None:
        self.name = name
        self.engine = dialect.open_engine(url, busy_seconds)
        self._writer = self.engine.execution_options(balsam_writer=True)
        try:
            self._check_version()
            with self.reading() as connection:
                key = connection.execute(sa.select(meta.c.value).where(meta.c.key == "key"))
                found = key.scalar()
            if found is None:
                raise StoreUnreadable(f"{self.name} has lost its key: it is not a whole database")
            self.key = bytes.fromhex(found)
        except BalsamError:
            self.close()
            raise

    def _check_version(self) -> None:
        try:
            with self.reading() as connection:
                version = sa.table("alembic_version", sa.column("version_num"))
                found = str(connection.execute(sa.select(version)).scalar_one())
        except (sa.exc.ProgrammingError, sa.exc.NoResultFound) as error:
            raise StoreUnreadable(f"{self.name} is not a Balsam database") from error
        except BalsamError as error:
            if "no such table" in str(error):
                raise StoreUnreadable(f"{self.name} is not a Balsam database") from error
            raise
        if found > REVISION:
            raise StoreVersion(
                f"{self.name} is of schema {found}, newer than this Balsam's {REVISION}; use the"
                " Balsam that made it, or a newer one"
            )
        if found < REVISION:
            raise StoreVersion(
                f"{self.name} is of schema {found}, older than this Balsam's {REVISION}; upgrade it"
            )

    def close(self) -> None:
        self.engine.dispose()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Give a connection in a transaction that only reads."""
        with self._transaction(self.engine) as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Give a connection in a transaction that holds the right to write from its start."""
        with self._transaction(self._writer) as connection:
            yield connection

    @contextmanager
    def _transaction(self, engine: Engine) -> Iterator[Connection]:
        try:
            with engine.begin() as connection:
                yield connection
        except sa.exc.DBAPIError as error:
            raise dialect.translate(error, self.name) from error


def create_database(url: str, name: str) -> None:
    """Make the tables of a new site at *url*, and the site's key.

    Raises
    ------
    AlreadyExists
        There is a database already.
    StoreError
        It cannot be made.
    """
    engine = dialect.open_engine(url, busy_seconds=10)
    try:
        try:
            if sa.inspect(engine).has_table("alembic_version"):
                raise AlreadyExists(f"there is a database at {name} already")
            dialect.prepare_new(engine)
        except sa.exc.DBAPIError as error:
            raise dialect.translate(error, name) from error
        upgrade(engine, name)
    finally:
        engine.dispose()


def upgrade(engine: Engine, name: str) -> None:
    """Bring the schema to `REVISION`, in one transaction; make the site's key if it has none."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    writer = engine.execution_options(balsam_writer=True)
    try:
        with writer.begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            if connection.execute(sa.select(meta.c.key)).first() is None:
                connection.execute(meta.insert().values(key="key", value=secrets.token_hex(16)))
                connection.execute(counters.insert().values(name="job", value=0))
    except sa.exc.DBAPIError as error:
        raise dialect.translate(error, name) from error
