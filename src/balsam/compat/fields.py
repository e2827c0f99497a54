"""Fields of 0.x on the fields of the real objects."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Self

from balsam.compat.exceptions import UnexpectedField
from balsam.errors import nearest

Convert = Callable[[Any], Any]


def same(value: Any) -> Any:
    """Return *value*."""
    return value


def text(value: Any) -> str:
    """Return *value* as a text field of 0.x takes it."""
    if value is None:
        return ""
    return os.fspath(value) if isinstance(value, os.PathLike) else str(value)


def hook(value: Any) -> Any:
    """Return *value* as a hook of an app: a text, or the function that it is."""
    return value if callable(value) else text(value)


def integer(value: Any) -> Any:
    """Return *value* as an integer field of 0.x takes it: also a text; None is the default."""
    return value if value is None else int(value)


def number(value: Any) -> Any:
    """Return *value* as a number; None is the default."""
    return value if value is None else float(value)


class Field:
    """A field of the real object under its 0.x name and type.

    Parameters
    ----------
    real
        The name of the real object's field; '' for the same.
    write, read
        From the value that a script gives to the real one, and back.
    """

    def __init__(self, real: str = "", write: Convert = same, read: Convert = same) -> None:
        self.real = real
        self.write = write
        self.read = read

    def __set_name__(self, owner: type, name: str) -> None:
        self.real = self.real or name

    def __get__(self, view: View | None, owner: type) -> Any:
        return self if view is None else self.read(getattr(view._real, self.real))

    def __set__(self, view: View, value: Any) -> None:
        setattr(view._real, self.real, self.write(value))


class View:
    """A real object under the names of 0.x."""

    #: The fields, by their 0.x names.
    FIELDS: ClassVar[dict[str, Field]] = {}
    #: Other names that a new object can be given, and that stand in its listing.
    FURTHER: ClassVar[tuple[str, ...]] = ()
    #: Names that old documents have for fields.
    SYNONYMS: ClassVar[Mapping[str, str]] = {}
    _real: Any

    def __init_subclass__(cls) -> None:
        found = {name: each for name, each in vars(cls).items() if isinstance(each, Field)}
        cls.FIELDS = {n: each for n, each in found.items() if n not in cls.SYNONYMS}

    @classmethod
    def of(cls, real: Any) -> Self:
        """Return a view on *real*."""
        view = cls.__new__(cls)
        view._real = real
        return view

    @classmethod
    def check_names(cls, names: Any) -> None:
        """Raise `UnexpectedField` unless all *names* are fields of 0.x."""
        known = [*cls.FIELDS, *cls.FURTHER, *cls.SYNONYMS]
        for name in names:
            if name not in known:
                close = nearest(name, known)
                raise UnexpectedField(f"{cls.__name__} has no field {name!r}.{close}")

    def _set(self, fields: Mapping[str, Any]) -> None:
        self.check_names(fields)
        for name, value in fields.items():
            setattr(self, name, value)

    def __repr__(self) -> str:
        head = f"{type(self).__name__} {self.pk}"
        names = [*self.FIELDS, *self.FURTHER]
        lines = [f"{name + ':':<32}{getattr(self, name)}".rstrip() for name in names]
        return "\n".join([head, "-" * len(head), *lines])

    __str__ = __repr__

    @property
    def pk(self) -> Any:
        """What identifies the object."""
        raise NotImplementedError

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and (self is other or self._key() == other._key())

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> Any:
        return id(self) if self.pk is None else self.pk
