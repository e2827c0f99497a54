"""What the care of a database needs of its system: one module for each, with the same functions."""

from __future__ import annotations

from typing import Any

from sqlalchemy.engine import Connection, Engine


def of(what: Connection | Engine) -> Any:
    """Return the module for the system of *what*."""
    if what.dialect.name == "postgresql":
        from balsam.store import postgres_upkeep

        return postgres_upkeep
    from balsam.store import sqlite_upkeep

    return sqlite_upkeep
