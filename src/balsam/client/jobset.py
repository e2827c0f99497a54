"""Sets of jobs: chosen step by step, changed all at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, cast

from balsam.client import new_jobs
from balsam.client.interface import Client
from balsam.client.queryset import QuerySet
from balsam.client.site import Site
from balsam.errors import IllegalMove, InvalidInput
from balsam.model import job as model
from balsam.model.job import FIELDS
from balsam.model.query import Query, parse
from balsam.model.states import State, may_ask

if TYPE_CHECKING:
    from balsam.client.jobs import Job

T = TypeVar("T")


class Jobs(QuerySet[T]):
    """Jobs, chosen step by step (see `QuerySet`)."""

    kind = "jobs"
    noun = "job"
    #: Makes the object of a record (set by `client.jobs`, which needs this module).
    make_object: ClassVar[Callable[[Site, model.Job], Job]]

    def _read(self, client: Client, query: Query, fields: list[str] | None) -> list[model.Job]:
        return client.jobs(query, fields)

    def _stream(
        self, client: Client, query: Query, fields: list[str] | None, page: int
    ) -> Iterator[model.Job]:
        return client.iterate_jobs(query, fields, page)

    def _count(self, client: Client, query: Query) -> int:
        return client.count_jobs(query)

    def _object(self, record: model.Job) -> Job:
        return type(self).make_object(self.site, record)

    @classmethod
    def _field_names(cls) -> list[str]:
        return list(FIELDS)

    def state_counts(self) -> dict[State, int]:
        """Return how many jobs are in each state; states without jobs are left out."""
        client = self.site.client
        return client.state_counts(self._resolved(client))

    # new jobs -----------------------------------------------------------------------------

    def create(self, **fields: Any) -> Job:
        """Store one job with *fields* and return it (see `bulk_create` for the errors)."""
        client = self.site.client
        (number,) = new_jobs.insert(client, [fields])
        return self.site.jobs.get(id=number)

    def bulk_create(
        self,
        jobs: Iterable[model.Job | Mapping[str, Any]],
        batch_size: int = new_jobs.BATCH,
        *,
        reserved: list[int] | None = None,
        hold_seconds: float = 0.0,
    ) -> list[int]:
        """Store *jobs* and return their ids in order.

        Any iterable of `Job` objects or mappings of field to value is taken; it is read as it
        is stored, *batch_size* jobs to a transaction, so that a generator of millions needs
        no more memory than one batch and the list of ids (40 bytes a job). `Job` objects get
        `id` and `job_id`; `refresh_from_db` brings the rest.

        `parents`, `parents_failed` and `parents_any` take `Job` objects (also of this call,
        before or in the same batch), ids, UUIDs, or minus the position, counted from 1, of
        another job of this call.

        Parameters
        ----------
        reserved
            The ids that the jobs are to have, as many, from `Client.reserve_jobs`.
        hold_seconds
            No launcher takes them for so long: time to give them parents.

        Raises
        ------
        UnknownField
            There is no such field; the nearest name is given.
        InvalidInput
            A value cannot be taken; the message names the job.
        NotFound
            An app or a parent does not exist.
        CyclicDependency
            Jobs wait for each other.

        After an error nothing of its batch is stored; the batches before stay, and the
        message says so.
        """
        site = self.site

        identity = site.client.identity

        def stored(job: model.Job, number: int) -> None:
            job.id, job.job_id = number, identity.text(number)
            remember = getattr(job, "_remember", None)
            if remember is not None:
                remember(site, job)

        return new_jobs.insert(site.client, jobs, batch_size, stored, reserved, hold_seconds)

    def get_or_create(
        self, defaults: Mapping[str, Any] | None = None, **conditions: Any
    ) -> tuple[Job, bool]:
        """Return the job that meets *conditions* and whether it had to be made for that.

        A new job has the values of the plain conditions (those without lookup) and of
        *defaults*. Two programs that do this at once can make two jobs.
        """
        found = list(self.filter(**conditions)[:2])
        if found:
            return cast("Job", found[0] if len(found) == 1 else self.get(**conditions)), False
        fields = {name: value for name, value in conditions.items() if "__" not in name}
        return self.create(**{**fields, **(defaults or {})}), True

    # all at once --------------------------------------------------------------------------

    def update(self, *, message: str = "", **changes: Any) -> int:
        """Set fields, also `state`, of all these jobs; return how many there are.

        Raises
        ------
        UnknownField
            There is no such field, or it is Balsam's own.
        InvalidInput
            A value cannot be taken; nothing is changed.
        IllegalMove
            A job cannot go to that state; nothing is changed.
        """
        new_jobs.check_names(changes, also=("state",))
        client = self.site.client
        query = self._resolved(client)
        state = known_state(changes.pop("state")) if "state" in changes else None
        if not changes:
            return 0 if state is None else client.move_jobs(query, state, message)
        for name in new_jobs.PARENT_FIELDS:
            if name in changes:
                raise InvalidInput(f"{name} cannot be set for many jobs; save each with its own")
        changes = {name: new_jobs.checked(name, value) for name, value in changes.items()}
        if state is None:
            return client.update_jobs(query, changes)
        # The choice may depend on what is changed: hold on to the very same jobs.
        chosen = Query().where(id__in=[job.id for job in client.jobs(query, ["id"])])
        refuse_illegal(client, chosen, state)
        count = client.update_jobs(chosen, changes)
        client.move_jobs(chosen, state, message)
        return count

    def delete(self) -> int:
        """Remove these jobs with their history (not their directories); return how many.

        Raises
        ------
        IllegalMove
            One is running: kill it first.
        """
        return self._chosen("delete").delete_jobs(self._resolved(self.site.client))

    def kill(self, *, recursive: bool = False) -> int:
        """Kill those of these jobs that have not ended; return how many.

        With *recursive*, all that depend on them are killed too.
        """
        query = self._resolved(self.site.client)
        return len(self._chosen("kill").kill_jobs(query, recursive=recursive))

    def rerun(self) -> int:
        """Start those of these jobs that have ended from the beginning; return how many."""
        return self._chosen("rerun").rerun_jobs(self._resolved(self.site.client))

    def _chosen(self, verb: str) -> Client:
        self._kept = None
        if self._all_of_it:
            raise InvalidInput(f"{verb} which jobs? For all of the site: objects.all().{verb}()")
        return self.site.client


def known_state(value: Any) -> State:
    """Return *value* as a state. Raises `InvalidInput` with the nearest one."""
    (known,) = parse({"state": value})
    return State(known.value)


def refuse_illegal(client: Client, query: Query, state: State) -> None:
    """Raise `IllegalMove` before anything is changed, not after half of it."""
    for old in client.state_counts(query):
        if old != state and not may_ask(old, state):
            raise IllegalMove(f"a job that is {old} cannot become {state}; nothing was changed")
