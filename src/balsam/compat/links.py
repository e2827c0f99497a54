"""Parents of a job, set as scripts of 0.x do: as a whole."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from balsam.client.jobs import Job
from balsam.compat.exceptions import InvalidParentsError
from balsam.compat.fields import View
from balsam.compat.texts import parents_of
from balsam.model import job as model

_FIELDS = ("parents", "parents_failed", "parents_any")
#: In `tags`: the parents of a job that does not wait for them.
NOT_WAITED_FOR = "parents_not_waited_for"


def parents(job: model.Job) -> list[int]:
    """Return the ids of all parents, also of those that are not waited for."""
    found = [number for field in _FIELDS for number in getattr(job, field)]
    return found + [int(word) for word in job.tags.get(NOT_WAITED_FOR, "").split()]


def number_of(job: Job, reference: Any) -> int:
    """Return the id of a job given as view, record, id or UUID, with or without dashes.

    Raises
    ------
    InvalidParentsError
        It is none of this site.
    """
    if isinstance(reference, View):
        number: int = reference.number  # type: ignore[attr-defined]
        return number
    if isinstance(reference, Job) and reference.id is not None:
        return reference.id
    if isinstance(reference, int) and not isinstance(reference, bool):
        return reference
    if isinstance(reference, str | UUID):
        found = job.site.client.identity.parse(str(reference))
        if found is not None:
            return found
    raise InvalidParentsError(f"{reference!r} is no job of this site; give a job or its id")


def set_field(job: Job, value: Any) -> None:
    """Set the field `parents` of *job*, to be stored when that is saved."""
    try:
        given = parents_of(value)
    except ValueError as error:
        raise InvalidParentsError(str(error)) from error
    keep(job, [number_of(job, one) for one in given])


def keep(job: Job, numbers: list[int]) -> None:
    """Let *job*, in memory, depend on *numbers* and nothing else; old ones keep their kind."""
    for field in _FIELDS[1:]:
        setattr(job, field, [number for number in getattr(job, field) if number in numbers])
    others = {*job.parents_failed, *job.parents_any}
    job.parents = [number for number in dict.fromkeys(numbers) if number not in others]
    job.tags.pop(NOT_WAITED_FOR, None)


def replace(job: Job, references: Iterable[Any]) -> None:
    """Let *job* depend on *references* and nothing else; a stored job at once.

    Raises
    ------
    InvalidParentsError
        One is no job.
    """
    numbers = [number_of(job, one) for one in references]
    if job.id is None:
        keep(job, numbers)
        return
    client = job.site.client
    before = parents(job._fetch([*_FIELDS, "tags"]))
    for number in dict.fromkeys(numbers):
        if number not in before:
            client.add_dependency(number, job.id)
    for number in before:
        if number not in numbers:
            client.remove_dependency(number, job.id)
    reload(job)


def reload(job: Job) -> None:
    """Load what depends on the parents of a stored job anew."""
    job._take(job._fetch(list(_FIELDS)), _FIELDS)
    job._note(_FIELDS)
    job._reload_state()
