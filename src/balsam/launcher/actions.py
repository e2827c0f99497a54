"""What the planner asks the driver to do."""

from __future__ import annotations

from typing import NamedTuple

from balsam.launcher.messages import Place, Task
from balsam.lifecycle.journal import Sent
from balsam.model.job import Job
from balsam.model.wire import LeaseRequest


class Send(NamedTuple):
    """Give places and tasks to a spawner; `runs` are to be journalled before."""

    spawner: str
    places: list[Place]
    tasks: list[Task]
    runs: list[Sent]


class KillTasks(NamedTuple):
    spawner: str
    tasks: list[int]
    grace_seconds: float


class WarnTasks(NamedTuple):
    """Send a signal to tasks whose time will be over."""

    spawner: str
    tasks: list[int]
    number: int


class SweepJob(NamedTuple):
    """Kill what is left on a node of a run that MPI started."""

    spawner: str
    job: Job
    attempt: int


class RecallTasks(NamedTuple):
    """Ask tasks back that have not started: *most* (0: all) of one lane (None: of all)."""

    spawner: str
    lane: int | None = None
    most: int = 0


class Say(NamedTuple):
    """Tell the user."""

    text: str


class LeaseJobs(NamedTuple):
    request: LeaseRequest


class StageFiles(NamedTuple):
    job: Job
    inward: bool


class Finish(NamedTuple):
    message: str


Action = (
    Send | KillTasks | WarnTasks | SweepJob | RecallTasks | LeaseJobs | StageFiles | Say | Finish
)
