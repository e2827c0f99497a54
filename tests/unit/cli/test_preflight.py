"""What speaks against a request for nodes."""

from __future__ import annotations

import pytest

from balsam.cli.preflight import check_limits, doubts, problem, queues_of, usable
from balsam.errors import InvalidInput
from balsam.model.batch_job import BatchJob
from balsam.model.demand import Waiting
from balsam.model.states import State
from balsam.schedulers.scheduler import Queue

SMALL = Queue(name="small", is_default=True, min_nodes=1, max_nodes=4, max_minutes=60.0, nodes=9)
LARGE = Queue(name="large", min_nodes=5, min_minutes=30.0, nodes=90)


def asked(
    nodes: int = 1, minutes: float = 30.0, queue: str = "", job_mode: str = "auto"
) -> BatchJob:
    return BatchJob(
        scheduler="slurm",
        num_nodes=nodes,
        wall_time_minutes=minutes,
        queue=queue,
        job_mode=job_mode,
    )


def waiting(count: int = 1, example: int = 7, **fields: object) -> Waiting:
    return Waiting(state=State.PREPROCESSED, count=count, example=example, **fields)  # type: ignore[arg-type]


# queues -----------------------------------------------------------------------------


def test_which_queues_are_meant() -> None:
    both = [SMALL, LARGE]
    assert queues_of(asked(), both) == [SMALL]
    assert queues_of(asked(queue="large"), both) == [LARGE]
    assert queues_of(asked(queue="large,small"), both) == [LARGE, SMALL]
    assert queues_of(asked(queue="any"), []) == []
    assert queues_of(asked(), [LARGE]) == []


def test_a_queue_that_there_is_not() -> None:
    with pytest.raises(InvalidInput, match=r"slurm has no queue 'larg'; it has small, large\. Did"):
        queues_of(asked(queue="larg"), [SMALL, LARGE])


@pytest.mark.parametrize(
    ("request_", "queue", "said"),
    [
        (asked(4, 60), SMALL, ""),
        (asked(5, 60), SMALL, "queue 'small' gives at most 4 nodes; 5 are asked for"),
        (asked(4, 60.5), SMALL, "queue 'small' gives at most 60 minutes; 60.5 are asked for"),
        (asked(5, 30), LARGE, ""),
        (asked(500, 1e5), LARGE, ""),
        (asked(4, 30), LARGE, "queue 'large' takes 5 nodes or more; 4 are asked for"),
        (asked(5, 29), LARGE, "queue 'large' takes 30 minutes or more; 29 are asked for"),
        (asked(2), Queue(name="one", max_nodes=1), "queue 'one' gives at most 1 node; 2 are asked"),
        (asked(10**4, 1e5), Queue(name="free"), ""),
    ],
)
def test_limits(request_: BatchJob, queue: Queue, said: str) -> None:
    assert problem(request_, queue).startswith(said)
    assert bool(problem(request_, queue)) == bool(said)


def test_one_queue_that_takes_it_is_enough() -> None:
    check_limits(asked(5, 60), [SMALL, LARGE])
    check_limits(asked(5, 60), [])
    with pytest.raises(InvalidInput, match=r"at most 4 nodes.*; queue 'large' takes 30 minutes"):
        check_limits(asked(5, 20), [SMALL, LARGE])


def test_what_cannot_start_now_may_wait() -> None:
    closed = Queue(name="c", is_open=False, comment="drained")
    assert doubts(asked(9), [SMALL]) == []
    assert doubts(asked(10), [SMALL, closed, Queue(name="free")]) == [
        "queue 'small' has 9 nodes that are up, and 10 are asked for: it waits for more",
        "queue 'c' is not open: drained",
    ]


# jobs -------------------------------------------------------------------------------


def test_jobs_that_fit() -> None:
    found = [waiting(num_nodes=2, wall_time_minutes=27.0), waiting(ranks_per_node=4)]
    assert usable(asked(2), found, 27.0) == ""


def test_without_jobs() -> None:
    assert usable(asked(), [], 27.0).startswith("no job waits that its launcher would run")


def test_some_and_all_that_do_not_fit() -> None:
    wide = waiting(count=3, example=12, num_nodes=4)
    assert usable(asked(2), [wide, waiting()], 27.0) == (
        "3 jobs, such as 12, need up to 4 nodes, and it has fewer: the others would run"
    )
    assert usable(asked(2), [wide], 27.0).endswith(": no job that waits would run in it")


def test_a_request_as_long_as_its_job() -> None:
    said = usable(asked(minutes=30.0), [waiting(wall_time_minutes=30.0)], 27.83)
    assert said == (
        "job 7 says that up to 30 minutes are needed, and of 30 its launcher has 27.83 for them:"
        " no job that waits would run in it"
    )


def test_parallel_jobs_in_a_serial_request() -> None:
    parallel = waiting(ranks_per_node=2)
    assert "job 7 has several ranks" in usable(asked(job_mode="serial"), [parallel], 9.0)
    assert usable(asked(job_mode="mpi"), [parallel], 9.0) == ""
