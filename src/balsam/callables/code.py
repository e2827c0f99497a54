"""The code of functions that others cannot import: pickled by value, with what they use.

Nothing here loads a pickle.
"""

from __future__ import annotations

from typing import Any

import cloudpickle

from balsam.errors import InvalidInput

#: The code of a function may have so many bytes: every launcher that runs it reads it.
LARGEST_CODE = 8 << 20


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


def _why_not(value: Any) -> str | None:
    """Return why *value* cannot be pickled; None when it can."""
    try:
        cloudpickle.dumps(value)
    except Exception as error:  # noqa: BLE001 - whatever its author's code raises
        return f"{error}" or type(error).__name__
    return None
