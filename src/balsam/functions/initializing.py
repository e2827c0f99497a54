"""Initializers of processes, pickled with the functions that need them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

from balsam.callables.code import dump_function


def with_initializer(
    function: Any, initializer: Callable[..., Any], initargs: tuple[Any, ...]
) -> Callable[..., Any]:
    """Return *function* so that *initializer* is called before it, once in each process.

    What is returned needs no Balsam where it is loaded.

    Raises
    ------
    InvalidInput
        The initializer cannot be pickled.
    """
    content = dump_function("the initializer", (initializer, initargs))
    mark = hashlib.blake2s(content).hexdigest()

    # A function in a function is pickled by value.
    def initialized(*args: Any, **kwargs: Any) -> Any:
        import sys

        done = sys.__dict__.setdefault("_balsam_initialized", set())
        if mark not in done:
            initializer(*initargs)
            done.add(mark)
        return function(*args, **kwargs)

    return initialized
