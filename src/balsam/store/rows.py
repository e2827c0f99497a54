"""Between rows and records."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from balsam.model.identity import JobIdentity
from balsam.model.job import DERIVED, Job, directory_name
from balsam.model.retry import Rule
from balsam.model.states import State
from balsam.store import dialect
from balsam.store.schema import Json, dependencies, jobs

R = TypeVar("R", bound=msgspec.Struct)

#: Fields of `Job` that are columns.
JOB_COLUMNS = tuple(str(column.name) for column in jobs.c)
_JSON = frozenset(column.name for column in jobs.c if isinstance(column.type, Json))
_PARENT_FIELDS = {"ok": "parents", "fail": "parents_failed", "any": "parents_any"}


def encode(value: Any) -> str:
    """Return *value* as the JSON text that the database keeps."""
    return msgspec.json.encode(value).decode()


def encoded(column: str, values: Sequence[Any]) -> Sequence[Any]:
    """Return values of a job's field as the driver takes them."""
    return [encode(value) for value in values] if column in _JSON else values


class JobReader:
    """Makes `Job` records from rows.

    Parameters
    ----------
    identity
        Gives the job's UUID and directory.
    data
        The directory that job directories are in.
    """

    def __init__(self, identity: JobIdentity, data: str) -> None:
        self._identity = identity
        self._data = data

    def columns(self, fields: Iterable[str] | None) -> list[sa.Column[Any]]:
        """Return the columns needed for *fields* (None: all)."""
        if fields is None:
            return list(jobs.c)
        wanted = {"id", *fields}
        if "workdir" in wanted:
            wanted |= {"name", "workflow", "user_workdir"}
        return [column for column in jobs.c if column.name in wanted]

    def read(
        self,
        connection: Connection,
        rows: Sequence[sa.Row[Any]],
        fields: Iterable[str] | None = None,
    ) -> list[Job]:
        """Return the jobs of *rows*, with the derived ones of *fields*; one query at most."""
        derived = [name for name in DERIVED if fields is None or name in set(fields)]
        result = []
        names = rows[0]._fields if rows else ()
        for row in rows:
            values = dict(zip(names, row, strict=True))  # `row._mapping` takes three times as long
            if "state" in values:
                values["state"] = State(values["state"])
            if values.get("retry"):
                values["retry"] = msgspec.convert(values["retry"], list[Rule])
            result.append(Job(**values))
        if "job_id" in derived:
            for job in result:
                job.job_id = self._identity.text(_id(job))
        if "workdir" in derived:
            for job in result:
                job.workdir = self.workdir(job)
        if any(name.startswith("parents") for name in derived):
            fill_parents(connection, result)
        return result

    def workdir(self, job: Job) -> str:
        """Return the job's directory, absolute."""
        if job.user_workdir:
            return job.user_workdir
        short = job.job_id[:8] or self._identity.short(_id(job))
        name = directory_name(job.name, short)
        return f"{self._data}/{job.workflow}/{name}"


def _id(job: Job) -> int:
    if job.id is None:
        raise ValueError(f"job {job.name!r} has no id yet")
    return job.id


def fill_parents(connection: Connection, found: list[Job]) -> None:
    """Fill the three lists of parents of *found* by one query."""
    by_id = {job.id: job for job in found}
    if not by_id:
        return
    edges = connection.execute(
        sa.select(dependencies)
        .where(dialect.among(dependencies.c.child, [_id(job) for job in found]))
        .order_by(dependencies.c.child, dependencies.c.parent)
    )
    lists: dict[tuple[int, str], list[int]] = {}
    for parent, child, kind in edges:
        lists.setdefault((child, _PARENT_FIELDS[kind]), []).append(parent)
    for (child, field), parents in lists.items():
        setattr(by_id[child], field, parents)


def reader_of(record: type[R], columns: Sequence[str]) -> Callable[[sa.Row[Any]], R]:
    """Return a function from a row of *columns* to a *record*."""

    names = [str(column) for column in columns]  # SQLAlchemy's own kind of str is refused

    def read(row: sa.Row[Any]) -> R:
        return msgspec.convert(dict(zip(names, row, strict=True)), record)

    return read
