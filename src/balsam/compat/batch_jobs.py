"""`QueuedLaunch`: a batch job under the names of 0.x, and its submission."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

from msgspec.structs import asdict

from balsam.client.history import BatchJob, BatchJobs
from balsam.client.queryset import Objects
from balsam.client.site import Site, default_site
from balsam.compat.exceptions import NoSuchLaunch, SeveralLaunches
from balsam.compat.fields import Field, View, integer, number, text
from balsam.compat.rows import OldNames
from balsam.errors import InvalidInput
from balsam.model import batch_job as model

T = TypeVar("T")


class QueuedLaunches(OldNames[T], BatchJobs[T]):
    """Batch jobs, chosen step by step by the names of 0.x (see `QuerySet`)."""

    missing = NoSuchLaunch
    several = SeveralLaunches
    label = "core.QueuedLaunch"
    CONDITIONS: ClassVar[Mapping[str, str]] = {"pk": "id"}

    @classmethod
    def view(cls) -> type[View]:
        return QueuedLaunch

    def _object(self, record: model.BatchJob) -> Any:
        return QueuedLaunch.of(BatchJob(**asdict(record)))


def _scheduler_id(value: str) -> int | str:
    return int(value) if value.isdecimal() else value or 0


def _whole(value: float) -> float:
    """Return a whole number as such, as 0.x had it."""
    return int(value) if value == int(value) else value


class QueuedLaunch(View):
    """One request to the batch scheduler: a `BatchJob` under its 0.x names.

    A new one is kept in memory until it is submitted (`submit_qlaunch`, `dag.submit`): a request
    that is recorded is one that the batch system may have.
    """

    DoesNotExist = NoSuchLaunch
    MultipleObjectsReturned = SeveralLaunches
    objects: ClassVar[Objects[QueuedLaunches[QueuedLaunch]]] = Objects(
        lambda: QueuedLaunches(all_of_it=True)
    )
    FURTHER = ("prescheduled_only", "from_balsam")

    id = Field()
    scheduler_id = Field(write=text, read=_scheduler_id)
    project = Field(write=text)
    queue = Field(write=text)
    nodes = Field("num_nodes", write=integer)
    wall_minutes = Field("wall_time_minutes", write=number, read=_whole)
    job_mode = Field(write=text)
    wf_filter = Field(write=text)
    sched_flags = Field("scheduler_flags", write=text)
    command = Field("script")
    state = Field(read=lambda state: str(state).replace("_", "-"))

    #: All launchers take all jobs that fit.
    prescheduled_only = False
    from_balsam = True

    def __init__(self, **fields: Any) -> None:
        self._real = BatchJob()
        self._set(fields)

    @property
    def pk(self) -> int | None:
        """The id; None until it is submitted."""
        found: int | None = self._real.id
        return found

    def save(self, *_: Any, **__: Any) -> None:
        """Keep what is asked for until it is submitted; a submitted one stays as it was."""

    def refresh_from_db(self, *_: Any, **__: Any) -> None:
        """Load every field anew. Raises `DoesNotExist` when it was not submitted."""
        self._real = self.objects.get(pk=self.pk)._real

    @classmethod
    def refresh_from_scheduler(cls) -> None:
        """Ask the batch system about all that were submitted, and record what it says."""
        from balsam import config
        from balsam.schedulers.command import Command
        from balsam.schedulers.find import find
        from balsam.service import watch

        client = default_site().client
        settings = config.load(client.path)
        run = Command(settings.scheduler.timeout_seconds)
        watch.refresh(client, find(settings.scheduler.name, run), run, settings)


def submit_qlaunch(qlaunch: QueuedLaunch, verbose: bool = False) -> None:
    """Submit a new `QueuedLaunch`, which then has its ids.

    Raises
    ------
    InvalidInput
        It was submitted already, or asks for what there cannot be.
    BudgetSpent, SchedulerRefused, SchedulerAway
        See `balsam.dag.submit`.
    """
    if qlaunch.pk is not None:
        raise InvalidInput(f"batch job {qlaunch.pk} was submitted already")
    qlaunch._real = submit(
        default_site(),
        num_nodes=qlaunch.nodes,
        wall_time_minutes=qlaunch.wall_minutes,
        queue=qlaunch.queue,
        project=qlaunch.project,
        job_mode=qlaunch.job_mode or "auto",
        wf_filter=qlaunch.wf_filter,
        scheduler_flags=qlaunch.sched_flags,
    )
    if verbose:
        print(f"Submit OK: Qlaunch {qlaunch.pk}, scheduler id {qlaunch.scheduler_id}")


def submit(site: Site, **asked: Any) -> BatchJob:
    """Record and submit a batch job with the fields of `service.submit.BatchRequest`."""
    from balsam import config
    from balsam.schedulers.command import Command
    from balsam.schedulers.find import find
    from balsam.service import submit as requests

    client = site.client
    settings = config.load(client.path)
    run = Command(settings.scheduler.timeout_seconds)
    scheduler = find(settings.scheduler.name, run)
    new = requests.prepare(client, settings, scheduler, requests.BatchRequest(**asked))
    budget = settings.service.budget_node_hours
    return BatchJob(**asdict(requests.submit(client, settings, scheduler, run, new, budget=budget)))
