"""The client that opens the site's database itself."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from balsam.client.checks import NewJobs, check_app, check_changes
from balsam.client.interface import Watch
from balsam.config import Settings, user_name
from balsam.errors import InvalidInput
from balsam.model.app import App
from balsam.model.batch_job import LIVE_STATES, BatchJob, BatchState
from balsam.model.demand import Waiting
from balsam.model.graph import Kind
from balsam.model.identity import JobIdentity
from balsam.model.job import Job
from balsam.model.query import ALL, Filter, Query
from balsam.model.run_time import RunTime
from balsam.model.service import ServiceInfo, ServiceStatus
from balsam.model.states import State
from balsam.model.transfer import Transfer
from balsam.model.wire import (
    Attempt,
    Event,
    LauncherInfo,
    LauncherKind,
    Lease,
    LeaseRequest,
    Outlook,
    Refusal,
    Renewal,
    Report,
    Topic,
)
from balsam.store import (
    apps,
    batch_jobs,
    demand,
    events,
    graph,
    jobs,
    launchers,
    reports,
    run_times,
    services,
    transfers,
)
from balsam.store.database import Connection
from balsam.store.engine import Store
from balsam.store.rows import JobReader


class LocalClient:
    """`Client` on the database of the site at *path* (see `interface.Client`).

    Parameters
    ----------
    clock
        Gives the time of events, in seconds since the epoch; by default the database's.
    """

    def __init__(
        self, path: Path, settings: Settings, clock: Callable[[], float] | None = None
    ) -> None:
        self.path = path
        self._store = Store(
            database_url(path, settings), str(path), path / "run", settings.database.busy_seconds
        )
        self._clock = clock or self._store.now
        self.identity = JobIdentity(self._store.key)
        self._reader = JobReader(self.identity, str(path / "data"))

    def close(self) -> None:
        self._store.close()

    def now(self) -> float:
        return self._clock()

    # apps
    def add_app(self, app: App) -> App:
        check_app(app)
        return self._store.write(lambda connection: apps.insert(connection, app))

    def apps(self, query: Query = ALL) -> list[App]:
        return self._store.read(lambda connection: apps.fetch(connection, query))

    def update_apps(self, query: Query, changes: dict[str, Any]) -> int:
        checked = check_changes(App, changes)
        return self._store.write(lambda connection: apps.update(connection, query, checked))

    def delete_apps(self, query: Query) -> int:
        return self._store.write(lambda connection: apps.delete(connection, query))

    def unused_apps(self, names: list[str], *, remove: bool = False) -> list[str]:
        if remove:
            return self._store.write(lambda connection: apps.delete_unused(connection, names))
        return self._store.read(lambda connection: apps.unused(connection, names))

    # jobs
    def create_jobs(
        self, new: list[Job], reserved: list[int] | None = None, *, hold_seconds: float = 0.0
    ) -> list[int]:
        checked = NewJobs(new)
        if not new:
            return []
        ids = self.reserve_jobs(len(new)) if reserved is None else reserved
        if len(ids) != len(new):
            raise InvalidInput(f"{len(ids)} reserved ids were given for {len(new)} jobs")

        def insert(connection: Connection) -> None:
            found = apps.named(connection, checked.applications)
            checked.check_apps(found, lambda: apps.all_names(connection))
            checked.check_parameters(found)
            jobs.require(connection, checked.outside_parents)
            preparing = {name for name, app in found.items() if app.has_hook("preprocess")}
            owner, now = user_name(), self._clock()
            if reserved is not None:
                jobs.check_reserved(connection, ids)
            jobs.insert(connection, ids, new, checked.edges, preparing, owner, now)
            if hold_seconds:
                jobs.hold(connection, ids, now + hold_seconds)

        self._store.write(insert, _everybody)
        return ids

    def reserve_jobs(self, count: int) -> list[int]:
        if not count:
            return []
        first = self._store.reserve_job_ids(count)
        return list(range(first, first + count))

    def jobs(self, query: Query = ALL, fields: Iterable[str] | None = None) -> list[Job]:
        return self._store.read(
            lambda connection: jobs.fetch(connection, self._reader, query, fields)
        )

    def iterate_jobs(
        self, query: Query = ALL, fields: Iterable[str] | None = None, page: int = 2000
    ) -> Iterator[Job]:
        fields = None if fields is None else [*fields, "id"]
        return _by_pages(query, page, lambda part: self.jobs(part, fields))

    def count_jobs(self, query: Query = ALL) -> int:
        return self._store.read(lambda connection: jobs.count(connection, query))

    def state_counts(self, query: Query = ALL) -> dict[State, int]:
        return self._store.read(lambda connection: jobs.state_counts(connection, query))

    def workflow_counts(self, query: Query = ALL) -> dict[str, dict[State, int]]:
        return self._store.read(lambda connection: jobs.workflow_counts(connection, query))

    def update_jobs(self, query: Query, changes: dict[str, Any]) -> int:
        checked = check_changes(Job, changes)

        def update(connection: Connection) -> int:
            if "application" in checked:
                NewJobs([]).check_apps(
                    apps.named(connection, {checked["application"]}),
                    lambda: apps.all_names(connection),
                    {checked["application"]},
                )
            return jobs.update(connection, query, checked)

        return self._store.write(update, _everybody)

    def move_jobs(
        self, query: Query, state: State, message: str = "", *, hold_seconds: float = 0.0
    ) -> int:
        return self._store.write(
            lambda connection: jobs.move(
                connection, query, state, message, self._clock(), hold_seconds
            ),
            _everybody,
        )

    def rerun_jobs(self, query: Query) -> int:
        return self._store.write(
            lambda connection: jobs.rerun(connection, query, self._clock()), _everybody
        )

    def kill_jobs(self, query: Query, *, recursive: bool = False) -> list[int]:
        return self._store.write(
            lambda connection: jobs.kill(connection, query, recursive, self._clock()), _everybody
        )

    def delete_jobs(self, query: Query) -> int:
        return self._store.write(
            lambda connection: jobs.delete(connection, query, self._clock()), _everybody
        )

    def add_dependency(self, parent: int, child: int, kind: Kind = Kind.OK) -> None:
        self._store.write(
            lambda connection: graph.add(
                connection, parent, child, kind, self._clock(), self.identity.short
            ),
            _everybody,
        )

    def remove_dependency(self, parent: int, child: int) -> None:
        self._store.write(
            lambda connection: graph.remove(connection, parent, child, self._clock()), _everybody
        )

    def dependencies(self, ids: list[int]) -> list[tuple[int, int, Kind]]:
        return self._store.read(lambda connection: graph.around(connection, ids))

    # history
    def events(self, query: Query = ALL) -> list[Event]:
        return self._store.read(lambda connection: events.fetch(connection, self.identity, query))

    def iterate_events(self, query: Query = ALL, page: int = 5000) -> Iterator[Event]:
        return _by_pages(query, page, self.events)

    def attempts(self, jobs: list[int]) -> list[Attempt]:
        return self._store.read(
            lambda connection: events.fetch_attempts(connection, self.identity, jobs)
        )

    def iterate_attempts(self, query: Query = ALL, page: int = 5000) -> Iterator[Attempt]:
        ids: list[int] = []
        for job in self.iterate_jobs(query, ["id"], page):
            ids.append(job.id or 0)
            if len(ids) == page:
                yield from self.attempts(ids)
                ids.clear()
        if ids:
            yield from self.attempts(ids)

    def run_times(self) -> list[RunTime]:
        return self._store.read(run_times.fetch)

    def waiting(self, limit: int | None = None, *, by_workflow: bool = False) -> list[Waiting]:
        return self._store.read(
            lambda connection: demand.fetch(connection, limit, by_workflow=by_workflow)
        )

    def transfers(self, query: Query = ALL) -> list[Transfer]:
        return self._store.read(
            lambda connection: transfers.fetch(connection, self.identity, query)
        )

    # batch jobs
    def batch_jobs(self, query: Query = ALL) -> list[BatchJob]:
        return self._store.read(lambda connection: batch_jobs.fetch(connection, query))

    def create_batch_job(self, new: BatchJob, *, budget: float = 0.0) -> BatchJob:
        owned = msgspec.structs.replace(new, owner=new.owner or user_name())

        def insert(connection: Connection) -> BatchJob:
            if new.service_id is not None:
                services.check_live(connection, new.service_id)
            return batch_jobs.insert(connection, owned, self._clock(), budget)

        return self._store.write(insert, _everybody)

    def update_batch_job(
        self,
        batch_job: int,
        changes: dict[str, Any],
        states: Collection[BatchState] = LIVE_STATES,
    ) -> bool:
        return self._store.write(
            lambda connection: batch_jobs.update(connection, batch_job, changes, states),
            _everybody,
        )

    def node_hours(self) -> float:
        return self._store.read(lambda connection: batch_jobs.node_hours(connection, self._clock()))

    # the service
    def service(self) -> ServiceInfo | None:
        return self._store.read(services.last)

    def register_service(self, info: ServiceInfo, lease_seconds: float) -> int:
        now = self._clock()
        return self._store.write(
            lambda connection: services.register(connection, info, now, now + lease_seconds),
            _everybody,
        )

    def renew_service(self, service: int, status: ServiceStatus, lease_seconds: float) -> bool:
        return self._store.write(
            lambda connection: services.renew(
                connection, service, status, self._clock() + lease_seconds
            )
        )

    def request_service_stop(self) -> bool:
        return self._store.write(services.request_stop, _everybody)

    def end_service(self, service: int, message: str) -> None:
        self._store.write(
            lambda connection: services.end(connection, service, message, self._clock()),
            _everybody,
        )

    # launchers
    def register_launcher(self, info: LauncherInfo, lease_seconds: float) -> int:
        now = self._clock()
        return self._store.write(
            lambda connection: launchers.register(connection, info, now, now + lease_seconds)
        )

    def launchers(
        self, *, live: bool = True, kind: LauncherKind | None = LauncherKind.PILOT
    ) -> list[LauncherInfo]:
        return self._store.read(
            lambda connection: launchers.fetch(connection, live=live, kind=kind)
        )

    def lease(self, launcher_id: int, request: LeaseRequest) -> Lease:
        return self._store.write(
            lambda connection: launchers.lease(
                connection, self._reader, launcher_id, request, self._clock()
            )
        )

    def report(self, launcher_id: int, report: Report) -> list[Refusal]:
        applied = self._store.write(
            lambda connection: reports.apply(connection, launcher_id, report, self._clock()),
            lambda applied: applied.topics,
        )
        return applied.refusals

    def renew(self, launcher_id: int, lease_seconds: float) -> Renewal:
        return self._store.write(
            lambda connection: launchers.renew(
                connection, launcher_id, self._clock() + lease_seconds
            )
        )

    def outlook(self, launcher_id: int, request: LeaseRequest) -> Outlook:
        return self._store.read(
            lambda connection: launchers.outlook(connection, launcher_id, request)
        )

    def retire_launcher(
        self, launcher_id: int, message: str, *, lost: bool = False, crash_limit: int = 0
    ) -> int:
        return self._store.write(
            lambda connection: launchers.retire(
                connection, launcher_id, message, lost, crash_limit, self._clock()
            ),
            _everybody,
        )

    def expired_launchers(self) -> list[LauncherInfo]:
        return self._store.read(lambda connection: launchers.expired(connection, self._clock()))

    def watch(self, topic: Topic) -> Watch:
        return self._store.watch(topic)


def _everybody(_result: Any) -> tuple[Topic, ...]:
    return tuple(Topic)


def database_url(path: Path, settings: Settings) -> str:
    """Return the SQLAlchemy URL of the database of the site at *path*."""
    match settings.database.url:
        case "sqlite":
            return f"sqlite:///{path / 'balsam.db'}"
        case "postgres":
            from balsam import cluster

            return cluster.url(path)
        case url:
            return url


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
