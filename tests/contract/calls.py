"""Every method of a client as a call on a site with a few jobs."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from balsam.client.local import LocalClient
from balsam.model.app import App
from balsam.model.batch_job import BatchJob
from balsam.model.graph import Kind
from balsam.model.job import Job
from balsam.model.query import ALL
from balsam.model.service import ServiceInfo, ServiceStatus
from balsam.model.states import State
from balsam.model.wire import LauncherInfo, LeaseRequest, Move, Report
from tests.contract.pilot import add, everything

#: For tests that are about the file of SQLite: the fixture `database` gives only that.
on_sqlite = pytest.mark.parametrize("database", ["sqlite"])
NEW = Job(name="new", workflow="w", application="a")
WRITES: dict[str, Callable[[LocalClient], Any]] = {
    "add_app": lambda client: client.add_app(App(name="b", executable="x")),
    "update_apps": lambda client: client.update_apps(ALL, {"description": "x"}),
    "delete_apps": lambda client: client.delete_apps(ALL),
    "unused_apps": lambda client: client.unused_apps(["spare"], remove=True),
    "create_jobs": lambda client: client.create_jobs([NEW]),
    "update_jobs": lambda client: client.update_jobs(ALL, {"priority": 7}),
    "move_jobs": lambda client: client.move_jobs(ALL.where(name="free"), State.FAILED),
    "rerun_jobs": lambda client: client.rerun_jobs(ALL),
    "kill_jobs": lambda client: client.kill_jobs(ALL, recursive=True),
    "delete_jobs": lambda client: client.delete_jobs(ALL),
    "add_dependency": lambda client: client.add_dependency(1, 2),
    "remove_dependency": lambda client: client.remove_dependency(3, 2),
    "register_launcher": lambda client: client.register_launcher(LauncherInfo(host="h", pid=1), 9),
    "lease": lambda client: client.lease(1, LeaseRequest(limit=5)),
    "report": lambda client: client.report(
        1, Report(moves=[Move(1, 1, State.PREPROCESSED, State.RUNNING, 1.0)])
    ),
    "renew": lambda client: client.renew(1, 1000.0),
    "retire_launcher": lambda client: client.retire_launcher(1, "x"),
    "create_batch_job": lambda client: client.create_batch_job(BatchJob(name="b2"), budget=10),
    "update_batch_job": lambda client: client.update_batch_job(1, {"message": "x"}),
    "register_service": lambda client: client.register_service(ServiceInfo(host="h"), 9),
    "renew_service": lambda client: client.renew_service(1, ServiceStatus(trouble="x"), 90),
    "request_service_stop": lambda client: client.request_service_stop(),
    "end_service": lambda client: client.end_service(1, "x"),
}
READS: dict[str, Callable[[LocalClient], Any]] = {
    "apps": lambda client: client.apps(ALL),
    "jobs": lambda client: client.jobs(ALL),
    "iterate_jobs": lambda client: list(client.iterate_jobs(ALL)),
    "count_jobs": lambda client: client.count_jobs(ALL),
    "state_counts": lambda client: client.state_counts(ALL),
    "workflow_counts": lambda client: client.workflow_counts(ALL),
    "dependencies": lambda client: client.dependencies([1]),
    "events": lambda client: client.events(ALL),
    "iterate_events": lambda client: list(client.iterate_events(ALL)),
    "transfers": lambda client: client.transfers(ALL),
    "attempts": lambda client: client.attempts([1]),
    "iterate_attempts": lambda client: list(client.iterate_attempts(ALL)),
    "batch_jobs": lambda client: client.batch_jobs(ALL),
    "run_times": lambda client: client.run_times(),
    "waiting": lambda client: client.waiting(10),
    "node_hours": lambda client: client.node_hours(),
    "service": lambda client: client.service(),
    "launchers": lambda client: client.launchers(),
    "outlook": lambda client: client.outlook(1, LeaseRequest(limit=5)),
    "expired_launchers": lambda client: client.expired_launchers(),
}


def fill(client: LocalClient) -> None:
    """Two apps; jobs 1 (leased by launcher 1), 2, and its parent 3, which has ended."""
    client.add_app(App(name="a", executable="x"))
    client.add_app(App(name="spare", executable="x"))
    client.register_launcher(LauncherInfo(host="h", pid=1), 60)
    add(client, "held", "free", "ended")
    client.lease(1, LeaseRequest(limit=1))
    client.move_jobs(ALL.where(name="ended"), State.FAILED)
    client.add_dependency(3, 2, Kind.ANY)
    client.create_batch_job(BatchJob(name="b1"))
    client.register_service(ServiceInfo(host="h"), -1)


def look(client: LocalClient) -> Any:
    known = client.batch_jobs(ALL), client.service()
    return everything(client), client.launchers(live=False), known


def checkpointed(site: Path) -> Path:
    """Bring all that is in the log into the file."""
    connection = sqlite3.connect(site / "balsam.db")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    return site / "balsam.db"
