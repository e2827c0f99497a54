"""What the largest jobs ask for, compared with what launchers have."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from balsam.model.job import Job
from balsam.model.wire import LauncherInfo


class Demand:
    """The most cores and GPUs that a job has asked for so far."""

    def __init__(self) -> None:
        self._cores: float = 1
        self._gpus: float = 0
        self._has_grown = False

    def add(self, jobs: Iterable[Job]) -> None:
        """Take in new jobs."""
        for job in jobs:
            if job.threads_per_rank > self._cores or job.gpus_per_rank > self._gpus:
                self._cores = max(self._cores, job.threads_per_rank)
                self._gpus = max(self._gpus, job.gpus_per_rank)
                self._has_grown = True

    @property
    def is_new(self) -> bool:
        """Whether it has grown since launchers were compared with it."""
        return self._has_grown

    def shortages(self, launchers: Sequence[LauncherInfo]) -> list[str]:
        """Return what no launcher has, a sentence each, once; none while there is no launcher."""
        if not launchers:
            return []
        self._has_grown = False
        most = {
            "cores": (self._cores, max(launcher.cores for launcher in launchers)),
            "GPUs": (self._gpus, max(launcher.gpus for launcher in launchers)),
        }
        return [
            f"A job (or group) asks for {needed:g} {what}, and no launcher's node has more than"
            f" {there}: it waits for one that has. `balsam why` tells more."
            for what, (needed, there) in most.items()
            if needed > there
        ]
