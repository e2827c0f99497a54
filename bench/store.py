"""The store alone: jobs a second inserted, leased and finished, against bare driver loops.

A bare loop sends the same statements, in transactions of the same size, to a database of its
own of the same kind, with rows that are ready made. What the store adds is making and reading
rows, checking states and moves, and finding children.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from balsam import config
from balsam.api import Job as NewJob
from balsam.api import Site
from balsam.client.connect import open_client
from balsam.client.local import LocalClient, database_url
from balsam.model.job import Job
from balsam.model.states import State
from balsam.model.wire import Attempt, LauncherInfo, LeaseRequest, Move, Outcome, Report
from balsam.store.database import Database
from balsam.store.schema import QUEUED

JOBS, BATCH, LEASE = 40_000, 20_000, 1_000
Tell = Callable[..., None]

INSERT = ("id", "state", "owner", "created_at", "updated_at", "name", "workflow", "application")
UPDATE = ("state", "attempt", "retries", "exit_code", "launcher_id", "updated_at")
EVENT = ("time", "job", "from_state", "to_state", "message")
ATTEMPT = ("job", "number", "launcher_id", "node", "pid", "started_at", "ended_at", "outcome")
PATH = (State.PREPROCESSED, State.RUNNING, State.RUN_DONE, State.JOB_FINISHED)


def batches(size: int) -> Iterator[range]:
    for first in range(1, JOBS + 1, size):
        yield range(first, first + size)


class Bare:
    """The statements alone, with nothing but the driver."""

    def __init__(self, path: Path) -> None:
        url = database_url(path, config.load(path))
        self._database = Database(url, str(path), 60.0)
        self._borrowed = self._database.engine.raw_connection()
        self._raw: Any = self._borrowed.driver_connection
        self._is_server = self._database.is_server
        self._mark = "%s" if self._is_server else "?"
        self._begin = "BEGIN" if self._is_server else "BEGIN IMMEDIATE"
        if self._is_server:
            self._raw.autocommit = True

    def close(self) -> None:
        self._borrowed.close()
        self._database.engine.dispose()

    def _many(self, table: str, columns: tuple[str, ...], rows: list[tuple[Any, ...]]) -> None:
        names = ", ".join(columns)
        if self._is_server:
            with (
                self._raw.cursor() as cursor,
                cursor.copy(f"COPY {table} ({names}) FROM STDIN") as copy,
            ):
                for row in rows:
                    copy.write_row(row)
        else:
            marks = ", ".join("?" * len(columns))
            self._raw.executemany(f"INSERT INTO {table} ({names}) VALUES ({marks})", rows)

    def insert(self) -> None:
        made = [
            [(i, "PREPROCESSED", "me", 1.0, 1.0, f"j{i}", "w", "noop") for i in ids]
            for ids in batches(BATCH)
        ]
        with timed(self):
            for rows in made:
                self._raw.execute(self._begin)
                self._many("jobs", INSERT, rows)
                self._raw.execute(
                    f"INSERT INTO events ({', '.join(EVENT)}) SELECT created_at, id, '', state, ''"
                    f" FROM jobs WHERE id BETWEEN {rows[0][0]} AND {rows[-1][0]}"
                )
                self._raw.execute("COMMIT")

    def lease(self) -> None:
        order = "priority DESC, num_nodes DESC, wall_time_minutes DESC, id"
        skip = "FOR NO KEY UPDATE SKIP LOCKED" if self._is_server else ""
        hint = "" if self._is_server else "INDEXED BY ix_jobs_queue"
        statement = (
            f"WITH chosen AS (SELECT id FROM jobs {hint} WHERE {QUEUED} ORDER BY {order}"
            f" LIMIT {LEASE} {skip}) UPDATE jobs SET launcher_id = 1 WHERE id IN"
            " (SELECT id FROM chosen) RETURNING *"
        )
        with timed(self):
            for _ in batches(LEASE):
                self._raw.execute(self._begin)
                self._raw.execute(statement).fetchall()
                self._raw.execute("COMMIT")

    def finish(self) -> None:
        made = [
            (
                [("JOB_FINISHED", 1, 0, 0, None, 2.0, i) for i in ids],
                [(2.0, i, a, b, "") for i in ids for a, b in pairwise(PATH)],
                [(i, 1, 1, "n", 7, 1.0, 2.0, "done") for i in ids],
            )
            for ids in batches(LEASE)
        ]
        with timed(self):
            for jobs, events, attempts in made:
                self._raw.execute(self._begin)
                self._update(jobs)
                self._many("events", EVENT, events)
                self._upsert(attempts)
                self._raw.execute("COMMIT")

    def _update(self, rows: list[tuple[Any, ...]]) -> None:
        if not self._is_server:
            changes = ", ".join(f"{column} = ?" for column in UPDATE)
            self._raw.executemany(f"UPDATE jobs SET {changes} WHERE id = ?", rows)
            return
        kinds = ("text", "bigint", "bigint", "bigint", "bigint", "float8", "bigint")
        arrays = ", ".join(f"%s::{kind}[]" for kind in kinds)
        changes = ", ".join(f"{column} = new.{column}" for column in UPDATE)
        self._raw.execute(
            f"UPDATE jobs SET {changes} FROM unnest({arrays}) AS new ({', '.join(UPDATE)}, id)"
            " WHERE jobs.id = new.id",
            [list(column) for column in zip(*rows, strict=True)],
        )

    def _upsert(self, rows: list[tuple[Any, ...]]) -> None:
        names = ", ".join(ATTEMPT)
        clash = "ON CONFLICT (job, number, launcher_id) DO UPDATE SET ended_at = excluded.ended_at"
        if not self._is_server:
            marks = ", ".join("?" * len(ATTEMPT))
            self._raw.executemany(f"INSERT INTO attempts ({names}) VALUES ({marks}) {clash}", rows)
            return
        kinds = ("bigint", "bigint", "bigint", "text", "bigint", "float8", "float8", "text")
        arrays = ", ".join(f"%s::{kind}[]" for kind in kinds)
        self._raw.execute(
            f"INSERT INTO attempts ({names}) SELECT * FROM unnest({arrays}) {clash}",
            [list(column) for column in zip(*rows, strict=True)],
        )


class Whole:
    """The same through Balsam's client, with the time that its statements took (but COPY)."""

    def __init__(self, path: Path) -> None:
        client = open_client(path)
        assert isinstance(client, LocalClient)
        self._client = client
        self._launcher = client.register_launcher(LauncherInfo(host="h", pid=1), 3600.0)
        self._leased: list[list[Job]] = []
        self.in_database = 0.0
        engine = client._store.engine
        sa.event.listen(engine, "before_cursor_execute", self._begins)
        sa.event.listen(engine, "after_cursor_execute", self._ends)

    def _begins(self, *_: Any) -> None:
        self._since = time.perf_counter()

    def _ends(self, *_: Any) -> None:
        self.in_database += time.perf_counter() - self._since

    def close(self) -> None:
        self._client.retire_launcher(self._launcher, "done")
        self._client.close()

    def insert(self) -> None:
        made = [
            [Job(name=f"j{i}", workflow="w", application="noop") for i in ids]
            for ids in batches(BATCH)
        ]
        with timed(self):
            for jobs in made:
                self._client.create_jobs(jobs)

    def lease(self) -> None:
        with timed(self):
            for number, _ in enumerate(batches(LEASE), 1):
                request = LeaseRequest(limit=LEASE, memory_mib=1000, number=number)
                self._leased.append(self._client.lease(self._launcher, request).jobs)

    def finish(self) -> None:
        reports = [self._report(jobs) for jobs in self._leased]
        with timed(self):
            for report in reports:
                self._client.report(self._launcher, report)

    def _report(self, jobs: list[Job]) -> Report:
        ids = [job.id or 0 for job in jobs]
        steps = list(pairwise(PATH))
        return Report(
            moves=[Move(i, 1, old, new, 2.0) for i in ids for old, new in steps],
            attempts=[
                Attempt(
                    job=i,
                    number=1,
                    launcher_id=self._launcher,
                    node="n",
                    pid=7,
                    started_at=1.0,
                    ended_at=2.0,
                    exit_code=0,
                    outcome=Outcome.DONE,
                )
                for i in ids
            ],
        )


class timed:
    """Keeps how long its block took in *owner*, and how much of this our own CPU worked."""

    def __init__(self, owner: Any) -> None:
        self._owner = owner

    def __enter__(self) -> None:
        self._began, self._worked = time.perf_counter(), time.process_time()

    def __exit__(self, *_: object) -> None:
        self._owner.seconds = time.perf_counter() - self._began
        self._owner.cpu_seconds = time.process_time() - self._worked


def store(new_site: Callable[[str, str], Path], tell: Tell) -> None:
    """Tell the rates of both databases, three pairs each side by side.

    Parameters
    ----------
    new_site
        Makes a site of a name on a database system and returns its path.
    """
    for system in ("sqlite", "postgres"):
        steps = ("insert", "lease", "finish")
        ratios: dict[str, list[float]] = {step: [] for step in steps}
        rates: dict[str, list[float]] = {step: [] for step in steps}
        shares: dict[str, list[float]] = {step: [] for step in steps}
        working: dict[str, list[float]] = {step: [] for step in steps}
        for repeat in range(3):
            whole = Whole(new_site(f"{system}{repeat}whole", system))
            bare = Bare(new_site(f"{system}{repeat}bare", system))
            for step in steps:
                getattr(bare, step)()
                whole.in_database = 0.0
                getattr(whole, step)()
                seconds = whole.seconds  # type: ignore[attr-defined]
                ratios[step].append(bare.seconds / seconds)  # type: ignore[attr-defined]
                rates[step].append(JOBS / seconds)
                shares[step].append(whole.in_database / seconds)
                working[step].append(whole.cpu_seconds / seconds)  # type: ignore[attr-defined]
            whole.close()
            bare.close()
        for step in steps:
            tell(
                "store",
                database=system,
                step=step,
                jobs_per_second=round(statistics.median(rates[step])),
                ratio_to_bare=round(statistics.median(ratios[step]), 2),
                statements_share=round(statistics.median(shares[step]), 2),
                own_cpu_share=round(statistics.median(working[step]), 2),
            )


def bulk(path: Path, tell: Tell, count: int = 1_000_000) -> None:
    """Tell how fast `Job.objects.bulk_create` fills a site on PostgreSQL."""
    site = Site.use(path)
    for kind, make in (("objects", NewJob), ("mappings", dict)):
        jobs = (make(name=f"j{i}", workflow=kind, application="noop") for i in range(count))
        began = time.perf_counter()
        NewJob.objects.bulk_create(jobs)
        seconds = time.perf_counter() - began
        tell("bulk", of=kind, jobs=count, insert_per_second=round(count / seconds), wanted=40_000)
    site.close()
