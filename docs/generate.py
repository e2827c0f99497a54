"""Write the reference pages from the code, or, with ``--check``, tell which are stale.

python docs/generate.py [--check]
"""

from __future__ import annotations

import argparse
import ast
import inspect
import json
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec

from balsam import config, errors
from balsam.cli import main as command_line
from balsam.model import app, batch_job, job, query, resources, retry, states, wire

DIRECTORY = Path(__file__).parent / "reference"
NOTICE = "<!-- Written by docs/generate.py: change the code, not this page. -->\n"


def table(headers: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Return a Markdown table."""
    lines = [" | ".join(headers), " | ".join("---" for _ in headers)]
    lines += [" | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in r) for r in rows]
    return "".join(f"| {line} |\n" for line in lines)


def code(text: str) -> str:
    return f"`{text}`" if text else ""


# the command line -------------------------------------------------------------------------


def cli_page() -> str:
    parser = command_line.build_parser()
    parts = [
        "# Command line\n",
        f"{parser.description} {parser.epilog}\n",
        "Every verb takes `--site PATH`, before or after its name, and `--help`.\n",
        "## Verbs\n",
    ]
    verbs = list(_verbs(parser))
    rows = [(f"[`{name}`](#balsam-{name})", text) for name, _, text, _ in verbs if " " not in name]
    parts.append(table(("verb", ""), rows))
    for name, aliases, text, verb in verbs:
        parts.append(_verb_section(name, aliases, text, verb))
    return "\n".join(parts)


def _verbs(
    parser: argparse.ArgumentParser, prefix: str = ""
) -> Iterator[tuple[str, list[str], str, argparse.ArgumentParser]]:
    """Yield (name, other names, help, parser) of each verb, those below another one after it."""
    for action in parser._actions:
        if not isinstance(action, argparse._SubParsersAction):
            continue
        names: dict[int, list[str]] = {}
        for name, verb in action.choices.items():
            names.setdefault(id(verb), []).append(name)
        helps = {choice.dest: choice.help or "" for choice in action._choices_actions}
        for found in names.values():
            verb, name = action.choices[found[0]], f"{prefix}{found[0]}"
            if found[0] in helps:  # a verb without help is hidden
                yield name, found[1:], helps[found[0]], verb
                yield from _verbs(verb, f"{name} ")


def _verb_section(name: str, aliases: list[str], text: str, verb: argparse.ArgumentParser) -> str:
    level = "##" if " " not in name else "###"
    parts = [f"{level} balsam {name}\n", f"{verb.description or _sentence(text)}\n"]
    if aliases:
        parts.append(f"Also: {', '.join(code(f'balsam {alias}') for alias in aliases)}.\n")
    rows = [
        (code(_spelled(action)), _help(action))
        for group in verb._action_groups
        for action in group._group_actions
        if _is_shown(action)
    ]
    if rows:
        parts.append(table(("argument", "meaning"), rows))
    if verb.epilog:
        parts.append(_fenced(verb.epilog))
    return "\n".join(parts)


def _is_shown(action: argparse.Action) -> bool:
    hidden = isinstance(action, argparse._HelpAction | argparse._SubParsersAction)
    return not hidden and action.help is not argparse.SUPPRESS and action.dest != "site"


def _spelled(action: argparse.Action) -> str:
    metavar = action.metavar or (
        "{" + ",".join(map(str, action.choices)) + "}" if action.choices else None
    )
    value = metavar if isinstance(metavar, str) else action.dest.upper()
    if action.nargs == 0:
        value = ""
    elif action.nargs in ("*", argparse.REMAINDER):
        value = f"[{value} …]"
    elif action.nargs == "+":
        value = f"{value} …"
    elif action.nargs == "?":
        value = f"[{value}]"
    if not action.option_strings:
        return value
    return f"{', '.join(action.option_strings)} {value}".strip()


def _help(action: argparse.Action) -> str:
    text = action.help or ""
    if "%(" in text:
        text %= {**vars(action), "prog": "balsam"}
    required = " (required)" if action.required and action.option_strings else ""
    return f"{text.replace('%%', '%')}{required}"


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _fenced(text: str) -> str:
    return f"```text\n{textwrap.dedent(text).strip()}\n```\n"


# settings, fields -------------------------------------------------------------------------


def notes(record: type[msgspec.Struct]) -> dict[str, str]:
    """Return the ``#:`` comment of each field in the source of *record*."""
    lines = textwrap.dedent(inspect.getsource(record)).splitlines()
    (tree,) = ast.parse("\n".join(lines)).body
    assert isinstance(tree, ast.ClassDef)
    found = {}
    for node in tree.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            before, above = node.lineno - 2, []
            while lines[before].strip().startswith("#:"):
                above.insert(0, lines[before].strip()[2:].strip())
                before -= 1
            beside = lines[(node.end_lineno or node.lineno) - 1].partition("#:")[2].strip()
            text = " ".join(above) or beside
            if text:
                found[node.target.id] = text
    return found


def _default(field: msgspec.structs.FieldInfo) -> str:
    if field.default_factory is not msgspec.NODEFAULT:
        return json.dumps(msgspec.to_builtins(field.default_factory()))
    if field.default is msgspec.NODEFAULT:
        return ""
    return json.dumps(msgspec.to_builtins(field.default))


def settings_page() -> str:
    parts = [
        "# Settings\n",
        "A site's settings are in its `balsam.toml`, a user's in `~/.balsam/settings.toml`"
        " (in `$BALSAM_HOME` when that is set). The site's win over the user's, and both over"
        " the defaults. `balsam config show` prints each value in force and the file that gave"
        " it. An unknown setting is an error that names the nearest one.\n",
    ]
    for group in msgspec.structs.fields(config.Settings):
        name, record = group.name, group.type
        if name == "queues":
            name, record = "queues.NAME", config.QueuePolicy
        parts.append(f"## [{name}]\n\n{inspect.getdoc(record)}\n")
        texts = notes(record)
        rows = [
            (code(f"{name}.{field.name}"), code(_default(field)), texts.get(field.name, ""))
            for field in msgspec.structs.fields(record)
        ]
        parts.append(table(("setting", "default", "meaning"), rows))
    return "\n".join(parts)


def _type(kind: Any) -> str:
    name = inspect.formatannotation(kind)
    for module in (
        "typing.",
        "balsam.model.states.",
        "balsam.model.batch_job.",
        "balsam.model.wire.",
        "balsam.model.retry.",
    ):
        name = name.replace(module, "")
    return name


def _record_section(title: str, module: ModuleType, record: type[msgspec.Struct]) -> str:
    texts = notes(resources.Request) | notes(record) if record is job.Job else notes(record)
    rows = [
        (code(f.name), code(_type(f.type)), code(_default(f)), texts.get(f.name, ""))
        for f in msgspec.structs.fields(record)
    ]
    doc = (inspect.getdoc(record) or "").split("\n\n")
    text = " ".join(doc[0].split())
    return f"## {title}\n\n{text}\n\n{table(('field', 'type', 'default', 'meaning'), rows)}"


def fields_page() -> str:
    sections = [
        _record_section("Job", job, job.Job),
        _record_section("App", app, app.App),
        _record_section("Rule", retry, retry.Rule),
        _record_section("Attempt", wire, wire.Attempt),
        _record_section("Event", wire, wire.Event),
        _record_section("Batch job", batch_job, batch_job.BatchJob),
    ]
    outcomes = ", ".join(code(outcome) for outcome in wire.Outcome)
    lookups = ", ".join(code(lookup) for lookup in query.LOOKUPS)
    return "\n".join(
        [
            "# Fields and lookups\n",
            "The names are the same in Python, in JSON, on the command line and in the database."
            " Times (`time` and names that end in `_at`) are seconds since the epoch in Python"
            " and ISO 8601 in UTC, `2031-05-04T03:02:01.000000Z`, in JSON.\n",
            f"An attempt's `outcome` is one of {outcomes}.\n",
            "## Lookups\n",
            f"A condition is `field__lookup=value`; without a lookup it is `exact`: {lookups}."
            f" Keys stand between field and lookup in {', '.join(map(code, query.JSON_FIELDS))}:"
            " `data__reward__gte=0.5`. Jobs also have the conditions `parents`, `children` (ids or"
            " UUIDs) and `state_history` (text in any of the job's events).\n",
            *sections,
        ]
    )


# errors, states ---------------------------------------------------------------------------


def errors_page() -> str:
    rows = []

    def add(error: type[errors.BalsamError], depth: int) -> None:
        text = (inspect.getdoc(error) or "").splitlines()[0]
        again = "yes" if error.retryable else ""
        name = f"{' ' * depth}{code(error.__name__)}".replace(" ", "&nbsp;&nbsp;")
        rows.append((name, str(error.exit_code), again, text))
        for below in error.__subclasses__():
            if below.__module__ == errors.__name__:
                add(below, depth + 1)

    add(errors.BalsamError, 0)
    codes = [
        ("0", "done; for `balsam wait`: all jobs finished"),
        ("1", "it could not be done; for `balsam wait`: some job did not finish well"),
        ("2", "wrong usage: nothing was tried"),
        ("124", "`balsam wait --timeout`: the time was over first"),
        (str(command_line.INTERRUPTED), "interrupted from the keyboard"),
        (str(command_line.BROKEN_PIPE), "the reader of the output went away"),
    ]
    return "\n".join(
        [
            "# Errors and exit codes\n",
            "An error is one line on standard error: what is wrong, which one, what was expected,"
            " what to do. After an error nothing has changed.\n",
            "## Exit codes\n",
            table(("code", "meaning"), codes),
            "## Exceptions\n",
            "All are in `balsam.errors`. 'Again': the same call can succeed later.\n",
            table(("exception", "exit code", "again", "meaning"), rows),
        ]
    )


def states_page() -> str:
    rows = [
        (
            code(state),
            row.group,
            row.text,
            ", ".join(map(code, row.to)),
            ", ".join(code(s) for s in states.STATES if states.may_ask(state, s)),
        )
        for state, row in states.TABLE.items()
    ]
    meanings = notes_of_members(states.Group)
    groups = [(code(group), meanings[group.name]) for group in states.Group]
    return "\n".join(
        [
            "# States\n",
            "One table in `balsam/model/states.py` is the law for the database, the launcher and"
            " this page.\n",
            table(
                ("state", "group", "meaning", "Balsam moves it to", "a user may move it to"), rows
            ),
            "The group says who acts next:\n",
            table(("group", "who acts next"), groups),
            "## Diagram\n",
            f"```mermaid\n{states.diagram()}```\n",
        ]
    )


def notes_of_members(enumeration: type) -> dict[str, str]:
    """Return the ``#:`` comment beside each member in the source of *enumeration*."""
    lines = inspect.getsource(enumeration).splitlines()
    pairs = (line.partition("#:") for line in lines if "#:" in line and "=" in line)
    return {left.partition("=")[0].strip(): right.strip() for left, _, right in pairs}


PAGES = {
    "cli.md": cli_page,
    "settings.md": settings_page,
    "fields.md": fields_page,
    "errors.md": errors_page,
    "states.md": states_page,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if stale")
    args = parser.parse_args()
    stale = []
    for name, make in PAGES.items():
        path, text = DIRECTORY / name, f"{NOTICE}\n{make()}"
        if path.is_file() and path.read_text() == text:
            continue
        stale.append(f"docs/reference/{name}")
        if not args.check:
            DIRECTORY.mkdir(exist_ok=True)
            path.write_text(text)
    if stale:
        done = "is stale; run `python docs/generate.py`" if args.check else "written"
        print("\n".join(f"{name} {done}" for name in stale))
    return 1 if args.check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
