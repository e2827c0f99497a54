"""The care of a site, called as `balsam db` does."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import sqlalchemy as sa

from balsam.client import maintenance, relocation
from balsam.client.connect import silent
from balsam.client.local import LocalClient
from balsam.client.maintenance import Restored
from balsam.client.relocation import Copied


def quietly(_what: str, _done: int, _total: int) -> None:
    """Tell nobody of progress."""


def back_up(site: Path, file: Path | None = None) -> Path:
    written, _ = maintenance.back_up(site, file, silent, quietly)
    return written


def restore(site: Path, file: Path, *, force: bool = False) -> Restored:
    """As `balsam db restore`: nothing is begun with a damaged file."""
    maintenance.read_backup(file, quietly)
    return maintenance.restore(site, file, force=force, say=silent, tell=quietly)


def spoil(file: Path, statement: str) -> None:
    connection = sqlite3.connect(file)
    connection.execute(statement)
    connection.commit()
    connection.close()


def move(site: Path, to: str, *, switch: bool = True, overwrite: bool = False) -> Copied:
    return relocation.copy(site, to, switch=switch, overwrite=overwrite, say=silent, tell=quietly)


def damage(client: LocalClient, *statements: sa.Executable) -> None:
    """Change rows behind the store's back."""

    def work(connection: sa.Connection) -> None:
        for statement in statements:
            connection.execute(statement)

    client._store.write(work)
