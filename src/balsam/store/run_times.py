"""Run times of apps, learned from the reports of launchers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from balsam.model.run_time import Moments, RunTime, moments
from balsam.store.schema import run_times

#: An app, and how many ranks of it.
Key = tuple[str, int]

#: `model.run_time.joined` in SQL: on the right are the values before.
_JOIN = sa.text("""
INSERT INTO run_times (application, ranks, count, mean_seconds, m2)
VALUES (:application, :ranks, :count, :mean_seconds, :m2)
ON CONFLICT (application, ranks) DO UPDATE SET
  count = run_times.count + excluded.count,
  mean_seconds = run_times.mean_seconds
    + (excluded.mean_seconds - run_times.mean_seconds)
    * excluded.count / (run_times.count + excluded.count),
  m2 = run_times.m2 + excluded.m2
    + (excluded.mean_seconds - run_times.mean_seconds)
    * (excluded.mean_seconds - run_times.mean_seconds)
    * run_times.count * excluded.count / (run_times.count + excluded.count)
""")


def learn(connection: Connection, seconds: Mapping[Key, Sequence[float]]) -> None:
    """Count runs that took *seconds*.

    Where rows have locks, many launchers meet at these few: call it last in a transaction. The
    rows are taken in one order, so that none waits for another in a circle.
    """
    rows = []
    for (application, ranks), times in sorted(seconds.items()):
        found = moments(times)
        if found:
            rows.append(
                {
                    "application": application,
                    "ranks": ranks,
                    "count": found.count,
                    "mean_seconds": found.mean_seconds,
                    "m2": found.m2,
                }
            )
    if rows:
        connection.execute(_JOIN, rows)


def fetch(connection: Connection, applications: Iterable[str] | None = None) -> list[RunTime]:
    """Return what was learned of *applications* (None: of all), by name and ranks."""
    table = run_times.c
    statement = sa.select(
        table.application, table.ranks, table.count, table.mean_seconds, table.m2
    ).order_by(table.application, table.ranks)
    if applications is not None:
        statement = statement.where(table.application.in_(list(applications)))
    return [
        RunTime(
            application=application,
            ranks=ranks,
            count=count,
            mean_seconds=mean,
            deviation=Moments(count, mean, m2).deviation,
        )
        for application, ranks, count, mean, m2 in connection.execute(statement)
    ]


def forget(connection: Connection, applications: Sequence[str]) -> None:
    """Forget what was learned of *applications*: what they run now is something else."""
    connection.execute(sa.delete(run_times).where(run_times.c.application.in_(applications)))


def rename(connection: Connection, old: str, new: str) -> None:
    """Have what was learned of the app *old* under its new name."""
    if new == old:
        return
    forget(connection, [new])
    renamed = sa.update(run_times).where(run_times.c.application == old)
    connection.execute(renamed.values(application=new))
