"""Moving a site to another database."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from balsam import config, settings_file
from balsam.client.connect import Say, make_own_server
from balsam.client.maintenance import FILE, Contents, Tell, database_of, place
from balsam.errors import InvalidInput, SiteError
from balsam.store import replace, transactions
from balsam.store.database import Database
from balsam.store.transactions import Transaction

SETTING = "database.url"


class Copied(msgspec.Struct, frozen=True):
    """A copy of a site's database."""

    #: Where the rows came from; they are still there.
    source: str
    target: str
    tables: dict[str, Contents]
    #: Whether the site goes on in the copy.
    switched: bool


def copy(path: Path, to: str, *, switch: bool, overwrite: bool, say: Say, tell: Tell) -> Copied:
    """Copy all rows of the site into another database, of one moment and verified.

    Nobody else writes meanwhile. With *switch* the site then goes on in the copy: its setting
    is changed, and the old database is closed: who still has it open, maybe waiting to write,
    is refused.

    Parameters
    ----------
    to
        'sqlite', 'postgres' or a URL, as the setting `database.url`.
    overwrite
        Replace an older copy of this site.

    Raises
    ------
    InvalidInput
        It is the database in use, or no address of one.
    AlreadyExists
        There is a copy already, or something else.
    StoreBusy
        Launchers work on the site; they are named.
    BalsamError
        It cannot be done. The site goes on where it was, and there is no half of a copy.
    """
    current = config.load(path).database.url
    _check_setting(path, to, current)
    if switch:  # known before hours of work, not after
        settings_file.with_setting(path, SETTING, to)
        if not os.access(path, os.W_OK):
            raise SiteError(f"cannot change {path / config.SETTINGS_FILE}: you may not write there")
    with transactions.sole_writer(database_of(path, say)) as opened:
        replace.require_newest(opened)
        transactions.require_idle(opened)
        tables = _copy(path, to, opened, overwrite, say, tell)
        if switch:
            settings_file.change_setting(path, SETTING, to)
            replace.close(
                opened,
                f"the site's database is at {place(path, to)} since it was copied there; run this"
                " again. Only to go on here instead: `balsam db check --repair`",
            )
    if switch and current == "postgres":
        from balsam.cluster import server

        server.stop(path, say=say)
    return Copied(place(path, current), place(path, to), tables, switch)


def _check_setting(path: Path, to: str, current: str) -> None:
    config.DatabaseSettings(url=to)
    if to == current:
        raise InvalidInput(f"the site's database is at {place(path, to)} already")
    if "://" in to and not urlsplit(to).scheme.startswith("postgres"):
        raise InvalidInput(
            f"{place(path, to)} is no place for a copy; give sqlite, postgres or"
            " postgresql://USER@HOST/NAME"
        )


def _copy(
    path: Path, to: str, source: Transaction, overwrite: bool, say: Say, tell: Tell
) -> dict[str, Contents]:
    if to == "sqlite":
        file = path / FILE
        if not os.path.lexists(file):
            return replace.copy_to_file(source, file, tell)
        database = Database(transactions.file_url(file), str(file), source.database.busy_seconds)
        return replace.copy_over(source, database, overwrite, tell)
    if to == "postgres":
        with _own_server(path, say) as url:
            database = Database(url, place(path, to), source.database.busy_seconds)
            return replace.copy_over(source, database, overwrite, tell)
    database = Database(to, place(path, to), source.database.busy_seconds)
    return replace.copy_over(source, database, overwrite, tell)


@contextmanager
def _own_server(path: Path, say: Say) -> Iterator[str]:
    """Yield the URL of the database on the site's own server, which is made if there is none.

    One that was made is removed again when the copy fails.
    """
    from balsam.cluster import files, server, server_info, url
    from balsam.cluster.postmaster import DATA

    data, info = path / DATA, path / server_info.FILE
    made, known = not data.exists(), info.exists()
    if made:
        say(f"making a database server in {data}")
    try:
        if made:
            make_own_server(path, say)
        else:
            server.ensure(path, say)
        yield url(path)
    except BaseException:
        if made:
            server.discard(path)
            files.remove(path)
            if not known:
                info.unlink(missing_ok=True)
        raise
