"""Pickles of arguments, and what is told when there can be none.

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
