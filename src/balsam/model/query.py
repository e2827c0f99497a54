"""Queries as data: the same filters in Python, on the command line and over HTTP.

``name__contains="x"`` is a field, then keys into a JSON field, then a lookup::

    state="FAILED"            field, lookup `exact`
    tags__k="v"               JSON field, key `k`
    data__reward__gte=0.5     JSON field, key `reward`, lookup `gte`
"""

from __future__ import annotations

import types
from typing import Any, Union, get_args, get_origin

import msgspec

from balsam.errors import InvalidInput, UnknownField, nearest
from balsam.model.app import App
from balsam.model.batch_job import BatchJob
from balsam.model.job import DERIVED, FIELDS, Job
from balsam.model.states import STATES
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
#: Fields that hold JSON: keys may follow them.
JSON_FIELDS = ("data", "tags", "parameters", "environ")


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
    return {f.name: f.type for f in msgspec.structs.fields(record) if f.name not in without}


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
    if lookup == "isnull" and not isinstance(value, bool):
        raise InvalidInput(f"{key} takes True or False, not {value!r}")
    value = [plain(v) for v in value] if lookup == "in" else plain(value)
    if not rest and lookup in ("exact", "ne", "in", "gt", "gte", "lt", "lte"):
        for one in value if lookup == "in" else [value]:
            _check_type(name, one, fields[name])
    return Filter(name, tuple(rest), lookup, value)


def plain(value: Any) -> Any:
    """Return *value* as JSON would carry it: records as their id, UUIDs and enums as text."""
    if isinstance(value, Job | App):
        return value.id
    if value is None or isinstance(value, bool | int | float | dict | list):
        return value
    return str(value)


def _check_type(name: str, value: Any, kind: Any) -> None:
    if name in ("state", "from_state", "to_state") and value not in STATES and value != "":
        raise InvalidInput(
            f"there is no state {value!r}; the states are {', '.join(STATES)}."
            f"{nearest(str(value).upper(), list(STATES))}"
        )
    union = get_origin(kind) in (Union, types.UnionType)
    kinds = get_args(kind) if union else (kind,)
    if kinds[0] in (int, float) and not isinstance(value, int | float | types.NoneType):
        raise InvalidInput(f"{name} takes a number, not {value!r}")


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
        checked.append(sign + ("id" if name == "job_id" else name))
    return tuple(checked)


def field_names(kind: str) -> list[str]:
    """Return the names that a table of *kind* can show."""
    return list(FIELDS) if kind == "jobs" else list(KINDS[kind])
