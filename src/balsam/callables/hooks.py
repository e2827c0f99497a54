"""From functions that a program gives as hooks of an app to what the app's record has of them."""

from __future__ import annotations

import base64
import hashlib
import inspect
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from balsam.callables.origin import function_name, import_path, is_importable, main_name
from balsam.errors import InvalidInput
from balsam.model.app import HOOKS, App, Function
from balsam.model.hook import MARK, hook_function

_FIELDS = frozenset(HOOKS.values())


def with_functions(fields: Mapping[str, Any], app: App, also: Iterable[str] = ()) -> dict[str, Any]:
    """Return *fields* of an app with texts for the functions that are its hooks.

    With them comes `function`: their code, where others cannot import them, their interpreter
    (this one, unless there is one) and the directories that their modules are in.

    Parameters
    ----------
    app
        What the app is without *fields*.
    also
        Directories to search for modules before those of this program.

    Raises
    ------
    InvalidInput
        One cannot be a hook, or not be pickled; it is named.
    """
    texts: dict[str, Any] = dict(fields)
    codes: dict[str, str] = {}
    for name in _FIELDS & fields.keys():
        if callable(fields[name]):
            texts[name] = _named(fields[name], codes)
    new = [texts[name] for name in _FIELDS & fields.keys() if _is_function(texts[name])]
    before = fields.get("function") or app.function
    if not isinstance(before, Function):
        return texts  # as JSON has it, or wrong: it is looked at where it is stored
    if not new and not before.functions:
        return texts
    named = {str(texts.get(name, getattr(app, name))).removeprefix(MARK) for name in _FIELDS}
    kept = {name: code for name, code in before.functions.items() if name in named}
    here = [*map(os.path.abspath, also), *import_path()] if new else []
    texts["function"] = msgspec.structs.replace(
        before,
        functions=kept | codes,
        python=before.python or (os.path.abspath(sys.executable) if new else ""),
        path=list(dict.fromkeys([*before.path, *here])),
    )
    return texts


def _is_function(hook: Any) -> bool:
    return isinstance(hook, str) and hook_function(hook) is not None


def _named(function: Callable[..., Any], codes: dict[str, str]) -> str:
    """Return the text for *function*; its code goes to *codes* where it has to go along."""
    from balsam.callables.code import dump_function

    name = function_name(function)
    _check(function, name)
    if is_importable(function):
        return f"{MARK}{function.__module__}:{function.__qualname__}"
    code = base64.b64encode(dump_function(name, function)).decode()
    version = hashlib.blake2s(code.encode()).hexdigest()[:8]
    module = getattr(function, "__module__", None) or "builtins"
    module = re.sub(r"[\s:@]", "_", main_name() if module == "__main__" else module)
    qualified = name.removeprefix(f"{module}.").replace(":", "_")
    named = f"{module}:{qualified}@{version}"
    codes[named] = code
    return f"{MARK}{named}"


def _check(function: Callable[..., Any], name: str) -> None:
    """Raise `InvalidInput` unless *function* does all that it does when called with a job."""
    if isinstance(function, type):
        raise InvalidInput(f"{name} is a class; a hook is a function that is called with the job")
    if inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function):
        kind = "async" if inspect.iscoroutinefunction(function) else "a generator"
        raise InvalidInput(f"{name} is {kind}; a hook is a function that has done all it does")
    try:
        inspect.signature(function).bind(None)
    except TypeError as error:
        raise InvalidInput(
            f"{name}{inspect.signature(function)} cannot be a hook, which is called with the job as"
            f" its only argument: {error}"
        ) from error
    except ValueError:  # of a builtin that does not tell
        return
