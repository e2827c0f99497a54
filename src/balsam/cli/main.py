"""The `balsam` command: puts the verbs together, runs one, tells errors in one line."""

from __future__ import annotations

import argparse
import errno
import importlib
import io
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from balsam import __version__
from balsam.errors import BalsamError, InvalidInput, nearest

#: The module of each verb, in the order of the help. It has `add_commands(subparsers)`. Only
#: the module of the verb at hand is imported: the start of a command is time that users wait.
VERBS = {
    "init": "site",
    "which": "site",
    "config": "site",
    "site": "detect",
    "app": "app",
    "job": "job",
    "mkchild": "job",
    "import": "import_workflow",
    "dep": "dep",
    "ls": "ls",
    "graph": "graph",
    "show": "show",
    "progress": "progress",
    "wait": "progress",
    "why": "why",
    "logs": "logs",
    "log": "logs",
    "modify": "modify",
    "rerun": "rerun",
    "kill": "kill",
    "killjob": "kill",
    "rm": "rm",
    "clean": "clean",
    "launcher": "launcher",
    "submit-launch": "submit_launch",
    "queue": "queue",
    "service": "service",
    "server": "server",
    "db": "db",
    "report": "report",
    "quickstart": "quickstart",
    "make_dummies": "dummies",
    "completion": "completion",
}
#: What a shell reports of a program that its reader left (128 + SIGPIPE).
BROKEN_PIPE = 141
INTERRUPTED = 130


class Parser(argparse.ArgumentParser):
    """An `ArgumentParser` with ``--site`` in every verb and errors of one line."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(*args, **kwargs)
        # SUPPRESS: a verb without it must not undo what was given before the verb.
        self.add_argument(
            "--site",
            metavar="PATH",
            default=argparse.SUPPRESS,
            help="the site to use (default: the activated one, or the one above this directory)",
        )

    def parse_known_args(self, args=None, namespace=None):  # type: ignore[no-untyped-def]
        words = sys.argv[1:] if args is None else args
        namespace, rest = super().parse_known_args(joined(words), namespace)
        if rest:
            options = list(self._option_string_actions)
            self.error(f"there is no {rest[0]!r} here.{nearest(rest[0].split('=')[0], options)}")
        return namespace, rest

    def _get_option_tuples(self, option_string):  # type: ignore[no-untyped-def]
        # A prefix that fits two spellings of one option (post_handle_error with '_' and '-')
        # is not ambiguous.
        matches = super()._get_option_tuples(option_string)
        return matches[:1] if len({id(match[0]) for match in matches}) == 1 else matches

    def _check_value(self, action, value):  # type: ignore[no-untyped-def]
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError as error:
            hint = nearest(str(value), list(map(str, action.choices)))
            error.message += f".{hint}" if hint else ""
            raise

    def error(self, message: str) -> NoReturn:
        line = " ".join(message.split())
        self.exit(2, f"{self.prog}: error: {line} (see `{self.prog} --help`)\n")

    def format_help(self) -> str:
        from rich_argparse import RawDescriptionRichHelpFormatter

        class Formatter(RawDescriptionRichHelpFormatter):
            text_markup = False

        self.formatter_class = Formatter
        return super().format_help()


def joined(words: Sequence[str]) -> list[str]:
    """Return *words* with ``--order -id`` as ``--order=-id``, and all words of --args in one.

    What follows --sched-flags is joined to it, too.
    argparse would take a value such as ``-id`` or ``"--n=1 x"`` for an option.
    """
    result: list[str] = []
    in_args = False
    for word in words:
        option = result[-1] if result else ""
        if in_args and (word[:1] != "-" or " " in word):
            result[-1] = f"--args={word}" if option == "--args" else f"{option} {word}"
            continue
        in_args = word == "--args"
        is_order = option == "--order" and word[:1] == "-" and word[:2] != "--"
        is_flags = option[:4] == "--sc" and "--sched-flags".startswith(option)
        if is_order or is_flags:
            result[-1] = f"{option}={word}"
        else:
            result.append(word)
    return result


def modules_for(words: Sequence[str]) -> list[str]:
    """Return the names of the modules that the command line *words* needs: one, or all."""
    left = iter(words)
    for word in left:
        if word == "--site":
            next(left, None)
        elif word in VERBS:
            return [VERBS[word]]
        elif not word.startswith("--site="):
            break
    return list(dict.fromkeys(VERBS.values()))


def build_parser(words: Sequence[str] = ()) -> Parser:
    """Return the parser of the command line *words*; without them, of all verbs."""
    parser = Parser(
        prog="balsam",
        description="Run large campaigns of jobs and workflows on supercomputers.",
        epilog="`balsam VERB --help` explains one verb, with an example."
        " Long options may be shortened as long as they stay unique.",
    )
    parser.add_argument("-V", "--version", action="version", version=f"balsam {__version__}")
    parser.set_defaults(site=None, run=None)
    subparsers = parser.add_subparsers(title="verbs", metavar="VERB")
    for name in modules_for(words):
        importlib.import_module(f"balsam.cli.{name}").add_commands(subparsers)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code; usage errors leave by `SystemExit`."""
    words = sys.argv[1:] if argv is None else argv
    _accept_any_text()
    try:
        parser = build_parser(words)
        args = parser.parse_args(words)
        if args.run is None:
            parser.print_help()
            code = 0
        else:
            code = args.run(args)
        sys.stdout.flush()
    except BalsamError as error:
        print(f"balsam: error: {' '.join(str(error).split())}", file=sys.stderr)
        return error.exit_code
    except UnicodeEncodeError as error:
        what = error.object[max(0, error.start - 20) : error.end + 20]
        print(f"balsam: error: {what!r} cannot be written as {error.encoding}", file=sys.stderr)
        return InvalidInput.exit_code
    except BrokenPipeError:
        # What is still in the buffer must not raise again when Python flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        # As above: what is left in the buffer finds no room at exit, either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        print(f"balsam: error: cannot write: {error.strerror}", file=sys.stderr)
        return BalsamError.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    return int(code)


def _accept_any_text() -> None:
    """Have characters that the locale lacks shown as escapes, and output without a place dropped.

    Names, arguments and outputs of jobs are UTF-8, whatever the terminal is.
    """
    if sys.stdout is None:  # closed: `balsam … >&-`
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 (for as long as the process is)
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


if __name__ == "__main__":
    sys.exit(main())
