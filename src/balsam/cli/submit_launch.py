"""`balsam submit-launch`: ask the batch system for nodes, with a launcher on them."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path
from pprint import pformat
from tempfile import TemporaryDirectory
from typing import Any

from msgspec.structs import replace

from balsam.cli import output, preflight
from balsam.cli.batch_system import BatchSystem, batch_system
from balsam.cli.context import open_site, tell, warn
from balsam.cli.selectors import tag_filter
from balsam.cli.values import add_launcher_tags, tags
from balsam.client.interface import Client
from balsam.config import user_name
from balsam.errors import SchedulerAway, SchedulerError
from balsam.model.batch_job import BatchJob
from balsam.model.query import Query
from balsam.model.states import END_STATES, STATES
from balsam.model.walltime import LAST_SECONDS, time_limit
from balsam.schedulers.scheduler import Answer, Run, Submission
from balsam.service import script, submit

#: Jobs of each kind that are looked at for warnings.
LOOK_AT = 10_000
EPILOG = """\
What a queue does not allow is refused; jobs that could not run in it are warned of. The script
comes from the site's job-template.sh, and is kept in its directory qsubmit.

examples:
  balsam submit-launch -n 2 -q debug -t 60 -A project --job-mode mpi
  balsam submit-launch -n 1 -t 30 --wf-filter alloys --sched-flags="--constraint=gpu" --dry-run"""


def add_commands(subparsers: Any) -> None:
    """Add `submit-launch`."""
    parser = subparsers.add_parser(
        "submit-launch",
        help="ask the batch system for nodes, with a launcher on them",
        description="Submit a batch job: a request for nodes and time, with a launcher on them.",
        epilog=EPILOG,
    )
    add_arguments(parser)
    parser.set_defaults(run=run)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what describes one request for nodes."""
    parser.add_argument(
        "-n", "--nodes", type=int, required=True, metavar="N", help="how many nodes"
    )
    parser.add_argument(
        *("-t", "--time-minutes"),
        type=float,
        required=True,
        metavar="T",
        help="walltime in minutes",
    )
    parser.add_argument(
        *("-q", "--queue"), default="", help="the queue (default: scheduler.queue of the settings)"
    )
    parser.add_argument(
        *("-A", "--project"), default="", help="who pays (default: scheduler.project)"
    )
    parser.add_argument(
        "--job-mode",
        choices=submit.JOB_MODES,
        default="auto",
        help="serial: only jobs of one rank; auto and mpi: all (default auto)",
    )
    parser.add_argument(
        "--wf-filter", default="", metavar="S", help="run jobs whose workflow contains S"
    )
    add_launcher_tags(parser)
    parser.add_argument(
        "--sched-flags",
        default="",
        metavar="WORDS",
        help="further words for the batch system, in quotes, after those of scheduler.flags",
    )
    parser.add_argument(
        "--no-check", action="store_true", help="do not compare it with the queue's limits"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="print the script and the command; submit nothing"
    )
    parser.add_argument("--json", action="store_true", help="print the batch job as JSON")


def run(args: argparse.Namespace) -> int:
    """Submit one batch job."""
    request = submit.BatchRequest(
        num_nodes=args.nodes,
        wall_time_minutes=args.time_minutes,
        queue=args.queue,
        project=args.project,
        job_mode=args.job_mode,
        wf_filter=args.wf_filter,
        tags=tags(args.tag),
        scheduler_flags=args.sched_flags,
    )
    with open_site(args) as client:
        system = batch_system(client.path)
        if system.is_a_guess:
            tell(
                "no batch system was found here: this machine runs it itself (say so for good by"
                ' scheduler.name = "local" in the site\'s settings, or name the batch system there)'
            )
        new = submit.prepare(client, system.settings, system.scheduler, request)
        if not args.no_check:
            _check(client, system, new)
        if args.dry_run:
            _print_dry(args, client, system, new)
            return 0
        done = submit.submit(
            client,
            system.settings,
            system.scheduler,
            system.run,
            new,
            budget=system.settings.service.budget_node_hours,
        )
    if args.json:
        output.print_json(output.batch_job_record(done))
    else:
        print(f"Submit OK: Qlaunch {pformat(_as_before(done), indent=4)}")
    return 0


def _as_before(done: BatchJob) -> dict[str, Any]:
    """Return what Balsam 0.x told of a batch job, by its names."""
    minutes = done.wall_time_minutes
    return {
        "command": done.script,
        "from_balsam": True,
        "id": done.id,
        "job_mode": done.job_mode,
        "nodes": done.num_nodes,
        "prescheduled_only": False,
        "project": done.project,
        "queue": done.queue,
        "sched_flags": done.scheduler_flags,
        "scheduler_id": done.scheduler_id,
        "state": str(done.state),
        "wall_minutes": int(minutes) if minutes.is_integer() else minutes,
        "wf_filter": done.wf_filter,
    }


# before ---------------------------------------------------------------------------------


def _check(client: Client, system: BatchSystem, new: BatchJob) -> None:
    """Refuse what the queue would not take; warn of what no job could use.

    A batch system that does not tell its queues refuses what it does not take by itself.
    """
    try:
        queues = system.scheduler.queues(system.run)
    except SchedulerError as error:
        warn(f"the limits of the queue are not known: {error}")
        queues = []
    chosen = preflight.queues_of(new, queues)
    preflight.check_limits(new, chosen)
    for line in preflight.doubts(new, chosen):
        warn(line)
    minutes = time_limit(new.wall_time_minutes) - _last_minutes(system)
    if hindrance := _hindrance(client, new, minutes):
        warn(hindrance)


def _last_minutes(system: BatchSystem) -> float:
    """Return the minutes at its end in which a launcher runs nothing."""
    return (system.settings.launcher.grace_seconds + LAST_SECONDS) / 60


def _hindrance(client: Client, new: BatchJob, minutes: float) -> str:
    """Return why no job, or not every one, could use *new*; '' when nothing is known."""
    live = [str(state) for state in STATES if state not in END_STATES]
    wanted = Query().where(owner=user_name(), state__in=live)
    if new.wf_filter:
        wanted = wanted.where(workflow__contains=new.wf_filter)
    for key, value in new.tags.items():
        wanted = replace(wanted, filters=(*wanted.filters, tag_filter(f"{key}={value}")))
    if not client.count_jobs(wanted):
        return preflight.usable(new, [], minutes)
    if new.tags:  # classes of jobs have none
        return ""
    waiting = client.waiting(LOOK_AT, by_workflow=bool(new.wf_filter))
    mine = [
        each for each in waiting if each.owner == user_name() and new.wf_filter in each.workflow
    ]
    return preflight.usable(new, mine, minutes) if mine else ""  # they are far back in the queue


# a dry run ------------------------------------------------------------------------------


class _Heard(SchedulerAway):
    """The command of a submission was heard, and not run."""


class _Overheard:
    """A `Run` that does not run the submission of *script*, and keeps its command.

    What an adapter asks before is run.
    """

    def __init__(self, run: Run, script: str) -> None:
        self._run, self._script = run, script
        self.argv: tuple[str, ...] = ()
        self.takes_script = False  #: on its standard input

    def __call__(self, argv: Sequence[str], stdin: str = "") -> Answer:
        if not stdin and not any(self._script in word for word in argv):
            return self._run(argv)
        self.argv, self.takes_script = tuple(argv), bool(stdin)
        raise _Heard("this is a dry run")


def _print_dry(
    args: argparse.Namespace, client: Client, system: BatchSystem, new: BatchJob
) -> None:
    new = replace(new, id=0)
    text = submit.script_text(client, system.settings, system.scheduler, new)
    nodes = system.settings.nodes
    asked = script.submission(client.path, new, nodes.cores, max(0, nodes.gpus))
    command = _command(system, asked, text)
    if args.json:
        output.print_json({**output.batch_job_record(new), "script_text": text, "command": command})
        return
    tell("this is a dry run: nothing is submitted, and the batch job has no number yet (0)")
    print(f"# {asked.script}\n{text.rstrip()}\n\n# command\n{command}")


def _command(system: BatchSystem, asked: Submission, text: str) -> str:
    """Return the command by which the adapter would submit, as a shell would be given it."""
    with TemporaryDirectory(prefix="balsam-dry-run-") as directory:
        aside = Path(directory) / Path(asked.script).name
        aside.write_text(text)
        overheard = _Overheard(system.run, str(aside))
        try:
            system.scheduler.submit(overheard, replace(asked, script=str(aside)))
        except _Heard:
            pass
    words = [word.replace(str(aside), asked.script) for word in overheard.argv]
    given = f" < {shlex.quote(asked.script)}" if overheard.takes_script else ""
    return f"{shlex.join(words)}{given}"
