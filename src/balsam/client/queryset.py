"""`QuerySet`: rows of a site, chosen step by step and read when they are needed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, ClassVar, Generic, Self, TypeVar, cast, overload

import msgspec

from balsam.client.interface import Client
from balsam.client.job_ids import with_ids
from balsam.client.site import Site, default_site
from balsam.errors import InvalidInput, MultipleFound, NotFound, UnknownField, nearest
from balsam.model.app import App
from balsam.model.query import JSON_FIELDS, KINDS, SYNONYMS, Query, check_order, parse

T = TypeVar("T")
S = TypeVar("S", covariant=True)


class Form(msgspec.Struct, frozen=True):
    """What becomes of each row: the object itself, or some of its values."""

    names: tuple[str, ...] = ()
    make: str = "object"  #: object, dict, tuple or flat


class QuerySet(Generic[T]):
    """Rows of one kind. Every step gives a new one; nothing is read before it is needed.

    Rows are read once, then kept: `all()` gives a fresh look. For more rows than fit into
    memory, `iterate()` reads page by page and keeps nothing.

    Parameters
    ----------
    site
        Where the rows are; the default site when None, found when rows are first read.
    """

    #: The kind of row, as `model.query.KINDS` names it.
    kind: ClassVar[str]
    #: The word for one row in messages.
    noun: ClassVar[str]
    missing: ClassVar[type[NotFound]] = NotFound
    several: ClassVar[type[MultipleFound]] = MultipleFound

    def __init__(self, site: Site | None = None, *, all_of_it: bool = False) -> None:
        self._site = site
        self._query = Query()
        self._form = Form()
        self._unique = False
        #: Nothing was chosen yet: `delete` and `kill` want a choice, be it `all()`.
        self._all_of_it = all_of_it
        self._kept: list[T] | None = None

    # what each kind of row provides -------------------------------------------------------

    def _read(self, client: Client, query: Query, fields: list[str] | None) -> Iterable[Any]:
        raise NotImplementedError

    def _stream(
        self, client: Client, query: Query, fields: list[str] | None, page: int
    ) -> Iterable[Any]:
        return self._read(client, query, fields)

    def _count(self, client: Client, query: Query) -> int:
        return sum(1 for _ in self._read(client, query, ["id"]))

    def _object(self, record: Any) -> Any:
        return record

    @classmethod
    def _field_names(cls) -> list[str]:
        return list(KINDS[cls.kind])

    # choosing -----------------------------------------------------------------------------

    @property
    def site(self) -> Site:
        """The site that the rows are in."""
        if self._site is None:
            self._site = default_site()
        return self._site

    def all(self) -> Self:
        """Return the same choice, to be read afresh."""
        return self._step()

    def filter(self, **conditions: Any) -> Self:
        """Choose the rows that meet all *conditions*, ``field__lookup=value``.

        Keys into JSON fields stand between field and lookup: ``data__reward__gte=0.5``. A
        query set may stand after ``__in``.

        Raises
        ------
        UnknownField
            There is no such field or lookup; the nearest name is given.
        InvalidInput
            A value has not the field's type.
        """
        self._refuse_slice("filter")
        filters = self._query.filters + parse(self._plain(conditions), self.kind)
        return self._step(query=msgspec.structs.replace(self._query, filters=filters))

    def exclude(self, **conditions: Any) -> Self:
        """Leave out the rows that meet all *conditions* (see `filter`)."""
        self._refuse_slice("exclude")
        excludes = (*self._query.excludes, parse(self._plain(conditions), self.kind))
        return self._step(query=msgspec.structs.replace(self._query, excludes=excludes))

    def order_by(self, *fields: str) -> Self:
        """Order by *fields*, a '-' before one for descending; without any: by id.

        Raises
        ------
        UnknownField
            There is no such field.
        """
        self._refuse_slice("order_by")
        order = check_order(fields, self.kind)
        return self._step(query=msgspec.structs.replace(self._query, order=order))

    def reverse(self) -> Self:
        """Turn the order round."""
        self._refuse_slice("reverse")
        order = self._query.order or ("id",)
        if not {"id", "-id"} & set(order):
            order += ("id",)
        turned = tuple(name[1:] if name.startswith("-") else f"-{name}" for name in order)
        return self._step(query=msgspec.structs.replace(self._query, order=turned))

    def distinct(self) -> Self:
        """Give equal rows of `values` or `values_list` once. Whole objects always differ."""
        return self._step(unique=True)

    def values(self, *fields: str) -> QuerySet[dict[str, Any]]:
        """Give each row as a dict of *fields* (all without any); ``data__reward`` goes inside.

        A key that a row's JSON does not have is None.
        """
        form = Form(self._checked(fields) or tuple(self._field_names()), "dict")
        return cast("QuerySet[dict[str, Any]]", self._step(form=form))

    def values_list(self, *fields: str, flat: bool = False) -> QuerySet[Any]:
        """Give each row as a tuple of *fields*, or, with *flat*, as the one field's value."""
        if flat and len(fields) != 1:
            raise InvalidInput(f"values_list(flat=True) takes one field, not {len(fields)}")
        names = self._checked(fields) or tuple(self._field_names())
        return cast("QuerySet[Any]", self._step(form=Form(names, "flat" if flat else "tuple")))

    # reading ------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[T]:
        return iter(self._rows())

    def __len__(self) -> int:
        return len(self._rows())

    def __bool__(self) -> bool:
        return bool(self._kept) if self._kept is not None else self.exists()

    def __contains__(self, row: object) -> bool:
        return row in self._rows()

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> Self | list[T]: ...
    def __getitem__(self, index: int | slice) -> T | Self | list[T]:
        """Return one row, or a query set of a part. Rows are counted in the chosen order.

        Raises
        ------
        IndexError
            There are not so many rows.
        InvalidInput
            An index counts from the end.
        """
        if isinstance(index, slice):
            return self._part(index)
        if index < 0:
            raise InvalidInput("an index counts from the start; use last() or order_by('-id')[0]")
        if self._kept is not None or self._unique:
            return self._rows()[index]
        rows = self._part(slice(index, index + 1))
        for row in rows:
            return row
        raise IndexError(f"there is no {self.noun} at index {index}")

    def _part(self, index: slice) -> Self | list[T]:
        start, stop = index.start or 0, index.stop
        if start < 0 or (stop is not None and stop < 0):
            raise InvalidInput("a slice counts from the start; turn the order round with reverse()")
        if self._kept is not None or self._unique:
            return self._rows()[index]
        limit = self._query.limit
        if limit is not None:
            limit = max(0, limit - start)
        if stop is not None:
            wanted = max(0, stop - start)
            limit = wanted if limit is None else min(limit, wanted)
        query = msgspec.structs.replace(self._query, offset=self._query.offset + start, limit=limit)
        part = self._step(query=query)
        return part if index.step in (None, 1) else list(part)[:: index.step]

    def count(self) -> int:
        """Return how many rows there are, without reading them."""
        if self._kept is not None or self._unique:
            return len(self._rows())
        client = self.site.client
        return self._count(client, self._resolved(client))

    def exists(self) -> bool:
        """Tell whether there is any row."""
        if self._kept is not None:
            return bool(self._kept)
        client = self.site.client
        query = self._resolved(client)
        limit = 1 if query.limit is None else min(1, query.limit)
        return any(
            True for _ in self._read(client, msgspec.structs.replace(query, limit=limit), ["id"])
        )

    def first(self) -> T | None:
        """Return the first row, or None."""
        return next(iter(self._part(slice(0, 1))), None)

    def last(self) -> T | None:
        """Return the last row, or None."""
        if self._sliced or self._unique or self._kept is not None:
            rows = self._rows()
            return rows[-1] if rows else None
        return self.reverse().first()

    def get(self, **conditions: Any) -> T:
        """Return the one row that also meets *conditions*.

        Raises
        ------
        DoesNotExist
            There is none (of the class of the rows; a `NotFound`).
        MultipleObjectsReturned
            There are several (a `MultipleFound`).
        """
        chosen = self.filter(**conditions) if conditions else self
        rows = list(chosen._part(slice(0, 2)))
        if len(rows) == 1:
            return rows[0]
        told = ", ".join(f"{name}={value!r}" for name, value in conditions.items())
        among = f" with {told}" if told else " among those chosen"
        if rows:
            raise self.several(
                f"more than one {self.noun}{among}; get() needs exactly one: filter further"
            )
        raise self.missing(f"there is no {self.noun}{among}")

    def iterate(self, page: int = 2000) -> Iterator[T]:
        """Yield the rows by id, *page* at a time, in constant memory.

        With an order, a slice or `distinct`, the rows are read at once.
        """
        if self._query.order or self._sliced or self._unique:
            yield from self._rows()
            return
        client = self.site.client
        for record in self._stream(client, self._resolved(client), self._fields(), page):
            yield self._formed(record)

    def iterator(self, chunk_size: int = 2000) -> Iterator[T]:
        """Yield the rows as `iterate` does."""
        return self.iterate(chunk_size)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._site or 'the default site'}: {self._query}>"

    # inside -------------------------------------------------------------------------------

    @property
    def _sliced(self) -> bool:
        return self._query.limit is not None or self._query.offset > 0

    def _step(
        self, query: Query | None = None, form: Form | None = None, unique: bool | None = None
    ) -> Self:
        other = type(self)(self._site)
        other._query = self._query if query is None else query
        other._form = self._form if form is None else form
        other._unique = self._unique if unique is None else unique
        return other

    def _refuse_slice(self, step: str) -> None:
        if self._sliced:
            raise InvalidInput(f"{step}() after a slice is not clear; slice last")

    def _resolved(self, client: Client) -> Query:
        return with_ids(self._query, client, self.kind)

    def _fields(self) -> list[str] | None:
        if self._form.make == "object":
            return None
        return sorted({name.partition("__")[0] for name in self._form.names})

    def _rows(self) -> list[T]:
        if self._kept is None:
            client = self.site.client
            records = self._read(client, self._resolved(client), self._fields())
            rows = [self._formed(record) for record in records]
            if self._unique and self._form.make != "object":
                rows = list({msgspec.json.encode(row): row for row in rows}.values())
            self._kept = rows
        return self._kept

    def _formed(self, record: Any) -> T:
        names = self._form.names
        match self._form.make:
            case "dict":
                return cast("T", {name: _value(record, name) for name in names})
            case "tuple":
                return cast("T", tuple(_value(record, name) for name in names))
            case "flat":
                return cast("T", _value(record, names[0]))
        return cast("T", self._object(record))

    def _checked(self, fields: tuple[str, ...]) -> tuple[str, ...]:
        known = self._field_names()
        for field in fields:
            name, *path = field.split("__")
            if SYNONYMS.get(name, name) not in known:
                raise UnknownField(f"a {self.noun} has no field {name!r}.{nearest(name, known)}")
            if path and name not in JSON_FIELDS:
                raise UnknownField(f"{name} has no keys; {field!r} asks for {path[0]!r} in it")
        return tuple(fields)

    def _plain(self, conditions: dict[str, Any]) -> dict[str, Any]:
        return {key: self._plain_value(key, value) for key, value in conditions.items()}

    def _plain_value(self, key: str, value: Any) -> Any:
        if isinstance(value, QuerySet):
            return value._as_values(key)
        return value.name if isinstance(value, App) and key.startswith("application") else value

    def _as_values(self, key: str) -> list[Any]:
        """Return the rows as values of the condition *key*."""
        if self._form.make == "flat":
            return list(self)
        if self._form.names:
            if len(self._form.names) != 1:
                raise InvalidInput(f"{key} takes one column, not {len(self._form.names)}")
            return list(self.values_list(self._form.names[0], flat=True))
        column = "name" if key.startswith("application") else "id"
        return list(self.values_list(column, flat=True))


def _value(record: Any, field: str) -> Any:
    name, *path = field.split("__")
    value = getattr(record, SYNONYMS.get(name, name))
    for key in path:
        if isinstance(value, list) and key.isdecimal() and int(key) < len(value):
            value = value[int(key)]
        else:
            value = value.get(key) if isinstance(value, dict) else None
    return value


class Objects(Generic[S]):
    """The class attribute `objects`: all rows of the default site."""

    def __init__(self, make: Callable[[], S]) -> None:
        self._make = make

    def __get__(self, instance: object, owner: type | None = None) -> S:
        return self._make()
