"""Query sets by the names of 0.x: conditions, columns and changes are translated, no more."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, ClassVar, Self, TypeVar, cast

from balsam.client.queryset import QuerySet
from balsam.client.site import Site
from balsam.compat.django_settings import settle_django
from balsam.compat.fields import View
from balsam.errors import InvalidInput, UnknownField, nearest
from balsam.model.query import JSON_FIELDS

T = TypeVar("T")
#: Rows that are shown when a query set is printed.
SHOWN = 20


class OldNames(QuerySet[T]):
    """The part of a query set that knows the names of 0.x."""

    #: What Django calls the table.
    label: ClassVar[str]
    #: 0.x names that are no `Field`, and the columns that conditions and orders on them are on.
    CONDITIONS: ClassVar[Mapping[str, str]] = {}

    @classmethod
    def view(cls) -> type[View]:
        """Return the class of the rows."""
        raise NotImplementedError

    @property
    def site(self) -> Site:
        """The site that the rows are in."""
        settle_django()
        return super().site

    def get_queryset(self) -> Self:
        """Return all rows."""
        return self.all()

    def none(self) -> Self:
        """Return no rows."""
        return self.filter(pk__in=[])

    # choosing -----------------------------------------------------------------------------

    def filter(self, **conditions: Any) -> Self:
        """Choose the rows that meet all *conditions* (see `QuerySet.filter`)."""
        return super().filter(**self._new_names(conditions))

    def exclude(self, **conditions: Any) -> Self:
        """Leave out the rows that meet all *conditions*."""
        return super().exclude(**self._new_names(conditions))

    def order_by(self, *fields: str) -> Self:
        """Order by *fields*, a '-' before one for descending."""
        return super().order_by(*(self._column(field) for field in fields))

    def _new_names(self, conditions: Mapping[str, Any]) -> dict[str, Any]:
        renamed: dict[str, Any] = {}
        for key, value in conditions.items():
            name, *rest = key.split("__")
            renamed.update(self._condition(name, rest, value))
        return renamed

    def _condition(self, name: str, rest: list[str], value: Any) -> dict[str, Any]:
        if isinstance(value, OldNames) or not rest or rest[-1] != "in":
            plain = _plain(value)
        else:
            plain = [_plain(one) for one in value]
        return {"__".join([self._column(name), *rest]): plain}

    def _column(self, name: str) -> str:
        sign, name = ("-", name[1:]) if name.startswith("-") else ("", name)
        name = self.view().SYNONYMS.get(name, name)
        column = self.CONDITIONS.get(name)
        if column is None:
            fields = self.view().FIELDS
            column = fields[name].real if name in fields else name
        return sign + column

    # reading ------------------------------------------------------------------------------

    @classmethod
    def _field_names(cls) -> list[str]:
        return [*cls.view().FIELDS, *(name for name in cls.view().FURTHER)]

    def _checked(self, fields: tuple[str, ...]) -> tuple[str, ...]:
        known = [*self._field_names(), "pk", "id"]
        for field in fields:
            name, *path = field.split("__")
            if name not in known and name not in self.view().SYNONYMS:
                raise UnknownField(f"a {self.noun} has no field {name!r}.{nearest(name, known)}")
            if path and self._column(name) not in JSON_FIELDS:
                raise UnknownField(f"{name} has no keys; {field!r} asks for {path[0]!r} in it")
        return fields

    def _fields(self) -> list[str] | None:
        if self._form.make == "object":
            return None
        fields = self.view().FIELDS
        names = {name.partition("__")[0] for name in self._form.names}
        if not names <= fields.keys():
            return None
        return sorted({fields[name].real for name in names})

    def _formed(self, record: Any) -> T:
        if self._form.make == "object":
            return cast("T", self._object(record))
        values = [value_of(self, record, name) for name in self._form.names]
        match self._form.make:
            case "dict":
                return cast("T", dict(zip(self._form.names, values, strict=True)))
            case "tuple":
                return cast("T", tuple(values))
        return cast("T", values[0])

    def _as_values(self, key: str) -> list[Any]:
        if self._form.make == "object" and not key.startswith("application"):
            return [row.pk for row in cast("list[View]", list(self))]
        return super()._as_values(key)

    def __repr__(self) -> str:
        """Return the first rows, read for that, as Django shows them."""
        rows = [*self[: SHOWN + 1]]
        more = ["...(remaining elements truncated)..."] if len(rows) > SHOWN else []
        return f"<QuerySet {[*rows[:SHOWN], *more]!r}>"

    # changing -----------------------------------------------------------------------------

    def create(self, **fields: Any) -> Any:
        """Store one row with *fields* and return it."""
        view = cast("Callable[..., Any]", self.view())(**fields)
        view._real._site = self.site
        view.save()
        return view

    def _real_changes(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        fields = self.view().FIELDS
        for name in changes:
            if name not in fields:
                known = list(fields)
                raise UnknownField(f"a {self.noun} has no field {name!r}.{nearest(name, known)}")
        return {fields[name].real: fields[name].write(value) for name, value in changes.items()}


def value_of(rows: OldNames[Any], record: Any, field: str) -> Any:
    """Return the value of a 0.x field, or of what is in its JSON, as 0.x gives it."""
    name, *path = field.split("__")
    fields = rows.view().FIELDS
    if name in fields:
        value = fields[name].read(getattr(record, fields[name].real))
    else:
        value = getattr(rows._object(record), name)
    for key in path:
        if isinstance(value, list) and key.isdecimal() and int(key) < len(value):
            value = value[int(key)]
        else:
            value = value.get(key) if isinstance(value, dict) else None
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, View):
        if value.pk is None:
            raise InvalidInput(f"{type(value).__name__} is not stored yet; save it first")
        return value.pk
    # Times without a zone are of this process's zone, as `local_time` gives them.
    return value.astimezone() if isinstance(value, datetime) and not value.tzinfo else value
