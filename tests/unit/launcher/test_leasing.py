"""When a launcher asks for jobs."""

from __future__ import annotations

from balsam.launcher.board import Board
from balsam.launcher.leasing import Leasing
from balsam.model.resources import NodeResources
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
