"""`balsam app`: register programs."""

from __future__ import annotations

import argparse
import os
from typing import Any

from msgspec import ValidationError, convert, to_builtins
from msgspec.structs import replace

from balsam.cli.context import open_site, warn
from balsam.cli.options import add_retry
from balsam.cli.output import app_record, print_json, text
from balsam.cli.programs import located, option_of, warn_if_missing, with_hook_functions
from balsam.cli.values import field_value, json_value, pair
from balsam.client.checks import CONTAINER_GPUS, CONTAINER_RUNTIMES, check_keys
from balsam.client.interface import Client
from balsam.errors import InvalidInput, MultipleFound, NotFound, nearest
from balsam.model import records
from balsam.model.app import (
    App,
    Container,
    Function,
    Parameter,
    parameter_names,
)
from balsam.model.hook import MARK
from balsam.model.query import ALL
from balsam.model.retry import rules_of

#: Fields that are command lines.
COMMANDS = ("executable", "preprocess", "postprocess", "error_handler", "timeout_handler")
_TYPES = {field.name: field.type for field in records.fields(App)}
_TOLD_IF_GIVEN = (
    *("error_handler", "timeout_handler", "environ", "parameters", "modules", "conda"),
    *("container", "retry", "signal"),
)

EXAMPLES = """\
A first word that ends in .py is run by this Python; files named relative to this directory
become absolute. {{x}} in the command stands for a job's parameter x (balsam job --param x=5).
Hooks are commands, or Python functions, which are called with the job: python:MODULE:FUNCTION.

examples:
  balsam app --name say-hello --executable "echo hello"
  balsam app --name sim --executable "./sim --beta {{beta}}" --postprocess collect.py \\
      --description lattice simulation
  balsam app --name big --executable ./big --retry 'exit=137: memory*2, max=3' \\
      --error-handler repair.py --module gcc/13 --env SCRATCH=/tmp
  balsam app --name watched --executable ./run --postprocess python:campaign.hooks:look
  balsam app --name image --executable "python3 /opt/fit.py {{x}}" --param-default x=1 \\
      --container fit.sif --bind /scratch
"""


def add_commands(subparsers: Any) -> None:
    """Add `app`."""
    parser = subparsers.add_parser("app", help="register an app", epilog=EXAMPLES)
    parser.add_argument("--name", required=True, metavar="NAME", help="what jobs call it")
    parser.add_argument("--executable", required=True, metavar="COMMAND", help="command line")
    parser.add_argument(
        "--preprocess", default="", metavar="HOOK", help="run before a job, in its directory"
    )
    parser.add_argument(
        "--postprocess",
        default="",
        metavar="HOOK",
        help="run after a job, in its directory; also as handler of errors and time-outs",
    )
    parser.add_argument(
        "--error-handler",
        default="",
        metavar="HOOK",
        help="run after a run that failed; it decides what becomes of the job",
    )
    parser.add_argument(
        "--timeout-handler",
        default="",
        metavar="HOOK",
        help="run after a run that the launcher's end cut short",
    )
    parser.add_argument(
        "--description", nargs="*", default=[], metavar="WORD", help="what it is for"
    )
    parser.add_argument(
        "--param-default",
        action="append",
        default=[],
        metavar="K=V",
        help="value of {{K}} for jobs that give none (repeatable)",
    )
    add_retry(parser, "for jobs without a rule that matches")
    parser.add_argument(
        "--signal",
        default="",
        metavar="NAME@SECONDS",
        help="send this signal so long before the launcher's time ends (a job's own goes first)",
    )
    parser.add_argument("--json", action="store_true", help="print the app as JSON")
    _add_environment(parser.add_argument_group("around its commands, in this order"))
    _add_container(parser.add_argument_group("in a container: the command, not the hooks"))
    parser.set_defaults(run=run)


def _add_environment(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--env",
        action="append",
        default=[],
        metavar="K=V",
        help="variable of all its jobs, which a job's own override (repeatable)",
    )
    group.add_argument("--envscript", default="", metavar="FILE", help="bash file to source")
    group.add_argument(
        "--module",
        action="append",
        default=[],
        metavar="MODULE",
        help="environment module to load (repeatable)",
    )
    group.add_argument(
        "--conda", default="", metavar="ENV", help="conda environment to activate: name or path"
    )
    group.add_argument(
        "--python-exe",
        default="",
        metavar="PATH",
        help="Python of hooks that are functions, with Balsam in it (default: this one)",
    )


def _add_container(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--container", default="", metavar="IMAGE", help="file or URI, as the runtime takes it"
    )
    group.add_argument(
        "--container-runtime",
        default="",
        choices=CONTAINER_RUNTIMES,
        metavar="RUNTIME",
        help=f"{', '.join(CONTAINER_RUNTIMES)} (default: the first that a node has)",
    )
    group.add_argument(
        "--bind",
        action="append",
        default=[],
        metavar="SRC[:DST[:OPTIONS]]",
        help="directory to have in it, besides the site and the job's (repeatable)",
    )
    group.add_argument(
        "--container-gpus",
        default="",
        choices=CONTAINER_GPUS,
        metavar="MAKER",
        help="nvidia or amd (default: what the node has, for jobs that ask for GPUs)",
    )
    group.add_argument(
        "--container-option",
        action="append",
        default=[],
        metavar="WORD",
        help="further word for the runtime, as in --container-option=--fakeroot (repeatable)",
    )


def run(args: argparse.Namespace) -> int:
    """Register an app."""
    commands: dict[str, Any] = {
        name: located(getattr(args, name), option_of(name)) for name in COMMANDS
    }
    function = Function(python=_absolute_prefix(args.python_exe))
    commands = with_hook_functions(commands, App(name=args.name, function=function))
    _check_python(args, commands)
    app = App(
        name=args.name,
        **commands,
        envscript=_absolute_file(args.envscript),
        environ=_pairs(args.env, "--env"),
        parameters=_parameters(args),
        modules=args.module,
        conda=_absolute_prefix(args.conda),
        container=_container(args),
        description=" ".join(args.description),
        retry=rules_of(args.retry),
        signal=args.signal,
    )
    with open_site(args) as client:
        added = client.add_app(app)
    for name in COMMANDS:
        if name != "executable" or not added.container.image:
            warn_if_missing(added, name)
    if added.envscript and not os.path.isfile(added.envscript):
        warn(f"--envscript: there is no file {added.envscript}")
    if args.json:
        print_json(app_record(added))
        return 0
    print(f"Application {added.id}")
    print("-" * 46)
    for field in ("name", "description", "executable", "preprocess", "postprocess", "envscript"):
        print(f"{field + ':':<32}{getattr(added, field)}".rstrip())
    for field in _TOLD_IF_GIVEN:
        if value := text(field, to_builtins(getattr(added, field))):
            print(f"{field + ':':<32}{value}")
    print("Added app to database")
    return 0


def _check_python(args: argparse.Namespace, commands: dict[str, Any]) -> None:
    if args.python_exe and "function" not in commands:
        raise InvalidInput(
            f"--python-exe is for hooks that are functions; give one, as {MARK}MODULE:FUNCTION"
        )


def _pairs(items: list[str], option: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for item in items:
        key, value = pair(item, option)
        if key in found:
            raise InvalidInput(f"{option} {key} is given twice")
        found[key] = value
    return found


def _parameters(args: argparse.Namespace) -> dict[str, Parameter]:
    """Return the app's parameters, if any has a default; the others of its command need a value."""
    defaults = _pairs(args.param_default, "--param-default")
    names = parameter_names(args.executable)
    for name in defaults:
        if name not in names:
            raise InvalidInput(
                f"--param-default {name}: the executable has no {{{{{name}}}}}."
                f"{nearest(name, names)}"
            )
    if not defaults:
        return {}
    return {n: Parameter(required=n not in defaults, default=defaults.get(n, "")) for n in names}


def _container(args: argparse.Namespace) -> Container:
    options = (args.container_runtime, args.bind, args.container_gpus, args.container_option)
    if not args.container and any(options):
        raise InvalidInput("options of a container without one; add --container IMAGE")
    return Container(
        image=_absolute_image(args.container),
        runtime=args.container_runtime,
        binds=args.bind,
        gpus=args.container_gpus,
        options=args.container_option,
    )


def app_value(app: App, field: str, given: str) -> Any:
    """Return *given* as a value of *field* of *app*: JSON where it is no text.

    environ also takes ``K=V K=V``, modules names with blanks between, container an image.

    Raises
    ------
    InvalidInput
        It cannot be one.
    """
    if field in COMMANDS:
        return located(given, field)
    if field == "retry":
        return field_value(field, given)
    if field == "function":
        raise InvalidInput("functions are registered from Python; see docs/guide/functions.md")
    kind = _TYPES[field]
    is_json = given.lstrip()[:1] in ("[", "{")
    if field == "container" and not is_json:
        return replace(app.container, image=_absolute_image(given)) if given else Container()
    if field == "modules" and not is_json:
        return given.split()
    if field == "environ":
        return field_value(field, given)
    if kind is str:
        return _absolute_prefix(given) if field == "conda" else given
    value = json_value(given, field)
    check_keys(field, value)
    try:
        return convert(value, kind)
    except ValidationError as error:
        raise InvalidInput(f"{field}: {error}") from error


def _absolute_prefix(conda: str) -> str:
    return os.path.abspath(os.path.expanduser(conda)) if "/" in conda else conda


def _absolute_image(image: str) -> str:
    return os.path.abspath(image) if image and os.path.exists(image) else image


def _absolute_file(file: str) -> str:
    return os.path.abspath(os.path.expanduser(file)) if file else ""


def one_app(client: Client, text: str) -> App:
    """Return the app whose name or id is *text*, or the only one whose name contains it.

    Raises
    ------
    NotFound, MultipleFound
        None fits, or several do.
    """
    apps = client.apps(ALL)
    for app in apps:
        if app.name == text or str(app.id) == text:
            return app
    matches = [app for app in apps if text in app.name]
    if len(matches) == 1:
        return matches[0]
    if matches:
        names = ", ".join(app.name for app in matches[:5])
        raise MultipleFound(f"{text!r} is part of several apps' names: {names}; give the whole one")
    raise NotFound(
        f"there is no app {text!r}.{nearest(text, [app.name for app in apps])}"
        " `balsam ls apps` lists them"
    )
