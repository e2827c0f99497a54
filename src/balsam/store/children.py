"""What is below jobs that end: their children that wait, read for a whole cascade at once."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from balsam.model.graph import Kind
from balsam.model.states import State
from balsam.store import dialect
from balsam.store.schema import apps, dependencies, jobs


def locked(statement: sa.Select[Any], *, to_delete: bool = False) -> sa.Select[Any]:
    """Return *statement* on jobs with the rows kept to this transaction, where rows have locks.

    Always in the order of ids: who locks in one order seldom meets head-on.
    """
    return statement.order_by(jobs.c.id).with_for_update(key_share=not to_delete)


def names(connection: Connection, ids: Collection[int]) -> dict[int, str]:
    """Return the names of the jobs *ids*."""
    if not ids:
        return {}
    statement = sa.select(jobs.c.id, jobs.c.name).where(dialect.among(jobs.c.id, list(ids)))
    return {row.id: row.name for row in connection.execute(statement)}


#: Apps that have a preprocess hook, as a command or in Python: looked up once a statement.
_PREPARING = sa.select(apps.c.name).where(
    sa.or_(
        apps.c.preprocess != "",
        dialect.has_text(dialect.json_text(apps.c.function), '"preprocess"'),
    )
)
#: Whether a job has something to do before it can run, in SQL.
NEEDS_PREPARATION = sa.or_(
    jobs.c.input_files != "", jobs.c.stage_in_url != "", jobs.c.application.in_(_PREPARING)
)


#: Child, parent, and what the child needs of it.
Edge = tuple[int, int, Kind]


class Waiting(NamedTuple):
    """A job that waits for its parents."""

    name: str
    pending: int  #: parents that it waits for
    prepare: bool  #: it is READY then, and has something to do before it can run


class Children:
    """Those of jobs that end, and of what ends with them; read as they are needed.

    *waiting* has those that wait for parents, which are locked; the others do not matter.
    """

    def __init__(self, connection: Connection) -> None:
        self.waiting: dict[int, Waiting] = {}
        self._connection = connection
        self._edges: dict[int, list[tuple[int, Kind]]] = {}
        self._seen: set[int] = set()

    def of(self, ended: dict[int, State]) -> list[Edge]:
        """Return the edges of those that wait for *ended*."""
        if not self._edges:  # hardly ever more than the first level
            self._read(list(ended))
        elif new := {job: state for job, state in ended.items() if job not in self._edges}:
            # Whatever else falls is found inside of the database, however many levels there are.
            finished = {job: state == State.JOB_FINISHED for job, state in new.items()}
            self._read([*new, *self._lock(dialect.falling(self._connection, finished))])
        return [
            (child, parent, kind)
            for parent in sorted(ended)
            for child, kind in self._edges[parent]
            if child in self.waiting
        ]

    def names(self, ids: Collection[int]) -> dict[int, str]:
        """Return the names of *ids*."""
        known = {job: self.waiting[job].name for job in ids if job in self.waiting}
        return known | names(self._connection, set(ids) - known.keys())

    def _read(self, parents: list[int]) -> None:
        """Read the edges below *parents*, which nobody else can add to now."""
        self._edges |= {parent: [] for parent in parents}
        statement = sa.select(dependencies.c.parent, dependencies.c.child, dependencies.c.kind)
        rows = self._connection.execute(
            statement.where(dialect.among(dependencies.c.parent, parents)).order_by(
                dependencies.c.parent, dependencies.c.child
            )
        )
        for parent, child, kind in rows:
            self._edges[parent].append((child, Kind(kind)))
        self._lock([child for parent in parents for child, _ in self._edges[parent]])

    def _lock(self, ids: Iterable[int]) -> list[int]:
        """Lock those of *ids* that wait; return those whose own edges were not read yet."""
        ids = list(dict.fromkeys(ids))
        new = [job for job in ids if job not in self._seen]
        if new:
            self._seen.update(new)
            columns = jobs.c.id, jobs.c.name, jobs.c.pending_parents, NEEDS_PREPARATION
            rows = self._connection.execute(
                locked(
                    sa.select(*columns).where(
                        dialect.among(jobs.c.id, new), jobs.c.state == State.AWAITING_PARENTS
                    )
                )
            )
            for job, name, pending, prepare in rows:
                self.waiting[job] = Waiting(name, pending, bool(prepare))
        return [job for job in ids if job in self.waiting and job not in self._edges]
