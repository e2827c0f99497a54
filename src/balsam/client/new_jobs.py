"""From what a program gives (objects, mappings, references to parents) to stored jobs."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from numbers import Integral, Real
from typing import Any
from uuid import UUID

import msgspec

from balsam.client.interface import Client
from balsam.errors import BalsamError, InvalidInput, NotFound, UnknownField, nearest
from balsam.model.app import App
from balsam.model.job import EDITABLE, FIELDS, Job
from balsam.model.retry import rules_of

#: Jobs of one transaction.
BATCH = 20_000
PARENT_FIELDS = ("parents", "parents_failed", "parents_any")
_EDITABLE = frozenset(EDITABLE)
_PARENTS = frozenset(PARENT_FIELDS)
_DEFAULTS = Job()
_TEXT_TO_TEXT = ("environ", "tags")


class _Batch:
    """Jobs of one transaction on their way.

    Objects are few and shared here: with tens of thousands of jobs alive at once, the garbage
    collector costs more than all the rest.
    """

    def __init__(self) -> None:
        self.records: list[Job] = []
        #: The `Job` objects among what was given: position in the batch from 1 → object.
        self.objects: dict[int, Job] = {}
        #: The same by identity: id() → position.
        self.places: dict[int, int] = {}
        #: Parents still to be found: position in `records`, field, references.
        self.parents: list[tuple[int, str, Any]] = []

    def add(self, given: Job | Mapping[str, Any]) -> None:
        """Take in what *given* holds now: a mapping may be used again for the next job."""
        if isinstance(given, Job):
            if given.id is not None or id(given) in self.places:
                raise InvalidInput(
                    f"{given.name!r} is stored already; give a new Job, or a dict, for each job"
                )
            if given.state != _DEFAULTS.state:
                raise InvalidInput(f"a new job cannot be {given.state}; leave its state to Balsam")
            self.places[id(given)] = len(self.records) + 1
            self.objects[len(self.records) + 1] = given
            if not (given.parents or given.parents_failed or given.parents_any):
                record = _plain_record(given)
                if record is not None:
                    self.records.append(record)
                    return
            given = {name: getattr(given, name) for name in EDITABLE}
        if not _PARENTS.isdisjoint(given):
            given = dict(given)
            for name in PARENT_FIELDS:
                references = given.pop(name, None)
                if references is not None and references != []:
                    self.parents.append((len(self.records), name, references))
        self.records.append(record_of(given))


def insert(
    client: Client,
    jobs: Iterable[Job | Mapping[str, Any]],
    batch: int = BATCH,
    stored: Callable[[Job, int], None] = lambda job, number: None,
    reserved: list[int] | None = None,
    hold_seconds: float = 0.0,
) -> list[int]:
    """Store *jobs*, *batch* of them in a transaction, and return their ids in order.

    Parents are integer ids, UUIDs, jobs, or minus the position (from 1) of another job of
    *jobs* in the same batch or before.

    Parameters
    ----------
    stored
        Called with each `Job` that was given and its id when its batch is stored.
    reserved
        The ids that they are to have, from `Client.reserve_jobs`; by default new ones.
    hold_seconds
        No launcher takes them for so long.

    Raises
    ------
    InvalidInput
        A job cannot be stored, or the place of a parent is not clear.
    NotFound
        An app or a parent does not exist.
    CyclicDependency
        Jobs wait for each other.

    The batches before the one with the error stay; the message says how many jobs they hold.
    """
    if batch < 1:
        raise InvalidInput(f"the batch size is {batch}; it must be 1 or more")
    ids: list[int] = []
    source = iter(jobs)
    try:
        more = True
        while more:
            with _without_collector():
                more = _insert_batch(client, source, batch, stored, ids, reserved, hold_seconds)
    except BalsamError as error:
        if ids:
            error.args = (f"{error} (the {len(ids)} jobs of the batches before were stored)",)
        raise
    return ids


def _insert_batch(
    client: Client,
    source: Iterator[Job | Mapping[str, Any]],
    size: int,
    stored: Callable[[Job, int], None],
    ids: list[int],
    reserved: list[int] | None,
    hold_seconds: float,
) -> bool:
    """Store the next jobs and add their ids to *ids*; tell whether there were any."""
    news = _take(source, size, len(ids))
    for index, field, references in news.parents:
        record = news.records[index]
        found = [_parent(client, one, record.name, ids, news) for one in several(references)]
        setattr(record, field, found)
    if not news.records:
        return False
    mine = None if reserved is None else reserved[len(ids) : len(ids) + len(news.records)]
    numbers = client.create_jobs(news.records, mine, hold_seconds=hold_seconds)
    ids += numbers
    for place, job in news.objects.items():
        stored(job, numbers[place - 1])
    return True


def _take(source: Iterator[Job | Mapping[str, Any]], size: int, before: int) -> _Batch:
    batch = _Batch()
    try:
        for given in islice(source, size):
            batch.add(given)
    except InvalidInput as error:
        error.args = (f"job number {before + len(batch.records) + 1}: {error}",)
        raise
    return batch


def _plain_record(job: Job) -> Job | None:
    """Return a record like *job*, sharing nothing with it; None when a value must be looked at."""
    try:
        record = msgspec.convert(job, Job, from_attributes=True)
    except msgspec.ValidationError:
        return None
    if record.data:
        record.data = unshared("data", record.data)
    if record.parameters:
        record.parameters = unshared("parameters", record.parameters)
    return record


@contextmanager
def _without_collector() -> Iterator[None]:
    """Hold back the garbage collector, which looks at all jobs again and again as they are made."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def record_of(fields: Mapping[str, Any]) -> Job:
    """Return the record of a new job with *fields*, checked by type, sharing nothing with them.

    Raises
    ------
    UnknownField
        There is no such field, or it is Balsam's to set.
    InvalidInput
        A value has the wrong type.
    """
    if not fields.keys() <= _EDITABLE:
        check_names(fields)
    try:
        record = msgspec.convert(fields, Job)
    except msgspec.ValidationError:
        record = msgspec.convert({name: checked(name, v) for name, v in fields.items()}, Job)
    if record.data:
        record.data = unshared("data", record.data)
    if record.parameters:
        record.parameters = unshared("parameters", record.parameters)
    return record


def check_names(names: Iterable[str], also: tuple[str, ...] = ()) -> None:
    """Raise `UnknownField` unless users may set all fields in *names* (or they are in *also*)."""
    for name in names:
        if name in _EDITABLE or name in also:
            continue
        if name in FIELDS:
            raise UnknownField(f"{name} is Balsam's own and cannot be set")
        raise UnknownField(f"a job has no field {name!r}.{nearest(name, list(EDITABLE))}")


def checked(name: str, value: Any) -> Any:
    """Return *value* as field *name* of a job takes it.

    None stands for the default; paths, apps and numbers of other libraries become text and
    numbers; numbers in `tags` and `environ` become text; `retry` also takes rules as text.

    Raises
    ------
    InvalidInput
        It has the wrong type.
    """
    kind = FIELDS[name].type
    if value is None and name != "data":
        return getattr(_DEFAULTS, name)
    if name == "retry":
        return rules_of(value)
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    elif isinstance(value, App):
        value = value.name
    elif name in _TEXT_TO_TEXT and isinstance(value, Mapping):
        value = {str(k): v if isinstance(v, str) else _text(name, k, v) for k, v in value.items()}
    elif kind is int and isinstance(value, Integral) and not isinstance(value, bool):
        value = int(value)
    elif kind is float and isinstance(value, Real) and not isinstance(value, bool):
        value = float(value)
    if name in ("data", "parameters"):
        value = unshared(name, value)
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        told = str(error).replace("`", "").replace(" - at $", "").replace("Expected", "takes", 1)
        raise InvalidInput(f"{name} {told}: {value!r}") from None


def unshared(name: str, value: Any) -> Any:
    """Return a copy of *value* as the database will give it back: lists for tuples, and so on.

    Raises
    ------
    InvalidInput
        It is not JSON.
    """
    try:
        return msgspec.json.decode(json_of(value))
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInput(f"{name} is not JSON: {error}") from error


def json_of(value: Any) -> bytes:
    """Return *value* as JSON; numbers of other libraries, and subclasses, are numbers.

    Raises
    ------
    TypeError, ValueError, RecursionError
        It is not JSON.
    """
    return msgspec.json.encode(value, enc_hook=_number)


def _number(value: Any) -> int | float:
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value)
    raise TypeError(f"{type(value).__name__} has no JSON")


def _text(name: str, key: object, value: object) -> str:
    if isinstance(value, int | float | os.PathLike):
        return str(value)
    raise InvalidInput(f"{name} takes texts; {key!r} is {value!r}")


def several(references: Any) -> Iterable[Any]:
    """Return parents as an iterable: a single one stands for itself."""
    single = isinstance(references, int | str | UUID | Job)
    return (references,) if single else references


def _parent(client: Client, reference: Any, child: str, ids: list[int], batch: _Batch) -> int:
    """Return a parent as `Client.create_jobs` takes it."""
    if isinstance(reference, Job) and reference.id is None:
        if id(reference) in batch.places:
            return -batch.places[id(reference)]
        raise InvalidInput(
            f"parent {reference.name!r} of job {child!r} is not stored; save it first, or give it"
            " in the same call, before the child or in its batch"
        )
    if isinstance(reference, int) and not isinstance(reference, bool) and reference <= 0:
        place = -reference
        if 0 < place <= len(ids):
            return ids[place - 1]
        if len(ids) < place <= len(ids) + len(batch.records):
            return len(ids) - place
        raise InvalidInput(
            f"parent {reference} of job {child!r} is no place in its batch or before"
        )
    return find_parent(client, reference, child)


def find_parent(client: Client, reference: Any, child: str) -> int:
    """Return the integer id of a stored parent given as job, id or UUID.

    Raises
    ------
    NotFound
        The UUID is of no job of this site.
    InvalidInput
        *reference* is none of these.
    """
    if isinstance(reference, Job) and reference.id is not None:
        return reference.id
    if isinstance(reference, int) and not isinstance(reference, bool):
        return reference
    if isinstance(reference, UUID | str):
        number = client.identity.parse(str(reference))
        if number is not None:
            return number
        raise NotFound(f"parent {str(reference)!r} of job {child!r} is no job of this site")
    raise InvalidInput(f"parent {reference!r} of job {child!r} is no job; give a Job, id or UUID")
