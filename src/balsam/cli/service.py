"""`balsam service`: the daemon that asks for nodes, and watches over the site."""

from __future__ import annotations

import argparse
import os
import signal
import socket
import time
from typing import Any

from balsam import config
from balsam.cli import service_plan, service_status
from balsam.cli.batch_system import batch_system
from balsam.cli.context import confirm, open_site, tell
from balsam.cli.output import print_json
from balsam.client.interface import Client
from balsam.config import user_name
from balsam.lifecycle.recover import process_start
from balsam.model.service import ServiceInfo
from balsam.service import background, daemon, record, submit

#: What `systemctl status` says of what does not run.
NOT_RUNNING = 3
#: Seconds between two looks at whether it has ended.
LOOK = 0.2
EPILOG = """\
`balsam service` alone starts it. One service runs on a site at a time.

examples:
  balsam service plan
  balsam service start && balsam service status
  balsam service stop --cancel-batch-jobs"""


def add_commands(subparsers: Any) -> None:
    """Add `service` with its verbs."""
    service = subparsers.add_parser(
        "service",
        help="the daemon that asks for nodes as the work needs them",
        description="Start, stop and look at the site's service. It asks the batch system for nodes"
        " as the jobs that wait need them, watches batch jobs, and takes back what dead launchers"
        " had.",
        epilog=EPILOG,
    )
    service.set_defaults(run=run_start)
    verbs = service.add_subparsers(title="verbs", metavar="VERB")
    start = verbs.add_parser(
        "start",
        help="start it in the background",
        description="Start the service in the background; print its process id and its log.",
        epilog="example:\n  balsam service start",
    )
    start.set_defaults(run=run_start)
    run = verbs.add_parser(
        "run",
        help="run it here, in the foreground",
        description="Run the service here until it is stopped (Ctrl-C, SIGTERM, or `service"
        " stop`), and print what happens.",
        epilog="example:\n  balsam service run",
    )
    run.set_defaults(run=run_foreground)
    _add_stop(verbs)
    status = verbs.add_parser(
        "status",
        help="whether it runs, what it knows, what it waits for",
        description="Show whether the service runs, and what it last knew: queues, batch jobs,"
        " budget, jobs for which it asks for no nodes. The batch system is not asked.",
        epilog=f"Exit code: 0 it runs, {NOT_RUNNING} it does not.\n\n"
        "example:\n  balsam service status --json",
    )
    status.add_argument("--json", action="store_true", help="print JSON")
    status.set_defaults(run=run_status)
    plan = verbs.add_parser(
        "plan",
        help="what it would ask for now, and why; asks for nothing",
        description="Show which batch jobs the service would submit now, and why; which it would"
        " take back; and which jobs it could do nothing for. Works without a running service,"
        " and changes nothing.",
        epilog="example:\n  balsam service plan --json",
    )
    plan.add_argument("--json", action="store_true", help="print JSON")
    plan.set_defaults(run=run_plan)


def _add_stop(verbs: Any) -> None:
    stop = verbs.add_parser(
        "stop",
        help="stop it, and wait until it has ended",
        description="Stop the service, wherever it runs, and wait until it has ended. Batch jobs go"
        " on, unless they are to be cancelled.",
        epilog="example:\n  balsam service stop --cancel-batch-jobs --yes",
    )
    stop.add_argument(
        "--cancel-batch-jobs", action="store_true", help="also cancel the batch jobs it asked for"
    )
    stop.add_argument("--yes", action="store_true", help="do not ask")
    stop.set_defaults(run=run_stop)


# verbs ------------------------------------------------------------------------------------


def run_start(args: argparse.Namespace) -> int:
    """Start the service."""
    with open_site(args) as client:
        started = background.start(client)
        file = background.log_file(client.path)
    print(f"Started the Balsam service [{started.pid}]; its log: {file}")
    return 0


def run_foreground(args: argparse.Namespace) -> int:
    """Run the service here."""
    with open_site(args) as client:
        reason = daemon.run(client, _say)
    _say(f"the service ended: {reason}")
    return 0


def _say(text: str) -> None:
    print(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}", flush=True)


def run_plan(args: argparse.Namespace) -> int:
    """Show what the service would do."""
    with open_site(args) as client:
        system = batch_system(client.path)
        found = service_plan.forecast(client, system)
    if args.json:
        print_json(service_plan.as_record(found, system))
    else:
        print(service_plan.as_text(found, system))
    return 0


def run_status(args: argparse.Namespace) -> int:
    """Show the service."""
    with open_site(args) as client:
        facts = service_status.gather(client, config.load(client.path))
    if args.json:
        print_json(service_status.as_record(facts))
    else:
        print(service_status.as_text(facts))
    return 0 if facts.is_running else NOT_RUNNING


def run_stop(args: argparse.Namespace) -> int:
    """Stop the service."""
    with open_site(args) as client:
        question = "Really cancel all batch jobs that the service asked for?"
        if args.cancel_batch_jobs and not confirm(args, question):
            print("Nothing was changed.")
            return 1
        service = client.service()
        if service is None or not service_status.is_running(service, client.now()):
            print("No service runs.")
        else:
            _stop(client, service)
        if args.cancel_batch_jobs:
            _cancel_batch_jobs(client)
    return 0


def _stop(client: Client, service: ServiceInfo) -> None:
    """Ask *service* to stop; return when it has ended, or is dead."""
    client.request_service_stop()
    who = f"process {service.pid} on {service.host}"
    if service.host == socket.gethostname():
        _signal(service)
        while _lives(service):
            time.sleep(LOOK)
    else:
        tell(f"waits for the service on {service.host} to end")
    while not _has_ended(client, service):
        if service.host == socket.gethostname():
            client.end_service(service.id, "its process had died")
            print(f"The service had died ({who}); it is noted as ended.")
            return
        if client.now() > _expires_at(client):
            print(f"The service gives no sign of life ({who}).")
            return
        time.sleep(LOOK)
    print(f"The service has ended ({who}).")


def _has_ended(client: Client, service: ServiceInfo) -> bool:
    now = client.service()
    return now is None or now.id != service.id or now.ended_at is not None


def _expires_at(client: Client) -> float:
    now = client.service()
    return now.expires_at if now is not None else 0.0


def _lives(service: ServiceInfo) -> bool:
    return bool(service.pid_started) and process_start(service.pid) == service.pid_started


def _signal(service: ServiceInfo) -> None:
    if _lives(service):
        try:
            os.kill(service.pid, signal.SIGTERM)
        except (ProcessLookupError, PermissionError):
            pass  # it has ended, or is another user's and hears the request


def _cancel_batch_jobs(client: Client) -> None:
    system = batch_system(client.path)
    mine = [
        each for each in record.live(client) if each.service_id is not None and system.knows(each)
    ]
    reason = f"cancelled by {user_name()} with the service"
    done = submit.cancel(client, system.scheduler, system.run, mine, reason)
    print(f"Cancelled {len(done)} batch job{'s' if len(done) != 1 else ''}.")
