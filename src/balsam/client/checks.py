"""Checks of what users give, before a database sees it. The same for every client."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from operator import attrgetter
from typing import Any

import msgspec

from balsam.errors import CyclicDependency, InvalidInput, NotFound, UnknownField, nearest
from balsam.model import records
from balsam.model.app import HOOKS, App, Container, Function, Parameter, split_words
from balsam.model.graph import Kind, find_cycle, spelled_cycle
from balsam.model.hook import MARK, hook_function
from balsam.model.job import EDITABLE, FIELDS, Job, check_job
from balsam.model.parameters import check_parameters, taken_by
from balsam.model.query import JSON_FIELDS
from balsam.model.retry import rules_of
from balsam.model.states import State
from balsam.model.warning import parse_warning

_KINDS = (("parents", Kind.OK), ("parents_failed", Kind.FAIL), ("parents_any", Kind.ANY))
_RESOURCES = (
    "num_nodes",
    "ranks_per_node",
    "threads_per_rank",
    "threads_per_core",
    "cores_per_rank",
    "gpus_per_rank",
    "memory_mib",
    "node_packing_count",
    "wall_time_minutes",
    "max_retries",
    "priority",
    "workflow",
    "signal",
)
_SHARED = attrgetter(*_RESOURCES)
_QUOTES = frozenset("'\"\\")
#: Fields that are split into words when the job runs.
_WORDS = ("args", "mpi_flags", "input_files", "stage_out_files")
#: What runs containers, in the order in which it is looked for, and whose GPUs these can have.
CONTAINER_RUNTIMES = ("apptainer", "singularity", "podman", "docker")
CONTAINER_GPUS = ("nvidia", "amd")
#: Texts that command lines, paths and databases take as they are.
_TEXTS = tuple(name for name in EDITABLE if FIELDS[name].type is str)


class NewJobs:
    """Jobs about to be inserted, checked.

    Raises
    ------
    InvalidInput
        A job could never be stored or run; it is named.
    CyclicDependency
        The jobs wait for each other in a circle.
    """

    def __init__(self, jobs: list[Job]) -> None:
        self._jobs = jobs
        self.applications = {job.application for job in jobs}
        self.edges: list[tuple[int, int, Kind]] = []
        self._check_jobs(jobs)
        for position, job in enumerate(jobs):
            if job.parents or job.parents_failed or job.parents_any:
                self._add_edges(position, job, len(jobs))
        self._check_cycle(jobs)

    def _check_jobs(self, jobs: list[Job]) -> None:
        # Most jobs of a campaign are alike: what they share is checked once.
        seen: set[tuple[Any, ...]] = set()
        for job, shared in zip(jobs, map(_SHARED, jobs), strict=True):
            name = job.name
            if job.retry:
                _check_retry(job)
            plain = (
                name.isascii() and name.isprintable() and "/" not in name and 2 < len(name) < 200
            )
            if plain and shared in seen and name[0] not in " .":
                continue
            try:
                check_job(job)
            except InvalidInput as error:
                raise type(error)(f"job {job.name!r}: {error}") from error
            seen.add(shared)
        if not _are_storable(jobs):
            for job in jobs:
                try:
                    _check_storable(job)
                except InvalidInput as error:
                    raise InvalidInput(f"job {job.name!r}: {error}") from error

    def _add_edges(self, position: int, job: Job, count: int) -> None:
        seen: set[int] = set()
        for field, kind in _KINDS:
            for parent in getattr(job, field):
                if parent == 0 or parent < -count:
                    raise InvalidInput(f"job {job.name!r}: {parent} in {field} is no job's id")
                if parent in seen:
                    raise InvalidInput(f"job {job.name!r}: parent {parent} is given twice")
                seen.add(parent)
                self.edges.append((parent, position, kind))

    def _check_cycle(self, jobs: list[Job]) -> None:
        cycle = find_cycle((-p - 1, child) for p, child, _ in self.edges if p < 0)
        if cycle:
            names = spelled_cycle([repr(jobs[i].name) for i in cycle])
            raise CyclicDependency(f"the jobs wait for each other, a cycle: {names}")

    @property
    def outside_parents(self) -> set[int]:
        """Ids of parents that must exist already."""
        return {parent for parent, _, _ in self.edges if parent > 0}

    def check_parameters(self, apps: Mapping[str, App]) -> None:
        """Raise `InvalidInput` unless each job's parameters are those of its app among *apps*."""
        taken = {name: taken_by(app) for name, app in apps.items()}
        if not any(taken.values()):
            return
        for job in self._jobs:
            wanted = taken.get(job.application)
            if wanted is not None and not job.payload:
                try:
                    check_parameters(wanted, job.args, job.parameters)
                except InvalidInput as error:
                    raise InvalidInput(f"job {job.name!r}: {error}") from error

    def check_apps(
        self,
        found: Iterable[str],
        known: Callable[[], list[str]],
        wanted: set[str] | None = None,
    ) -> None:
        """Raise `NotFound` unless all applications are among *found*."""
        for name in sorted((wanted or self.applications) - set(found)):
            if not name:
                raise InvalidInput("a job needs an application; give the name of an app")
            all_names = known()
            have = f"there are {', '.join(all_names[:10])}" if all_names else "there are none yet"
            raise NotFound(
                f"there is no app {name!r} ({have});{nearest(name, all_names)} register it with"
                " `balsam app`"
            )


def _check_retry(job: Job) -> None:
    try:
        job.retry = rules_of(job.retry)
    except InvalidInput as error:
        raise InvalidInput(f"job {job.name!r}: {error}") from error


def _are_storable(jobs: list[Job]) -> bool:
    """Tell, at little cost for many jobs, whether each would pass `_check_storable`."""
    try:
        for name in _TEXTS:
            text = "".join(map(attrgetter(name), jobs))
            text.encode()
            if "\0" in text:
                return False
        for name in JSON_FIELDS:
            msgspec.json.encode([value for value in map(attrgetter(name), jobs) if value])
        for name in _WORDS:
            for text in {t for t in map(attrgetter(name), jobs) if not _QUOTES.isdisjoint(t)}:
                split_words(text)
    except (TypeError, ValueError, RecursionError):
        return False
    return True


def _check_storable(job: Job) -> None:
    """Raise `InvalidInput` when a text or a JSON value of *job* cannot be kept or used."""
    for name in _TEXTS:
        text = getattr(job, name)
        if not isinstance(text, str):
            raise InvalidInput(f"{name} cannot be {text!r}; it is a text")
        if "\0" in text:
            raise InvalidInput(f"{name} contains a null character; leave it out")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InvalidInput(f"{name} {text!r} is no UTF-8 text") from error
    for name in JSON_FIELDS:
        try:
            msgspec.json.encode(getattr(job, name))
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidInput(f"{name} is not JSON: {error}") from error
    for name in _WORDS:
        try:
            split_words(getattr(job, name))
        except InvalidInput as error:
            raise InvalidInput(f"{name}: {error}") from error


def check_app(app: App) -> None:
    """Raise `InvalidInput` unless *app* can be registered; give its rules their type."""
    if not app.name.strip() or not app.name.isprintable():
        raise InvalidInput(f"app name {app.name!r} is empty or not printable")
    if not app.executable.strip() and not app.function.code:
        raise InvalidInput(f"app {app.name!r} has no executable; give the command to run")
    split_words(app.executable)
    if app.executable.startswith(MARK):
        raise InvalidInput(
            f"app {app.name!r}: functions that jobs run are registered from Python, with"
            " @balsam.app; here only hooks can be functions"
        )
    for name in HOOKS.values():
        if hook_function(getattr(app, name)) is None:
            split_words(getattr(app, name))
    app.retry = rules_of(app.retry)
    parse_warning(app.signal)
    _check_container(app)
    for name, value in app.environ.items():
        if not name or "=" in name or "\0" in name + value:
            raise InvalidInput(f"environ of app {app.name!r}: {name!r} is no name of a variable")
    for name in app.parameters:
        if not name.isidentifier():
            raise InvalidInput(f"app {app.name!r}: parameter {name!r} is no name; use letters")


def check_keys(field: str, value: Any) -> None:
    """Raise `UnknownField` when the JSON *value* of an app's *field* has a key that it has not."""
    parts = value.values() if field == "parameters" and isinstance(value, dict) else [value]
    record = {"container": Container, "function": Function, "parameters": Parameter}.get(field)
    known = [f.name for f in records.fields(record)] if record else []
    for part in parts if record else ():
        for key in part if isinstance(part, dict) else ():
            if key not in known:
                raise UnknownField(f"{field} has no {key!r}.{nearest(str(key), known)}")


def _check_container(app: App) -> None:
    container = app.container
    if not container.image:
        if container != Container():
            raise InvalidInput(f"the container of app {app.name!r} has no image; give one")
        return
    if "run" in app.function.hooks:
        raise InvalidInput(
            f"app {app.name!r} is a Python function, which runs in the interpreter that it names,"
            " not in a container; make it a command that the image has"
        )
    for what, value, known in (
        ("runtime", container.runtime, CONTAINER_RUNTIMES),
        ("gpus", container.gpus, CONTAINER_GPUS),
    ):
        if value and value not in known:
            raise InvalidInput(
                f"{what} of the container of app {app.name!r} is {value!r}; it can be"
                f" {', '.join(known)}.{nearest(value, list(known))}"
            )
    for bind in container.binds:
        if not bind or bind.count(":") > 2 or "," in bind:
            raise InvalidInput(
                f"bind {bind!r} of app {app.name!r} is not SOURCE[:TARGET[:OPTIONS]]"
            )


def check_changes(record: type[msgspec.Struct], changes: dict[str, Any]) -> dict[str, Any]:
    """Return *changes* with their values in the fields' types.

    Raises
    ------
    UnknownField
        There is no such field, or it is not the user's to change.
    InvalidInput
        A value has the wrong type or is impossible.
    """
    fields = {field.name: field.type for field in records.fields(record)}
    editable = EDITABLE if record is Job else tuple(name for name in fields if name != "id")
    checked: dict[str, Any] = {}
    for name, value in changes.items():
        if name not in fields:
            kind = record.__name__.lower()
            raise UnknownField(f"a {kind} has no field {name!r}.{nearest(name, list(editable))}")
        if name not in editable or name in ("parents", "parents_failed", "parents_any"):
            hint = "use `balsam dep`" if name in FIELDS and "parent" in name else "Balsam sets it"
            raise InvalidInput(f"{name} cannot be changed; {hint}")
        if name == "retry":
            checked[name] = rules_of(value)
            continue
        try:
            checked[name] = msgspec.convert(value, fields[name], strict=True)
        except msgspec.ValidationError as error:
            raise InvalidInput(f"{name} cannot be {value!r}: {error}") from error
    if record is Job:
        job = Job(**({"name": "x", "workflow": "x", "state": State.CREATED} | checked))
        check_job(job)
        _check_storable(job)
    elif record is App:
        check_app(App(**({"name": "x", "executable": "x"} | checked)))
    return checked
