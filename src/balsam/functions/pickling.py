"""Pickles of functions and arguments, and what is told when there can be none.

Nothing here loads one.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Mapping
from typing import Any

import cloudpickle

from balsam.errors import InvalidInput
from balsam.functions.futures import Future

#: The code of a function may have so many bytes: every launcher that runs it reads it.
LARGEST_CODE = 8 << 20


class _HasFuture(BaseException):
    """There is a future in what is pickled."""


class _Plain(cloudpickle.Pickler):  # type: ignore[misc]
    """Pickles what has no futures in it."""

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, Future):
            raise _HasFuture
        return super().reducer_override(value)


class _Referring(cloudpickle.Pickler):  # type: ignore[misc]
    """Pickles futures as the ids of their jobs, whose results are put there before the call.

    Apart from `_Plain` because asking for every object costs much where there are many.
    """

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, protocol=pickle.DEFAULT_PROTOCOL)
        self.futures: dict[int, Future] = {}

    def persistent_id(self, value: Any) -> int | None:
        if not isinstance(value, Future):
            return None
        self.futures[value.number] = value
        return value.number


def dumps(value: Any) -> tuple[bytes, list[Future]]:
    """Return the pickle of *value* and the futures in it, whose jobs' ids stand for them."""
    file = io.BytesIO()
    try:
        _Plain(file, protocol=pickle.DEFAULT_PROTOCOL).dump(value)
    except _HasFuture:
        file = io.BytesIO()
        pickler = _Referring(file)
        pickler.dump(value)
        return file.getvalue(), list(pickler.futures.values())
    return file.getvalue(), []


def _why_not(value: Any) -> str | None:
    """Return why *value* cannot be pickled; None when it can."""
    try:
        dumps(value)
    except Exception as error:  # noqa: BLE001 - whatever its author's code raises
        return f"{error}" or type(error).__name__
    return None


def dump_call(
    name: str, names: Callable[[int], str], call: tuple[Any, Mapping[str, Any]]
) -> tuple[bytes, list[Future]]:
    """Return the pickle of the arguments of *call* of the function *name* (see `dumps`).

    Parameters
    ----------
    names
        Gives the name of the argument at a position.

    Raises
    ------
    InvalidInput
        An argument cannot be pickled; it is named.
    """
    try:
        return dumps(call)
    except Exception as error:
        words, keywords = call
        given = {names(position): value for position, value in enumerate(words)}
        given |= {repr(key): value for key, value in keywords.items()}
        for argument, value in given.items():
            if why := _why_not(value):
                raise InvalidInput(
                    f"argument {argument} of {name} cannot be pickled, so no other process can"
                    f" have it: {why}; give what it is made from instead"
                ) from error
        raise InvalidInput(f"the arguments of {name} cannot be pickled: {error}") from error


def dump_function(name: str, function: Any, stand_in: Any = None) -> bytes:
    """Return the pickle of *function*: by reference where it can be imported, else by value.

    Parameters
    ----------
    stand_in
        What is pickled instead, and loaded as the function.

    Raises
    ------
    InvalidInput
        It cannot be pickled, or takes too much with it; what it is about is named.
    """
    try:
        code: bytes = cloudpickle.dumps(function if stand_in is None else stand_in)
    except Exception as error:
        for what, value in captured(function).items():
            if why := _why_not(value):
                raise InvalidInput(
                    f"{name} uses {what!r}, which cannot be pickled: {why}; make it inside the"
                    " function"
                ) from error
        raise InvalidInput(f"{name} cannot be pickled: {error}") from error
    if len(code) > LARGEST_CODE:
        sizes = {what: _size(value) for what, value in captured(function).items()}
        largest = max(sizes, key=lambda what: sizes[what], default="")
        told = f", most of it {largest!r}" if largest else ""
        raise InvalidInput(
            f"{name} takes {len(code) >> 20} MiB with it{told}; a function may have"
            f" {LARGEST_CODE >> 20} MiB: give large values as arguments, or read them from files"
        )
    return code


def _size(value: Any) -> int:
    try:
        return len(cloudpickle.dumps(value))
    except Exception:  # noqa: BLE001 - whatever its author's code raises
        return 0


def captured(function: Any) -> dict[str, Any]:
    """Return what *function* takes from outside: closure, globals, defaults, by name."""
    code = getattr(function, "__code__", None)
    if code is None:
        return dict(vars(function)) if hasattr(function, "__dict__") else {}
    found: dict[str, Any] = {}
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        try:
            found[name] = cell.cell_contents
        except ValueError:  # not set yet
            continue
    names = _global_names(code)
    found.update({n: function.__globals__[n] for n in names if n in function.__globals__})
    for number, value in enumerate(function.__defaults__ or ()):
        found[f"default {number + 1}"] = value
    found.update(function.__kwdefaults__ or {})
    return found


def _global_names(code: Any) -> set[str]:
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, type(code)):
            names |= _global_names(constant)
    return names
