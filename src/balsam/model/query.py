"""Queries as data: the same filters in Python, on the command line and over HTTP.

``name__contains="x"`` is a field, then keys into a JSON field, then a lookup::

    state="FAILED"            field, lookup `exact`
    tags__k="v"               JSON field, key `k`
    data__reward__gte=0.5     JSON field, key `reward`, lookup `gte`
"""

from __future__ import annotations

import types
from collections.abc import Iterable
from datetime import datetime
from typing import Any, Union, get_args, get_origin
from uuid import UUID

import msgspec

from balsam.errors import InvalidInput, UnknownField, nearest
from balsam.model import records
from balsam.model.app import App
from balsam.model.batch_job import BatchJob
from balsam.model.job import DERIVED, FIELDS, Job
from balsam.model.retry import rules_of
from balsam.model.states import STATES
from balsam.model.transfer import Transfer
from balsam.model.wire import Event

LOOKUPS = (
    "exact",
    "iexact",
    "ne",
    "in",
    "contains",
    "icontains",
    "startswith",
    "istartswith",
    "endswith",
    "gt",
    "gte",
    "lt",
    "lte",
    "isnull",
    "has_key",
)
#: Lookups that compare texts.
_TEXTUAL = ("iexact", "contains", "icontains", "startswith", "istartswith", "endswith", "has_key")
#: Fields that hold JSON: keys may follow them.
JSON_FIELDS = ("data", "tags", "parameters", "environ")
#: Of these, those whose values are texts.
_TEXT_TO_TEXT = ("tags", "environ")
#: Fields that hold integer job ids, by kind of row; the first is what `job_id` stands for. They
#: also take UUIDs, which `client.job_ids` replaces before a store sees the query.
JOB_IDS = {
    "jobs": ("id", "parents", "children"),
    "events": ("job",),
    "transfers": ("job",),
}


class Filter(msgspec.Struct, frozen=True):
    """One condition."""

    field: str
    path: tuple[str, ...]
    lookup: str
    value: Any


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """Which rows, in which order, how many of them. Without order: by id, ascending."""

    filters: tuple[Filter, ...] = ()
    #: Each group is excluded where all of its conditions hold.
    excludes: tuple[tuple[Filter, ...], ...] = ()
    order: tuple[str, ...] = ()  #: field names, '-' before a descending one
    offset: int = 0
    limit: int | None = None

    def where(self, **conditions: Any) -> Query:
        """Return this query with further *conditions* on jobs (see the module's head)."""
        return msgspec.structs.replace(self, filters=self.filters + parse(conditions))


def _columns(record: type[msgspec.Struct], without: tuple[str, ...] = ()) -> dict[str, Any]:
    return {f.name: f.type for f in records.fields(record) if f.name not in without}


#: What can be filtered and ordered, for each kind of row: field name → Python type.
KINDS: dict[str, dict[str, Any]] = {
    "jobs": {
        **_columns(Job, DERIVED),
        "job_id": str,
        "parents": int,
        "children": int,
        "state_history": str,
    },
    "apps": _columns(App),
    "batch_jobs": _columns(BatchJob),
    "events": {**_columns(Event), "workflow": str},
    "transfers": {**_columns(Transfer), "workflow": str},
}
#: Other spellings that old scripts use.
SYNONYMS = {"pk": "id", "msg": "message"}
ALL = Query()


def parse(conditions: dict[str, Any], kind: str = "jobs") -> tuple[Filter, ...]:
    """Turn keyword conditions into filters.

    Raises
    ------
    UnknownField
        A field or lookup does not exist; the nearest name is given.
    InvalidInput
        A value has not the field's type, or a state does not exist.
    """
    return tuple(_parse_one(key, value, kind) for key, value in conditions.items())


def _parse_one(key: str, value: Any, kind: str) -> Filter:
    name, *rest = key.split("__")
    name = SYNONYMS.get(name, name)
    fields = KINDS[kind]
    if name not in fields:
        raise UnknownField(f"{kind} have no field {name!r}.{nearest(name, list(fields))}")
    lookup = rest.pop() if rest and rest[-1] in LOOKUPS else "exact"
    if rest and name not in JSON_FIELDS:
        raise UnknownField(
            f"{rest[-1]!r} in {key!r} is no lookup; known are {', '.join(LOOKUPS)}."
            f"{nearest(rest[-1], list(LOOKUPS))}"
        )
    if lookup == "isnull":
        if not isinstance(value, bool):
            raise InvalidInput(f"{key} takes True or False, not {value!r}")
    elif lookup == "in":
        if isinstance(value, str | bytes) or not isinstance(value, Iterable):
            raise InvalidInput(f"{key} takes several values, not {value!r}; give a list")
        value = [_typed(key, name, lookup, rest, one, kind) for one in value]
    else:
        value = _typed(key, name, lookup, rest, value, kind)
    return Filter(name, tuple(rest), lookup, value)


def _typed(key: str, name: str, lookup: str, path: list[str], value: Any, kind: str) -> Any:
    """Return *value* in the type of the field *name* (or of what is at *path* in it)."""
    value = plain(value)
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise InvalidInput(f"{key} takes a number of 64 bits, not {value}")
    if lookup in _TEXTUAL:
        if isinstance(value, bool | dict | list | types.NoneType):
            raise InvalidInput(f"{key} takes a text, not {value!r}")
        return str(value)
    if name == "retry":
        return msgspec.to_builtins(rules_of(value))
    if path or name in JSON_FIELDS:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return str(value) if path and name in _TEXT_TO_TEXT and is_number else value
    return _of_type(name, value, kind)


def plain(value: Any) -> Any:
    """Return *value* as JSON would carry it.

    Records are their id, times seconds since the epoch; UUIDs, enums and paths are text.

    Raises
    ------
    InvalidInput
        A time has no time zone.
    """
    if isinstance(value, Job | App):
        return value.id
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise InvalidInput(f"{value} has no time zone; give one, as in datetime.now(UTC)")
        return value.timestamp()
    if value is None or isinstance(value, bool | int | float | dict | list):
        return value
    return str(value)


def _of_type(name: str, value: Any, kind: str) -> Any:
    of_jobs = (kind == "jobs" and name == "state") or name in ("from_state", "to_state")
    if of_jobs and value not in STATES and value != "":
        raise InvalidInput(
            f"there is no state {value!r}; the states are {', '.join(STATES)}."
            f"{nearest(str(value).upper(), list(STATES))}"
        )
    wanted = KINDS[kind][name]
    union = get_origin(wanted) in (Union, types.UnionType)
    wanted = get_args(wanted)[0] if union else wanted
    if value is None or (wanted is str and isinstance(value, str)):
        return value
    if wanted is bool:
        if not isinstance(value, bool):
            raise InvalidInput(f"{name} takes True or False, not {value!r}")
    elif isinstance(value, dict | list):
        raise InvalidInput(f"{name} takes one value, not {value!r}; use {name}__in for several")
    elif wanted in (int, float):
        if isinstance(value, str) and name in JOB_IDS.get(kind, ()) and _is_uuid(value):
            return value
        if not isinstance(value, int | float):
            raise InvalidInput(f"{name} takes a number, not {value!r}")
    elif name != "job_id":
        return str(value)
    return value


def _is_uuid(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True


def check_order(order: tuple[str, ...], kind: str) -> tuple[str, ...]:
    """Return *order* with synonyms resolved.

    Raises
    ------
    UnknownField
        There is no such field to order by.
    """
    checked = []
    for item in order:
        sign, name = ("-", item[1:]) if item.startswith("-") else ("", item)
        name = SYNONYMS.get(name, name)
        if name not in KINDS[kind] or name in ("parents", "children", "state_history"):
            known = list(KINDS[kind])
            raise UnknownField(f"{kind} cannot be ordered by {name!r}.{nearest(name, known)}")
        checked.append(sign + (JOB_IDS[kind][0] if name == "job_id" else name))
    return tuple(checked)


def field_names(kind: str) -> list[str]:
    """Return the names that a table of *kind* can show."""
    return list(FIELDS) if kind == "jobs" else list(KINDS[kind])
