"""Jobs as Python programs hold them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar, TypeVar, cast

from msgspec.structs import asdict

from balsam.client import new_jobs
from balsam.client.history import Event, Events
from balsam.client.interface import Client
from balsam.client.jobset import Jobs, known_state, refuse_illegal
from balsam.client.queryset import Objects
from balsam.client.site import Site, default_site
from balsam.errors import (
    InvalidInput,
    MultipleFound,
    NotFound,
    UnknownField,
    nearest,
)
from balsam.model import job as model
from balsam.model.graph import Kind
from balsam.model.job import EDITABLE, FIELDS
from balsam.model.query import JSON_FIELDS, Query
from balsam.model.wire import Attempt

T = TypeVar("T")
__all__ = ["Job", "Jobs"]

_PARENT_KINDS = {"parents": Kind.OK, "parents_failed": Kind.FAIL, "parents_any": Kind.ANY}
_CONTAINERS = (*JSON_FIELDS, *new_jobs.PARENT_FIELDS, "retry")
#: What a move can change besides the state.
_OF_THE_STATE = (
    *("state", "updated_at", "pending_parents", "exit_code", "launcher_id"),
    *("retries", "timeouts", "crashes", "retry_at"),
)


class Job(model.Job, kw_only=True, dict=True, eq=False):
    """One run of an app. The fields are those of `balsam.model.job.Job`.

    Two objects are equal when they are the same job of the same site. Attributes that
    begin with '_' are free for anything; other unknown names are refused.
    """

    class DoesNotExist(NotFound):
        """No job matches."""

    class MultipleObjectsReturned(MultipleFound):
        """Several jobs match where one was asked for."""

    objects: ClassVar[Objects[Jobs[Job]]] = Objects(lambda: Jobs(all_of_it=True))

    @classmethod
    def current(cls) -> Job | None:
        """Return the job that this process is part of (`BALSAM_JOB_ID`), or None outside one.

        Raises
        ------
        DoesNotExist
            The job was removed, or is of another site.
        """
        job_id = os.environ.get("BALSAM_JOB_ID")
        return cls.objects.get(job_id=job_id) if job_id else None

    @property
    def site(self) -> Site:
        """Where the job is; for a new one, the default site."""
        site = self.__dict__.get("_site")
        return site if isinstance(site, Site) else default_site()

    @property
    def pk(self) -> int | None:
        """The id."""
        return self.id

    # saving -------------------------------------------------------------------------------

    def save(self, update_fields: Iterable[str] | None = None, *, message: str = "") -> None:
        """Store a new job, or what was changed in this object since it was loaded.

        Changes inside `data`, `tags`, `parameters` and `environ` are noticed. Fields that
        were not changed here are not written, whatever became of them meanwhile. A changed
        `state` is a move, with *message* in its event; parents can be added and taken away.

        Parameters
        ----------
        update_fields
            Of the changes, only these.

        Raises
        ------
        UnknownField
            A field that is Balsam's own was changed, or *update_fields* names none.
        InvalidInput
            A value cannot be taken.
        IllegalMove
            The job cannot go to that state.
        DoesNotExist
            It was removed meanwhile.
        """
        if self.id is None:
            self.site.jobs.bulk_create([self])
            self.refresh_from_db()
            return
        changes = self._changes()
        if update_fields is not None:
            wanted = list(update_fields)
            new_jobs.check_names(wanted, also=("state",))
            changes = {name: value for name, value in changes.items() if name in wanted}
        if changes:
            self._store(changes, message)

    def _store(self, changes: dict[str, Any], message: str) -> None:
        new_jobs.check_names(changes, also=("state",))
        client, me = self.site.client, self._me
        parents = {name: self._parents_now(name) for name in _PARENT_KINDS if name in changes}
        state = known_state(changes["state"]) if "state" in changes else None
        fields = {
            name: new_jobs.checked(name, value)
            for name, value in changes.items()
            if name != "state" and name not in parents
        }
        if state is not None:
            refuse_illegal(client, me, state)
        if fields and not client.update_jobs(me, fields):
            raise self._gone()
        self._store_parents(client, parents)
        if state is not None and not client.move_jobs(me, state, message) and not self._exists():
            raise self._gone()
        for name, value in fields.items():
            setattr(self, name, value)
        again = list(_OF_THE_STATE) + list(parents) if state is not None or parents else []
        if {"name", "workflow", "user_workdir"} & fields.keys():
            again.append("workdir")
        if again:
            self._take(self._fetch(again), again)
        self._note([*fields, *again])

    def refresh_from_db(self) -> None:
        """Load every field anew; changes that were not saved are lost.

        Raises
        ------
        DoesNotExist
            The job was removed.
        """
        record = self._fetch(None)
        self._take(record, FIELDS)
        self._remember(self.site, record)

    def delete(self) -> None:
        """Remove the job with its history. Raises `IllegalMove` when it is running."""
        self.site.client.delete_jobs(self._me)

    def kill(self, *, recursive: bool = False) -> int:
        """Kill the job, with *recursive* all that depend on it; return how many were."""
        killed = self.site.client.kill_jobs(self._me, recursive=recursive)
        self._reload_state()
        return len(killed)

    def rerun(self) -> int:
        """Start the job from the beginning; return 1, or 0 when it has not ended."""
        count = self.site.client.rerun_jobs(self._me)
        self._reload_state()
        return count

    # what belongs to it -------------------------------------------------------------------

    def parent_jobs(self) -> Jobs[Job]:
        """The jobs that this one depends on, in any way."""
        return self.site.jobs.filter(children=self._number)

    def children(self) -> Jobs[Job]:
        """The jobs that depend on this one, in any way."""
        return self.site.jobs.filter(parents=self._number)

    def attempts(self) -> list[Attempt]:
        """Return the executions of the job, the first one first."""
        return self.site.client.attempts([self._number])

    def events(self) -> Events[Event]:
        """The state changes of the job, the first one first."""
        return self.site.events.filter(job=self._number)

    def read_file_in_workdir(self, name: str) -> str:
        """Return the text of a file in the job's directory.

        Raises
        ------
        InvalidInput
            There is no such file (also a ValueError).
        """
        path = Path(self.workdir) / name
        try:
            return path.read_text()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise InvalidInput(f"cannot read {name!r} in {self.workdir}: {reason}") from error

    # inside -------------------------------------------------------------------------------

    @classmethod
    def _loaded_from(cls, site: Site, record: model.Job) -> Job:
        job = cls(**asdict(record))
        job._remember(site, record)
        return job

    def _remember(self, site: Site, record: model.Job) -> None:
        """Note the fields of *record* as those in the database."""
        stored: dict[str, Any] = asdict(record)
        for name in _CONTAINERS:
            stored[name] = _frozen(name, stored[name]) if stored[name] else _EMPTY[name]
        self._site = site
        self._stored: dict[str, Any] = stored

    def _note(self, names: Iterable[str]) -> None:
        for name in names:
            self._stored[name] = _frozen(name, getattr(self, name))

    def _take(self, record: model.Job, names: Iterable[str]) -> None:
        for name in names:
            setattr(self, name, getattr(record, name))

    def _changes(self) -> dict[str, Any]:
        if "_stored" not in self.__dict__:
            raise InvalidInput(f"job {self.id} was not loaded; use Job.objects.get(id={self.id})")
        return {
            name: getattr(self, name)
            for name, stored in self._stored.items()
            if _frozen(name, getattr(self, name)) != stored
        }

    def _parents_now(self, field: str) -> list[int]:
        client = self.site.client
        value: Any = getattr(self, field)
        return [new_jobs.find_parent(client, one, self.name) for one in new_jobs.several(value)]

    def _store_parents(self, client: Client, parents: dict[str, list[int]]) -> None:
        """Add what is new of *parents* and take away what is gone.

        First what is added: a job that has a parent left does not start in between.
        """
        gone = [
            parent
            for name, now in parents.items()
            for parent in self._stored[name]
            if parent not in now
        ]
        for name, now in parents.items():
            for parent in now:
                if parent in self._stored[name]:
                    continue
                if parent in gone:  # it becomes one of another kind
                    client.remove_dependency(parent, self._number)
                    gone.remove(parent)
                client.add_dependency(parent, self._number, _PARENT_KINDS[name])
        for parent in gone:
            client.remove_dependency(parent, self._number)

    @property
    def _number(self) -> int:
        if self.id is None:
            raise InvalidInput(f"job {self.name!r} is not stored yet; save it first")
        return self.id

    @property
    def _me(self) -> Query:
        return Query().where(id=self._number)

    def _fetch(self, fields: list[str] | None) -> model.Job:
        for record in self.site.client.jobs(self._me, fields):
            return record
        raise self._gone()

    def _exists(self) -> bool:
        return bool(self.site.client.jobs(self._me, ["id"]))

    def _gone(self) -> DoesNotExist:
        return self.DoesNotExist(f"there is no job {self.id}; it was removed")

    def _reload_state(self) -> None:
        self._take(self._fetch(list(_OF_THE_STATE)), _OF_THE_STATE)
        self._note(_OF_THE_STATE)

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in FIELDS and name[0] != "_":
            raise UnknownField(f"a job has no field {name!r}.{nearest(name, list(EDITABLE))}")
        super().__setattr__(name, value)

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        same = isinstance(other, Job) and self.id is not None and self.id == other.id
        return same and self.site == cast("Job", other).site

    def __hash__(self) -> int:
        return id(self) if self.id is None else hash(self.id)

    def __repr__(self) -> str:
        return f"<Job {self.id} {self.name!r} {self.state}>"

    def __copy__(self) -> Job:
        return _rebuild(asdict(self), dict(self.__dict__))

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (asdict(self), dict(self.__dict__))


Jobs.make_object = Job._loaded_from
Jobs.missing = Job.DoesNotExist
Jobs.several = Job.MultipleObjectsReturned


def _rebuild(fields: dict[str, Any], attributes: dict[str, Any]) -> Job:
    job = Job(**fields)
    job.__dict__.update(attributes)
    return job


def _frozen(name: str, value: Any) -> Any:
    """Return *value* so that later changes inside it show by comparison."""
    if name in JSON_FIELDS:
        try:
            return new_jobs.json_of(value)
        except (TypeError, ValueError) as error:
            raise InvalidInput(f"{name} is not JSON: {error}") from error
    return list(value) if isinstance(value, list | tuple) else value


#: What `_frozen` makes of the containers of most jobs.
_EMPTY = {name: _frozen(name, getattr(model.Job(), name)) for name in _CONTAINERS}
