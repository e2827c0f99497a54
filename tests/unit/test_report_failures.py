"""Failures are grouped by what they have in common."""

from __future__ import annotations

import pytest

from balsam.report.failures import MOST_GROUPS, Failures, signature


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("no convergence after 17 steps", "no convergence after 2093 steps"),
        ("cannot read /data/a_1/mesh.h5", "cannot read /data/run/b_2/mesh.h5"),
        ("job 3f2a9c01-1234-8123-9abc-0123456789ab", "job 8e2a9c01-9999-8123-9abc-ffff456789ab"),
        ("segfault at 0x7ffd12 in step", "segfault at 0x00aa in step"),
        ("residual -1.5e-07 is too large", "residual 3.25 is too large"),
        ("first line\nsecond 1", "first line\nother"),
    ],
)
def test_what_differs_from_job_to_job_is_taken_out(one: str, other: str) -> None:
    assert one != other
    assert signature(one) == signature(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("cannot read /data/a/mesh.h5", "cannot read /data/a/grid.h5"),
        ("decade was added", "facade was added"),
        ("MPI_Abort", "MPI_Init"),
    ],
)
def test_what_tells_kinds_apart_stays(one: str, other: str) -> None:
    assert signature(one) != signature(other)


def test_groups_come_largest_first_and_name_nodes_and_jobs() -> None:
    failures = Failures()
    failures.add(1, "error", 2, "bad input", "n1")
    for job in range(10, 20):
        failures.add(job, "error", 1, f"step {job} diverged", "n1" if job < 18 else "n2")
    large, small = failures.groups()
    assert (large.count, large.signature, large.exit_code) == (10, "step <n> diverged", 1)
    assert large.message == "step 10 diverged"
    assert large.nodes == {"n1": 8, "n2": 2}
    assert large.jobs == [10, 11, 12, 13, 14]
    assert small.jobs == [1]
    assert failures.total == 11


def test_the_number_of_groups_is_bounded_and_nothing_is_lost() -> None:
    failures = Failures()
    words = ["kind " + "xy"[n % 2] * (n // 2 + 1) for n in range(MOST_GROUPS + 80)]
    for job, word in enumerate(words):
        failures.add(job, "error", 1, word)
    groups = failures.groups()
    assert len(groups) == MOST_GROUPS + 1
    assert failures.total == len(words)
    assert groups[0].outcome == "other"
    assert groups[0].count == 80
