"""The care of a site's database: upgrade, backup, copy, check. For whoever has its files or URL."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from balsam import config
from balsam.client.connect import Say
from balsam.errors import SiteError, StoreUnreadable
from balsam.model import roles
from balsam.store import backup as backups
from balsam.store import check as checks
from balsam.store import replace, revisions, transactions, vacuum
from balsam.store.backup import Backup as Backup
from balsam.store.check import Finding as Finding
from balsam.store.copy import Contents as Contents
from balsam.store.database import Database
from balsam.store.repair import repair
from balsam.store.revisions import Revision as Revision
from balsam.store.schema import REVISION

#: In the site: where backups are.
BACKUPS = "backup"
FILE = "balsam.db"
#: Is told of progress: what is done, how many rows of it, of how many.
Tell = Callable[[str, int, int], None]


# upgrades ---------------------------------------------------------------------------


class Migration(msgspec.Struct, frozen=True):
    """An upgrade of the schema."""

    before: str
    after: str
    #: The backup that was made first.
    backup: Path | None = None


def steps(path: Path, say: Say) -> tuple[str, list[Revision]]:
    """Return the revision of the site's database, and those that an upgrade would bring."""
    with transactions.snapshot(database_of(path, say)) as opened:
        number = revisions.found(opened.connection, opened.name)
    return number, revisions.since(number)


def migrate(path: Path, *, backup: bool, say: Say, tell: Tell) -> Migration:
    """Bring the site's database to this Balsam's schema, with a backup first.

    Raises
    ------
    StoreBusy
        Launchers work on the site; they are named.
    StoreError
        It cannot be done. The database is as it was.
    """
    with transactions.sole_writer(database_of(path, say)) as opened:
        number = revisions.found(opened.connection, opened.name)
        if number == REVISION:
            return Migration(number, number)
        transactions.require_idle(opened)
        file = _new_backup(path, f"before-migration-{number}") if backup else None
        if file:
            backups.write(opened, file, str(path), tell)
        revisions.upgrade(opened.connection)
    return Migration(number, REVISION, file)


# backups ----------------------------------------------------------------------------


def back_up(path: Path, file: Path | None, say: Say, tell: Tell) -> tuple[Path, Backup]:
    """Write all rows of the site, as they are at one moment, to the new *file*; return both.

    Raises
    ------
    AlreadyExists
        There is something at *file*.
    StoreError
        It cannot be done. There is no file then.
    """
    database = database_of(path, say)
    file = file or _new_backup(path, "balsam")
    with transactions.snapshot(database) as opened:
        return file, backups.write(opened, file, str(path), tell)


def read_backup(file: Path, tell: Tell) -> Backup:
    """Read all of a backup and return what it says of itself.

    Raises
    ------
    StoreUnreadable
        It is no backup, or a damaged one.
    """
    return backups.check(file, tell)


class Restored(msgspec.Struct, frozen=True):
    """Where the rows are that a backup took the place of."""

    #: A backup of them; None when they could not be read.
    backup: Path | None = None
    #: The directory with the damaged files, if there were such.
    damaged: Path | None = None


def restore(path: Path, file: Path, *, force: bool, say: Say, tell: Tell) -> Restored:
    """Have the rows of the backup *file* in the site's database, whatever system each is.

    Parameters
    ----------
    force
        Also take another site's, and be that site.

    Raises
    ------
    StoreBusy
        Launchers work on the site; they are named.
    InvalidInput
        The backup is another site's.
    StoreError
        It cannot be done. The database is as it was.
    """
    if config.load(path).database.url == "sqlite" and not os.path.lexists(path / FILE):
        replace.restore_lost(file, path / FILE, tell)
        return Restored()
    database = database_of(path, say)
    present = _new_backup(path, "before-restore")
    try:
        replace.restore(file, database, present, str(path), force, tell)
    except StoreUnreadable:
        if database.is_server or not os.access(path / FILE, os.R_OK | os.W_OK):
            raise
        if not _is_damaged(path, say):
            raise
        return _restore_damaged(path, file, tell)
    return Restored(backup=present)


def _is_damaged(path: Path, say: Say) -> bool:
    try:
        with transactions.snapshot(database_of(path, say)) as opened:
            revisions.found(opened.connection, opened.name)
            backups.site_key(opened)
            return bool(checks.damages(opened)[0])
    except StoreUnreadable:
        return True


def _restore_damaged(path: Path, file: Path, tell: Tell) -> Restored:
    """Put a backup in place of files that cannot be read, which are kept."""
    kept = _new_backup(path, "damaged").with_suffix("")
    kept.mkdir(mode=0o700)
    names = [n for n in (FILE, f"{FILE}-wal", f"{FILE}-shm") if (path / n).exists()]
    for name in names:
        shutil.move(path / name, kept / name)
    try:
        replace.restore_lost(file, path / FILE, tell)
    except BaseException:
        for name in names:
            shutil.move(kept / name, path / name)
        kept.rmdir()
        raise
    return Restored(damaged=kept)


def _new_backup(path: Path, what: str) -> Path:
    """Return the name of a new file among the site's backups.

    Raises
    ------
    SiteError
        Their directory cannot be made.
    """
    directory = path / BACKUPS
    try:
        directory.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise SiteError(f"cannot make {directory}: {error.strerror}") from error
    moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    names = (f"{what}-{moment}{'' if n == 1 else f'-{n}'}" for n in range(1, 1000))
    free = (name for name in names if not os.path.lexists(directory / f"{name}.db"))
    return directory / f"{next(free)}.db"


# checks -----------------------------------------------------------------------------


class Check(msgspec.Struct, frozen=True):
    """What a check has found."""

    #: What the database system finds wrong with its files.
    damages: list[str]
    #: What it could not look at, and why; '' when it looked at everything.
    unchecked: str
    findings: list[Finding]
    #: Of these, what was mended.
    repaired: list[Finding] = []

    @property
    def is_sound(self) -> bool:
        return not self.damages and len(self.repaired) == len(self.findings)


def check(path: Path, *, mend: bool, say: Say) -> Check:
    """Look for what must not be in the site's database; with *mend* also put right what is safe.

    Raises
    ------
    StoreError
        The database cannot be read, or not mended; then nothing has changed.
    """
    database = database_of(path, say)
    administrator = database_of(path, say, role=roles.ADMINISTRATOR)
    with transactions.snapshot(database) as opened:
        replace.require_newest(opened)
    try:
        with transactions.undone(administrator) as opened:
            damages, unchecked = checks.damages(opened)
    except StoreUnreadable as error:
        return Check([str(error)], "", [])
    if not mend or damages:
        return Check(damages, unchecked, _findings(database, damages))
    with transactions.sole_writer(database) as opened:
        found = checks.findings(opened.connection)
        repair(opened.connection, found, transactions.now(opened))
        left = {finding.name for finding in checks.findings(opened.connection)}
    return Check(damages, unchecked, found, [f for f in found if f.name not in left])


def _findings(database: Database, damages: list[str]) -> list[Finding]:
    try:
        with transactions.snapshot(database) as opened:
            return checks.findings(opened.connection)
    except StoreUnreadable:
        if not damages:
            raise
        return []  # what is damaged cannot be asked


class Vacuum(msgspec.Struct, frozen=True):
    """Sizes of a database before and after it was vacuumed, in bytes."""

    before: int
    after: int


def room_to_vacuum(path: Path, say: Say) -> int:
    """Return how many bytes must be free beside the database to vacuum it."""
    with transactions.snapshot(database_of(path, say)) as opened:
        return vacuum.room_needed(opened)


def vacuum_site(path: Path, say: Say) -> Vacuum:
    """Give back the room of rows that are gone, and measure the tables for plans.

    Raises
    ------
    StoreFull
        There is not the room for it.
    StoreError
        It cannot be done. No row has changed in any case.
    """
    database = database_of(path, say)
    with transactions.snapshot(database) as opened:
        before = vacuum.size(opened)
    vacuum.vacuum(database)
    with transactions.snapshot(database) as opened:
        return Vacuum(before, vacuum.size(opened))


# where it is ------------------------------------------------------------------------


def database_of(path: Path, say: Say, *, role: str = roles.OWNER) -> Database:
    """Return the database of the site at *path*, whatever its revision; start its own server.

    Parameters
    ----------
    role
        Who we are to the site's own server.

    Raises
    ------
    SiteError
        The site has no database.
    ServerError
        Its server does not run and cannot be started.
    """
    settings = config.load(path).database
    match settings.url:
        case "sqlite":
            if not (path / FILE).is_file():
                raise SiteError(
                    f"the site {path} has no database ({path / FILE} is missing); put a backup"
                    " back with `balsam db restore`"
                )
            url = transactions.file_url(path / FILE)
            return Database(url, str(path), settings.busy_seconds)
        case "postgres":
            from balsam.cluster import server
            from balsam.cluster import url as cluster_url

            server.ensure(path, say)
            own = cluster_url(path, role=role)
            return Database(own, str(path), settings.busy_seconds)
        case other:
            return Database(other, str(path), settings.busy_seconds)


def place(path: Path, setting: str) -> str:
    """Return the database that the *setting* `database.url` means, without a password."""
    match setting:
        case "sqlite":
            return str(path / FILE)
        case "postgres":
            return str(path / "balsamdb")
    hidden = re.sub(r"(://[^:@/]*):[^@/]*@", r"\1:***@", setting)
    return re.sub(r"(password=)[^&]*", r"\1***", hidden)
