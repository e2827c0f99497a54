"""Graphs: what the end of a parent costs for each of its edges, and how fast links follow.

Release is to cost the same for each edge, whatever the graph's size and shape: the figure is the
ratio of the cost per edge in a graph of 100,000 edges to that in graphs of 1,000, in one run.
"""

from __future__ import annotations

import os
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from balsam.client.connect import open_client
from balsam.client.interface import Client
from balsam.model.job import Job
from balsam.model.query import Query
from balsam.model.states import State
from balsam.model.wire import Attempt, LauncherInfo, LeaseRequest, Move, Outcome, Report

SMALL, LARGE = 1_000, 100_000
#: Jobs of one report; a layer of the small graph has no more.
LEASE, LAYERED_LEASE = 1_000, 20
#: Reports of one graph that are timed.
REPORTS = 200
Tell = Callable[..., None]
#: Parents of each job, as positions before it, from 0.
Parents = list[list[int]]


def chain(edges: int) -> Parents:
    return [[], *([i] for i in range(edges))]


def fan_out(edges: int) -> Parents:
    return [[], *([0] for _ in range(edges))]


def fan_in(edges: int) -> Parents:
    return [*([] for _ in range(edges)), list(range(edges))]


def layered(edges: int) -> Parents:
    """Ten layers of jobs, each with five random parents among the twenty above it."""
    chosen, width = random.Random(6), edges // 50
    parents: Parents = [[] for _ in range(width)]
    for job in range(width, 11 * width):
        above = (job - width) // 20 * 20
        parents.append(chosen.sample(range(above, above + 20), 5))
    return parents


SHAPES = {"chain": chain, "fan_out": fan_out, "fan_in": fan_in, "layered": layered}


def release(path: Path, database: str, tell: Tell) -> None:
    """Measure the release of children.

    Reports of like size are compared, of graphs that come in turns: what else the machine does,
    and a database's own upkeep after a large insert, is in both.
    """
    client = open_client(path)
    launcher = client.register_launcher(LauncherInfo(host="bench", pid=os.getpid()), 3600.0)
    for shape, make in SHAPES.items():
        small: list[float] = []
        large: list[float] = []
        for turn in range(2):
            for number in range(1 if shape in ("chain", "layered") else 8):
                small += _costs(client, launcher, f"{shape}{turn}.{number}.", make(SMALL))
            large += _costs(client, launcher, f"{shape}{turn}.large.", make(LARGE))
        of_small, of_large = statistics.median(small), statistics.median(large)
        tell(
            "release",
            database=database,
            shape=shape,
            microseconds_per_edge_of_1000=round(1e6 * of_small, 1),
            of_100000=round(1e6 * of_large, 1),
            ratio=round(of_large / of_small, 2),
            wanted=1.5,
        )
    client.close()


def _costs(client: Client, launcher: int, workflow: str, parents: Parents) -> list[float]:
    """Return the seconds that each report of ends takes for an edge that it releases."""
    _create(client, workflow, parents)
    children: list[int] = [0] * len(parents)
    for above in parents:
        for parent in above:
            children[parent] += 1
    first = client.jobs(Query(limit=1).where(workflow=workflow), ["id"])[0].id or 0
    most = LAYERED_LEASE if workflow.startswith("layered") else LEASE
    request = LeaseRequest(limit=most, workflow_filter=workflow, num_nodes=9, cores=9, memory_mib=9)
    costs: list[float] = []
    released, edges = 0, sum(children)
    while released < edges and len(costs) < REPORTS:
        leased = client.lease(launcher, request).jobs
        report = _ended(leased, launcher)
        start = time.perf_counter()
        refused = client.report(launcher, report)
        seconds = time.perf_counter() - start
        if refused or not leased:
            raise SystemExit(f"graph: {workflow} {len(leased)} leased, refused: {refused[:3]}")
        edges_now = sum(children[(job.id or 0) - first] for job in leased)
        released += edges_now
        costs.append(seconds / edges_now)
    return costs


def _create(client: Client, workflow: str, parents: Parents) -> None:
    client.create_jobs(
        [
            Job(name="j", workflow=workflow, application="noop", parents=[-p - 1 for p in above])
            for above in parents
        ]
    )


def _ended(jobs: list[Job], launcher: int) -> Report:
    now = time.time()
    path = (State.PREPROCESSED, State.RUNNING, State.RUN_DONE, State.JOB_FINISHED)
    moves, attempts = [], []
    for job in jobs:
        id_ = job.id or 0
        for number, old, new in zip((1, 1, 1), path, path[1:], strict=False):
            moves.append(Move(id_, number, old, new, now))
        attempts.append(
            Attempt(
                job=id_,
                number=1,
                launcher_id=launcher,
                started_at=now,
                ended_at=now,
                outcome=Outcome.DONE,
            )
        )
    return Report(moves=moves, attempts=attempts, released=[job.id or 0 for job in jobs])


# from Python, from a file, and with a launcher -------------------------------------------


def insert(path: Path, tell: Tell) -> None:
    """Time the creation of 20,000 jobs with 100,000 edges, by objects and by positions."""
    from balsam.api import Job as NewJob
    from balsam.api import Site

    above = layered(LARGE)
    Site.use(path)
    objects: list[NewJob] = []
    for parents in above:
        given = [objects[p] for p in parents]
        objects.append(NewJob(name="j", workflow="o", application="noop", parents=given))
    shared = {"name": "j", "workflow": "p", "application": "noop"}
    positions = [shared | {"parents": [-p - 1 for p in parents]} for parents in above]
    for name, jobs in (("objects", objects), ("positions", positions)):
        start = time.perf_counter()
        NewJob.objects.bulk_create(jobs)
        seconds = time.perf_counter() - start
        tell(
            "graph",
            created_by=name,
            jobs=len(above),
            edges=LARGE,
            seconds=round(seconds, 2),
            edges_per_second=round(LARGE / seconds),
        )


def links(path: Path, run: Callable[[], object], tell: Tell, length: int = 2_000) -> None:
    """Time a chain from link to link, with a launcher."""
    client = open_client(path)
    ids = client.create_jobs(
        [
            Job(name=f"j{i}", workflow="c", application="noop", parents=[-i] if i else [])
            for i in range(length)
        ]
    )
    run()
    attempts = client.attempts(ids)
    client.close()
    starts = sorted(attempt.started_at or 0.0 for attempt in attempts)
    ends = sorted(attempt.ended_at or 0.0 for attempt in attempts)
    waits = [1000 * (start - end) for end, start in zip(ends, starts[1:], strict=False)]
    tell(
        "graph",
        chain=len(attempts),
        seconds=round(ends[-1] - starts[0], 1),
        ms_from_end_to_start=round(statistics.median(waits), 2),
        worst_tenth_ms=round(statistics.quantiles(waits, n=10)[-1], 2),
    )
