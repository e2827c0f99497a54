"""From a class to the app that is registered."""

from __future__ import annotations

import base64
import hashlib
import inspect
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from balsam.callables.code import dump_function
from balsam.callables.origin import import_path
from balsam.client.apps import App
from balsam.client.site import Site, default_site
from balsam.errors import InvalidInput, NotFound
from balsam.model.app import HOOKS, Function, Parameter

if TYPE_CHECKING:
    from balsam.applications.definition import ApplicationDefinition

_BRACES = re.compile(r"\{\{(.*?)\}\}")
#: What makes a template text for a shell: its parameters then are the shell's arguments.
_OPERATORS = frozenset("|&;<>`$\n")
#: Where the texts of `shell_preamble` are, in a site: named for their content.
PREAMBLES = "data/.preambles"


def site_of(given: Any) -> Site:
    """Return the site that a class names: a `Site`, a path or part of one, '' for the default."""
    if isinstance(given, Site):
        return given
    return Site(given) if given else default_site()


def synchronized(
    definition: type[ApplicationDefinition], site: Site, rename_from: str | None
) -> App:
    """Register *definition* in *site*, or update the app that is there, and return it."""
    fields = app_fields(definition, site)
    name = rename_from or fields["name"]
    try:
        app = site.apps.get(name=name)
    except NotFound:
        if rename_from:
            raise
        return site.apps.create(**fields)
    for field, value in fields.items():
        setattr(app, field, value)
    app.save()
    return app


def app_fields(definition: type[ApplicationDefinition], site: Site) -> dict[str, Any]:
    """Return the fields of the app that *definition* is.

    Raises
    ------
    InvalidInput
        It cannot be one; the message says why.
    """
    name = definition.__name__
    template = (definition.command_template or "").strip()
    if bool(template) == (definition.run is not None):
        both = "not both" if template else "there is neither"
        raise InvalidInput(f"{name} needs a command_template or a method run(self, …); {both}")
    names = template_names(name, template)
    if template:
        parameters = _parameters(name, names, definition.parameters)
    else:
        parameters = _arguments(name, definition.run)
    _check_slots(definition)
    return {
        "name": name,
        "description": inspect.cleandoc(definition.__doc__ or "").strip(),
        "executable": _executable(template, names),
        "parameters": parameters,
        "environ": {str(k): str(v) for k, v in definition.environment_variables.items()},
        "envscript": _preamble_file(definition, site),
        "function": _function(definition),
    }


def template_names(name: str, template: str) -> list[str]:
    """Return the parameters of a command template, in order.

    Raises
    ------
    InvalidInput
        It has more of Jinja than ``{{ name }}``.
    """
    for mark in ("{%", "{#"):
        if mark in template:
            raise InvalidInput(
                f"command_template of {name} has {mark!r}; only {{{{ name }}}} is understood"
            )
    found: dict[str, None] = {}
    for inside in _BRACES.findall(template):
        word = inside.strip()
        if not word.isidentifier():
            raise InvalidInput(
                f"command_template of {name} has {{{{{inside}}}}}; only {{{{ name }}}} is"
                " understood: compute values before the job is submitted"
            )
        found[word] = None
    return list(found)


def _executable(template: str, names: list[str]) -> str:
    """Return the command line of a template.

    One with operators of the shell becomes the program of a bash, to which parameters are
    arguments: values still never become syntax.
    """
    if _OPERATORS.isdisjoint(template):
        return template
    places = {word: f'"${{{number}}}"' for number, word in enumerate(names, 1)}
    text = _BRACES.sub(lambda match: places[match[1].strip()], template)
    quoted = "'" + text.replace("'", "'\\''") + "'"
    return " ".join(["/bin/bash -c", quoted, "bash", *(f"{{{{{word}}}}}" for word in names)])


def _parameters(
    name: str, names: list[str], given: Mapping[str, Mapping[str, Any]]
) -> dict[str, Parameter]:
    for parameter, fields in given.items():
        if parameter not in names:
            raise InvalidInput(
                f"{name} has a parameter {parameter!r} that its command_template does not use"
            )
        if "required" not in fields:
            raise InvalidInput(f"parameter {parameter!r} of {name} needs required: True or False")
        if not fields["required"] and fields.get("default") is None:
            raise InvalidInput(f"parameter {parameter!r} of {name} is not required: give a default")
    return {word: _parameter(given.get(word, {"required": True})) for word in names}


def _parameter(fields: Mapping[str, Any]) -> Parameter:
    default = "" if fields["required"] else str(fields["default"])
    return Parameter(
        required=bool(fields["required"]), default=default, help=fields.get("help", "")
    )


def _arguments(name: str, method: Any) -> dict[str, Parameter]:
    """Return the arguments of a method `run`; their defaults are only told: Python has them."""
    words = list(inspect.signature(method).parameters.values())
    if not words or words[0].name != "self":
        raise InvalidInput(f"{name}.run needs self as its first argument")
    found = {}
    for word in words[1:]:
        if word.kind in (word.VAR_POSITIONAL, word.VAR_KEYWORD, word.POSITIONAL_ONLY):
            raise InvalidInput(f"{name}.run takes {word}; only arguments with names can be given")
        has_default = word.default is not word.empty
        told = repr(word.default) if has_default else ""
        note = _annotation_text(word.annotation)
        found[word.name] = Parameter(required=not has_default, default=told, help=note)
    return found


def _annotation_text(annotation: Any) -> str:
    if annotation is inspect.Parameter.empty:
        return ""
    return annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)


def _check_slots(definition: type[ApplicationDefinition]) -> None:
    for slot, fields in definition.transfers.items():
        if fields.get("direction") not in ("in", "out") or not fields.get("local_path"):
            raise InvalidInput(
                f"transfer {slot!r} of {definition.__name__} needs direction ('in' or 'out') and"
                " local_path"
            )


def hooks_of(definition: type[ApplicationDefinition]) -> list[str]:
    """Return which methods of *definition* its jobs call: those that it has of its own."""
    from balsam.applications.definition import ApplicationDefinition

    own = [n for n in HOOKS if getattr(definition, n) is not getattr(ApplicationDefinition, n)]
    if definition.cleanup_files and "postprocess" not in own:
        own.append("postprocess")
    return [*(["run"] if definition.run is not None else []), *own]


def _function(definition: type[ApplicationDefinition]) -> Function:
    hooks = hooks_of(definition)
    if not hooks:
        return Function()
    code = dump_function(definition.__name__, definition)
    python = os.path.abspath(os.path.expanduser(definition.python_exe or sys.executable))
    return Function(
        code=base64.b64encode(code).decode(),
        reference=f"{definition.__module__}:{definition.__qualname__}",
        python=python,
        path=import_path(),
        hooks=hooks,
    )


def _preamble_file(definition: type[ApplicationDefinition], site: Site) -> str:
    """Write the shell preamble to a file of *site*; return its path, '' for none."""
    commands = definition().shell_preamble()
    text = commands if isinstance(commands, str) else " && ".join(commands)
    if not text.strip():
        return ""
    name = hashlib.blake2s(text.encode(), digest_size=8).hexdigest()
    file = Path(site.path, PREAMBLES, f"{definition.__name__}-{name}.sh")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{text}\n")
    except OSError as error:
        raise InvalidInput(
            f"cannot write the shell preamble of {definition.__name__} to {file}: {error.strerror}"
        ) from error
    return str(file)
