"""A cascade of failures: what all that waits for a job costs when that fails."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from balsam.client.connect import open_client
from balsam.client.interface import Client
from balsam.model.job import Job
from balsam.model.query import ALL, Query

SMALL, LARGE = 1_000, 20_000
Tell = Callable[..., None]
#: The parent of each job as a position before it.
SHAPES: dict[str, Callable[[int], int]] = {
    "chain": lambda job: job - 1,
    "tree": lambda job: (job - 1) // 3,
}


def cascades(path: Path, database: str, tell: Tell) -> None:
    """Measure what each job costs that falls, in a small graph and in a large one.

    One transaction takes all of it, during which others cannot write on SQLite.
    """
    client = open_client(path)
    for shape, parent in SHAPES.items():
        small = min(_cost(client, f"{shape}{turn}", SMALL, parent) for turn in range(3))
        large = _cost(client, f"{shape}.large", LARGE, parent)
        tell(
            "cascade",
            database=database,
            shape=shape,
            microseconds_a_job_of_1000=round(1e6 * small, 1),
            of_20000=round(1e6 * large, 1),
            ratio=round(large / small, 2),
            wanted=1.5,
        )
    client.close()


def _cost(client: Client, name: str, count: int, parent: Callable[[int], int]) -> float:
    """Return the seconds for each of so many jobs when the first is killed."""
    workflow = f"cascade.{name}"
    ids = client.create_jobs(
        [
            Job(
                name="j",
                workflow=workflow,
                application="noop",
                parents=[-parent(position) - 1] if position else [],
            )
            for position in range(count)
        ]
    )
    start = time.perf_counter()
    client.kill_jobs(ALL.where(id=ids[0]))
    seconds = time.perf_counter() - start
    if client.count_jobs(Query().where(workflow=workflow, state="AWAITING_PARENTS")):
        raise SystemExit(f"{workflow}: some wait for ever")
    return seconds / count
