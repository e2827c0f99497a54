"""Jobs under a launcher's lease, and what their runs come to."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from balsam.launcher import careers
from balsam.launcher.careers import Held, Loss
from balsam.launcher.messages import Ended, Started
from balsam.model.app import App
from balsam.model.job import Job
from balsam.model.states import State, legal
from balsam.model.wire import Move

S = State
PLAIN = App(name="a", executable="x")
HOOKED = App(name="a", executable="x", preprocess="pre", postprocess="post")
STAGED = {"stage_in_url": "/a", "stage_out_url": "/b", "stage_out_files": "*"}


def held(state: State, app: App | None = PLAIN, **fields: Any) -> Held:
    given = {"id": 1, "name": "j", "application": "a", "state": state} | fields
    return Held(Job(**given), app)


def path(moves: list[Move]) -> list[State]:
    """The states that *moves* pass; they must be legal and joined."""
    for one, other in pairwise(moves):
        assert one.to_state == other.from_state
    assert all(legal(move.from_state, move.to_state) for move in moves)
    return [move.to_state for move in moves]


def ended(code: int, message: str = "") -> Ended:
    pid = 1 if message != "cannot start" else 0
    return Ended(5, pid, 300.0, code, 12.5, 0.5, 42, message)


def running(app: App = PLAIN, **fields: Any) -> Held:
    job = held(S.PREPROCESSED, app, **fields)
    careers.run_started(job, Started(5, 99, 200.0, "/site/data/x/j.out", 7), 3, "node", "/site")
    return job


def loss(*, suspected: bool = True) -> Loss:
    return Loss("node", 500.0, "worker died", suspected)
