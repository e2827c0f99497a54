"""Transfers: written as launchers report them, removed with their jobs."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from operator import attrgetter

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from balsam.model.identity import JobIdentity
from balsam.model.query import Query
from balsam.model.transfer import Transfer, TransferState
from balsam.store import dialect, select
from balsam.store.rows import reader_of
from balsam.store.schema import transfers

_COLUMNS = tuple(column.name for column in transfers.c)
_row = attrgetter(*_COLUMNS)


def fetch(connection: Connection, identity: JobIdentity, query: Query) -> list[Transfer]:
    """Return the transfers that *query* selects, by default by job, direction and number."""
    statement = (
        sa.select(transfers)
        .where(*select.conditions(query, "transfers"))
        .order_by(*select.ordering(query, "transfers"))
    )
    rows = connection.execute(select.sliced(statement, query))
    found = list(map(reader_of(Transfer, _COLUMNS), rows))
    for transfer in found:
        transfer.job_id = identity.text(transfer.job)
    return found


def save(connection: Connection, told: Sequence[Transfer], known: Collection[int]) -> None:
    """Write what a launcher *told* of transfers, but for jobs that are not among the *known*."""
    rows = [_row(transfer) for transfer in told if transfer.job in known]
    dialect.upsert_rows(connection, transfers, _COLUMNS, rows)


def stop(connection: Connection, launcher: int, now: float) -> None:
    """Note that what a launcher moved is moved no more: it has ended."""
    mine = sa.and_(transfers.c.launcher_id == launcher, transfers.c.ended_at.is_(None))
    ended = {"state": TransferState.STOPPED.value, "ended_at": now}
    connection.execute(sa.update(transfers).where(mine).values(**ended))
