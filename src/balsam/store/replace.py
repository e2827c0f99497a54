"""The rows of one database in place of another's: a backup put back, a site moved."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa

from balsam.errors import AlreadyExists, InvalidInput
from balsam.store import backup, copy, dialect, launchers, revisions, transactions, upkeep
from balsam.store.copy import Contents, Tell
from balsam.store.database import Database
from balsam.store.schema import REVISION, counters, events, jobs, metadata
from balsam.store.schema import launchers as launcher_table
from balsam.store.transactions import Transaction

#: How far numbers go on when those that a lost database has given are not known.
UNKNOWN = 100_000


def restore(
    file: Path, target: Database, present: Path, site: str, force: bool, tell: Tell
) -> backup.Backup:
    """Have the rows of the backup *file* instead of those of the site's database.

    What is there now is written to *present* first. Who held jobs when the backup was made has
    lost them: such launchers are ended.

    Parameters
    ----------
    force
        Also take the backup of another site, which the site then is.

    Raises
    ------
    StoreBusy
        A launcher works on the site.
    InvalidInput
        The backup is another site's.
    StoreError
        It cannot be done. The site's database is as it was.
    """
    with _newest(file, present.parent) as source, transactions.sole_writer(target) as opened:
        transactions.require_idle(opened)
        if not force:
            _require_same(source, opened)
        kept = backup.write(opened, present, site, tell)
        revisions.upgrade(opened.connection)
        _refill(source, opened, tell)
        _end_launchers(opened)
    return kept


def restore_lost(file: Path, new: Path, tell: Tell) -> None:
    """Make a site's file *new* of the backup *file*; what the site had given numbers to is lost.

    Numbers go on far above those of the backup: what is still running has smaller ones.

    Raises
    ------
    StoreError
        It cannot be done. There is nothing at *new*.
    """
    with _newest(file, new.parent) as source, transactions.new_file(new, for_site=True) as opened:
        revisions.upgrade(opened.connection)
        copy.fill(source, opened, tell)
        _end_launchers(opened)
        last = _last_launcher(opened) + UNKNOWN
        message = "none: stands for those of a database that was lost"
        row = {
            "id": last,
            "host": "",
            "pid": 0,
            "ended_at": transactions.now(opened),
            "message": message,
        }
        opened.connection.execute(launcher_table.insert().values(**row))
        _count_on(opened, _last_job(opened) + UNKNOWN)


def copy_to_file(source: Transaction, file: Path, tell: Tell) -> dict[str, Contents]:
    """Copy a site into the new file of a site.

    Raises
    ------
    AlreadyExists
        There is something at *file*.
    StoreError
        It cannot be done. There is nothing at *file*.
    """
    with transactions.new_file(file, for_site=True) as opened:
        revisions.upgrade(opened.connection)
        return copy.fill(source, opened, tell)


def copy_over(
    source: Transaction, target: Database, overwrite: bool, tell: Tell
) -> dict[str, Contents]:
    """Copy a site into the database *target*, which is empty or an older copy of it.

    Raises
    ------
    AlreadyExists
        There is a copy, or another site.
    InvalidInput
        *source* and *target* are the same.
    StoreError
        It cannot be done. *target* is as it was.
    """
    with transactions.snapshot(target) as seen:
        one, other = source.connection, seen.connection
        if one.dialect.name == other.dialect.name and upkeep.of(one).is_same(one, other):
            raise InvalidInput(f"the site's database is at {target.name} already")
    with transactions.sole_writer(target) as opened:
        dialect.one_at_a_time(opened.connection, "schema")
        if target.is_server and not revisions.is_there(opened.connection):
            revisions.upgrade(opened.connection)
            sent = copy.fill(source, opened, tell)
        else:
            _require_copy(source, opened, overwrite)
            revisions.upgrade(opened.connection)
            sent = _refill(source, opened, tell)
        upkeep.of(opened.connection).measure(opened.connection)
        return sent


def _require_copy(source: Transaction, target: Transaction, overwrite: bool) -> None:
    revisions.found(target.connection, target.name)
    if backup.site_key(source) != backup.site_key(target):
        raise AlreadyExists(f"there is another site's database at {target.name}; it stays")
    if not overwrite:
        raise AlreadyExists(
            f"there is a copy of this site at {target.name} already; add --overwrite to have it"
            " replaced"
        )
    transactions.require_idle(target)


def close(opened: Transaction, message: str) -> None:
    """Refuse, with *message*, all that others would still write, now and for ever.

    They have it open, maybe wait to write; what they wrote now would be lost.
    """
    upkeep.of(opened.connection).close(opened.connection, list(metadata.tables), message)


def require_newest(opened: Transaction) -> None:
    """Raise `StoreVersion` unless the database is of the newest revision."""
    revisions.require_newest(revisions.found(opened.connection, opened.name), opened.name)


@contextmanager
def _newest(file: Path, aside: Path) -> Iterator[Transaction]:
    """Yield the backup *file*, or what an upgrade makes of a copy of it in *aside*."""
    with transactions.snapshot(transactions.reading_file(file)) as opened:
        if revisions.found(opened.connection, opened.name) == REVISION:
            yield opened
            return
    with tempfile.TemporaryDirectory(prefix="upgraded-", dir=aside) as directory:
        other = Path(directory) / "backup.db"
        shutil.copyfile(file, other)
        database = Database(transactions.file_url(other), str(file), transactions.OWN_FILE_SECONDS)
        with transactions.sole_writer(database) as opened:
            revisions.upgrade(opened.connection)
        with transactions.snapshot(database) as opened:
            yield opened


def _require_same(source: Transaction, target: Transaction) -> None:
    if backup.site_key(source) != backup.site_key(target):
        raise InvalidInput(
            f"{source.name} is a backup of another site; add --force to make this one the other:"
            " its jobs will have the other's identities and directories"
        )


def _refill(source: Transaction, target: Transaction, tell: Tell) -> dict[str, Contents]:
    """Have the rows of *source* instead of those of *target*; both are of the newest revision.

    No number of a job or launcher is given again that either has given. Launchers that
    *target* alone knows are kept, as ended.
    """
    connection, system = target.connection, upkeep.of(target.connection)
    number = _last_job(target)
    last = _last_launcher(source)
    table = next(t for t in copy.tables(connection) if t.name == launcher_table.name)
    kept = [row for rows in copy.pages(target, table, table.c.id > last) for row in rows]
    system.reopen(connection)
    system.empty(connection, metadata.sorted_tables)
    sent = copy.fill(source, target, tell)
    dialect.insert_rows(connection, launcher_table, [c.name for c in table.c], kept)
    connection.execute(
        sa.update(launcher_table)
        .where(launcher_table.c.id > last, launcher_table.c.ended_at.is_(None))
        .values(ended_at=transactions.now(target), message="the site's database was replaced")
    )
    system.raise_ids(connection, [launcher_table])
    _count_on(target, max(number, _last_job(target)))
    return sent


def _end_launchers(opened: Transaction) -> None:
    """End the launchers that worked when a backup was made: they lead no such life any more."""
    message = "the site's database was restored from a backup"
    for info in launchers.fetch(opened.connection, live=True):
        launchers.retire(
            opened.connection,
            info.id,
            message,
            lost=False,
            crash_limit=0,
            now=transactions.now(opened),
        )


def _last_launcher(opened: Transaction) -> int:
    return int(opened.connection.scalar(sa.select(sa.func.max(launcher_table.c.id))) or 0)


def _last_job(opened: Transaction) -> int:
    """Return the highest number that was given to a job, whether or not it is still there."""
    given = sa.select(counters.c.value).where(counters.c.name == "job")
    used = (sa.select(sa.func.max(column)) for column in (jobs.c.id, events.c.job))
    return max(opened.connection.scalar(statement) or 0 for statement in (given, *used))


def _count_on(opened: Transaction, number: int) -> None:
    """Have new jobs numbered from above *number*."""
    of_jobs = counters.c.name == "job"
    changed = opened.connection.execute(
        sa.update(counters).where(of_jobs).values(value=number)
    ).rowcount
    if not changed:
        opened.connection.execute(counters.insert().values(name="job", value=number))
