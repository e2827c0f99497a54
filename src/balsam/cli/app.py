"""`balsam app`: register programs."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import sys
from typing import Any

from balsam.cli.context import open_site, warn
from balsam.cli.options import add_retry
from balsam.cli.output import app_record, print_json
from balsam.client.interface import Client
from balsam.errors import InvalidInput, MultipleFound, NotFound, nearest
from balsam.model.app import App, split_words
from balsam.model.query import ALL
from balsam.model.retry import rules_of, rules_text

#: Programs whose first argument may be a script of the user.
_INTERPRETER = re.compile(r"(python|bash|sh|zsh|perl|ruby|Rscript|julia|node|lua)[\d.]*")
_PLAIN_WORD = re.compile(r"[^\s'\"\\]+")

EXAMPLES = """\
A first word that ends in .py is run by this Python; files named relative to this directory
become absolute. {{x}} in the command stands for a job's parameter x (balsam job --param x=5).

examples:
  balsam app --name say-hello --executable "echo hello"
  balsam app --name sim --executable "./sim --beta {{beta}}" --postprocess collect.py \\
      --description lattice simulation
  balsam app --name big --executable ./big --retry 'exit=137: memory*2, max=3'
"""


def add_commands(subparsers: Any) -> None:
    """Add `app`."""
    parser = subparsers.add_parser("app", help="register an app", epilog=EXAMPLES)
    parser.add_argument("--name", required=True, metavar="NAME", help="what jobs call it")
    parser.add_argument("--executable", required=True, metavar="COMMAND", help="command line")
    parser.add_argument(
        "--preprocess", default="", metavar="COMMAND", help="run before a job, in its directory"
    )
    parser.add_argument(
        "--postprocess",
        default="",
        metavar="COMMAND",
        help="run after a job, in its directory; also as handler of errors and time-outs",
    )
    parser.add_argument(
        "--envscript", default="", metavar="FILE", help="bash file, sourced before the command"
    )
    parser.add_argument(
        "--description", nargs="*", default=[], metavar="WORD", help="what it is for"
    )
    add_retry(parser, "for jobs without a rule that matches")
    parser.add_argument(
        "--signal",
        default="",
        metavar="NAME@SECONDS",
        help="send this signal so long before the launcher's time ends (a job's own goes first)",
    )
    parser.add_argument("--json", action="store_true", help="print the app as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Register an app."""
    app = App(
        name=args.name,
        executable=located(args.executable, "--executable"),
        preprocess=located(args.preprocess, "--preprocess"),
        postprocess=located(args.postprocess, "--postprocess"),
        envscript=_absolute_file(args.envscript),
        description=" ".join(args.description),
        retry=rules_of(args.retry),
        signal=args.signal,
    )
    with open_site(args) as client:
        added = client.add_app(app)
    for option in ("executable", "preprocess", "postprocess"):
        _warn_if_missing(getattr(added, option), f"--{option}")
    if added.envscript and not os.path.isfile(added.envscript):
        warn(f"--envscript: there is no file {added.envscript}")
    if args.json:
        print_json(app_record(added))
        return 0
    print(f"Application {added.id}")
    print("-" * 46)
    for field in ("name", "description", "executable", "preprocess", "postprocess", "envscript"):
        print(f"{field + ':':<32}{getattr(added, field)}".rstrip())
    if added.retry:
        print(f"{'retry:':<32}{rules_text(added.retry)}")
    if added.signal:
        print(f"{'signal:':<32}{added.signal}")
    print("Added app to database")
    return 0


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


def _absolute_file(file: str) -> str:
    return os.path.abspath(os.path.expanduser(file)) if file else ""


def _warn_if_missing(command: str, option: str) -> None:
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
