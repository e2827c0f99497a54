"""The versions of the schema: which one a database has, and the way to the newest."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from balsam.errors import StoreUnreadable, StoreVersion
from balsam.store.schema import REVISION

MIGRATIONS = Path(__file__).parent / "migrations"
_VERSION = sa.table("alembic_version", sa.column("version_num"))


class Revision(NamedTuple):
    """One version of the schema."""

    number: str
    title: str


def is_there(connection: Connection) -> bool:
    """Tell whether there is a Balsam database, of whatever revision."""
    return sa.inspect(connection).has_table(_VERSION.name)


def found(connection: Connection, name: str) -> str:
    """Return the revision of the database that messages call *name*.

    Raises
    ------
    StoreUnreadable
        It is not a Balsam database.
    StoreVersion
        It was made by a newer Balsam.
    """
    numbers = list(connection.scalars(sa.select(_VERSION))) if is_there(connection) else []
    if len(numbers) != 1:
        raise StoreUnreadable(f"{name} is not a Balsam database")
    number: str = numbers[0]
    _require_not_newer(number, name)
    if number not in {revision.number for revision in known()}:
        raise StoreUnreadable(f"{name} is of schema {number!r}, which no Balsam has made")
    return number


def require_newest(number: str, name: str) -> None:
    """Raise `StoreVersion` unless *number* is the revision that this Balsam reads and writes."""
    _require_not_newer(number, name)
    if number < REVISION:
        raise StoreVersion(
            f"{name} is of schema {number}, older than this Balsam's {REVISION}; upgrade it with"
            " `balsam db migrate`"
        )


def _require_not_newer(number: str, name: str) -> None:
    if number > REVISION:
        raise StoreVersion(
            f"{name} is of schema {number}, newer than this Balsam's {REVISION}; use the Balsam"
            " that made it, or a newer one"
        )


def known() -> list[Revision]:
    """Return all revisions, the oldest first."""
    from alembic.script import ScriptDirectory

    scripts = ScriptDirectory(str(MIGRATIONS))
    newest_first = scripts.walk_revisions()
    return [Revision(each.revision, (each.doc or "").rstrip(".")) for each in newest_first][::-1]


def since(number: str) -> list[Revision]:
    """Return the revisions that lead from *number* to the newest."""
    return [revision for revision in known() if revision.number > number]


def upgrade(connection: Connection, number: str = "head") -> None:
    """Bring the schema to the revision *number*, in the transaction of *connection*."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, number)
