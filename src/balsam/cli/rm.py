"""`balsam rm`: remove jobs or apps from the database."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from balsam.cli.app import one_app
from balsam.cli.context import confirm, open_site
from balsam.cli.selectors import add_selectors, query
from balsam.client.interface import Client
from balsam.errors import InvalidInput, NotFound
from balsam.model.query import Query, parse

OBJECTS = {"jobs": "job", "job": "job", "apps": "app", "app": "app"}

EXAMPLES = """\
Job directories and files stay. Jobs of a removed app stay and fail when they are to run.

examples:
  balsam rm jobs --name sim_00 --wf-filter scan
  balsam rm jobs --state FAILED --dry-run
  balsam rm apps --all --force
"""


def add_commands(subparsers: Any) -> None:
    """Add `rm`."""
    parser = subparsers.add_parser("rm", help="remove jobs or apps", epilog=EXAMPLES)
    parser.add_argument("objects", choices=list(OBJECTS), help="what to remove")
    add_selectors(parser, positional=False, require_choice=True)
    parser.add_argument("--wf-filter", metavar="WORKFLOW", help="only jobs of exactly this one")
    parser.add_argument("--force", "--yes", dest="yes", action="store_true", help="do not ask")
    parser.add_argument("--dry-run", action="store_true", help="list them, remove nothing")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Remove jobs or apps."""
    noun = OBJECTS[args.objects]
    if sum((args.name is not None, args.id is not None, args.all)) > 1:
        raise InvalidInput("--name, --id and --all exclude each other; give one")
    required = not args.all
    with open_site(args) as client:
        selected = _jobs(args, client) if noun == "job" else _apps(args, client)
        count = client.count_jobs(selected) if noun == "job" else len(client.apps(selected))
        if required and not count:
            raise NotFound(f"no {noun} matches; `balsam ls {noun}s` shows what there is")
        what = f"{count} {noun}{'s' if count != 1 else ''}"
        if args.dry_run:
            for line in _listed(client, selected, noun):
                print(line)
            print(f"Would remove {what}; nothing was changed.")
            return 0
        if not confirm(args, f"PERMANENTLY remove {what}?"):
            print("Nothing was removed.")
            return 1
        remove = client.delete_jobs if noun == "job" else client.delete_apps
        removed = remove(selected)
    print(f"Deleted. {removed} {noun}{'s' if removed != 1 else ''} removed.")
    return 0


def _jobs(args: argparse.Namespace, client: Client) -> Query:
    if args.wf_filter is None:
        return query(args, client)
    everything = not (args.name or args.id or args.state or args.wf or args.tag or args.filter)
    args.all = args.all or everything
    return query(args, client).where(workflow=args.wf_filter)


def _apps(args: argparse.Namespace, client: Client) -> Query:
    if args.state or args.wf or args.tag or args.filter or args.wf_filter:
        raise InvalidInput("apps are selected by --name, --id or --all; leave the rest out")
    if args.all:
        return Query()
    if args.id is not None:
        return Query(filters=parse({"id": one_app(client, args.id).id}, "apps"))
    if not args.name:
        raise InvalidInput("say which apps: --name, --id or --all")
    return Query(filters=parse({"name__icontains": args.name}, "apps"))


def _listed(client: Client, selected: Query, noun: str) -> Iterator[str]:
    if noun == "app":
        yield from (f"{app.id}  {app.name}  {app.executable}" for app in client.apps(selected))
        return
    for job in client.iterate_jobs(selected, ["name", "workflow", "state"]):
        yield f"{job.id}  {job.name}  {job.workflow}  {job.state}"
