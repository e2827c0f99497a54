"""Services: one live a site, held by a lease as launchers hold theirs."""

from __future__ import annotations

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from balsam.errors import ServiceRuns
from balsam.model import records
from balsam.model.service import ServiceInfo, ServiceStatus
from balsam.store import dialect
from balsam.store.rows import reader_of
from balsam.store.schema import services

_NAMES = [field.name for field in records.fields(ServiceInfo)]


def last(connection: Connection) -> ServiceInfo | None:
    """Return the service that was started last, running or not."""
    columns = (services.c[name] for name in _NAMES)
    row = connection.execute(sa.select(*columns).order_by(services.c.id.desc()).limit(1)).first()
    return None if row is None else reader_of(ServiceInfo, _NAMES)(row)


def register(connection: Connection, info: ServiceInfo, now: float, expires_at: float) -> int:
    """Enter a service and return its id; one whose lease has run out is ended before.

    Raises
    ------
    ServiceRuns
        Another one lives.
    """
    dialect.one_at_a_time(connection, "balsam-service")
    before = last(connection)
    if before is not None and before.ended_at is None:
        if before.expires_at >= now:
            raise ServiceRuns(
                f"the site has a service already: process {before.pid} on {before.host}, of"
                f" {before.owner}; see `balsam service status`, `balsam service stop`"
            )
        end(connection, before.id, "it gave no sign of life", now)
    values = msgspec.structs.asdict(info) | {"started_at": now, "expires_at": expires_at}
    del values["id"]
    # What was known stays known until the new one knows better.
    values["status"] = msgspec.to_builtins(before.status if before else info.status)
    statement = services.insert().values(**values).returning(services.c.id)
    return int(connection.execute(statement).scalar_one())


def renew(connection: Connection, service: int, status: ServiceStatus, expires_at: float) -> bool:
    """Prolong the lease, note *status*; tell whether the service has been asked to stop."""
    values = {"expires_at": expires_at, "status": msgspec.to_builtins(status)}
    row = connection.execute(
        sa.update(services)
        .where(services.c.id == service, services.c.ended_at.is_(None))
        .values(**values)
        .returning(services.c.stop_requested)
    ).first()
    if row is None:
        check_live(connection, service)
        return True
    return bool(row.stop_requested)


def check_live(connection: Connection, service: int) -> None:
    """Raise `ServiceRuns` when *service* has ended; it does not before this transaction does."""
    statement = sa.select(services.c.ended_at).where(services.c.id == service)
    row = connection.execute(statement.with_for_update(read=True)).first()
    if row is None or row.ended_at is not None:
        raise ServiceRuns(f"service {service} was ended, and may be followed by another")


def request_stop(connection: Connection) -> bool:
    """Ask the live service to stop; tell whether there is one."""
    asked = connection.execute(
        sa.update(services).where(services.c.ended_at.is_(None)).values(stop_requested=True)
    )
    return bool(asked.rowcount)


def end(connection: Connection, service: int, message: str, now: float) -> None:
    """Note the end of a service."""
    connection.execute(
        sa.update(services)
        .where(services.c.id == service, services.c.ended_at.is_(None))
        .values(ended_at=now, message=message)
    )
