"""Conditions on job UUIDs, turned into conditions on the integer ids that the store knows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any
from uuid import UUID

import msgspec

from balsam.client.interface import Client
from balsam.errors import InvalidInput
from balsam.model.query import JOB_IDS, Filter, Query

#: More matches than this are no longer one condition.
MOST_MATCHES = 2**20
_HEX = frozenset("0123456789abcdef")


def with_ids(query: Query, client: Client, kind: str = "jobs") -> Query:
    """Return *query* with every UUID in it replaced by the integer id of its job.

    `job_id` takes the lookups exact, iexact, ne, in, isnull, startswith and istartswith, which
    cost no more than the matches, and contains, icontains and endswith, which look at every
    job of the site. A UUID of another site matches nothing.

    Raises
    ------
    InvalidInput
        Another lookup, or a beginning so short that too many jobs have it.
    """
    if kind not in JOB_IDS:
        return query

    def translate(filters: Iterable[Filter]) -> tuple[Filter, ...]:
        return tuple(_translate(one, client, kind) for one in filters)

    return msgspec.structs.replace(
        query,
        filters=translate(query.filters),
        excludes=tuple(translate(group) for group in query.excludes),
    )


def number_of(client: Client, value: Any) -> int:
    """Return the integer id for *value*, an id or a UUID; 0, which no job has, when unknown."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str):
        return client.identity.parse(value) or 0
    raise InvalidInput(f"{value!r} is no job id; give a number or a UUID")


def _translate(one: Filter, client: Client, kind: str) -> Filter:
    fields = JOB_IDS[kind]
    if one.field == "job_id":
        return _by_uuid(one, client, fields[0])
    if one.field in fields:
        if one.lookup == "in":
            return msgspec.structs.replace(one, value=[number_of(client, v) for v in one.value])
        if isinstance(one.value, str):
            return msgspec.structs.replace(one, value=number_of(client, one.value))
    return one


def _by_uuid(one: Filter, client: Client, field: str) -> Filter:
    match one.lookup:
        case "exact" | "iexact" | "ne":
            lookup = "ne" if one.lookup == "ne" else "exact"
            return Filter(
                field, (), lookup, 0 if one.value is None else number_of(client, one.value)
            )
        case "in":
            return Filter(field, (), "in", [number_of(client, value) for value in one.value])
        case "isnull":
            return Filter(field, (), "lt" if one.value else "gte", 1)
        case "startswith" | "istartswith":
            return Filter(field, (), "in", _beginning(client, str(one.value).lower()))
        case "contains" | "icontains":
            part = str(one.value).lower()
            return _scan(client, field, lambda u: part in str(u) or part in u.hex)
        case "endswith":
            part = str(one.value).lower()
            return _scan(client, field, lambda u: str(u).endswith(part) or u.hex.endswith(part))
    raise InvalidInput(
        f"job_id takes no lookup {one.lookup!r}; use exact, in, startswith or contains"
    )


def _beginning(client: Client, text: str) -> Sequence[int]:
    """Return the ids up to the largest one whose UUID, with or without dashes, begins so."""
    digits = text.replace("-", "")
    if not _HEX.issuperset(digits):
        return []
    if len(digits) >= 8:
        job = client.identity.number(digits)
        if job < 1:
            return []
        uuid = client.identity.uuid(job)
        return [job] if uuid.hex.startswith(text) or str(uuid).startswith(text) else []
    if digits != text:  # a dash before the ninth place is in no UUID
        return []
    newest = client.jobs(Query(order=("-id",), limit=1), fields=["id"])
    largest = (newest[0].id or 0) if newest else 0
    if not digits:
        return range(1, largest + 1)
    found = client.identity.having_prefix(digits, largest, MOST_MATCHES)
    if found is None:
        raise InvalidInput(f"job_id begins with {text!r} in too many jobs; give more digits")
    return found


def _scan(client: Client, field: str, fits: Callable[[UUID], bool]) -> Filter:
    uuid = client.identity.uuid
    ids = (job.id for job in client.iterate_jobs(Query(), fields=["id"]) if job.id)
    return Filter(field, (), "in", [number for number in ids if fits(uuid(number))])
