"""`balsam modify`: change a field of jobs or apps."""

from __future__ import annotations

import argparse
from typing import Any

import msgspec

from balsam.cli.app import app_value, one_app
from balsam.cli.context import open_site
from balsam.cli.dep import label
from balsam.cli.output import text
from balsam.cli.programs import with_hook_functions
from balsam.cli.selectors import add_selectors, query
from balsam.cli.values import field_name, field_value
from balsam.client.interface import Client
from balsam.compat.texts import environ_of
from balsam.errors import InvalidInput, NotFound, UnknownField, nearest
from balsam.model import records
from balsam.model.app import HOOKS, App, split_words
from balsam.model.query import Query, parse
from balsam.model.states import STATES, State

MESSAGE = "User mutated state from command line"
TYPES = {"jobs": "jobs", "job": "jobs", "apps": "apps", "app": "apps"}

EXAMPLES = """\
VALUE is read as the field's type: numbers; true or false; JSON for data, tags, parameters and
environ (the last three also as "K=V K=V"); rules separated by semicolons for retry; a state for
state. After a change of state to CREATED or RESTART_READY a job runs again.

examples:
  balsam modify 12 priority 5
  balsam modify jobs 12 --attr state --value CREATED
  balsam modify --wf scan --state FAILED wall_time_minutes 90
  balsam modify sim executable "/soft/sim --fast" --type apps
  balsam modify sim retry "exit=137: memory*2; timeout: time*1.5, max=4" --type apps
  balsam modify sim container sim.sif --type apps
"""


def add_commands(subparsers: Any) -> None:
    """Add `modify`."""
    parser = subparsers.add_parser(
        "modify",
        help="change a field of jobs or apps",
        epilog=EXAMPLES,
        usage="balsam modify [jobs|apps] [ID ...] [selection] ATTR VALUE [--type jobs|apps]",
    )
    parser.add_argument(
        "words", nargs="*", metavar="ID ... ATTR VALUE", help="which, what, and the new value"
    )
    parser.add_argument("--attr", metavar="ATTR", help="the field, instead of the argument")
    parser.add_argument("--value", metavar="VALUE", help="the new value, instead of the argument")
    parser.add_argument("--type", choices=list(TYPES), help="what the ids are of (default: jobs)")
    add_selectors(parser, positional=False, require_choice=True)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Change a field."""
    kind, ids, attribute, value = _understood(args)
    with open_site(args) as client:
        if kind == "apps":
            return _modify_app(args, client, ids, attribute, value)
        args.jobs = ids
        if attribute == "state":
            state = _state(value)
            selected = _selected(args, client)
            count = client.move_jobs(selected, state, MESSAGE)
        else:
            new = _field_value(attribute, value)
            attribute = field_name(attribute)
            if attribute == "args":
                split_words(value)
            selected = _selected(args, client)
            count = client.update_jobs(selected, {attribute: new})
        if len(ids) == 1 and count == 1:
            job = client.jobs(Query(filters=selected.filters[:1]))[0]
            shown = text(attribute, getattr(job, attribute))
            print(f"{label(client, job)} {attribute}: {shown}".rstrip())
    print(f"Changed {count} job{'s' if count != 1 else ''}.")
    return 0


def _understood(args: argparse.Namespace) -> tuple[str, list[str], str, str]:
    """Return the type, the ids, the field and the value that the command line means."""
    words = list(args.words)
    kind = args.type
    if words and words[0] in TYPES and (len(words) > 2 or args.attr is not None):
        named = words.pop(0)
        if kind is not None and TYPES[kind] != TYPES[named]:
            raise InvalidInput(f"{named} and --type {kind} contradict each other")
        kind = named
    value = args.value
    if value is None and words:
        value = words.pop()
    attribute = args.attr
    if attribute is None and words:
        attribute = words.pop()
    if attribute is None or value is None:
        raise InvalidInput("give the id, the field and the new value: balsam modify ID ATTR VALUE")
    return TYPES[kind or "jobs"], words, attribute, value


def _selected(args: argparse.Namespace, client: Client) -> Query:
    selected = query(args, client)
    if not client.count_jobs(selected):
        raise NotFound("no job matches; `balsam ls` with the same selection shows what does")
    return selected


def _field_value(attribute: str, value: str) -> Any:
    """Return the new value of a field; that of `environ_vars` as in 0.x: ``A=1:B=2``."""
    if attribute == "environ_vars" and not value.lstrip().startswith("{"):
        return environ_of(value)
    return field_value(field_name(attribute), value)


def _state(value: str) -> State:
    name = value.strip().upper()
    if name not in STATES:
        raise InvalidInput(
            f"there is no state {value!r}; the states are {', '.join(STATES)}."
            f"{nearest(name, list(STATES))}"
        )
    return State(name)


def _modify_app(
    args: argparse.Namespace, client: Client, ids: list[str], attribute: str, value: str
) -> int:
    from balsam.client.checks import check_app

    fields = [field.name for field in records.fields(App) if field.name != "id"]
    if attribute not in fields:
        raise UnknownField(f"apps have no field {attribute!r}.{nearest(attribute, fields)}")
    if args.state or args.wf or args.tag or args.filter or args.all:
        raise InvalidInput("an app is selected by its name or id; leave the rest out")
    names = [*ids, *filter(None, (args.id, args.name))]
    if len(names) != 1:
        raise InvalidInput("give the name or id of one app: balsam modify NAME ATTR VALUE")
    app = one_app(client, names[0])
    new = app_value(app, attribute, value)
    changes = {attribute: new}
    if attribute in HOOKS.values():
        changes = with_hook_functions(changes, app)
    check_app(msgspec.structs.replace(app, **changes))
    plain = {n: v if n == "retry" else msgspec.to_builtins(v) for n, v in changes.items()}
    client.update_apps(Query(filters=parse({"id": app.id}, "apps")), plain)
    print(f"{app.name} {attribute}: {text(attribute, msgspec.to_builtins(new))}".rstrip())
    print("Changed 1 app.")
    return 0
