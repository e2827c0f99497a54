"""`balsam make_dummies`: jobs that only say hello, to try a site and a launcher."""

from __future__ import annotations

import argparse
from typing import Any

from balsam.cli.context import open_site
from balsam.cli.insertion import BATCH, insert
from balsam.cli.sources import Array
from balsam.errors import InvalidInput
from balsam.model.app import App
from balsam.model.job import Job
from balsam.model.query import Query, parse

NAME = "dummy"


def add_commands(subparsers: Any) -> None:
    """Add `make_dummies`."""
    parser = subparsers.add_parser(
        "make_dummies",
        help="add N jobs that say hello, to try a site",
        epilog="example:\n  balsam make_dummies 100\n  balsam launcher --consume-all",
    )
    parser.add_argument("number", type=int, metavar="N", help="how many")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Add dummy jobs, and their app where it is missing."""
    number: int = args.number
    if number < 1:
        raise InvalidInput(f"the number of jobs is {number}; it must be 1 or more")
    numbers = Array(f"0-{number - 1}")
    with open_site(args) as client:
        if not client.apps(Query(filters=parse({"name": NAME}, "apps"))):
            client.add_app(App(name=NAME, executable="echo", description="says what it is told"))
        batches = (
            [_dummy(i) for i in range(start, min(start + BATCH, numbers.count()))]
            for start in range(0, numbers.count(), BATCH)
        )
        insert(client, batches, number)
    print(f"Added {number} dummy job{'s' if number != 1 else ''} to database")
    return 0


def _dummy(i: int) -> Job:
    return Job(
        name=f"dummy{i}", workflow=NAME, application=NAME, args="hello", node_packing_count=64
    )
