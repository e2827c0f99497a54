"""Functions as apps of a site: what is registered, and under which name."""

from __future__ import annotations

import base64
import hashlib
import os
import sys
from collections.abc import Mapping
from typing import Any

import msgspec

from balsam.callables.code import captured, dump_function
from balsam.callables.hooks import with_functions
from balsam.callables.origin import import_path
from balsam.client.interface import Client
from balsam.errors import AlreadyExists, InvalidInput
from balsam.model.app import App, Function
from balsam.model.query import Query, parse


def app_of(
    name: str,
    function: Any,
    python: str | None,
    fields: Mapping[str, Any],
    stand_in: Any = None,
) -> App:
    """Return the app for *function*, its name still without a version (see `dump_function`).

    Raises
    ------
    InvalidInput
        The function cannot be pickled, a field has not its type, or Python cannot be found.
    """
    python = python or sys.executable
    if not python:
        raise InvalidInput("this program does not know its Python; give python_exe=PATH")
    code = base64.b64encode(dump_function(name, function, stand_in)).decode()
    module = getattr(function, "__module__", None)
    qualified = getattr(function, "__qualname__", type(function).__qualname__)
    record = Function(
        code=code,
        reference=f"{module}:{qualified}",
        python=os.path.abspath(os.path.expanduser(python)),
        path=import_path(),
        hooks=["run"],
    )
    given = with_functions({"name": name, "function": record, **fields}, App(name=name))
    try:
        return msgspec.convert({**given, "function": msgspec.to_builtins(given["function"])}, App)
    except msgspec.ValidationError as error:
        raise InvalidInput(f"the app of {name}: {error}") from error


def register(client: Client, app: App) -> str:
    """Register *app*, or find the one that is the same; return its name.

    What was registered never changes: another function of the same name is another app,
    ``name@version``, so that jobs that wait, or are run again, run what they were made for. The
    version comes from the content: whoever registers the same finds the same.
    """
    version = f"{app.name}@{fingerprint(app)[:8]}"
    conditions = parse({"name__in": [app.name, version]}, "apps")
    known = {found.name: found for found in client.apps(Query(filters=conditions))}
    for name in (version, app.name):
        if name in known and fingerprint(known[name]) == fingerprint(app):
            return name
    name = version if app.name in known else app.name
    try:
        client.add_app(msgspec.structs.replace(app, name=name))
    except AlreadyExists:  # somebody was faster, with the same or with another one
        return register(client, app)
    return name


def replace_code(client: Client, app: App) -> int:
    """Give the app of this name, which is there, the code and fields of *app*."""
    values = {name: getattr(app, name) for name in _CONTENT}
    return client.update_apps(Query(filters=parse({"name": app.name}, "apps")), values)


#: What makes two apps the same.
_CONTENT = tuple(
    field.name
    for field in msgspec.structs.fields(App)
    if field.name not in ("id", "name", "description", "parameters", "executable")
)


def fingerprint(app: App) -> str:
    """Return what tells *app* from others of its name."""
    content = [getattr(app, name) for name in _CONTENT]
    return hashlib.blake2s(msgspec.json.encode(content, order="sorted")).hexdigest()


class Snapshot:
    """What a function takes from outside, to notice when that is another object."""

    def __init__(self, function: Any) -> None:
        self._found = captured(function)

    def is_still(self, function: Any) -> bool:
        """Tell whether *function* would take the same objects now."""
        now = captured(function)
        return now.keys() == self._found.keys() and all(
            now[name] is value for name, value in self._found.items()
        )
