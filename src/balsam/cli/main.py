"""The `balsam` command: puts the verbs together, runs one, tells errors in one line."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from balsam import __version__
from balsam.errors import BalsamError, nearest

#: The modules of the verbs, in the order of the help. Each has `add_commands(subparsers)`.
VERBS = (
    "site",
    "app",
    "job",
    "dep",
    "ls",
    "show",
    "progress",
    "logs",
    "modify",
    "rerun",
    "kill",
    "rm",
    "launcher",
    "report",
    "quickstart",
    "dummies",
    "completion",
)
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
        words = joined(sys.argv[1:] if args is None else args)
        namespace, rest = super().parse_known_args(words, namespace)
        if rest:
            options = list(self._option_string_actions)
            self.error(f"there is no {rest[0]!r} here.{nearest(rest[0].split('=')[0], options)}")
        return namespace, rest

    def _get_option_tuples(self, option_string):  # type: ignore[no-untyped-def]
        # A prefix that fits two spellings of one option (post_handle_error with '_' and '-')
        # is not ambiguous.
        matches = super()._get_option_tuples(option_string)
        return matches[:1] if len({id(match[0]) for match in matches}) == 1 else matches

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
    """Return *words* with ``--order -id`` as ``--order=-id`` and ``--args "-n=1 x"`` alike.

    argparse would take such a value for an option.
    """
    result: list[str] = []
    for word in words:
        option = result[-1] if result else ""
        if (option == "--order" and word[:1] == "-" and word[:2] != "--") or (
            option == "--args" and word[:1] == "-" and " " in word
        ):
            result[-1] = f"{option}={word}"
        else:
            result.append(word)
    return result


def build_parser() -> Parser:
    """Return the parser of the whole command line."""
    parser = Parser(
        prog="balsam",
        description="Run large campaigns of jobs and workflows on supercomputers.",
        epilog="`balsam VERB --help` explains one verb, with an example."
        " Long options may be shortened as long as they stay unique.",
    )
    parser.add_argument("-V", "--version", action="version", version=f"balsam {__version__}")
    parser.set_defaults(site=None, run=None)
    subparsers = parser.add_subparsers(title="verbs", metavar="VERB")
    for name in VERBS:
        module = f"balsam.cli.{name}"
        if importlib.util.find_spec(module):
            importlib.import_module(module).add_commands(subparsers)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code; usage errors leave by `SystemExit`."""
    parser = build_parser()
    args = parser.parse_args(argv)
    try:
        if args.run is None:
            parser.print_help()
            code = 0
        else:
            code = args.run(args)
        sys.stdout.flush()
    except BalsamError as error:
        print(f"balsam: error: {' '.join(str(error).split())}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        # What is still in the buffer must not raise again when Python flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except KeyboardInterrupt:
        return INTERRUPTED
    return int(code)


if __name__ == "__main__":
    sys.exit(main())
