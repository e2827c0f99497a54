"""What is known of a site when it is asked why its jobs do not run."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import msgspec

from balsam.config import NodesSettings
from balsam.model.app import App
from balsam.model.batch_job import BatchJob, BatchState
from balsam.model.demand import Waiting
from balsam.model.job import Job, needs_transfer
from balsam.model.run_time import RunTime
from balsam.model.service import ServiceInfo, Unmet
from balsam.model.states import State
from balsam.model.transfer import Transfer
from balsam.model.walltime import time_limit
from balsam.model.wire import Attempt, LauncherInfo


class Scope(msgspec.Struct, frozen=True):
    """Which jobs a launcher was told to take: all for which both hold."""

    workflow_filter: str = ""
    tags: tuple[tuple[str, str], ...] = ()

    @property
    def parts(self) -> list[Scope]:
        """Its conditions one by one; none where it takes all jobs."""
        found = [Scope(self.workflow_filter)] if self.workflow_filter else []
        return [*found, Scope("", self.tags)] if self.tags else found

    def passes(self, workflow: str, tags: Mapping[str, str]) -> bool:
        """Tell whether a job of *workflow* with *tags* is among them."""
        return self.workflow_filter in workflow and all(tags.get(k) == v for k, v in self.tags)


#: All jobs.
EVERYTHING = Scope()


class Held(msgspec.Struct):
    """What a launcher has in its hands."""

    running: int = 0
    core_units: int = 0  #: of those that run
    gpu_units: int = 0
    memory_mib: int = 0
    others: int = 0  #: to be started, or between two steps


class Facts(msgspec.Struct, kw_only=True, dict=True):
    """The site, apart from the jobs that are asked about. Times are `Client.now`'s."""

    now: float
    apps: Mapping[str, App] = {}
    launchers: list[LauncherInfo] = []  #: all there ever were, oldest first
    movers: list[LauncherInfo] = []  #: the launchers without nodes that services were, the same
    stage_files: str = "auto"  #: whether launchers move files (`LauncherSettings.stage_files`)
    held: Mapping[int, Held] = {}  #: by launcher
    batch_jobs: list[BatchJob] = []  #: those that have not ended
    last_batch_job: BatchJob | None = None  #: of those that have ended
    service: ServiceInfo | None = None
    unmet: list[tuple[Waiting, Unmet]] = []  #: with the job that is the service's example
    run_times: Mapping[tuple[str, int], RunTime] = {}
    reserve_seconds: float = 12.0  #: of a launcher's time, for the end of what runs
    nodes: NodesSettings = msgspec.field(default_factory=NodesSettings)

    @cached_property
    def by_id(self) -> dict[int, LauncherInfo]:
        """The launchers by their ids."""
        return {one.id: one for one in (*self.movers, *self.launchers)}

    @cached_property
    def live(self) -> list[LauncherInfo]:
        """The launchers that have given a sign of life."""
        return [one for one in self.launchers if one.ended_at is None and not self.is_lost(one)]

    @cached_property
    def lost(self) -> list[LauncherInfo]:
        """The launchers that have not ended, and not been heard of for too long."""
        return [one for one in self.launchers if self.is_lost(one)]

    @cached_property
    def shapes(self) -> list[LauncherInfo]:
        """One launcher, the last, of each size that there ever was."""
        sizes = {(one.nodes, one.cores, one.gpus, one.memory_mib): one for one in self.launchers}
        return list(sizes.values())

    @cached_property
    def coming(self) -> list[BatchJob]:
        """The batch jobs that have not ended, and whose launcher has not started yet."""
        last = {one.batch_job_id: one for one in self.launchers}
        return [
            one
            for one in self.batch_jobs
            if one.state is not BatchState.ENDING
            and not (one.cancel_reason or self.is_over(one) or self._has_begun(one, last))
        ]

    def _has_begun(self, batch_job: BatchJob, last: Mapping[int | None, LauncherInfo]) -> bool:
        """Tell whether its launcher has started; that of an earlier start does not count."""
        launcher = last.get(batch_job.id)
        if launcher is None:
            return False
        silent_since = launcher.silent_since(self.now)
        return silent_since is None or not batch_job.came_back_after(silent_since)

    @cached_property
    def scopes(self) -> list[Scope]:
        """The parts of the scopes of launchers that run or may come."""
        found: list[LauncherInfo | BatchJob] = [*self.live, *self.coming]
        return sorted({part for one in found for part in scope_of(one).parts}, key=repr)

    @property
    def has_service(self) -> bool:
        """Whether the service lives."""
        service = self.service
        return service is not None and service.ended_at is None and service.expires_at >= self.now

    def mover_for(self, owner: str) -> LauncherInfo | None:
        """Return the live service, as a launcher, that moves the files of *owner*'s jobs."""
        live = [one for one in self.movers if one.ended_at is None and not self.is_lost(one)]
        return next((one for one in live if one.jobs_of == owner), None)

    def is_over(self, batch_job: BatchJob) -> bool:
        """Tell whether the time of a batch job has passed, though nobody has seen its end."""
        started, seconds = batch_job.started_at, 60 * batch_job.wall_time_minutes
        return started is not None and seconds > 0 and started + seconds < self.now

    def is_lost(self, launcher: LauncherInfo) -> bool:
        """Tell whether it has not ended, but has not been heard of for too long."""
        return launcher.ended_at is None and launcher.expires_at < self.now

    def ends_at(self, launcher: LauncherInfo) -> float | None:
        """Return when its time ends; None: that is not known."""
        if launcher.ends_at is not None:
            return launcher.ends_at
        for one in self.batch_jobs:
            if one.id == launcher.batch_job_id and one.started_at and one.wall_time_minutes:
                return one.started_at + 60 * time_limit(one.wall_time_minutes)
        return None


class Ancestor(msgspec.Struct, frozen=True):
    """A job that another one depends on, directly or not."""

    job: int
    text: str  #: what it waits for, or how it ended
    help: str = ""


class Own(msgspec.Struct, kw_only=True):
    """What is known of one job alone."""

    job: Job
    attempt: Attempt | None = None  #: the last
    message: str = ""  #: of its last event
    parents: Mapping[State, int] = {}  #: how many in each state
    transfers: list[Transfer] = []  #: of the files that are moved now
    ahead: int = 0  #: free jobs of a higher priority
    #: A parent that holds it back, that one's parent, …, to where it begins.
    root: list[Ancestor] = []


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked about: one job, or many that are alike."""

    waiting: Waiting
    passes: frozenset[Scope] = frozenset()  #: those of `Facts.scopes` that hold it
    own: Own | None = None  #: None: many

    @property
    def ref(self) -> str:
        """How commands name it."""
        return "JOB" if self.own is None else str(self.waiting.example)


def alike(one: Waiting, other: Waiting) -> bool:
    """Tell whether jobs of both ask for the same."""
    same = ("application", "wall_time_minutes", "was_timed_out", "owner")
    return one.request == other.request and all(getattr(one, n) == getattr(other, n) for n in same)


def class_of(job: Job) -> Waiting:
    """Return *job* as a class of one."""
    names = set(Waiting.__struct_fields__) & set(Job.__struct_fields__)
    return Waiting(
        **{name: getattr(job, name) for name in names},
        is_delayed=job.retry_at is not None,
        was_timed_out=job.timeouts > 0,
        to_stage=needs_transfer(job),
        example=job.id or 0,
    )


def scope_of(one: LauncherInfo | BatchJob) -> Scope:
    """Return which jobs a launcher takes, or that of a batch job will."""
    text = one.workflow_filter if isinstance(one, LauncherInfo) else one.wf_filter
    return Scope(text, tuple(sorted(one.tags.items())))


def subject_of(own: Own, facts: Facts) -> Subject:
    """Return one job as what is asked about."""
    passes = [each for each in facts.scopes if each.passes(own.job.workflow, own.job.tags)]
    return Subject(waiting=class_of(own.job), passes=frozenset(passes), own=own)
