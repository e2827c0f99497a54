"""`BalsamJob`: a job under the names of 0.x."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, ClassVar, Self
from uuid import UUID

from msgspec.structs import asdict

from balsam.client.jobs import Job
from balsam.client.queryset import Objects
from balsam.compat import links, reserved, states
from balsam.compat.apps import ApplicationDefinition
from balsam.compat.batch_jobs import QueuedLaunch
from balsam.compat.exceptions import NoSuchApp, NoSuchJob, SeveralJobs
from balsam.compat.fields import Field, View, integer, number, text
from balsam.compat.jobset import BalsamJobs, RealJob, Source
from balsam.compat.links import NOT_WAITED_FOR
from balsam.compat.past import Past
from balsam.compat.program import Program
from balsam.compat.texts import (
    environ_of,
    environ_text,
    local_time,
    parents_text,
)
from balsam.errors import InvalidInput, NotFound
from balsam.model.identity import JobIdentity
from balsam.model.job import EDITABLE, directory_name
from balsam.model.parameters import shared_parameters
from balsam.model.query import Query, parse

#: Fields of 0.x that are Balsam's: what a script assigns to them is not stored.
_BALSAM_S = ("lock", "tick", "state_history", "queued_launch", "coschedule_num_nodes")


def _application(value: Any) -> str:
    return value.name if isinstance(value, ApplicationDefinition) else text(value)


def _minutes(value: float) -> float:
    """Return what 0.x has for *value*: a whole number as such, and 1 when nothing was said."""
    return int(value) or 1 if value == int(value) else value


class BalsamJob(Program, Past, View):
    """One run of an app: a `Job` under its 0.x names and types.

    `job_id` and `working_directory` are known before `save`. A new job goes on at once to the
    state that it can go on from. Any other attribute may be set, and is not stored.

    Raises
    ------
    UnexpectedField
        A field is given that there is not (also a TypeError).
    """

    DoesNotExist = NoSuchJob
    MultipleObjectsReturned = SeveralJobs
    objects: ClassVar[Objects[BalsamJobs[BalsamJob]]] = Objects(lambda: BalsamJobs(all_of_it=True))
    source: ClassVar[Source] = Source()
    FURTHER = ("job_id", "parents", "wait_for_parents", *_BALSAM_S)
    SYNONYMS: ClassVar[Mapping[str, str]] = {
        "walltime_minutes": "wall_time_minutes",
        "application_args": "args",
    }

    workflow = Field(write=text)
    name = Field(write=text)
    description = Field(write=text)
    input_files = Field(write=text)
    stage_in_url = Field(write=text)
    stage_out_files = Field(write=text)
    stage_out_url = Field(write=text)
    wall_time_minutes = walltime_minutes = Field("wall_time_minutes", write=number, read=_minutes)
    num_nodes = Field(write=integer)
    ranks_per_node = Field(write=integer)
    cpu_affinity = Field(write=text, read=lambda word: word or "none")
    threads_per_rank = Field(write=integer)
    threads_per_core = Field(write=integer)
    node_packing_count = Field(write=integer)
    environ_vars = Field("environ", write=environ_of, read=environ_text)
    mpi_flags = Field(write=text)
    application = Field(write=_application)
    args = application_args = Field("args", write=text)
    user_workdir = Field(write=text)
    post_error_handler = Field(write=bool)
    post_timeout_handler = Field(write=bool)
    auto_timeout_retry = Field(write=bool)
    state = Field(read=str)
    data = Field()

    coschedule_num_nodes: int = 0

    def __init__(self, **fields: Any) -> None:
        self._real = RealJob()
        self._number: int | None = None
        self._waits = True
        self._set(fields)
        if self._real.data is None:
            self._real.data = {}

    @classmethod
    def of(cls, real: Job) -> Self:
        """Return a view on *real*."""
        view = super().of(real)
        view._number, view._waits = real.id, NOT_WAITED_FOR not in real.tags
        return view

    # identity -----------------------------------------------------------------------------

    @property
    def number(self) -> int:
        """The integer id, which is reserved when it is first asked for."""
        if self._number is None:
            self._number = reserved.take(self._real.site.client)[0]
        return self._number

    @property
    def job_id(self) -> UUID:
        """The UUID."""
        identity: JobIdentity = self._real.site.client.identity
        return identity.uuid(self.number)

    @property
    def pk(self) -> UUID:
        """The UUID."""
        return self.job_id

    id = pk

    @property
    def cute_id(self) -> str:
        """Name and first digits of the UUID, as in logs."""
        return f"[{self.name} | {self.job_id.hex[:8]}]"

    @property
    def working_directory(self) -> str:
        """The job's directory, also before the job is saved."""
        real: Job = self._real
        if real.user_workdir or real.id is not None:
            return real.user_workdir or real.workdir
        name = directory_name(real.name, self.job_id.hex[:8])
        return str(real.site.path / "data" / real.workflow / name)

    # what is Balsam's ---------------------------------------------------------------------

    @property
    def lock(self) -> str:
        """Who has the job: ``launcher:ID``; '' when nobody has."""
        holder = self._real.launcher_id
        return "" if holder is None else f"launcher:{holder}"

    @lock.setter
    def lock(self, _value: str) -> None:
        pass

    @property
    def tick(self) -> datetime:
        """When the state last changed."""
        return local_time(self._real.updated_at)

    @tick.setter
    def tick(self, _value: datetime) -> None:
        pass

    @property
    def queued_launch(self) -> QueuedLaunch | None:
        """The batch job that the job ran in."""
        number = self._real.batch_job_id
        return None if number is None else QueuedLaunch.objects.get(pk=number)

    @queued_launch.setter
    def queued_launch(self, _value: Any) -> None:
        pass

    # saving -------------------------------------------------------------------------------

    def save(self, *_: Any, update_fields: Iterable[str] | None = None, **__: Any) -> None:
        """Store a new job, or what was changed in this object since it was loaded.

        What others changed meanwhile stays. A changed `state` is a move.

        Raises
        ------
        InvalidInput
            A value cannot be taken.
        IllegalMove
            The job cannot go to that state.
        DoesNotExist
            The job was removed meanwhile, or its application does not exist.
        """
        if self._real.id is None:
            self._insert()
            return
        if update_fields is None:
            self._real.save()
            return
        wanted = list(update_fields)
        self.check_names(wanted)
        real = [self.FIELDS[n].real for n in wanted if n in self.FIELDS]
        self._real.save(real + ["parents"] * ("parents" in wanted))

    def _insert(self) -> None:
        real = self._real
        record = self.new_record(iter([self.number]))
        try:
            real.site.jobs.bulk_create(
                [record], reserved=[self.number], hold_seconds=states.HOLD_SECONDS
            )
        except NotFound as error:
            known = ApplicationDefinition.objects.filter(name=real.application).exists()
            raise (NoSuchJob if known else NoSuchApp)(str(error)) from error
        record.refresh_from_db()
        self._real = record

    def new_record(self, numbers: Iterator[int]) -> RealJob:
        """Return what is to be stored of a new job, with the next of *numbers* if it has none."""
        if self._real.id is not None:
            raise InvalidInput(f"{self.cute_id} is stored already")
        if self._number is None:
            self._number = next(numbers)
        record = RealJob(**asdict(self._real))
        record.__dict__.update(self._real.__dict__)
        if not self._waits and record.parents:
            numbers_text = " ".join(map(str, record.parents))
            record.tags, record.parents = {**record.tags, NOT_WAITED_FOR: numbers_text}, []
        return record

    def refresh_from_db(self, *_: Any, **__: Any) -> None:
        """Load every field anew. Raises `DoesNotExist` when the job was removed."""
        self._real.refresh_from_db()

    def delete(self, *_: Any, **__: Any) -> tuple[int, dict[str, int]]:
        """Remove the job with its history. Raises `IllegalMove` when it is running."""
        self._real.delete()
        return 1, {BalsamJobs.label: 1}

    # parents and children -----------------------------------------------------------------

    @property
    def wait_for_parents(self) -> bool:
        """Whether the job waits for its parents; false only as it is made."""
        return self._waits

    @wait_for_parents.setter
    def wait_for_parents(self, value: bool) -> None:
        if self._real.id is not None and bool(value) != self._waits:
            raise InvalidInput("wait_for_parents of a stored job cannot be changed")
        self._waits = bool(value)

    @property
    def parents(self) -> str:
        """The UUIDs of the parents, a JSON list in a text."""
        uuid = self._real.site.client.identity.uuid
        return parents_text(map(uuid, links.parents(self._real)))

    @parents.setter
    def parents(self, value: Any) -> None:
        links.set_field(self._real, value)

    def get_parents(self) -> BalsamJobs[BalsamJob]:
        """Return the jobs that this one depends on."""
        return type(self).objects.filter(number__in=links.parents(self._real))

    def get_parents_by_id(self) -> list[str]:
        """Return the UUIDs of the parents."""
        found: list[str] = json.loads(self.parents)
        return found

    def get_children(self) -> BalsamJobs[BalsamJob]:
        """Return the jobs that depend on this one."""
        return type(self).objects.filter(children_of=self.number)

    def get_children_by_id(self) -> list[str]:
        """Return the UUIDs of the children."""
        return [str(child) for child in self.get_children().values_list("pk", flat=True)]

    def get_child_by_name(self, name: str) -> BalsamJob:
        """Return the one child of this name. Raises ValueError when there is none, or several."""
        found = list(self.get_children().filter(name=name)[:2])
        if len(found) != 1:
            what = "several children" if found else "no child"
            raise InvalidInput(f"{self.cute_id} has {what} named {name!r}")
        return found[0]

    def set_parents(self, parents: Iterable[Any]) -> None:
        """Make the job depend on *parents* (jobs or ids) and nothing else; stored at once.

        Raises
        ------
        InvalidParentsError
            One is no job.
        CyclicDependency
            The jobs would wait for each other (also a RuntimeError).
        """
        links.replace(self._real, parents)

    # states -------------------------------------------------------------------------------

    def update_state(self, new_state: str, message: str = "", release: bool = False) -> None:
        """Move the job to *new_state*, from whatever state it has now in the database.

        Other changes of this object are neither stored nor lost. A job that has ended and is
        killed stays as it is. Of a killed job, CREATED and RESTART_READY begin anew.

        Raises
        ------
        InvalidStateError
            There is no such state.
        IllegalMove
            The job cannot go there.
        """
        states.move(self._real.site.client, self._real._me, new_state, message)
        self._real._reload_state()

    @classmethod
    def batch_update_state(
        cls, pk_list: Any, new_state: str, message: str = "", release: bool = False
    ) -> int:
        """Move the jobs of a query set, or those given by id, as `update_state` does.

        Killed jobs stay as they are. Returns how many moved.

        Raises
        ------
        InvalidStateError
            There is no such state.
        IllegalMove
            One of the jobs cannot go there; none is moved.
        """
        chosen = pk_list if isinstance(pk_list, BalsamJobs) else cls.objects.filter(pk__in=pk_list)
        return chosen.move(new_state, message, killed=False)

    # files and copies ----------------------------------------------------------------------

    def read_file_in_workdir(self, fname: str) -> str:
        """Return the text of a file in the job's directory. Raises ValueError without one."""
        if self._real.id is None:
            raise InvalidInput(f"cannot read {fname!r}: {self.cute_id} is not saved")
        found: str = self._real.read_file_in_workdir(fname)
        return found

    def clone(self, **fields: Any) -> BalsamJob:
        """Return a new job, not saved, like this one but for *fields* and `user_workdir`."""
        self.check_names(fields)
        new = BalsamJob()
        for name in EDITABLE:
            value = getattr(self._real, name)
            setattr(new._real, name, value.copy() if isinstance(value, dict | list) else value)
        new._real.user_workdir = ""
        new._waits = self._waits
        links.keep(new._real, links.parents(self._real))
        new._set(fields)
        if new._real.application != self._real.application and "parameters" not in fields:
            new._share_parameters()
        return new

    def _share_parameters(self) -> None:
        """Leave out the parameters that the job's app, another one than before, does not take."""
        real = self._real
        mine = Query(filters=parse({"name": real.application}, "apps"))
        for app in real.site.client.apps(mine) if real.parameters else ():
            real.parameters = shared_parameters(app, real.parameters)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields of 0.x by name."""
        return {name: getattr(self, name) for name in (*self.FIELDS, *self.FURTHER)}

    def serialize(self) -> str:
        """Return the fields of 0.x as JSON."""
        return json.dumps(self.to_dict(), default=str)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> BalsamJob:
        """Return a new job, not saved, with those of *fields* that are a user's to set."""
        return cls(**{n: v for n, v in fields.items() if n in cls.FIELDS and n != "state"})

    @classmethod
    def deserialize(cls, serialized: str | bytes) -> BalsamJob:
        """Return a new job, not saved, with the fields in what `serialize` returned."""
        return cls.from_dict(json.loads(serialized))
