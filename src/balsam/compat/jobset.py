"""Sets of jobs by the names of 0.x."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from balsam.client.jobs import Job, Jobs
from balsam.client.new_jobs import PARENT_FIELDS
from balsam.compat import reserved, states
from balsam.compat.exceptions import NoSuchJob, SeveralJobs
from balsam.compat.fields import View
from balsam.compat.rows import OldNames
from balsam.errors import InvalidInput
from balsam.model import job as model
from balsam.model.query import Query
from balsam.model.states import RUNNABLE_STATES

if TYPE_CHECKING:
    from balsam.compat.jobs import BalsamJob

T = TypeVar("T")


class RealJob(Job, kw_only=True, dict=True, eq=False):
    """A job whose errors are those that scripts of 0.x catch."""

    DoesNotExist = NoSuchJob
    MultipleObjectsReturned = SeveralJobs


class BalsamJobs(OldNames[T], Jobs[T]):
    """Jobs, chosen step by step by the names of 0.x (see `QuerySet`)."""

    missing = NoSuchJob
    several = SeveralJobs
    label = "core.BalsamJob"
    CONDITIONS: ClassVar[Mapping[str, str]] = {
        "pk": "job_id",
        "id": "job_id",
        "job_id": "job_id",
        "number": "id",
        "children_of": "parents",
        "tick": "updated_at",
        "state_history": "state_history",
        "queued_launch": "batch_job_id",
        "queued_launch_id": "batch_job_id",
        "lock": "launcher_id",
    }

    @classmethod
    def view(cls) -> type[View]:
        from balsam.compat.jobs import BalsamJob

        return BalsamJob

    def _object(self, record: model.Job) -> Any:
        return self.view().of(RealJob._loaded_from(self.site, record))

    def _condition(self, name: str, rest: list[str], value: Any) -> dict[str, Any]:
        if name == "lock" and rest in ([], ["exact"]):
            return _lock_condition(value)
        if name == "queued_launch" and value is None:
            return {"batch_job_id__isnull": True}
        if rest and rest[0] in ("pk", "id", "job_id") and name in ("queued_launch",):
            rest = rest[1:]
        if name == "parents" and rest and rest[0] in ("contains", "icontains"):
            rest = []
        return super()._condition(name, rest, value)

    def move(self, state: str, message: str = "", *, killed: bool = True) -> int:
        """Move these jobs to *state* (see `BalsamJob.update_state`); return how many moved."""
        self._kept = None
        client = self.site.client
        return states.move(client, self._resolved(client), state, message, killed=killed)

    def update(self, *, message: str = "", **changes: Any) -> int:
        """Set fields, also `state`, of all these jobs; return how many there are."""
        own = {name: value for name, value in changes.items() if name not in self.view().FURTHER}
        state = own.pop("state", None)
        count = self.count() if not own else super().update(**self._real_changes(own))
        if state is not None:
            self.move(state, message)
        return count

    def delete(self) -> Any:
        """Remove these jobs with their history; return how many, as Django does.

        Raises
        ------
        IllegalMove
            One is running: kill it first.
        """
        count = super().delete()
        return count, {self.label: count}

    def bulk_create(  # type: ignore[override]
        self, objs: Iterable[BalsamJob], batch_size: int | None = None, **_: Any
    ) -> list[BalsamJob]:
        """Store new jobs in few transactions; return them."""
        views = list(objs)
        fresh = sum(view._number is None for view in views)
        numbers = iter(reserved.take(self.site.client, fresh))
        records = [view.new_record(numbers) for view in views]
        ids = [view.number for view in views]
        places = {number: -place for place, number in enumerate(ids, 1)}
        for record in records:
            for field in PARENT_FIELDS:
                parents = [places.get(parent, parent) for parent in getattr(record, field)]
                setattr(record, field, parents)
        super().bulk_create(
            records, batch_size or len(views) or 1, reserved=ids, hold_seconds=states.HOLD_SECONDS
        )
        found = {job.id: job for job in self.site.client.jobs(Query().where(id__in=ids))}
        for view in views:
            view._real = RealJob._loaded_from(self.site, found[view.number])
        return views


def _lock_condition(value: Any) -> dict[str, Any]:
    if value == "":
        return {"launcher_id__isnull": True}
    kind, _, number = str(value).partition(":")
    if kind == "launcher" and number.isdecimal():
        return {"launcher_id": int(number)}
    raise InvalidInput(f"lock is {value!r}; it is '' or launcher:ID")


class Source:
    """`BalsamJob.source`: the jobs that no launcher has.

    What it did beside that in 0.x (locks, ticks) launchers do by leases.
    """

    def __init__(self, workflow: str | None = None) -> None:
        #: Only jobs whose workflow contains this.
        self.workflow = workflow

    def get_queryset(self) -> BalsamJobs[BalsamJob]:
        """Return the free jobs."""
        free: BalsamJobs[BalsamJob] = BalsamJobs()
        free = free.filter(lock="")
        return free.filter(workflow__contains=self.workflow) if self.workflow else free

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self.get_queryset(), name)

    def by_states(self, states: str | Iterable[str]) -> BalsamJobs[BalsamJob]:
        """Return the free jobs in one of *states*."""
        several = [states] if isinstance(states, str) else list(states)
        return self.get_queryset().filter(state__in=several)

    def get_runnable(
        self,
        *,
        max_nodes: int,
        remaining_minutes: float | None = None,
        mpi_only: bool = False,
        serial_only: bool = False,
        order_by: str | Iterable[str] | None = None,
    ) -> BalsamJobs[BalsamJob]:
        """Return the free jobs that can run on *max_nodes* nodes in *remaining_minutes*."""
        if mpi_only and serial_only:
            raise InvalidInput("mpi_only and serial_only exclude each other")
        if max_nodes < 1:
            raise InvalidInput(f"max_nodes is {max_nodes}; it must be 1 or more")
        found = self.by_states([str(state) for state in RUNNABLE_STATES])
        found = found.filter(num_nodes__lte=max_nodes)
        if remaining_minutes is not None:
            found = found.filter(wall_time_minutes__lte=remaining_minutes)
        if serial_only:
            found = found.filter(num_nodes=1, ranks_per_node=1)
        if mpi_only:
            found = found.exclude(num_nodes=1, ranks_per_node=1)
        if order_by is not None:
            found = found.order_by(*([order_by] if isinstance(order_by, str) else order_by))
        return found
