"""Apps: registered programs."""

from __future__ import annotations

from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from balsam.errors import AlreadyExists
from balsam.model.app import App
from balsam.model.query import Query
from balsam.store import run_times, select
from balsam.store.rows import reader_of
from balsam.store.schema import apps, jobs

#: Names that one statement takes.
PART = 5000
_COLUMNS = [column.name for column in apps.c]


def insert(connection: Connection, app: App) -> App:
    """Insert *app* and return it with its id; raises `AlreadyExists`."""
    if connection.execute(sa.select(apps.c.id).where(apps.c.name == app.name)).first():
        raise AlreadyExists(
            f"there is an app {app.name!r} already; change it with `balsam modify --type apps`"
        )
    values = msgspec.structs.asdict(app)
    del values["id"]
    statement = apps.insert().values(**values).returning(apps.c.id)
    return msgspec.structs.replace(app, id=connection.execute(statement).scalar_one())


def fetch(connection: Connection, query: Query) -> list[App]:
    statement = (
        sa.select(apps)
        .where(*select.conditions(query, "apps"))
        .order_by(*select.ordering(query, "apps"))
    )
    return list(map(reader_of(App, _COLUMNS), connection.execute(select.sliced(statement, query))))


def named(connection: Connection, names: set[str]) -> dict[str, App]:
    """Return the apps that exist among *names*, with what matters for new jobs."""
    columns = ("name", "executable", "preprocess", "parameters", "function")
    statement = sa.select(*(apps.c[name] for name in columns)).where(apps.c.name.in_(names))
    read = reader_of(App, columns)
    return {app.name: app for app in map(read, connection.execute(statement))}


def all_names(connection: Connection) -> list[str]:
    return list(connection.execute(sa.select(apps.c.name).order_by(apps.c.name)).scalars())


def update(connection: Connection, query: Query, changes: dict[str, Any]) -> int:
    """Set *changes* in the selected apps; return how many.

    One that runs another program then has no run times; those of one that is renamed stay.
    """
    selected = apps.c.id.in_(select.ids(query, "apps"))
    rows = connection.execute(sa.select(apps.c.name, apps.c.executable).where(selected))
    chosen = {row.name: row.executable for row in rows}
    if "name" in changes:
        taken = sa.select(apps.c.id).where(apps.c.name == changes["name"], sa.not_(selected))
        if len(chosen) > 1 or connection.execute(taken).first():
            raise AlreadyExists(f"there can be only one app {changes['name']!r}")
    if changes:
        connection.execute(sa.update(apps).where(selected).values(**changes))
    if "executable" in changes:
        others = [name for name, before in chosen.items() if before != changes["executable"]]
        run_times.forget(connection, others)
    if "name" in changes:
        for name in chosen:
            run_times.rename(connection, name, changes["name"])
    return len(chosen)


def delete(connection: Connection, query: Query) -> int:
    """Remove the selected apps, with what was learned of them; return how many."""
    statement = sa.delete(apps).where(apps.c.id.in_(select.ids(query, "apps")))
    names = list(connection.scalars(statement.returning(apps.c.name)))
    run_times.forget(connection, names)
    return len(names)


def unused(connection: Connection, names: list[str]) -> list[str]:
    """Return those of the apps *names* that no job is of, in order."""
    found: set[str] = set()
    for start in range(0, len(names), PART):
        some = names[start : start + PART]
        there = set(connection.scalars(sa.select(apps.c.name).where(apps.c.name.in_(some))))
        having = sa.select(jobs.c.application).where(jobs.c.application.in_(there)).distinct()
        found |= there - set(connection.scalars(having))
    return sorted(found)


def delete_unused(connection: Connection, names: list[str]) -> list[str]:
    """Remove those of the apps *names* that no job is of; return them, in order."""
    gone = unused(connection, names)
    for start in range(0, len(gone), PART):
        some = gone[start : start + PART]
        connection.execute(sa.delete(apps).where(apps.c.name.in_(some)))
        run_times.forget(connection, some)
    return gone
