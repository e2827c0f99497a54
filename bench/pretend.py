"""A start command, in the place of ssh, for workers that only pretend to run programs.

`nodes.ssh` set to this script lets one machine play an allocation of many nodes. Links, queues,
places and news are the worker's own; a task is nothing but a time to wait for, the number
behind its program.
"""

from __future__ import annotations

import sys
import time
from heapq import heappop, heappush

from balsam.launcher.invitation import read_invitation
from balsam.launcher.messages import Ended, Place, Started, Task
from balsam.launcher.worker import HeadClock, Worker


class Sleepers:
    """Takes the place of `balsam.launcher.process.Processes`."""

    def __init__(self, clock: HeadClock) -> None:
        self._clock = clock
        self._ends: list[tuple[float, int, Place]] = []
        self._gone: set[int] = set()

    def __len__(self) -> int:
        return len(self._ends)

    @property
    def some_are_ending(self) -> bool:
        return bool(self._ends) and self._ends[0][0] <= time.monotonic()

    def start(self, task: Task, place: Place) -> Started:
        heappush(self._ends, (time.monotonic() + float(task.argv[1]), task.id, place))
        return Started(task.id, 1, self._clock.now(), f"{task.cwd}/{task.output}", 0, place.id)

    def reap(self) -> list[tuple[Ended, Place]]:
        ended = []
        while self.some_are_ending:
            _, task, place = heappop(self._ends)
            ended.append((Ended(task, 1, self._clock.now(), 0, 1.0, 0.0, 0, ""), place))
        return ended

    def force_overdue(self) -> float | None:
        return max(0.0, self._ends[0][0] - time.monotonic()) if self._ends else None

    def kill(self, task: int, grace_seconds: float) -> None:
        """Nobody kills in a benchmark but the end of the launcher."""

    def send_signal(self, task: int, number: int) -> None: ...

    def kill_all(self, grace_seconds: float) -> None:
        self._ends.clear()


def main() -> int:
    """Understand the words that ssh is given: options, the host, and one command line."""
    *_, file, host, _watch = sys.argv[-1].split()
    invitation = read_invitation(file)
    clock = HeadClock()
    node = invitation.this_node(host)
    worker = Worker(invitation, node, 0, Sleepers(clock), clock, watches_input=True)  # type: ignore[arg-type]
    return worker.run()


if __name__ == "__main__":
    sys.exit(main())
