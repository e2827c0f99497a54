"""`balsam import`: a workflow file of WfCommons becomes a campaign."""

from __future__ import annotations

import argparse
import math
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from balsam.cli.context import open_site, warn
from balsam.cli.insertion import Span, insert, spelled
from balsam.cli.output import print_json
from balsam.client.interface import Client
from balsam.errors import AlreadyExists, BalsamError, CyclicDependency, InvalidInput
from balsam.model.query import ALL, Query, parse

if TYPE_CHECKING:
    from balsam.model.app import App
    from balsam.wfformat.campaign import Campaign
    from balsam.wfformat.workflow import Workflow

EPILOG = """\
FILE is WfFormat 1.4, 1.5 or 1.6, the JSON of https://wfcommons.org: recorded workflows, or made by
its generators. Each task becomes a job that waits for its parents and asks for the cores and the
memory that the file tells of; the task's id is in the tag `task`. Nothing is added when anything
in the file is wrong.

examples:
  balsam import montage.json --dry-run
  balsam import montage.json --scale-time 0.001 --scale-size 0.01
  balsam import pipeline.json --commands --directory /project/run1 --workflow run1
"""


def add_commands(subparsers: Any) -> None:
    """Add `import`."""
    parser = subparsers.add_parser(
        "import", help="make a campaign of a WfCommons workflow file", epilog=EPILOG
    )
    parser.add_argument("file", metavar="FILE", help="the file; - is standard input")
    parser.add_argument(
        "--workflow", "--wf", default="", metavar="NAME", help="default: the name in the file"
    )
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument(
        "--synthetic",
        action="store_true",
        help="jobs use CPU for the time that the tasks took, check that their input files are"
        " there and write output files (the default)",
    )
    kind.add_argument("--commands", action="store_true", help="run the commands of the file")
    parser.add_argument(
        "--directory",
        metavar="DIR",
        help="where the commands run and their files are (default: the directory of FILE)",
    )
    parser.add_argument(
        "--scale-time", type=_factor, default=1.0, metavar="FACTOR", help="multiply all run times"
    )
    parser.add_argument(
        "--scale-size", type=_factor, default=1.0, metavar="FACTOR", help="multiply sizes of files"
    )
    parser.add_argument(
        "--no-resources",
        action="store_true",
        help="let each job ask for one core, whatever the file says",
    )
    parser.add_argument("--dry-run", action="store_true", help="only tell what would be added")
    parser.add_argument("--json", action="store_true", help="tell it as JSON")
    parser.set_defaults(run=run)


def _factor(text: str) -> float:
    try:
        factor = float(text)
    except ValueError:
        factor = -1.0
    if not 0 <= factor < math.inf:
        raise argparse.ArgumentTypeError(f"a factor is a number from 0, not {text!r}")
    return factor


def run(args: argparse.Namespace) -> int:
    """Import a file."""
    workflow = _read(args.file)
    campaign = _campaign(args, workflow)
    with open_site(args) as client:
        new_apps = _check_site(client, campaign)
        for note in campaign.notes:
            warn(note)
        _warn_of_large_jobs(client, campaign)
        spans = [] if args.dry_run else _add(client, campaign, new_apps)
    if args.json:
        print_json(_record(workflow, campaign, spans, args.dry_run))
        return 0
    print(_summary(workflow, campaign))
    if args.dry_run:
        print(f"Would add {len(campaign.jobs)} jobs; nothing was added.")
    else:
        print(f"Added {len(campaign.jobs)} jobs to database: {spelled(spans)}")
    return 0


def _read(file: str) -> Workflow:
    from balsam.wfformat.workflow import read

    name = _called(file)
    try:
        content = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise InvalidInput(f"{name}: cannot be read: {error.strerror}") from error
    try:
        return read(content)
    except (InvalidInput, CyclicDependency) as error:
        raise type(error)(f"{name}: {error}") from error


def _called(file: str) -> str:
    return "standard input" if file == "-" else file


def _campaign(args: argparse.Namespace, workflow: Workflow) -> Campaign:
    from balsam.wfformat import campaign

    scale = campaign.Scale(
        time=args.scale_time, size=args.scale_size, resources=not args.no_resources
    )
    if args.directory and not args.commands:
        raise InvalidInput("--directory is for --commands; synthetic jobs have one in the site")
    try:
        if not args.commands:
            return campaign.synthetic(workflow, args.workflow, scale, sys.executable)
        directory = Path(args.directory or os.path.dirname(args.file) or ".").absolute()
        if not directory.is_dir():
            raise InvalidInput(f"--directory {directory}: there is no such directory")
        return campaign.commands(workflow, args.workflow, scale, directory)
    except InvalidInput as error:
        error.args = (f"{_called(args.file)}: {error}",)
        raise


def _check_site(client: Client, campaign: Campaign) -> list[App]:
    """Return the apps that are to be added.

    Raises
    ------
    AlreadyExists
        The workflow has jobs, whose files the new ones would overwrite, or one of the apps'
        names is that of another program.
    """
    choose = "choose another name with --workflow"
    name = campaign.workflow
    count = client.count_jobs(Query(filters=parse({"workflow": name})))
    if count:
        raise AlreadyExists(f"workflow {name!r} has {count} jobs already; {choose}")
    known = {app.name: app for app in client.apps(ALL)}
    for app in campaign.apps:
        if app.name in known and known[app.name].executable != app.executable:
            raise AlreadyExists(
                f"app {app.name!r} is there already and runs something else; {choose}"
            )
    return [app for app in campaign.apps if app.name not in known]


def _warn_of_large_jobs(client: Client, campaign: Campaign) -> None:
    """Tell of jobs that wait for larger nodes than were ever seen."""
    launchers = client.launchers(live=False)
    cores = max([os.cpu_count() or 1, *(launcher.cores for launcher in launchers)])
    large = [job for job in campaign.jobs if job.threads_per_rank > cores]
    if large:
        warn(
            f"{len(large)} jobs ask for up to {max(job.threads_per_rank for job in large)} cores,"
            f" and the largest node known here has {cores}: they wait for a launcher with a larger"
            " one (--no-resources lets each ask for one core)"
        )


def _add(client: Client, campaign: Campaign, apps: list[App]) -> list[Span]:
    """Add all or nothing."""
    added: list[str] = []
    try:
        for app in apps:
            client.add_app(app)
            added.append(app.name)
        return insert(client, [campaign.jobs], len(campaign.jobs))
    except (BalsamError, KeyboardInterrupt):
        if added:
            client.delete_apps(Query(filters=parse({"name__in": added}, "apps")))
        raise


def _record(
    workflow: Workflow, campaign: Campaign, spans: list[Span], dry_run: bool
) -> dict[str, Any]:
    return {
        "workflow": campaign.workflow,
        "schema_version": workflow.version,
        "jobs": len(campaign.jobs),
        "dependencies": sum(len(job.parents) for job in campaign.jobs),
        "apps": [app.name for app in campaign.apps],
        "files": len(workflow.sizes),
        "file_bytes": sum(workflow.sizes.values()),
        "core_seconds": sum(task.seconds * task.cores for task in workflow.tasks),
        "added": not dry_run,
        "ids": [list(span) for span in spans],
        "notes": campaign.notes,
    }


def _summary(workflow: Workflow, campaign: Campaign) -> str:
    found = _record(workflow, campaign, [], dry_run=True)
    return (
        f"Workflow {campaign.workflow} (WfFormat {workflow.version}): {found['jobs']} tasks of"
        f" {len(campaign.apps)} apps, {found['dependencies']} dependencies, {found['files']} files;"
        f" in the file {found['file_bytes'] / 1e9:.3g} GB and"
        f" {found['core_seconds'] / 3600:.3g} core hours"
    )
