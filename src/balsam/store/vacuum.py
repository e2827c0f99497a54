"""The room that a database takes, and giving back what it does not need."""

from __future__ import annotations

from balsam.store import transactions, upkeep
from balsam.store.database import Database
from balsam.store.schema import metadata
from balsam.store.transactions import Transaction


def size(opened: Transaction) -> int:
    """Return how many bytes the database takes on the disk."""
    found: int = upkeep.of(opened.connection).size(opened.connection)
    return found


def room_needed(opened: Transaction) -> int:
    """Return how many bytes must be free beside the database to vacuum it."""
    found: int = upkeep.of(opened.connection).room_to_vacuum(opened.connection)
    return found


def vacuum(database: Database) -> None:
    """Close the gaps that removed rows left, and measure the tables for plans.

    Raises
    ------
    StoreFull
        There is not the room for it. Nothing has changed.
    StoreError
        It cannot be done. No row has changed.
    """
    with transactions.snapshot(database) as opened:
        upkeep.of(opened.connection).require_room(opened.connection)
    with transactions.no_transaction(database) as connection:
        upkeep.of(connection).vacuum(connection, list(metadata.tables))
