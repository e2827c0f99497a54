"""`balsam launcher`: run the pilot here."""

from __future__ import annotations

import argparse
import math
import signal
from argparse import Namespace

from balsam.cli.context import open_site
from balsam.cli.values import add_launcher_tags, tags
from balsam.errors import InvalidInput


def add_commands(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "launcher",
        help="run jobs on the nodes of this allocation, or on this machine",
        description="Run the pilot: lease jobs of the site and run them as resources allow.",
        epilog="example: balsam launcher --consume-all --time-limit-minutes 60",
    )
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--consume-all", action="store_true", help="run the jobs of all workflows")
    which.add_argument("--wf-filter", metavar="S", help="run jobs whose workflow contains S")
    add_launcher_tags(parser)
    parser.add_argument(
        "--job-mode",
        choices=("auto", "serial", "mpi"),
        default="auto",
        help="serial: only jobs of one rank; auto and mpi: all (default auto)",
    )
    parser.add_argument(
        "--time-limit-minutes",
        type=float,
        default=0.0,
        metavar="T",
        help="end after T minutes (0: with the allocation, when its environment tells)",
    )
    parser.add_argument(
        "--nodes",
        default="",
        metavar="LIST",
        help="hosts, as n1,n2 or n[1-8], or a file of hosts (default: those of the allocation)",
    )
    parser.add_argument(
        *("--limit-nodes", "--num-nodes"),
        type=int,
        default=0,
        metavar="N",
        help="use N of the nodes (0: all)",
    )
    parser.add_argument(
        "--offset-nodes", type=int, default=0, metavar="N", help="leave out the first N nodes (0)"
    )
    parser.add_argument("--gpus-per-node", type=int, metavar="N", help="assume N GPUs on each node")
    parser.add_argument(
        "--num-transition-threads", type=int, metavar="N", help="accepted; hooks run as jobs do"
    )
    parser.add_argument("--persistent", action="store_true", help="wait for new jobs for ever")
    parser.add_argument(
        "--idle-seconds", type=float, metavar="S", help="end after S seconds without work"
    )
    parser.add_argument(
        "--output",
        choices=("directory", "stream"),
        help="stream: keep output in few shared files instead of one for each job",
    )
    parser.add_argument(
        "--owner",
        metavar="USER",
        help="run the jobs of USER, or of 'any' user, with your rights (default: your own jobs)",
    )
    parser.add_argument(
        "--batch-job",
        type=int,
        metavar="ID",
        help="the batch job that this launcher is of (job scripts give it)",
    )
    parser.set_defaults(run=run)


def run(args: Namespace) -> int:
    from balsam.cli.main import INTERRUPTED
    from balsam.config import user_name
    from balsam.launcher.options import why_ended_by
    from balsam.launcher.start import LauncherRequest, run_launcher

    counts = "time_limit_minutes", "gpus_per_node", "limit_nodes", "offset_nodes", "batch_job"
    for option in counts:
        value = getattr(args, option)
        if value is not None and not 0 <= value < math.inf:
            raise InvalidInput(f"--{option.replace('_', '-')} is {value}; give 0 or more")
    owner = args.owner or user_name()
    request = LauncherRequest(
        workflow_filter=args.wf_filter or "",
        tags=tags(args.tag),
        batch_job_id=args.batch_job,
        owner="" if owner == "any" else owner,
        job_mode=args.job_mode,
        time_limit_minutes=args.time_limit_minutes,
        nodes=args.nodes,
        limit_nodes=args.limit_nodes,
        offset_nodes=args.offset_nodes,
        gpus_per_node=args.gpus_per_node,
        persistent=args.persistent,
        idle_seconds=args.idle_seconds,
        output=args.output,
    )
    with open_site(args) as client:
        reason = run_launcher(client, request)
    # As shells say it, so that scripts see that somebody interrupted them. SIGTERM is how batch
    # systems end what has had its time: the launcher then has done its work.
    return INTERRUPTED if reason == why_ended_by(signal.SIGINT) else 0
