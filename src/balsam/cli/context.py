"""What every verb needs of its surroundings: the site, the user's yes, the user's ear."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from balsam import config
from balsam.client.interface import Client
from balsam.errors import NeedsAnswer, SiteError


@contextmanager
def open_site(args: argparse.Namespace) -> Iterator[Client]:
    """Yield a client of the site that the command line or its surroundings name.

    The site is remembered among the user's known ones.

    Raises
    ------
    SiteError
        There is no site, or more than one matches.
    StoreError
        Its database cannot be used.
    """
    from balsam.client.connect import open_client

    path = config.find_site(args.site)
    client = open_client(path, tell)
    try:
        remember(path)
        yield client
    finally:
        client.close()


def site_or_none(args: argparse.Namespace) -> Path | None:
    """Return the site, or None where there is none and none was asked for."""
    try:
        return config.find_site(args.site)
    except SiteError:
        if args.site is not None:
            raise
        return None


def remember(site: Path) -> None:
    """Add *site* to the user's known sites, if the home can be written."""
    try:
        config.remember_site(site)
    except OSError:
        pass  # work on a site, named by its path, needs no home


def confirm(args: argparse.Namespace, question: str) -> bool:
    """Ask *question* and return whether the answer is yes; ``--yes`` answers beforehand.

    The question goes to standard error, so that standard output stays what the verb
    prints. The answer is read from standard input, terminal or not.

    Raises
    ------
    NeedsAnswer
        Standard input ends before there is an answer.
    """
    if getattr(args, "yes", False):
        return True
    while True:
        print(f"{question} [y/n]: ", end="", file=sys.stderr, flush=True)
        line = sys.stdin.readline() if sys.stdin else ""
        if not line:
            print(file=sys.stderr)
            raise NeedsAnswer(f"no answer to {question!r} on standard input; add --yes to go ahead")
        answer = line.strip().lower()
        if answer in ("y", "yes"):
            return True
        if answer in ("n", "no"):
            return False


def tell(text: str) -> None:
    """Tell the user on standard error what Balsam does beside what was asked."""
    print(f"balsam: {text}", file=sys.stderr, flush=True)


def warn(text: str) -> None:
    """Tell the user *text* on standard error."""
    print(f"balsam: warning: {text}", file=sys.stderr)
