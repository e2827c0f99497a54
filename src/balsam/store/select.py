"""From `model.query.Query` to SQL. Works the same on every database."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from balsam.errors import InvalidInput
from balsam.model.query import Filter, Query
from balsam.store import dialect
from balsam.store.rows import encode
from balsam.store.schema import (
    Json,
    apps,
    batch_jobs,
    dependencies,
    events,
    jobs,
    transfers,
)

TABLES: dict[str, sa.Table] = {
    "jobs": jobs,
    "apps": apps,
    "batch_jobs": batch_jobs,
    "events": events,
    "transfers": transfers,
}


def conditions(query: Query, kind: str) -> list[sa.ColumnElement[bool]]:
    """Return the WHERE terms of *query* on rows of *kind*."""
    terms = [_condition(one, kind) for one in query.filters]
    for group in query.excludes:
        together = sa.and_(*(_condition(one, kind) for one in group))
        # NULL is neither true nor false: what is not known to match is not excluded.
        terms.append(sa.not_(sa.func.coalesce(together, sa.false())))
    return terms


def ordering(query: Query, kind: str) -> list[Any]:
    """Return the ORDER BY terms, always ending with what tells each row from all others."""
    table = TABLES[kind]
    terms: list[Any] = []
    for item in query.order:
        column = table.c[item.lstrip("-")]
        terms.append(column.desc() if item.startswith("-") else column.asc())
    ordered = {item.lstrip("-") for item in query.order}
    return [*terms, *(key.asc() for key in table.primary_key if key.name not in ordered)]


def ids(query: Query, kind: str = "jobs") -> sa.Select[tuple[int]]:
    """Return the SELECT of the ids that *query* selects, with its order and slice."""
    table = TABLES[kind]
    statement = sa.select(table.c.id).where(*conditions(query, kind))
    if query.limit is not None or query.offset:
        statement = statement.order_by(*ordering(query, kind))
    return sliced(statement, query)


def sliced(statement: sa.Select[Any], query: Query) -> sa.Select[Any]:
    if query.limit is not None:
        statement = statement.limit(query.limit)
    if query.offset:
        statement = statement.offset(query.offset)
    return statement


def _condition(one: Filter, kind: str) -> sa.ColumnElement[bool]:
    table = TABLES[kind]
    if kind == "jobs":
        match one.field:
            case "parents":
                return _related(one, dependencies.c.child, dependencies.c.parent)
            case "children":
                return _related(one, dependencies.c.parent, dependencies.c.child)
            case "state_history":
                mine = events.c.job == jobs.c.id
                text = events.c.to_state + " " + events.c.message
                return sa.exists().where(mine, dialect.has_text(text, str(one.value)))
    if kind in ("events", "transfers") and one.field == "workflow":
        inner = Query(filters=(one,))
        return table.c.job.in_(ids(inner))
    column = table.c[one.field]
    if one.lookup == "has_key":
        return dialect.kind_at(column, [*one.path, str(one.value)]).is_not(None)
    if one.path:
        return _json_condition(column, one)
    if isinstance(column.type, Json):
        return _whole_json(column, one)
    return _compare(column, one.lookup, one.value)


def _related(one: Filter, mine: Any, other: Any) -> sa.ColumnElement[bool]:
    values = one.value if one.lookup == "in" else [one.value]
    if one.lookup not in ("exact", "in", "contains"):
        raise InvalidInput(f"{one.field} takes no lookup {one.lookup!r}; use exact or in")
    return jobs.c.id.in_(sa.select(mine).where(dialect.among(other, values)))


def _json_condition(column: Any, one: Filter) -> sa.ColumnElement[bool]:
    kind = dialect.kind_at(column, one.path)
    if one.lookup == "isnull":
        absent = sa.or_(kind.is_(None), kind == "null")
        return absent if one.value else sa.not_(absent)
    if one.lookup == "in":
        options = [
            _json_condition(column, Filter(one.field, one.path, "exact", v)) for v in one.value
        ]
        return sa.or_(sa.false(), *options)
    if one.lookup == "ne":
        same = _json_condition(column, Filter(one.field, one.path, "exact", one.value))
        return sa.not_(sa.func.coalesce(same, sa.false()))
    match one.value:
        case None:
            return kind == "null"
        case bool():
            return kind == ("true" if one.value else "false")
        case int() | float():
            number = dialect.number_at(column, one.path)
            return sa.and_(kind == "number", _compare(number, one.lookup, one.value))
        case str():
            string = dialect.string_at(column, one.path)
            return sa.and_(kind == "string", _compare(string, one.lookup, one.value))
    raise InvalidInput(f"cannot compare {one.field} with {one.value!r}; use a number or a text")


def _whole_json(column: Any, one: Filter) -> sa.ColumnElement[bool]:
    """Compare a JSON field as a whole; the texts that are compared are those of the store."""
    text = dialect.json_text(column)
    term: Any
    match one.lookup:
        case "exact":
            term = text == encode(one.value)
        case "ne":
            term = text != encode(one.value)
        case "in":
            term = text.in_([encode(value) for value in one.value])
        case "contains" | "icontains":
            term = _compare(text, one.lookup, one.value)
        case "isnull":
            term = text == "null" if one.value else text != "null"
        case _:
            raise InvalidInput(
                f"{one.field} as a whole takes no lookup {one.lookup!r}; name a key:"
                f" {one.field}__KEY__{one.lookup}"
            )
    return term  # type: ignore[no-any-return]


def _compare(column: Any, lookup: str, value: Any) -> sa.ColumnElement[bool]:
    term: Any
    match lookup:
        case "exact":
            term = column.is_(None) if value is None else column == value
        case "iexact":
            term = sa.func.lower(column) == str(value).lower()
        case "ne":
            # Nothing is not that value either: as for JSON, and as when it is excluded.
            term = column.is_distinct_from(value)
        case "in":
            numbers = all(isinstance(v, int) and not isinstance(v, bool) for v in value)
            term = dialect.among(column, value) if numbers and value else column.in_(value)
        case "contains":
            term = dialect.has_text(column, str(value))
        case "icontains":
            term = column.icontains(str(value), autoescape=True)
        case "startswith":
            term = sa.func.substr(column, 1, len(str(value))) == str(value)
        case "istartswith":
            term = sa.func.lower(sa.func.substr(column, 1, len(str(value)))) == str(value).lower()
        case "endswith":
            size = len(str(value))
            start = sa.func.length(column) - size + 1
            term = sa.func.substr(column, start, size) == str(value)
        case "gt":
            term = column > value
        case "gte":
            term = column >= value
        case "lt":
            term = column < value
        case "lte":
            term = column <= value
        case "isnull":
            term = column.is_(None) if value else column.is_not(None)
        case _:
            raise InvalidInput(f"lookup {lookup!r} is not known")
    return term  # type: ignore[no-any-return]
