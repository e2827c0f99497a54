"""`balsam completion`: the script that completes verbs and options in a shell."""

from __future__ import annotations

import argparse
from typing import Any

SHELLS = ("bash", "zsh", "tcsh")


def add_commands(subparsers: Any) -> None:
    """Add `completion`."""
    parser = subparsers.add_parser(
        "completion",
        help="print the completion script of a shell",
        description="Print a script that completes verbs and options in a shell.",
        epilog='example:\n  eval "$(balsam completion bash)"',
    )
    parser.add_argument("shell", choices=SHELLS, help="the shell to complete in")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the completion script of one shell."""
    import shtab

    from balsam.cli.main import build_parser

    print(shtab.complete(build_parser(), args.shell))
    return 0
