"""Making and opening sites."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from balsam import config, settings_file
from balsam.client.interface import Client
from balsam.errors import BalsamError, InvalidInput, SiteError, StoreError, StoreUnreadable
from balsam.model import roles

if TYPE_CHECKING:
    from balsam.client.local import LocalClient

#: What making a site puts into its directory.
MADE = (
    config.SETTINGS_FILE,
    *settings_file.SUBDIRECTORIES,
    "balsam.db",
    "balsam.db-wal",
    "balsam.db-shm",
    "balsamdb",
    "pgpass",
    "server-info",
)
Say = Callable[[str], None]


def silent(_text: str) -> None:
    """Tell nobody."""


def open_client(path: Path, say: Say = silent) -> Client:
    """Return a client for the site at *path*; close it when done.

    A site's own server is started when it does not run, which *say* is told.

    Raises
    ------
    SiteError
        There is no site.
    ServerError
        Its server does not run and cannot be started.
    StoreError
        Its database cannot be used.
    """
    if path.is_dir() and not os.access(path, os.X_OK):
        raise SiteError(f"you may not enter the directory {path}; ask its owner")
    if not config.is_site(path):
        raise SiteError(f"there is no Balsam site at {path}; make it with `balsam init {path}`")
    path = path.resolve()
    settings = config.load(path)
    match settings.database.url:
        case "sqlite":
            if not (path / "balsam.db").is_file():
                raise SiteError(
                    f"the site {path} has no database ({path / 'balsam.db'} is missing)"
                )
        case "postgres":
            _require_driver(settings)
            return _open_on_own_server(path, settings, say)
    _require_driver(settings)
    return _open(path, settings)


def _require_driver(settings: config.Settings) -> None:
    if settings.database.url.startswith("postgres") and not importlib.util.find_spec("psycopg"):
        raise StoreError(
            "PostgreSQL needs the package psycopg: run `pip install 'balsam-flow[postgres]'`"
        )


def _open(path: Path, settings: config.Settings) -> LocalClient:
    from balsam.client.local import LocalClient

    return LocalClient(path, settings)


def _open_on_own_server(path: Path, settings: config.Settings, say: Say) -> LocalClient:
    from balsam.cluster import address, server

    server.ensure(path, say)
    try:
        return _open(path, settings)
    except StoreUnreadable as error:
        if "password" not in str(error):
            raise
        advice = (
            f"the password file {path / 'pgpass'} is not the one of this database:"
            f" `balsam server --reset --site {path}` makes a new one"
            if address.is_owner(path)
            else f"ask the site's owner for `balsam server --add-user {config.user_name()}` and put"
            " the line that it prints into ~/.pgpass (mode 600)"
        )
        raise StoreUnreadable(f"{error}; {advice}") from error


def create_site(
    path: Path,
    database: str | None = None,
    *,
    listen: str = "",
    say: Say = silent,
    sync: bool = True,
) -> None:
    """Make a site at *path*: directories, settings and an empty database.

    Parameters
    ----------
    database
        'sqlite', 'postgres' (a server of the site's own, which then runs) or the URL of an empty
        database on a server that is there. None: what the user's settings say.
    listen
        Where the site's own server is to listen for other hosts (see `DatabaseSettings`).
    sync
        Wait until a server's files are on the disk; only what is thrown away soon can do without.

    Raises
    ------
    AlreadyExists, InvalidInput, SiteError, ServerError, StoreError
        There is a site already, or it cannot be made. Nothing of it is left.
    """
    path = path.absolute()
    values = _values(database, listen)
    parents = [parent for parent in (path, *path.parents) if not parent.exists()]
    new = [name for name in MADE if not os.path.lexists(path / name)]
    try:
        settings_file.create_site_directory(path, values)
    except BalsamError:
        _remove_empty(parents)
        raise
    try:
        settings = config.load(path)
        _require_driver(settings)
        if settings.database.url == "postgres":
            _create_on_own_server(path, settings, say, sync)
        else:
            _create_database(path, settings)
    except BaseException:
        for name in new:
            _remove(path / name)
        _remove_empty(parents)
        raise


def _values(database: str | None, listen: str) -> dict[str, Any]:
    """Return what a new site's settings file says of its database.

    What it would say anyway is left out; what only the user's settings say is put in, for
    these may change, and the site's database stays where it is.
    """
    users = config.load(None).database
    chosen = config.DatabaseSettings(url=database or users.url, listen=listen or users.listen)
    if listen and chosen.url != "postgres":
        raise InvalidInput("only a server of the site's own listens; add --database postgres")
    default = config.DatabaseSettings()
    values = {}
    if chosen.url != default.url or chosen.url != users.url:
        values["database.url"] = chosen.url
    if chosen.url == "postgres" and chosen.listen != default.listen:
        values["database.listen"] = chosen.listen
    return values


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _remove_empty(directories: list[Path]) -> None:
    """Remove *directories*, innermost first, as far as there is nothing in them."""
    try:
        for directory in directories:
            directory.rmdir()
    except OSError:
        pass  # was not made, or somebody put something in


def _create_database(path: Path, settings: config.Settings) -> None:
    from balsam.client.local import database_url
    from balsam.store.engine import create_database

    is_file = settings.database.url == "sqlite"
    create_database(database_url(path, settings), str(path / "balsam.db" if is_file else path))


def _create_on_own_server(path: Path, settings: config.Settings, say: Say, sync: bool) -> None:
    from balsam.cluster import server

    make_own_server(path, say, sync)
    try:
        _create_database(path, settings)
    except BaseException:
        server.discard(path)
        raise


def make_own_server(path: Path, say: Say, sync: bool = True) -> None:
    """Make a server in the site, with an empty database, and start it."""
    from balsam.cluster import files, passwords, server, url
    from balsam.store import users

    files.create(path, sync=sync)
    try:
        server.start(path, say=say)
        secret = passwords.read(path)
        maintenance = url(path, role=roles.ADMINISTRATOR, database="postgres")
        users.prepare_server(maintenance, str(path), secret[roles.OWNER])
        users.administer(url(path, role=roles.ADMINISTRATOR), str(path), users.grant)
    except BaseException:
        server.discard(path)
        raise
