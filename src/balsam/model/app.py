"""An app: a registered program, and how a job's command line is made from it.

Commands are argument vectors. A parameter takes the place of ``{{name}}`` inside words
that were split before, so that no value can become syntax.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from os.path import expanduser

import msgspec

from balsam.errors import CannotStart, InvalidInput
from balsam.model.retry import Rule

_PARAMETER = re.compile(r"\{\{\s*(\w+)\s*\}\}")
_NEEDS_SHLEX = frozenset("'\"\\")


class App(msgspec.Struct, kw_only=True):
    """A program that jobs run, with its hooks and environment."""

    id: int | None = None
    name: str
    executable: str = ""  #: command line; ``{{x}}`` stands for parameter x
    description: str = ""
    preprocess: str = ""  #: command run in the job's directory before its first run
    postprocess: str = ""  #: command run after the run (also as error and timeout handler)
    envscript: str = ""  #: bash file sourced before the command
    retry: list[Rule] = []  #: rules for runs that fail
    signal: str = ""  #: warning before the launcher's time ends, ``USR1@120``


def split_words(command: str) -> list[str]:
    """Split a command line into words, as a POSIX shell would, expanding nothing.

    Raises
    ------
    InvalidInput
        A quotation has no end.
    """
    if _NEEDS_SHLEX.isdisjoint(command):
        return command.split()
    try:
        return shlex.split(command)
    except ValueError as error:
        raise InvalidInput(f"cannot split {command!r} into words: {error}") from error


def fill(words: list[str], parameters: Mapping[str, object]) -> list[str]:
    """Put *parameters* in the places of ``{{name}}``.

    Raises
    ------
    CannotStart
        A name has no value.
    """

    def value(match: re.Match[str]) -> str:
        try:
            return str(parameters[match[1]])
        except KeyError:
            raise CannotStart(
                f"parameter {match[1]!r} of the command has no value; give --param {match[1]}=…"
            ) from None

    return [_PARAMETER.sub(value, word) if "{{" in word else word for word in words]


def command_line(app: App, args: str, parameters: Mapping[str, object]) -> list[str]:
    """Return the argument vector of a job of *app* with *args* and *parameters*.

    Raises
    ------
    CannotStart
        The app has no executable, a parameter has no value, or a quotation no end.
    """
    try:
        words = fill(_command_words(app.executable), parameters)
        if args:
            words += fill(_command_words(args), parameters)
    except InvalidInput as error:
        raise CannotStart(str(error)) from error
    if not words:
        raise CannotStart(f"app {app.name!r} has no executable")
    return words


def _command_words(command: str) -> list[str]:
    """Split *command*, with ``{{ x }}`` as one word and ``~`` as the home directory.

    Both before any value is there: a value is never split nor expanded.
    """
    if "{{" in command:
        command = _PARAMETER.sub(r"{{\1}}", command)
    return [expanduser(word) if word[:1] == "~" else word for word in split_words(command)]
