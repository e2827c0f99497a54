"""Commands and hooks of apps, as they are given on the command line."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from typing import Any

from balsam.cli.context import warn
from balsam.errors import InvalidInput
from balsam.model.app import App, split_words
from balsam.model.hook import MARK, hook_function

#: Programs whose first argument may be a script of the user.
_INTERPRETER = re.compile(r"(python|bash|sh|zsh|perl|ruby|Rscript|julia|node|lua)[\d.]*")
_PLAIN_WORD = re.compile(r"[^\s'\"\\]+")


def located(command: str, option: str) -> str:
    """Return *command* with the places of its program and script made absolute.

    Raises
    ------
    InvalidInput
        A quotation has no end.
    """
    try:
        words = split_words(command)
    except InvalidInput as error:
        raise InvalidInput(f"{option}: {error}") from error
    if not words:
        return ""
    first = words[0]
    if first.startswith(MARK):
        hook_function(command)
        return command.strip()
    if first.endswith(".py"):
        place = os.path.abspath(os.path.expanduser(first))
        return " ".join([shlex.quote(sys.executable), shlex.quote(place), *_rest(command, words)])
    if _is_relative_file(first) and ("/" in first or not shutil.which(first)):
        return " ".join([shlex.quote(os.path.abspath(first)), *_rest(command, words)])
    interpreter = _INTERPRETER.fullmatch(os.path.basename(first))
    if interpreter and len(words) > 1 and _is_relative_file(words[1]):
        behind = [shlex.quote(word) for word in words[2:]]
        return " ".join([shlex.quote(first), shlex.quote(os.path.abspath(words[1])), *behind])
    return command


def _rest(command: str, words: list[str]) -> list[str]:
    """Return what follows the first word, as it was written where that can be told."""
    stripped = command.strip()
    match = _PLAIN_WORD.match(stripped)
    if match and match[0] == words[0]:
        rest = stripped[match.end() :].strip()
        return [rest] if rest else []
    return [shlex.quote(word) for word in words[1:]]


def _is_relative_file(word: str) -> bool:
    return not word.startswith(("/", "~", "-")) and os.path.isfile(word)


def with_hook_functions(hooks: dict[str, Any], app: App) -> dict[str, Any]:
    """Return *hooks* of *app*, with `function` where some are functions of modules.

    Modules are searched for in this directory, too, as Python itself does.

    Raises
    ------
    InvalidInput
        One names no function that can be imported.
    """
    named = [hook for hook in hooks.values() if hook.startswith(MARK)]
    for hook in named:
        function = hook_function(hook)
        if function is not None and function.goes_along:
            raise InvalidInput(
                f"{hook!r} goes along with the app that it is registered with, from Python; give"
                f" {MARK}package.module:function"
            )
    if not named and not app.function.functions:
        return hooks
    from balsam.callables.hooks import with_functions

    return with_functions(hooks, app, [os.getcwd()])


def option_of(name: str) -> str:
    """Return the option that sets the field *name*."""
    return f"--{name.replace('_', '-')}"


def warn_if_missing(app: App, name: str) -> None:
    """Warn when there is no program, or module, for the command or hook *name* of *app* here."""
    command, option = getattr(app, name), option_of(name)
    function = hook_function(command)
    if function is not None:
        from balsam.callables.origin import is_module

        # Another interpreter may find what this one does not.
        if app.function.python == sys.executable and not is_module(
            function.module, app.function.path
        ):
            warn(
                f"{option}: there is no module {function.module!r} in this directory or PYTHONPATH"
            )
        return
    words = split_words(command)
    if not words or "{{" in words[0]:
        return
    program = os.path.expanduser(words[0])
    if not shutil.which(program):
        warn(f"{option}: there is no program {program!r} on this machine's PATH or at this place")
        return
    script = words[1] if program == sys.executable and len(words) > 1 else ""
    if script.endswith(".py") and not os.path.isfile(script):
        warn(f"{option}: there is no file {script}")
