"""A whole site in one file.

A backup is an SQLite file with all rows, of the same revision as the database, and a table that
tells where they come from and what their checksums are. It is read on any machine.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import sqlalchemy as sa

from balsam import __version__
from balsam.errors import StoreUnreadable
from balsam.store import copy, revisions, transactions, upkeep
from balsam.store.copy import Contents, Tell
from balsam.store.transactions import Transaction

_ABOUT = sa.Table("balsam_backup", sa.MetaData(), sa.Column("about", sa.Text(), nullable=False))
_META = sa.table("meta", sa.column("key"), sa.column("value"))


class Backup(msgspec.Struct, frozen=True, kw_only=True):
    """What a file with all rows of a site says of itself."""

    revision: str
    #: Tells sites apart.
    key: str
    tables: dict[str, Contents]
    #: The site's directory; '' for a plain copy of a site's file.
    site: str = ""
    #: Seconds since the epoch.
    made_at: float = 0.0
    #: 'sqlite' or 'postgresql'.
    system: str = ""
    balsam: str = ""


def write(source: Transaction, file: Path, site: str, tell: Tell) -> Backup:
    """Write all rows that *source* sees to the new *file*.

    Raises
    ------
    AlreadyExists
        There is something at *file*.
    StoreError
        *source* cannot be read, or the file not written. There is no file then.
    """
    revision = revisions.found(source.connection, source.name)
    with transactions.new_file(file, for_site=False) as target:
        revisions.upgrade(target.connection, revision)
        sent = copy.fill(source, target, tell)
        about = Backup(
            revision=revision,
            key=site_key(source),
            tables=sent,
            site=site,
            made_at=transactions.now(source),
            system=source.connection.dialect.name,
            balsam=__version__,
        )
        _ABOUT.create(target.connection)
        text = msgspec.json.encode(about).decode()
        target.connection.execute(_ABOUT.insert().values(about=text))
    return about


def site_key(of: Transaction) -> str:
    """Return what tells the site from all others.

    Raises
    ------
    StoreUnreadable
        It is lost.
    """
    found = of.connection.scalar(sa.select(_META.c.value).where(_META.c.key == "key"))
    if not found:
        raise StoreUnreadable(f"{of.name} has lost its key: it is not a whole database")
    return str(found)


def check(file: Path, tell: Tell) -> Backup:
    """Read all of a backup, or of a plain copy of a site's file, and return what it says.

    Raises
    ------
    StoreUnreadable
        It is no backup, or a damaged one.
    StoreVersion
        It was made by a newer Balsam.
    """
    with transactions.snapshot(transactions.reading_file(file)) as opened:
        # First of all: other questions to a damaged file have no good answers.
        damages = upkeep.of(opened.connection).damages(opened.connection)
        if damages:
            raise StoreUnreadable(f"{file} is damaged ({damages[0]}); use another backup")
        revision = revisions.found(opened.connection, opened.name)
        found = copy.contents(opened, tell)
        if not sa.inspect(opened.connection).has_table(_ABOUT.name):
            return Backup(revision=revision, key=site_key(opened), tables=found)
        about = _about(opened)
        copy.compare(about.tables, found, f"{file} is damaged")
        return about


def _about(opened: Transaction) -> Backup:
    text = opened.connection.scalar(sa.select(_ABOUT.c.about)) or ""
    try:
        return msgspec.json.decode(text, type=Backup)
    except msgspec.MsgspecError as error:
        raise StoreUnreadable(f"{opened.name} is damaged: {error}") from error
