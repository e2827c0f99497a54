"""From what a program gives (objects, mappings, references to parents) to stored jobs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from numbers import Integral, Real
from typing import Any
from uuid import UUID

import msgspec

from balsam.client.interface import Client
from balsam.errors import BalsamError, InvalidInput, NotFound, UnknownField, nearest
from balsam.model.app import App
from balsam.model.job import EDITABLE, FIELDS, Job

#: Jobs of one transaction.
BATCH = 20_000
PARENT_FIELDS = ("parents", "parents_failed", "parents_any")
_EDITABLE = frozenset(EDITABLE)
_DEFAULTS = Job()
_TEXT_TO_TEXT = ("environ", "tags")


class _New(msgspec.Struct):
    """One job on its way: what was given, its record, and the parents still to be found."""

    given: Any
    record: Job
    parents: dict[str, Any]


def insert(
    client: Client,
    jobs: Iterable[Job | Mapping[str, Any]],
    batch: int = BATCH,
    stored: Callable[[Job, int], None] = lambda job, number: None,
) -> list[int]:
    """Store *jobs*, *batch* of them in a transaction, and return their ids in order.

    Parents are integer ids, UUIDs, jobs, or minus the position (from 1) of another job of
    *jobs* in the same batch or before.

    Parameters
    ----------
    stored
        Called with each `Job` that was given and its id when its batch is stored.

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
        while news := list(_take(source, batch, len(ids))):
            places = {id(new.given): n for n, new in enumerate(news, 1)}
            for new in news:
                for field, references in new.parents.items():
                    found = [_parent(client, r, new, ids, places) for r in several(references)]
                    setattr(new.record, field, found)
            numbers = client.create_jobs([new.record for new in news])
            ids += numbers
            for new, number in zip(news, numbers, strict=True):
                if isinstance(new.given, Job):
                    stored(new.given, number)
    except BalsamError as error:
        if ids:
            error.args = (f"{error} (the {len(ids)} jobs of the batches before were stored)",)
        raise
    return ids


def _take(source: Iterator[Job | Mapping[str, Any]], batch: int, before: int) -> Iterator[_New]:
    seen: set[int] = set()
    for position, given in enumerate(islice(source, batch), before + 1):
        try:
            if isinstance(given, Job):
                if given.id is not None or id(given) in seen:
                    raise InvalidInput(
                        f"{given.name!r} is stored already; give a new Job, or a dict, for each job"
                    )
                seen.add(id(given))
                if given.state != _DEFAULTS.state:
                    raise InvalidInput(
                        f"a new job cannot be {given.state}; leave its state to Balsam"
                    )
                fields = {name: getattr(given, name) for name in EDITABLE}
            else:
                fields = dict(given)
            # Mappings may be used again by the caller for the next job: take what is in them now.
            parents = {name: fields.pop(name) for name in PARENT_FIELDS if fields.get(name)}
            yield _New(given, record_of(fields), parents)
        except InvalidInput as error:
            error.args = (f"job number {position}: {error}",)
            raise


def record_of(fields: dict[str, Any]) -> Job:
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
        return msgspec.convert(fields, Job)
    except msgspec.ValidationError:
        return msgspec.convert({name: checked(name, v) for name, v in fields.items()}, Job)


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
    numbers; numbers in `tags` and `environ` become text.

    Raises
    ------
    InvalidInput
        It has the wrong type.
    """
    kind = FIELDS[name].type
    if value is None and name != "data":
        return getattr(_DEFAULTS, name)
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
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        told = str(error).replace("`", "").replace(" - at $", "").replace("Expected", "takes", 1)
        raise InvalidInput(f"{name} {told}: {value!r}") from None


def _text(name: str, key: object, value: object) -> str:
    if isinstance(value, int | float | os.PathLike):
        return str(value)
    raise InvalidInput(f"{name} takes texts; {key!r} is {value!r}")


def several(references: Any) -> Iterable[Any]:
    """Return parents as an iterable: a single one stands for itself."""
    single = isinstance(references, int | str | UUID | Job)
    return (references,) if single else references


def _parent(
    client: Client, reference: Any, new: _New, ids: list[int], places: dict[int, int]
) -> int:
    """Return a parent as `Client.create_jobs` takes it."""
    child = new.record.name
    if isinstance(reference, Job):
        if reference.id is not None:
            return reference.id
        if id(reference) in places:
            return -places[id(reference)]
        raise InvalidInput(
            f"parent {reference.name!r} of job {child!r} is not stored; save it first, or give it"
            " in the same call, before the child or in its batch"
        )
    if isinstance(reference, int) and not isinstance(reference, bool):
        if reference > 0:
            return reference
        place = -reference
        if 0 < place <= len(ids):
            return ids[place - 1]
        if len(ids) < place <= len(ids) + len(places):
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
