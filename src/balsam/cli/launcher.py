"""`balsam launcher`: run the pilot here."""

from __future__ import annotations

import argparse
from argparse import Namespace

from balsam.cli.context import open_site
from balsam.errors import InvalidInput


def add_commands(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "launcher",
        help="run jobs on this machine",
        description="Run the pilot: lease jobs of the site and run them as resources allow.",
        epilog="example: balsam launcher --consume-all --time-limit-minutes 60",
    )
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--consume-all", action="store_true", help="run the jobs of all workflows")
    which.add_argument("--wf-filter", metavar="S", help="run jobs whose workflow contains S")
    parser.add_argument(
        "--job-mode",
        choices=("auto", "serial", "mpi"),
        default="auto",
        help="serial: only jobs of one rank; auto and mpi: all (default auto)",
    )
    parser.add_argument(
        "--time-limit-minutes", type=float, default=0.0, metavar="T", help="end after T minutes"
    )
    parser.add_argument("--gpus-per-node", type=int, metavar="N", help="assume N GPUs")
    parser.add_argument(
        "--num-nodes", "--limit-nodes", type=int, default=1, metavar="N", help="nodes to use (1)"
    )
    parser.add_argument(
        "--offset-nodes", type=int, default=0, metavar="N", help="nodes to leave out first (0)"
    )
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
    parser.set_defaults(run=run)


def run(args: Namespace) -> int:
    from balsam.config import user_name
    from balsam.launcher.start import LauncherRequest, run_launcher

    if args.time_limit_minutes < 0:
        raise InvalidInput(f"--time-limit-minutes is {args.time_limit_minutes}; give 0 or more")
    if args.gpus_per_node is not None and args.gpus_per_node < 0:
        raise InvalidInput(f"--gpus-per-node is {args.gpus_per_node}; give 0 or more")
    if args.num_nodes != 1:
        raise InvalidInput(f"--num-nodes is {args.num_nodes}; this launcher runs on one node")
    if args.offset_nodes != 0:
        raise InvalidInput(f"--offset-nodes is {args.offset_nodes}; this launcher runs on one node")
    owner = args.owner or user_name()
    request = LauncherRequest(
        workflow_filter=args.wf_filter or "",
        owner="" if owner == "any" else owner,
        job_mode=args.job_mode,
        time_limit_minutes=args.time_limit_minutes,
        gpus_per_node=args.gpus_per_node,
        persistent=args.persistent,
        idle_seconds=args.idle_seconds,
        output=args.output,
    )
    with open_site(args) as client:
        run_launcher(client, request)
    return 0
