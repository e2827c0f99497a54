"""`balsam dep`: make one job wait for another."""

from __future__ import annotations

import argparse
from typing import Any

from balsam.cli.context import open_site
from balsam.cli.selectors import one_job
from balsam.client.interface import Client
from balsam.model.graph import Kind
from balsam.model.job import Job


def add_commands(subparsers: Any) -> None:
    """Add `dep`."""
    parser = subparsers.add_parser(
        "dep",
        help="make a job wait for another",
        epilog="example:\n  balsam dep 12 15               15 starts after 12 has finished\n"
        "  balsam dep 12 16 --kind fail   16 starts only if 12 fails",
    )
    parser.add_argument("parent", metavar="PARENT", help="id of the job to wait for")
    parser.add_argument("child", metavar="CHILD", help="id of the job that waits")
    parser.add_argument(
        "--kind",
        choices=[kind.value for kind in Kind],
        default=Kind.OK.value,
        help="the parent must finish (ok, the default), fail, or end in any way",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Add a dependency."""
    with open_site(args) as client:
        parent, child = one_job(client, args.parent), one_job(client, args.child)
        client.add_dependency(parent.id or 0, child.id or 0, Kind(args.kind))
        print(f"Created link {label(client, parent)} --> {label(client, child)}")
    return 0


def label(client: Client, job: Job) -> str:
    """Return ``[name | 8 hex]``, as logs and messages call a job."""
    return f"[{job.name} | {client.identity.short(job.id or 0)}]"
