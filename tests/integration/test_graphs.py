"""Graphs with a real launcher: every parent's end comes before its child's start.

The sizes are those of a quick look. ``BALSAM_TEST_GRAPHS=full`` takes the ones to be held: a
chain of 2,000, a fan 1 → 10,000 → 1, and 20,000 jobs in layers with 100,000 edges.
"""

from __future__ import annotations

import os
import random

import pytest

from balsam.model.job import Job
from balsam.model.query import ALL
from balsam.model.states import State
from tests.integration.conftest import Campaign, Start, wait_until

S = State
FULL = os.environ.get("BALSAM_TEST_GRAPHS") == "full"
#: Parents of each job, as positions before it, from 0.
Parents = list[list[int]]


def chain(length: int) -> Parents:
    return [[i - 1] if i else [] for i in range(length)]


def fan(width: int) -> Parents:
    return [[], *([0] for _ in range(width)), list(range(1, width + 1))]


def layered(jobs: int, edges: int, layers: int = 20) -> Parents:
    """Jobs in layers, each with the same number of random parents of any earlier layer."""
    chosen = random.Random(6)
    width = jobs // layers
    share = edges // (jobs - width)
    spare = edges - share * (jobs - width)
    parents: Parents = [[] for _ in range(jobs)]
    for i in range(width, jobs):
        count = share + (i < width + spare)
        parents[i] = sorted(chosen.sample(range(i // width * width), count))
    return parents


SHAPES = {
    "chain": chain(2000 if FULL else 200),
    "fan": fan(10_000 if FULL else 1000),
    "layered": layered(20_000, 100_000) if FULL else layered(2000, 10_000),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_graph_runs_in_order(campaign: Campaign, start: Start, shape: str) -> None:
    parents = SHAPES[shape]
    ids = campaign.client.create_jobs(
        [
            Job(name=f"j{i}", workflow="w", application="true", parents=[-p - 1 for p in places])
            for i, places in enumerate(parents)
        ]
    )
    launcher = start("--output", "stream")
    wait_until(lambda: launcher.process.poll() is not None, campaign.states, 600 if FULL else 60)
    launcher.wait()
    assert campaign.states() == {"JOB_FINISHED": len(ids)}
    times: dict[tuple[int, State], list[float]] = {}
    for event in campaign.client.iterate_events(ALL):
        times.setdefault((event.job, event.to_state), []).append(event.time)
    (begun,) = [t for (job, state), t in times.items() if (job, state) == (ids[0], S.RUNNING)]
    for child, places in enumerate(parents):
        (running,) = times[ids[child], S.RUNNING]
        for place in places:
            (finished,) = times[ids[place], S.JOB_FINISHED]
            assert finished <= running, f"j{child} ran before its parent j{place} had ended"
    seconds = max(max(each) for each in times.values()) - begun[0]
    print(f"{shape}: {len(ids)} jobs, {sum(map(len, parents))} edges in {seconds:.1f} s")
