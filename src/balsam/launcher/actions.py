"""What the planner asks the driver to do."""

from __future__ import annotations

from typing import NamedTuple

from balsam.launcher.journal import Sent
from balsam.launcher.messages import Place, Task
from balsam.model.job import Job
from balsam.model.wire import LeaseRequest


class Send(NamedTuple):
    """Give places and tasks to a worker; `runs` are to be journalled before."""

    node: str
    places: list[Place]
    tasks: list[Task]
    runs: list[Sent]


class KillTasks(NamedTuple):
    node: str
    tasks: list[int]
    grace_seconds: float


class RecallTasks(NamedTuple):
    node: str


class LeaseJobs(NamedTuple):
    request: LeaseRequest


class StageFiles(NamedTuple):
    job: Job
    inward: bool


class Finish(NamedTuple):
    message: str


Action = Send | KillTasks | RecallTasks | LeaseJobs | StageFiles | Finish
