"""The end of a launcher's time, and what has to be seen to before it. Pure.

Nothing starts that cannot end by then; who wishes so is warned; then all is asked to end, and
after a time of grace killed.
"""

from __future__ import annotations

import math
from heapq import heappop, heappush
from typing import NamedTuple

from balsam.launcher.messages import Started
from balsam.model.app import App
from balsam.model.job import Job
from balsam.model.run_time import RunTime
from balsam.model.walltime import LAST_SECONDS
from balsam.model.warning import warning_of


class Warned(NamedTuple):
    """A task to be sent a signal."""

    time: float
    task: int
    signal: int


class Deadline:
    """When the launcher's time is over.

    Parameters
    ----------
    ends_at
        The end of the allocation, in seconds since the epoch; None: there is none.
    grace_seconds
        Between the request to end and the kill.
    """

    def __init__(self, ends_at: float | None, grace_seconds: float) -> None:
        self._whole = 0.0  #: seconds that were left when this was first asked
        #: When all is asked to end; `math.inf`: never.
        self.stop_at = math.inf if ends_at is None else ends_at - grace_seconds - LAST_SECONDS
        self._ends_at = ends_at
        self._run_times: dict[tuple[str, int], RunTime] = {}
        self._warnings: list[Warned] = []  # a heap

    def minutes_left(self, now: float) -> float | None:
        """Return the time that jobs have; None: any."""
        if self._ends_at is None:
            return None
        left = self.stop_at - now
        self._whole = max(self._whole, left)
        return left / 60

    def times(self) -> list[float]:
        """Return when there is something to see to."""
        times = [] if self._ends_at is None else [self.stop_at]
        return [*times, self._warnings[0].time] if self._warnings else times

    # how long jobs take -----------------------------------------------------------------
    def learn(self, run_times: list[RunTime]) -> None:
        """Take what earlier runs took."""
        self._run_times.update(((r.application, r.ranks), r) for r in run_times)

    def run_time(self, job: Job) -> RunTime | None:
        """Return what earlier runs of such a job took, if that is known."""
        return self._run_times.get((job.application, job.num_nodes * job.ranks_per_node))

    def can_end(self, job: Job, now: float) -> bool:
        """Tell whether there is time enough for a job.

        What it says itself goes before what earlier ones took. One that ran out of time before
        has only a rest to do, of which nobody knows how long it takes.
        """
        left = self.minutes_left(now)
        if left is None:
            return True
        minutes = job.wall_time_minutes
        if not minutes and not job.timeouts:
            run_time = self.run_time(job)
            minutes = run_time.needed(self._whole) / 60 if run_time else 0.0
        return minutes <= left

    def too_long(self, now: float) -> list[tuple[str, int]]:
        """Return the apps, with their ranks, whose runs would not end in the time left."""
        left = self.minutes_left(now)
        if left is None:
            return []
        whole = self._whole
        return [key for key, run in self._run_times.items() if run.needed(whole) > 60 * left]

    # warnings ---------------------------------------------------------------------------
    def warn(self, job: Job, app: App | None, started: Started) -> None:
        """Note when the task that has started is to be warned, if its job wishes so."""
        warning = warning_of(job.signal, app.signal if app else "")
        if warning is None or self._ends_at is None:
            return
        time = min(self._ends_at - warning.seconds, self.stop_at)
        if time > started.time:
            heappush(self._warnings, Warned(time, started.task, warning.number))

    def due(self, now: float) -> list[Warned]:
        """Return the warnings that are due, once."""
        due = []
        while self._warnings and self._warnings[0].time <= now:
            due.append(heappop(self._warnings))
        return due
