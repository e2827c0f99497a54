"""`balsam queue`: the batch jobs of the site, and the queues of the batch system."""

from __future__ import annotations

import argparse
from typing import Any

from balsam.cli import batch_output, output
from balsam.cli.batch_system import batch_jobs_of, batch_system, refresh
from balsam.cli.context import confirm, open_site, tell, warn
from balsam.cli.logs import count
from balsam.cli.service_status import is_running
from balsam.cli.submit_launch import add_arguments as add_submit_arguments
from balsam.cli.submit_launch import run as run_submit
from balsam.client.interface import Client
from balsam.config import user_name
from balsam.errors import InvalidInput, SchedulerError
from balsam.model.batch_job import WAITING_STATES, BatchJob, BatchState
from balsam.model.query import ALL, Query
from balsam.service import record, submit

COLUMNS = ("id", "scheduler_id", "queue", "num_nodes", "minutes", "state", "time", "message")
EPILOG = """\
examples:
  balsam queue submit -n 2 -t 60 -q debug
  balsam queue ls
  balsam queue logs 3 -f
  balsam queue cancel 3"""


def add_commands(subparsers: Any) -> None:
    """Add `queue` with its verbs."""
    queue = subparsers.add_parser(
        "queue",
        help="batch jobs: list, show, cancel, read what they wrote",
        description="Look at the requests that were made to the batch system, and take them back.",
        epilog=EPILOG,
    )
    verbs = queue.add_subparsers(title="verbs", metavar="VERB", required=True)
    _add_ls(verbs)
    _add_show(verbs)
    _add_logs(verbs)
    _add_cancel(verbs)
    submit = verbs.add_parser(
        "submit",
        help="ask the batch system for nodes (the same as submit-launch)",
        description="Ask the batch system for nodes, with a launcher on them.",
        epilog="example:\n  balsam queue submit -n 2 -t 60 -q debug -A project",
    )
    add_submit_arguments(submit)
    submit.set_defaults(run=run_submit)
    limits = verbs.add_parser(
        "limits",
        help="the queues of the batch system, their limits, and what is free",
        description="Show the queues of the batch system: its limits, what the service may do with"
        " each ([queues.NAME] in the settings), and which nodes are free now.",
        epilog="example:\n  balsam queue limits",
    )
    limits.add_argument("--json", action="store_true", help="print JSON")
    limits.set_defaults(run=run_limits)


def _add_ls(verbs: Any) -> None:
    listing = verbs.add_parser(
        "ls",
        help="list the batch jobs that wait or run",
        description="List the batch jobs that wait or run, after asking the batch system.",
        epilog="example:\n  balsam queue ls --all --json",
    )
    listing.add_argument("-a", "--all", action="store_true", help="also those that have ended")
    listing.add_argument("--json", action="store_true", help="print JSON")
    _add_no_refresh(listing)
    listing.set_defaults(run=run_ls)


def _add_show(verbs: Any) -> None:
    show = verbs.add_parser(
        "show",
        help="everything about a batch job",
        description="Show all fields of a batch job, its launchers, what became of the jobs that"
        " they ran last, and the end of what it wrote.",
        epilog="example:\n  balsam queue show 3",
    )
    show.add_argument("id", metavar="ID", help="id of the batch job")
    show.add_argument("--json", action="store_true", help="print JSON")
    _add_no_refresh(show)
    show.set_defaults(run=run_show)


def _add_logs(verbs: Any) -> None:
    logs = verbs.add_parser(
        "logs",
        help="print what a batch job and its launchers wrote",
        description="Print the output of a batch job's script, and the logs of its launchers.",
        epilog="example:\n  balsam queue logs 3 --follow",
    )
    logs.add_argument("id", metavar="ID", help="id of the batch job")
    logs.add_argument("-f", "--follow", action="store_true", help="go on until it has ended")
    logs.add_argument("--tail", type=count, metavar="N", help="the last N lines of each file")
    logs.set_defaults(run=run_logs)


def _add_cancel(verbs: Any) -> None:
    cancel = verbs.add_parser(
        "cancel",
        help="take batch jobs back, or end them",
        description="Take batch jobs back, or end them. Their launchers end what they run, which"
        " is run again by another, without a charge.",
        epilog="examples:\n  balsam queue cancel 3 4\n  balsam queue cancel --all --yes",
    )
    cancel.add_argument("ids", nargs="*", metavar="ID", help="ids of batch jobs")
    cancel.add_argument("--all", action="store_true", help="all that wait or run")
    cancel.add_argument("--yes", action="store_true", help="do not ask")
    cancel.add_argument("--dry-run", action="store_true", help="only show which they are")
    cancel.set_defaults(run=run_cancel)


def _add_no_refresh(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--no-refresh", action="store_true", help="do not ask the batch system; show the record"
    )


# verbs ------------------------------------------------------------------------------------


def run_ls(args: argparse.Namespace) -> int:
    """List batch jobs."""
    with open_site(args) as client:
        if not args.no_refresh:
            refresh(client)
        found = client.batch_jobs(ALL) if args.all else record.live(client)
        if args.json:
            output.print_json(map(output.batch_job_record, found))
        elif found:
            print(_table(found, client.now()))
        else:
            print("No batch jobs yet." if args.all else "No batch job waits or runs.")
    return 0


def run_show(args: argparse.Namespace) -> int:
    """Show one batch job."""
    with open_site(args) as client:
        (batch_job,) = batch_jobs_of(client, [args.id])
        if batch_job.is_live and not args.no_refresh:
            refresh(client)
            (batch_job,) = batch_jobs_of(client, [args.id])
        if args.json:
            output.print_json(_complete_record(client, batch_job))
        else:
            batch_output.show(client, batch_job)
    return 0


def _complete_record(client: Client, batch_job: BatchJob) -> dict[str, Any]:
    return {
        **output.batch_job_record(batch_job),
        "launchers": [each.id for each in batch_output.launchers_of(client, batch_job)],
        "jobs_by_state": {
            str(state): number
            for state, number in client.state_counts(
                Query().where(batch_job_id=batch_job.id)
            ).items()
        },
    }


def run_logs(args: argparse.Namespace) -> int:
    """Print what a batch job and its launchers wrote."""
    with open_site(args) as client:
        (batch_job,) = batch_jobs_of(client, [args.id])
        if args.follow:
            batch_output.follow(client, batch_job, args.tail)
        else:
            batch_output.print_all(client, batch_job, args.tail)
    return 0


def run_cancel(args: argparse.Namespace) -> int:
    """Cancel batch jobs."""
    if bool(args.ids) == args.all:
        raise InvalidInput("give the ids of the batch jobs to cancel, or --all")
    with open_site(args) as client:
        chosen = record.live(client) if args.all else batch_jobs_of(client, args.ids)
        live = [each for each in chosen if each.is_live]
        ended = [f"{each.id} ({each.state})" for each in chosen if not each.is_live]
        if ended:
            print(f"Ended before: {', '.join(ended)}.")
        if not live:
            print("Cancelled 0 batch jobs.")
            return 0
        if args.dry_run:
            print(_table(live, client.now()))
            print(f"Would cancel {_batch_jobs(len(live))}.")
            return 0
        what = f"batch job {_label(live[0])}" if len(live) == 1 else _batch_jobs(len(live))
        if not confirm(args, f"Really cancel {what}?"):
            print("Nothing was cancelled.")
            return 1
        system = batch_system(client.path)
        foreign = [each for each in live if not system.knows(each)]
        if foreign:
            raise InvalidInput(
                f"batch job {_label(foreign[0])} was submitted to {foreign[0].scheduler} on"
                f" {foreign[0].host}, and the batch system here is {system.scheduler.name}; cancel"
                " it there. Nothing was cancelled"
            )
        reason = f"cancelled by {user_name()}"
        submit.cancel(client, system.scheduler, system.run, live, reason)
        service = client.service()
        if service is not None and is_running(service, client.now()) and service.status.elastic:
            tell(
                "the service runs, and asks for nodes again as long as jobs wait;"
                " `balsam service stop` stops it"
            )
    print(f"Cancelled {_batch_jobs(len(live))}.")
    return 0


def run_limits(args: argparse.Namespace) -> int:
    """Show the queues."""
    from balsam.cli import queue_limits

    with open_site(args) as client:
        system = batch_system(client.path)
    queues = system.scheduler.queues(system.run)
    try:
        windows = system.scheduler.windows(system.run)
    except SchedulerError as error:
        warn(f"what is free cannot be told: {error}")
        windows = []
    records = queue_limits.records(queues, windows, system.settings)
    if args.json:
        output.print_json(records)
    elif records:
        print(f"Batch system: {system.scheduler.name}\n")
        print(queue_limits.as_table(records))
    else:
        print(f"{system.scheduler.name} tells of no queues.")
    return 0


# words ------------------------------------------------------------------------------------


def _batch_jobs(number: int) -> str:
    return f"{number} batch job{'s' if number != 1 else ''}"


def _label(batch_job: BatchJob) -> str:
    known = f", {batch_job.scheduler} {batch_job.scheduler_id}" if batch_job.scheduler_id else ""
    return f"{batch_job.id} ({batch_job.state}{known})"


def _table(batch_jobs: list[BatchJob], now: float) -> str:
    rows = [
        (
            each.id,
            each.scheduler_id,
            each.queue,
            each.num_nodes,
            f"{each.wall_time_minutes:g}",
            each.state,
            time_words(each, now),
            message_words(each, now),
        )
        for each in batch_jobs
    ]
    return output.table(COLUMNS, rows)


def time_words(batch_job: BatchJob, now: float) -> str:
    """Return since when it waits or runs, or when it ended, in words."""
    if batch_job.ended_at is not None:
        return f"ended {output.duration(now - batch_job.ended_at)} ago"
    if batch_job.state in WAITING_STATES:
        since = batch_job.submitted_at or batch_job.created_at
        return f"waits {output.duration(now - since)}"
    if batch_job.started_at is not None and batch_job.is_live:
        return f"runs {output.duration(now - batch_job.started_at)}"
    return ""


def message_words(batch_job: BatchJob, now: float) -> str:
    """Return why it waits or how it ended, when it may start, and the scheduler's word if odd."""
    parts = [batch_job.message]
    if batch_job.state is BatchState.UNKNOWN:
        parts.insert(0, f"the scheduler says {batch_job.scheduler_state!r}")
    if batch_job.cancel_reason and batch_job.is_live:
        parts.append(f"to be cancelled: {batch_job.cancel_reason}")
    if batch_job.state in WAITING_STATES and (batch_job.starts_at or 0) > now:
        parts.append(f"may start in {output.duration((batch_job.starts_at or now) - now)}")
    return "; ".join(filter(None, parts))
