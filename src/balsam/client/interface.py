"""`Client`: what the command line, the Python API, the launcher and the service are given.

The contract stands here, once. `local.LocalClient` opens the store; other implementations
speak to a server. Callers never know which they hold.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

from balsam.model.app import App
from balsam.model.batch_job import LIVE_STATES, BatchJob, BatchState
from balsam.model.demand import Waiting
from balsam.model.graph import Kind
from balsam.model.identity import JobIdentity
from balsam.model.job import Job
from balsam.model.query import Query
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


class Watch(Protocol):
    """Wakes when the site's jobs change."""

    def fileno(self) -> int:
        """Return a descriptor that becomes readable when something changed (-1: none)."""

    def wait(self, timeout: float) -> bool:
        """Block until a change or *timeout* seconds; tell whether there was a change."""

    def clear(self) -> None:
        """Forget the changes seen so far."""

    def close(self) -> None:
        """Stop watching."""


class Client(Protocol):
    """All that can be done with a site's database.

    Every method is one transaction: after an error nothing has changed. Methods block;
    they raise `StoreError` (retryable or not) when the database cannot do it.
    Selections by `Query` use the site's integer ids.
    """

    #: The site's directory, absolute.
    path: Path
    #: Translates between integer ids and job UUIDs.
    identity: JobIdentity

    def close(self) -> None:
        """Give back connections. The client cannot be used afterwards."""

    def now(self) -> float:
        """Return the time by which leases are measured, in seconds since the epoch.

        It goes on steadily, also when this machine's clock is set. Never blocks.
        """

    # apps ---------------------------------------------------------------------------
    def add_app(self, app: App) -> App:
        """Register *app* and return it with its id.

        Raises
        ------
        AlreadyExists
            There is an app of this name.
        """

    def apps(self, query: Query) -> list[App]: ...

    def update_apps(self, query: Query, changes: dict[str, Any]) -> int:
        """Set fields of the selected apps; running launchers use them from the next job on."""

    def delete_apps(self, query: Query) -> int:
        """Remove the selected apps. Their jobs stay, and fail when they are to run."""

    def unused_apps(self, names: list[str], *, remove: bool = False) -> list[str]:
        """Return those of the apps *names* that no job is of; with *remove* they are removed."""

    # jobs ---------------------------------------------------------------------------
    def create_jobs(
        self, jobs: list[Job], reserved: list[int] | None = None, *, hold_seconds: float = 0.0
    ) -> list[int]:
        """Insert *jobs* and return their ids, in the same order.

        `parents`, `parents_any` and `parents_failed` hold ids of existing jobs, or of jobs
        of this call (minus their position, counted from 1: -1 is the first of the list).
        Each job is inserted in the state that it can go on from. Fields that are Balsam's
        are ignored; `owner` is the caller.

        Parameters
        ----------
        reserved
            The ids that they are to have, from `reserve_jobs`; by default new ones, ascending.
        hold_seconds
            No launcher takes them for so long: time to give them parents.

        Raises
        ------
        InvalidInput
            A job cannot be stored; the message names it.
        NotFound
            An application or a parent does not exist.
        AlreadyExists
            There is a job of a reserved id.
        CyclicDependency
            The jobs depend on each other in a circle, which the message shows.
        """

    def reserve_jobs(self, count: int) -> list[int]:
        """Return *count* ids that no other job will have, ascending, for `create_jobs`."""

    def jobs(self, query: Query, fields: Iterable[str] | None = None) -> list[Job]:
        """Return the selected jobs, complete or with only *fields* filled (id always)."""

    def iterate_jobs(
        self, query: Query, fields: Iterable[str] | None = None, page: int = 2000
    ) -> Iterator[Job]:
        """Yield the selected jobs by keyset pages, in constant memory, ordered by id."""

    def count_jobs(self, query: Query) -> int: ...

    def state_counts(self, query: Query) -> dict[State, int]:
        """Return how many of the selected jobs are in each state (states with none left out)."""

    def workflow_counts(self, query: Query) -> dict[str, dict[State, int]]:
        """Return `state_counts` by workflow."""

    def update_jobs(self, query: Query, changes: dict[str, Any]) -> int:
        """Set fields (not `state`) of the selected jobs; return how many there were.

        Raises
        ------
        InvalidInput
            A value cannot be taken; nothing is changed.
        """

    def move_jobs(
        self, query: Query, state: State, message: str = "", *, hold_seconds: float = 0.0
    ) -> int:
        """Move the selected jobs to *state* as a user may, with an event each.

        Moving to CREATED settles each job anew by its parents. Returns how many moved.

        Parameters
        ----------
        hold_seconds
            No launcher takes the children that this frees for so long: time to give them other
            parents.

        Raises
        ------
        IllegalMove
            One of the jobs cannot go there (it runs, or the table forbids it); it is named
            and nothing is moved.
        """

    def rerun_jobs(self, query: Query) -> int:
        """Start the selected jobs that have ended from the beginning; return how many.

        Jobs that have not ended are left alone.
        """

    def kill_jobs(self, query: Query, *, recursive: bool = False) -> list[int]:
        """Move the selected live jobs to USER_KILLED, with all descendants if *recursive*.

        Their launchers are woken and end the processes. Returns the ids that were killed;
        jobs that had ended are left alone.
        """

    def delete_jobs(self, query: Query) -> int:
        """Remove the selected jobs with their events and attempts; children are released.

        Raises
        ------
        IllegalMove
            One of the jobs is running: it must be killed first, and its launcher must have
            heard of that.
        """

    def add_dependency(self, parent: int, child: int, kind: Kind = Kind.OK) -> None:
        """Make *child* wait for *parent*.

        Raises
        ------
        NotFound, AlreadyExists
            A job does not exist; the edge does.
        CyclicDependency
            The message shows the cycle.
        IllegalMove
            The child runs or has ended.
        """

    def remove_dependency(self, parent: int, child: int) -> None:
        """Let *child* no longer wait for *parent*; what has become of it stays.

        Raises
        ------
        NotFound
            A job does not exist, or the child does not depend on the parent.
        """

    def dependencies(self, ids: list[int]) -> list[tuple[int, int, Kind]]:
        """Return all (parent, child, kind) in which one of *ids* is parent or child."""

    # history ------------------------------------------------------------------------
    def events(self, query: Query) -> list[Event]: ...

    def iterate_events(self, query: Query, page: int = 5000) -> Iterator[Event]: ...

    def attempts(self, jobs: list[int]) -> list[Attempt]:
        """Return all attempts of the given jobs, by job and number."""

    def iterate_attempts(self, query: Query, page: int = 5000) -> Iterator[Attempt]:
        """Yield the attempts of the jobs that *query* (of jobs) selects, by job and number."""

    def run_times(self) -> list[RunTime]:
        """Return how long runs took, of those that ended well, by app and number of ranks."""

    def transfers(self, query: Query) -> list[Transfer]:
        """Return what was, and is, moved for jobs: one record for each job, direction and URL."""

    # batch jobs and the service ------------------------------------------------------
    def batch_jobs(self, query: Query) -> list[BatchJob]: ...

    def create_batch_job(self, new: BatchJob, *, budget: float = 0.0) -> BatchJob:
        """Record a request for nodes, before the scheduler hears of it; return it with its id.

        Parameters
        ----------
        budget
            Node-hours that all batch jobs of the site together may cost; 0: no limit.

        Raises
        ------
        BudgetSpent
            It would cost more; nothing is recorded.
        ServiceRuns
            The service that asks (`new.service_id`) was ended.
        """

    def update_batch_job(
        self,
        batch_job: int,
        changes: dict[str, Any],
        states: Collection[BatchState] = LIVE_STATES,
    ) -> bool:
        """Set fields of a batch job if it is in one of *states*; tell whether it was."""

    def node_hours(self) -> float:
        """Return what all batch jobs cost: until they have ended, all that they asked for."""

    def waiting(self, limit: int | None = None, *, by_workflow: bool = False) -> list[Waiting]:
        """Return the jobs that have not ended, counted by what they ask for.

        Parameters
        ----------
        limit
            Look at so many at most of those that are free (the first in the queue), whose files
            are to be moved, that launchers have, that wait for their retry, and that wait for
            parents. Without it, all jobs are looked at: for questions of users, not for what is
            asked again and again.
        """

    def service(self) -> ServiceInfo | None:
        """Return the service that was started last, with what it last knew; None: never one.

        It lives when it has not ended and its `expires_at` is not over.
        """

    def register_service(self, info: ServiceInfo, lease_seconds: float) -> int:
        """Enter a service and return its id. Raises `ServiceRuns` when another one lives."""

    def renew_service(self, service: int, status: ServiceStatus, lease_seconds: float) -> bool:
        """Prolong a service's lease and note what it knows; tell whether it is asked to stop.

        Raises
        ------
        ServiceRuns
            It was ended meanwhile, and may have been followed by another.
        """

    def request_service_stop(self) -> bool:
        """Ask the site's service to stop, wherever it is; tell whether there is one."""

    def end_service(self, service: int, message: str) -> None:
        """Note that a service ended, and why."""

    # launchers ----------------------------------------------------------------------
    def register_launcher(self, info: LauncherInfo, lease_seconds: float) -> int:
        """Enter a launcher and return its id, which fences everything it reports."""

    def launchers(
        self, *, live: bool = True, kind: LauncherKind | None = LauncherKind.PILOT
    ) -> list[LauncherInfo]:
        """Return the launchers that have not ended (or all), oldest first.

        Services move files as launchers of a *kind* of their own; None: launchers of all kinds.
        """

    def lease(self, launcher_id: int, request: LeaseRequest) -> Lease:
        """Lease up to `request.limit` free jobs that the launcher can take.

        Jobs come by priority, then large and long first. A request with the number of the
        last one that had an answer gets that answer again. Raises `LeaseLost`.

        Jobs whose files are to be moved first are not among these, but come beside them, as many
        as `request.stage_in` and `request.stage_out` say: those of users whose live service moves
        files only to a launcher that does not leave them to it (`request.leave_files`).
        """

    def report(self, launcher_id: int, report: Report) -> list[Refusal]:
        """Apply what happened, idempotently; release children of jobs that ended.

        A move is applied when the launcher still holds the job, at that attempt and in
        that state; else it is refused and told. A refused execution is recorded as such.
        """

    def renew(self, launcher_id: int, lease_seconds: float) -> Renewal:
        """Prolong the launcher's lease on all its jobs. Raises `LeaseLost`."""

    def outlook(self, launcher_id: int, request: LeaseRequest) -> Outlook: ...

    def retire_launcher(
        self, launcher_id: int, message: str, *, lost: bool = False, crash_limit: int = 0
    ) -> int:
        """End a launcher: what it still holds goes back; running jobs to RESTART_READY.

        With *lost* the message says that it died, which is counted in `crashes` of the jobs that
        ran; those that reach *crash_limit* (0: none) become FAILED. Returns how many jobs it held.
        """

    def expired_launchers(self) -> list[LauncherInfo]:
        """Return the live launchers whose lease has run out, by the database's clock.

        Whoever finds one replays its journal, if it can, and retires it as lost.
        """

    # changes ------------------------------------------------------------------------
    def watch(self, topic: Topic) -> Watch:
        """Return a watch that wakes on what others do about *topic*."""
