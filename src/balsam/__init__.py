"""Balsam: large campaigns of jobs and workflows on supercomputers."""

from __future__ import annotations

__version__ = "1.0.0.dev0"

TYPE_CHECKING = False  # as type checkers take it, without importing typing
if TYPE_CHECKING:
    from balsam.functions.app import app as app
    from balsam.functions.attaching import attach as attach
    from balsam.functions.executor import Executor as Executor
    from balsam.functions.futures import Future as Future
    from balsam.functions.waiting import as_completed as as_completed
    from balsam.functions.waiting import wait as wait

#: Names that are imported when they are first used: whoever wants the version pays for no more.
_LAZY = {
    "app": "balsam.functions.app",
    "attach": "balsam.functions.attaching",
    "Executor": "balsam.functions.executor",
    "Future": "balsam.functions.futures",
    "as_completed": "balsam.functions.waiting",
    "setup": "balsam.compat.django_settings",
    "wait": "balsam.functions.waiting",
}


def __getattr__(name: str) -> object:
    if name not in _LAZY:
        raise AttributeError(f"module 'balsam' has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(_LAZY[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
