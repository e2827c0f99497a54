"""Which parameters an app takes, where it tells them, and whether those of a job are these."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from balsam.errors import InvalidInput, nearest
from balsam.model.app import App, parameter_names


class Taken(NamedTuple):
    """The parameters that an app takes."""

    app: str
    names: frozenset[str]
    required: frozenset[str]  #: of these, those that every job must give
    may_come: bool  #: by a preprocess hook: then none is required before


def taken_by(app: App) -> Taken | None:
    """Return what *app* takes; None when it does not tell: then jobs may give anything.

    It tells by ``{{name}}`` in its command, or by the parameters that it declares.
    """
    named = [] if "run" in app.function.hooks else parameter_names(app.executable)
    names = {**dict.fromkeys(app.parameters), **dict.fromkeys(named)}
    if not names:
        return None
    may_come = app.has_hook("preprocess")
    free = {name for name, parameter in app.parameters.items() if not parameter.required}
    required = frozenset() if may_come else frozenset(names) - free
    return Taken(app.name, frozenset(names), required, may_come)


def check_parameters(taken: Taken, args: str, given: Mapping[str, object]) -> None:
    """Raise `InvalidInput` unless *given* are parameters that the app takes, with all required.

    Parameters
    ----------
    args
        The job's own arguments, which may name further ones.
    """
    _, names, required, may_come = taken
    if "{{" in args:
        further = frozenset(parameter_names(args))
        names |= further
        required |= frozenset() if may_come else further
    if given.keys() <= names and given.keys() >= required:
        return
    known = sorted(names)
    for name in given:
        if name not in names:
            raise InvalidInput(
                f"app {taken.app!r} has no parameter {name!r}; it has {', '.join(known)}."
                f"{nearest(name, known)}"
            )
    missing = min(required - given.keys())
    raise InvalidInput(
        f"parameter {missing!r} of app {taken.app!r} has no value; give --param {missing}=…, in"
        f" Python parameters={{{missing!r}: …}}"
    )


def shared_parameters(app: App, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of *given*, made for another app, that *app* takes, too."""
    taken = taken_by(app)
    return {n: value for n, value in given.items() if taken is None or n in taken.names}
