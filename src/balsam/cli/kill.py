"""`balsam kill` (0.x: `killjob`): stop jobs for good."""

from __future__ import annotations

import argparse
from typing import Any

from balsam.cli.context import confirm, open_site
from balsam.cli.dep import label
from balsam.cli.selectors import add_selectors, query
from balsam.errors import NotFound


def add_commands(subparsers: Any) -> None:
    """Add `kill` and `killjob`."""
    for verb in ("kill", "killjob"):
        parser = subparsers.add_parser(
            verb,
            help="stop jobs for good" if verb == "kill" else "the same as kill",
            epilog="Processes of running jobs are ended by their launcher at once.\n\n"
            f"examples:\n  balsam {verb} --id 12\n"
            f"  balsam {verb} --wf scan --state RUNNING --recursive --yes",
        )
        add_selectors(parser, require_choice=True)
        parser.add_argument("--recursive", action="store_true", help="also all that depend on them")
        parser.add_argument("--yes", action="store_true", help="do not ask")
        parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Kill jobs."""
    with open_site(args) as client:
        selected = query(args, client)
        count = client.count_jobs(selected)
        if not count:
            raise NotFound("no job matches; `balsam ls` with the same selection shows what does")
        if count == 1:
            what = f"job {label(client, client.jobs(selected, ['name'])[0])}"
        else:
            what = f"{count} jobs"
        family = " and all that depend on them" if args.recursive else ""
        if not confirm(args, f"Really kill {what}{family}?"):
            print("Nothing was killed.")
            return 1
        killed = len(client.kill_jobs(selected, recursive=args.recursive))
    if killed:
        print(f"Killed {killed} job{'s' if killed != 1 else ''}.")
    else:
        print("Killed 0 jobs: what was selected had ended before.")
    return 0
