"""The client that opens the site's database itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from balsam.client.checks import NewJobs, check_app, check_changes
from balsam.config import Settings, user_name
from balsam.errors import InvalidInput
from balsam.model.app import App
from balsam.model.batch_job import BatchJob
from balsam.model.graph import Kind
from balsam.model.identity import JobIdentity
from balsam.model.job import Job
from balsam.model.query import ALL, Filter, Query
from balsam.model.states import State
from balsam.model.wire import (
    Attempt,
    Event,
    LauncherInfo,
    Lease,
    LeaseRequest,
    Outlook,
    Refusal,
    Renewal,
    Report,
)
from balsam.store import apps, events, graph, jobs, launchers, reports
from balsam.store.bell import Bell, ring
from balsam.store.engine import Store
from balsam.store.rows import JobReader


class LocalClient:
    """`Client` on the database of the site at *path* (see `interface.Client`).

    Parameters
    ----------
    clock
        Gives the time of events, in seconds since the epoch.
    """

    def __init__(
        self, path: Path, settings: Settings, clock: Callable[[], float] = time.time
    ) -> None:
        self.path = path
        self._clock = clock
        self._store = Store(database_url(path, settings), str(path), settings.database.busy_seconds)
        self.identity = JobIdentity(self._store.key)
        self._reader = JobReader(self.identity, str(path / "data"))
        self._bells = path / "run"
        self._own_bells: set[str] = set()

    def close(self) -> None:
        self._store.close()

    # apps
    def add_app(self, app: App) -> App:
        check_app(app)
        with self._store.writing() as connection:
            return apps.insert(connection, app)

    def apps(self, query: Query = ALL) -> list[App]:
        with self._store.reading() as connection:
            return apps.fetch(connection, query)

    def update_apps(self, query: Query, changes: dict[str, Any]) -> int:
        checked = check_changes(App, changes)
        with self._store.writing() as connection:
            return apps.update(connection, query, checked)

    def delete_apps(self, query: Query) -> int:
        with self._store.writing() as connection:
            return apps.delete(connection, query)

    # jobs
    def create_jobs(self, new: list[Job]) -> list[int]:
        checked = NewJobs(new)
        if not new:
            return []
        with self._store.writing() as connection:
            hooks = apps.names_and_hooks(connection, checked.applications)
            checked.check_apps(hooks, lambda: apps.all_names(connection))
            jobs.require(connection, checked.outside_parents)
            preparing = {name for name, hook in hooks.items() if hook}
            ids = jobs.insert(connection, new, checked.edges, preparing, user_name(), self._clock())
        self._ring()
        return list(ids)

    def jobs(self, query: Query = ALL, fields: Iterable[str] | None = None) -> list[Job]:
        with self._store.reading() as connection:
            return jobs.fetch(connection, self._reader, query, fields)

    def iterate_jobs(
        self, query: Query = ALL, fields: Iterable[str] | None = None, page: int = 2000
    ) -> Iterator[Job]:
        fields = None if fields is None else [*fields, "id"]
        return _by_pages(query, page, lambda part: self.jobs(part, fields))

    def count_jobs(self, query: Query = ALL) -> int:
        with self._store.reading() as connection:
            return jobs.count(connection, query)

    def state_counts(self, query: Query = ALL) -> dict[State, int]:
        with self._store.reading() as connection:
            return jobs.state_counts(connection, query)

    def workflow_counts(self, query: Query = ALL) -> dict[str, dict[State, int]]:
        with self._store.reading() as connection:
            return jobs.workflow_counts(connection, query)

    def update_jobs(self, query: Query, changes: dict[str, Any]) -> int:
        checked = check_changes(Job, changes)
        with self._store.writing() as connection:
            if "application" in checked:
                NewJobs([]).check_apps(
                    apps.names_and_hooks(connection, {checked["application"]}),
                    lambda: apps.all_names(connection),
                    {checked["application"]},
                )
            touched = jobs.update(connection, query, checked)
        self._ring()
        return touched

    def move_jobs(self, query: Query, state: State, message: str = "") -> int:
        with self._store.writing() as connection:
            moved = jobs.move(connection, query, state, message, self._clock())
        self._ring()
        return moved

    def rerun_jobs(self, query: Query) -> int:
        with self._store.writing() as connection:
            moved = jobs.rerun(connection, query, self._clock())
        self._ring()
        return moved

    def kill_jobs(self, query: Query, *, recursive: bool = False) -> list[int]:
        with self._store.writing() as connection:
            killed = jobs.kill(connection, query, recursive, self._clock())
        self._ring()
        return killed

    def delete_jobs(self, query: Query) -> int:
        with self._store.writing() as connection:
            removed = jobs.delete(connection, query, self._clock())
        self._ring()
        return removed

    def add_dependency(self, parent: int, child: int, kind: Kind = Kind.OK) -> None:
        with self._store.writing() as connection:
            graph.add(connection, parent, child, kind, self._clock())
        self._ring()

    def dependencies(self, ids: list[int]) -> list[tuple[int, int, Kind]]:
        with self._store.reading() as connection:
            return graph.around(connection, ids)

    # history
    def events(self, query: Query = ALL) -> list[Event]:
        with self._store.reading() as connection:
            return events.fetch(connection, self.identity, query)

    def iterate_events(self, query: Query = ALL, page: int = 5000) -> Iterator[Event]:
        return _by_pages(query, page, self.events)

    def attempts(self, jobs: list[int]) -> list[Attempt]:
        with self._store.reading() as connection:
            return events.fetch_attempts(connection, self.identity, jobs)

    def iterate_attempts(self, query: Query = ALL, page: int = 5000) -> Iterator[Attempt]:
        ids: list[int] = []
        for job in self.iterate_jobs(query, ["id"], page):
            ids.append(job.id or 0)
            if len(ids) == page:
                yield from self.attempts(ids)
                ids.clear()
        if ids:
            yield from self.attempts(ids)

    def batch_jobs(self, query: Query = ALL) -> list[BatchJob]:
        with self._store.reading() as connection:
            return events.fetch_batch_jobs(connection, query)

    # launchers
    def register_launcher(self, info: LauncherInfo, lease_seconds: float) -> int:
        now = self._clock()
        with self._store.writing() as connection:
            return launchers.register(connection, info, now, now + lease_seconds)

    def launchers(self, *, live: bool = True) -> list[LauncherInfo]:
        with self._store.reading() as connection:
            return launchers.fetch(connection, live)

    def lease(self, launcher_id: int, request: LeaseRequest) -> Lease:
        with self._store.writing() as connection:
            return launchers.lease(connection, self._reader, launcher_id, request)

    def report(self, launcher_id: int, report: Report) -> list[Refusal]:
        with self._store.writing() as connection:
            refusals = reports.apply(connection, launcher_id, report, self._clock())
        if report.moves or report.released:
            self._ring()
        return refusals

    def renew(self, launcher_id: int, lease_seconds: float) -> Renewal:
        with self._store.writing() as connection:
            return launchers.renew(connection, launcher_id, self._clock() + lease_seconds)

    def outlook(self, launcher_id: int, request: LeaseRequest) -> Outlook:
        with self._store.reading() as connection:
            return launchers.outlook(connection, launcher_id, request)

    def retire_launcher(self, launcher_id: int, message: str, *, lost: bool = False) -> int:
        with self._store.writing() as connection:
            held = launchers.retire(connection, launcher_id, message, lost, self._clock())
        self._ring()
        return held

    def expired_launchers(self) -> list[LauncherInfo]:
        with self._store.reading() as connection:
            return launchers.expired(connection, self._clock())

    def watch(self) -> Bell:
        bell = Bell(self._bells)
        self._own_bells.add(bell.name)
        return bell

    def _ring(self) -> None:
        """Wake all who watch the site, but not this client: it knows what it did."""
        ring(self._bells, self._own_bells)


def database_url(path: Path, settings: Settings) -> str:
    """Return the SQLAlchemy URL of the database of the site at *path*."""
    url = settings.database.url
    return f"sqlite:///{path / 'balsam.db'}" if url == "sqlite" else url


R = TypeVar("R", Job, Event)


def _by_pages(query: Query, page: int, fetch: Callable[[Query], list[R]]) -> Iterator[R]:
    """Yield what *query* selects by id, each page from where the last ended."""
    if query.order not in ((), ("id",)) or query.offset:
        raise InvalidInput("only a query in order of id, without offset, can be iterated by pages")
    left, last = query.limit, 0
    while left is None or left > 0:
        size = page if left is None else min(page, left)
        after = Filter("id", (), "gt", last)
        part = msgspec.structs.replace(query, filters=(*query.filters, after), limit=size)
        found = fetch(part)
        yield from found
        if len(found) < size:
            return
        last = found[-1].id or 0
        left = None if left is None else left - size
