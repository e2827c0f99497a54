"""`balsam rerun`: start jobs that have ended from the beginning."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from balsam.cli.context import open_site
from balsam.cli.output import job_record, print_json
from balsam.cli.selectors import add_selectors, query
from balsam.errors import NotFound
from balsam.model.query import Query
from balsam.model.states import END_STATES


def add_commands(subparsers: Any) -> None:
    """Add `rerun`."""
    parser = subparsers.add_parser(
        "rerun",
        help="start jobs that have ended from the beginning",
        epilog="Jobs that have not ended are left alone.\n\n"
        "examples:\n  balsam rerun --state FAILED --wf scan\n  balsam rerun 12 15 --dry-run",
    )
    add_selectors(parser, require_choice=True)
    parser.add_argument("--dry-run", action="store_true", help="list them, change nothing")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Start ended jobs again."""
    with open_site(args) as client:
        selected = query(args, client)
        if not client.count_jobs(selected):
            raise NotFound("no job matches; `balsam ls` with the same selection shows what does")
        ended: Query = selected.where(state__in=list(END_STATES))
        if args.dry_run and args.json:
            print_json(job_record(job) for job in client.iterate_jobs(ended))
            return 0
        if args.dry_run:
            count = 0
            for job in client.iterate_jobs(ended, ["name", "workflow", "state"]):
                print(f"{job.id}  {job.name}  {job.workflow}  {job.state}")
                count += 1
            print(f"Would run {_jobs(count)} again; nothing was changed.")
            return 0
        count = client.rerun_jobs(selected)
    if args.json:
        print_json({"rerun": count})
    else:
        print(f"{_jobs(count)} will run again.")
    if not count:
        print("None of the selected jobs had ended.", file=sys.stderr)
    return 0


def _jobs(count: int) -> str:
    return f"{count} job{'s' if count != 1 else ''}"
