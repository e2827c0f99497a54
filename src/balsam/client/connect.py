"""Making and opening sites."""

from __future__ import annotations

import os
from pathlib import Path

from balsam import config
from balsam.client.interface import Client
from balsam.errors import BalsamError, SiteError


def open_client(path: Path) -> Client:
    """Return a client for the site at *path*; close it when done.

    Raises
    ------
    SiteError
        There is no site.
    StoreError
        Its database cannot be used.
    """
    from balsam.client.local import LocalClient

    if path.is_dir() and not os.access(path, os.X_OK):
        raise SiteError(f"you may not enter the directory {path}; ask its owner")
    if not config.is_site(path):
        raise SiteError(f"there is no Balsam site at {path}; make it with `balsam init {path}`")
    settings = config.load(path)
    if settings.database.url == "sqlite" and not (path / "balsam.db").is_file():
        raise SiteError(f"the site {path} has no database ({path / 'balsam.db'} is missing)")
    return LocalClient(path.resolve(), settings)


def create_site(path: Path) -> None:
    """Make a site at *path*: directories, settings and an empty database.

    Raises
    ------
    AlreadyExists, SiteError
        There is a site already; the directory cannot be used. Nothing is changed.
    """
    from balsam.client.local import database_url
    from balsam.store.engine import create_database

    path = path.absolute()
    config.create_site_directory(path)
    try:
        create_database(database_url(path, config.load(path)), str(path / "balsam.db"))
    except BalsamError:
        (path / config.SETTINGS_FILE).unlink()
        raise
