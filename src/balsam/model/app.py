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


class Function(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A Python function, or a class with hooks, as the processes of its jobs load it."""

    code: str = ""  #: base64 of its cloudpickle; only processes of jobs load it
    reference: str = ""  #: ``module:qualified.name``, for people
    python: str = ""  #: the interpreter that runs it, absolute
    path: list[str] = []  #: directories put before the interpreter's own ``sys.path``
    #: What is in Python: of ``run``, ``preprocess``, ``postprocess``, ``handle_error`` and
    #: ``handle_timeout`` those that there are. A plain function is ``run``.
    hooks: list[str] = []
    #: Hooks that are functions, and go along: their name (see model/hook.py) → base64 of their
    #: cloudpickle.
    functions: dict[str, str] = {}


class Container(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The container image in which the programs of an app run."""

    image: str = ""  #: file or URI, as the runtime takes it; '': none
    runtime: str = ""  #: apptainer, singularity, podman or docker; '': the first that is there
    binds: list[str] = []  #: ``SOURCE[:TARGET[:OPTIONS]]``; the job's directory always is there
    gpus: str = ""  #: nvidia, amd; '': as the job's node has, for jobs that ask for GPUs
    options: list[str] = []  #: further words for the runtime


class Parameter(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One of the values that ``{{name}}`` in a command stands for."""

    required: bool = True
    default: str = ""
    help: str = ""


class App(msgspec.Struct, kw_only=True):
    """A program or a Python function that jobs run, with its hooks and environment."""

    id: int | None = None
    name: str
    executable: str = ""  #: command line; ``{{x}}`` stands for parameter x
    description: str = ""
    #: command run in the job's directory before its first run; hooks also are Python functions,
    #: ``python:package.module:function``
    preprocess: str = ""
    postprocess: str = ""  #: command run after the run (also as error and timeout handler)
    envscript: str = ""  #: bash file sourced before the command
    retry: list[Rule] = []  #: rules for runs that fail
    signal: str = ""  #: warning before the launcher's time ends, ``USR1@120``
    error_handler: str = ""  #: command run after a run that failed, instead of `postprocess`
    timeout_handler: str = ""  #: command run after one that the launcher's end cut short
    environ: dict[str, str] = {}  #: variables of all its jobs; a job's own come over these
    parameters: dict[str, Parameter] = {}  #: {}: whatever the command names
    container: Container = Container()
    modules: list[str] = []  #: environment modules to load before the command
    conda: str = ""  #: conda environment (name or path) to activate before the command
    function: Function = Function()  #: what runs instead of `executable`

    def has_hook(self, name: str) -> bool:
        """Tell whether there is a *name* (of `HOOKS`), as a command or in Python."""
        return bool(getattr(self, HOOKS[name])) or name in self.function.hooks


#: The hooks, as methods in Python, and the fields that hold them as commands.
HOOKS = {
    "preprocess": "preprocess",
    "postprocess": "postprocess",
    "handle_error": "error_handler",
    "handle_timeout": "timeout_handler",
}


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


def parameter_names(command: str) -> list[str]:
    """Return the names in ``{{name}}`` of *command*, in order, each once."""
    return list(dict.fromkeys(_PARAMETER.findall(command))) if "{{" in command else []


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
