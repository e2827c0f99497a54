"""All rows of a site's database, read by the driver itself."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import psycopg

from balsam.client.local import LocalClient
from balsam.model.app import App
from balsam.model.batch_job import BatchJob
from balsam.model.graph import Kind
from balsam.model.job import Job
from balsam.model.query import ALL
from balsam.model.retry import rules_of
from balsam.model.service import QueueState, ServiceInfo, ServiceStatus
from balsam.model.transfer import Direction, Transfer
from balsam.model.wire import Outcome
from tests.contract.pilot import Clock, Pilot

TABLES = (
    "apps",
    "attempts",
    "batch_jobs",
    "counters",
    "dependencies",
    "events",
    "jobs",
    "launchers",
    "meta",
    "run_times",
    "services",
    "transfers",
)
Rows = dict[str, list[dict[str, Any]]]


def rows_of_file(file: Path) -> Rows:
    """Return all rows of an SQLite file: each value with the type that SQLite keeps it as."""
    found: Rows = {}
    connection = sqlite3.connect(file)
    connection.row_factory = sqlite3.Row
    for table in TABLES:
        names = [row["name"] for row in connection.execute(f"PRAGMA table_info({table})")]
        both = ", ".join(f"{name}, typeof({name}) AS {name}_is" for name in names)
        rows = [dict(row) for row in connection.execute(f"SELECT {both} FROM {table}")]
        found[table] = sorted(rows, key=repr)
    connection.close()
    return found


def rows_of_server(url: str) -> Rows:
    """Return all rows of a PostgreSQL database, JSON as its text."""
    found: Rows = {}
    with psycopg.connect(url, row_factory=psycopg.rows.dict_row) as connection:
        connection.adapters.register_loader("json", psycopg.types.string.TextLoader)
        for table in TABLES:
            rows = connection.execute(f"SELECT * FROM {table}".encode()).fetchall()
            found[table] = sorted((dict(sorted(row.items())) for row in rows), key=repr)
    return found


def rows(site: Path, database: str) -> Rows:
    """Return all rows of the site, whose setting is *database*."""
    if database == "sqlite":
        return rows_of_file(site / "balsam.db")
    return rows_of_server(database)


#: Values of `data` that a database could change: numbers that are the whole value, characters
#: that are none, whole numbers beyond 53 bits, floating-point numbers that need all 17 digits.
PRECIOUS: tuple[Any, ...] = (
    {},
    [],
    None,
    True,
    "",
    "text",
    "1e5",
    "0123",
    7,
    -7,
    2**63 - 1,
    0.1,
    0.1 + 0.2,
    1.0,
    1e22,
    5e-324,
    1.7976931348623157e308,
    {"b": 1, "a": 2, "": 3},
    {"n": 2**63 - 1, "f": 0.1 + 0.2, "one": 1.0},
    {"not a number": float("nan"), "nul": "\0", "quotes": "'\"\\", "lines": "\n\r\t"},
    {"ünïcödé 漢字 🙂": ["\u2028", "\ufeff", "\x7f"]},
    [[[[]]], {"deep": {"deep": None}}],
)
TEXTS = (
    "",
    "plain",
    "'; DROP TABLE jobs; --",
    "tab\tand\\backslash \\N \\.",
    "ünï 漢 🙂",
    "a\nb\r",
)


def fill_with_everything(client: LocalClient, clock: Clock) -> list[int]:
    """Give a site one of everything that a campaign has; return the ids of its jobs."""
    client.add_app(App(name="b", executable="/bin/true", description=TEXTS[3], preprocess="x"))
    client.add_app(App(name="c", executable="x", retry=rules_of(["exit=137: memory*2, max=3"])))
    jobs = [
        Job(name=f"precious{i}", workflow="ünï/漢", application="a", data=value)
        for i, value in enumerate(PRECIOUS)
    ]
    jobs += [
        Job(
            name=f"text{i}",
            workflow="w",
            application="b",
            description=text,
            args="--x 'a b'",
            parameters={"x": text},
            environ={"PATH": text},
            tags={text or "empty": text},
            gpus_per_rank=0.1,
            wall_time_minutes=1 / 3,
            post_error_handler=bool(i % 2),
            priority=-(2**31),
        )
        for i, text in enumerate(TEXTS)
    ]
    ids = client.create_jobs(jobs)
    for parent, kind in zip(ids, (Kind.OK, Kind.FAIL, Kind.ANY), strict=False):
        client.add_dependency(parent, ids[-1], kind)
    pilot = Pilot(client, clock)
    clock.now += 1 / 3
    leased = pilot.lease(len(PRECIOUS))
    pilot.run(*leased[:6])
    pilot.run(*leased[6:9], outcome=Outcome.ERROR)
    pilot.start(leased[9])
    moved = Transfer(job=ids[0], direction=Direction.IN, number=1, url=TEXTS[4], launcher_id=1)
    pilot.report(transfers=[moved])
    client.kill_jobs(ALL.where(id=ids[-2]))
    client.retire_launcher(pilot.id, "its time was over")
    client.delete_jobs(ALL.where(id=ids[-3]))
    client.create_batch_job(BatchJob(name="ü", tags={"k": "v"}, started_at=1 / 3, exit_code=-9))
    status = ServiceStatus(queues=[QueueState(name="q")], news=[TEXTS[3]])
    client.renew_service(client.register_service(ServiceInfo(host="h"), 9), status, 9)
    return ids
