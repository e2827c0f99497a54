"""When a launcher asks for jobs."""

from __future__ import annotations

import pytest

from balsam.launcher.board import Board
from balsam.launcher.leasing import FEWEST_STAGING, Leasing
from balsam.model.job import Job
from balsam.model.resources import NodeResources
from balsam.model.states import State
from balsam.model.wire import Lease, LeaseRequest

NODE = NodeResources(host="n1", cores=4, threads=4, memory_mib=1000)


def test_what_comes_while_the_database_answers_is_asked_for_again() -> None:
    """A node that joined then can hold jobs of which the answer knows nothing."""
    board = Board()
    board.join("n1", NODE, ["n1"])
    leasing = Leasing(LeaseRequest(limit=0))
    assert leasing.due(0.0, board, None, []) is not None
    assert leasing.due(0.1, board, None, []) is None  # one at a time
    leasing.look()
    leasing.answered(Lease(), [NODE], 0.2)
    again = leasing.due(0.3, board, None, [])
    assert again is not None
    assert again.number == 2
    leasing.answered(Lease(), [NODE], 0.4)
    assert leasing.due(0.5, board, None, []) is None


def jobs_to_stage(*states: State) -> list[Job]:
    urls = {"stage_in_url": "/a", "stage_out_url": "/b", "stage_out_files": "*"}
    return [Job(id=n, state=state, **urls) for n, state in enumerate(states, 1)]  # type: ignore[arg-type]


def test_jobs_with_files_to_move_are_leased_ahead_beside_the_others() -> None:
    board = Board()
    board.join("n1", NODE, ["n1"])
    leasing = Leasing(LeaseRequest(limit=0))
    first = leasing.due(0.0, board, None, [])
    assert first is not None
    assert first.leave_files
    assert first.stage_in == first.stage_out == FEWEST_STAGING
    all_in = jobs_to_stage(*[State.READY] * FEWEST_STAGING)
    leasing.answered(Lease(jobs=all_in), [NODE], 0.1)
    leasing.staging = len(all_in)
    assert leasing.due(0.2, board, None, []) is None  # there is enough to move
    leasing.staging = FEWEST_STAGING // 2
    more = leasing.due(0.3, board, None, [])  # and there may be more of that, as it seems
    assert more is not None
    assert more.stage_in == FEWEST_STAGING // 2
    leasing.answered(Lease(jobs=jobs_to_stage(State.POSTPROCESSED)), [NODE], 0.4)
    assert leasing.due(0.5, board, None, []) is None  # there was none


@pytest.mark.parametrize(
    ("policy", "has_mover", "asked", "leaves"),
    [
        ("auto", False, FEWEST_STAGING, False),
        ("auto", True, FEWEST_STAGING, True),
        ("always", True, FEWEST_STAGING, False),
        ("never", False, 0, True),
    ],
)
def test_who_moves_files(policy: str, has_mover: bool, asked: int, leaves: bool) -> None:
    board = Board()
    board.join("n1", NODE, ["n1"])
    leasing = Leasing(LeaseRequest(limit=0), policy)
    request = leasing.due(0.0, board, None, [])
    assert request is not None
    assert (request.stage_in, request.leave_files) == (asked, policy == "auto")
    leasing.answered(Lease(has_mover=has_mover), [NODE], 0.1)
    assert leasing.leaves_files is leaves
    leasing.look(urgent=True)
    leasing.due(10.0, board, None, [])
    leasing.answered(Lease(), [NODE], 10.1)  # the service has ended
    assert leasing.leaves_files is (policy == "never")
