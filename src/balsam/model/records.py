"""The fields of records, looked up once: finding them evaluates every annotation."""

from __future__ import annotations

from functools import cache

import msgspec


def is_record(kind: object) -> bool:
    """Tell whether *kind* is the type of a record."""
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


@cache
def fields(record: type[msgspec.Struct]) -> tuple[msgspec.structs.FieldInfo, ...]:
    """Return the fields of *record* in their order."""
    return msgspec.structs.fields(record)
