"""The care of a site, called as `balsam db` does."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from balsam.client import maintenance
from balsam.client.connect import silent
from balsam.client.maintenance import Restored


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
