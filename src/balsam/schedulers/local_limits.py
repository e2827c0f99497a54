"""The queues of the batch system `local` and their limits, and which request may start.

They are those of ``BALSAM_HOME/local/queues.toml``, read by each command; without that file
there is one queue, without limits::

    max_running = 1        # at a time, of all queues: this machine is one node
    grace_seconds = 30     # between SIGTERM and SIGKILL at the end of the time
    gpus = 0               # of this machine; default: those of NVIDIA that are in /dev

    [[queue]]              # the first is the default
    name = "debug"
    max_minutes = 60
    max_running = 1
    max_queued = 10        # waiting or running
    is_open = true
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import msgspec

from balsam.errors import SchedulerError, SchedulerRefused, nearest
from balsam.schedulers.local_requests import Request

Count = Annotated[int, msgspec.Meta(ge=0)]
Positive = Annotated[float, msgspec.Meta(gt=0)]


class LocalQueue(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One queue. None: no limit."""

    name: Annotated[str, msgspec.Meta(min_length=1)]
    max_minutes: Positive | None = None
    max_running: Count | None = None
    max_queued: Count | None = None
    is_open: bool = True


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that ``queues.toml`` may have."""

    max_running: Count = 1
    grace_seconds: Annotated[float, msgspec.Meta(ge=0)] = 30.0
    gpus: Count | None = None
    queue: Annotated[tuple[LocalQueue, ...], msgspec.Meta(min_length=1)] = (
        LocalQueue(name="local"),
    )

    @property
    def names(self) -> list[str]:
        return [each.name for each in self.queue]

    def named(self, name: str) -> LocalQueue:
        """Return the queue of this name; '': the default.

        Raises
        ------
        SchedulerRefused
            There is none.
        """
        for each in self.queue:
            if name in ("", each.name):
                return each
        raise SchedulerRefused(
            f"there is no queue {name!r}; this machine has {', '.join(self.names)}."
            f"{nearest(name, self.names)}"
        )

    def check(self, queue: LocalQueue, nodes: int, minutes: float, live: Sequence[Request]) -> None:
        """Raise `SchedulerRefused` for what could never run, or is too much."""
        if nodes != 1:
            raise SchedulerRefused(f"this machine is 1 node, and {nodes} are asked for")
        if not 0 < minutes < math.inf:
            raise SchedulerRefused(f"{minutes:g} minutes are asked for; ask for more than 0")
        if queue.max_minutes is not None and minutes > queue.max_minutes:
            raise SchedulerRefused(
                f"queue {queue.name!r} gives at most {queue.max_minutes:g} minutes, and"
                f" {minutes:g} are asked for"
            )
        if not queue.is_open:
            raise SchedulerRefused(f"queue {queue.name!r} is closed")
        queued = sum(each.queue == queue.name for each in live)
        if queue.max_queued is not None and queued >= queue.max_queued:
            raise SchedulerRefused(
                f"queue {queue.name!r} takes at most {queue.max_queued} requests, and has {queued}"
            )

    def hindrances(self, live: Sequence[Request]) -> dict[int, str]:
        """Return why each request that waits may not start now: '' when it may.

        *live* are those of this machine, the oldest first; those that may start count as running
        for those after them.
        """
        running = [each for each in live if not each.is_waiting]
        reasons: dict[int, str] = {}
        for request in live:
            if request.is_waiting:
                reasons[request.id] = self.hindrance(request.queue, running)
                if not reasons[request.id]:
                    running.append(request)
        return reasons

    def hindrance(self, name: str, running: Sequence[Request]) -> str:
        """Return why a request to the queue of this name may not start; '' when it may."""
        queue = next((each for each in self.queue if each.name == name), None)
        if queue is None:
            return f"there is no queue {name!r} any more"
        if not queue.is_open:
            return f"queue {name!r} is closed"
        in_queue = sum(each.queue == name for each in running)
        if queue.max_running is not None and in_queue >= queue.max_running:
            return f"queue {name!r} runs {in_queue} at a time"
        if len(running) >= self.max_running:
            if not running:
                return "this machine runs none at a time (max_running)"
            return f"this machine is busy with request {', '.join(str(r.id) for r in running)}"
        return ""


def read_limits(directory: Path) -> Limits:
    """Return the limits in force.

    Raises
    ------
    SchedulerError
        The file cannot be read, or says what it may not.
    """
    file = directory / "queues.toml"
    try:
        limits = msgspec.convert(tomllib.loads(file.read_text()), Limits)
    except FileNotFoundError:
        return Limits()
    except (OSError, ValueError) as error:  # ValidationError and TOMLDecodeError are ValueErrors
        raise SchedulerError(f"cannot read the queues of this machine, {file}: {error}") from error
    if len(set(limits.names)) < len(limits.names):
        raise SchedulerError(f"{file}: two queues have the same name")
    return limits


def expected_starts(live: Sequence[Request], limits: Limits, now: float) -> dict[int, float]:
    """Return when each waiting request starts at the latest, if all before it take their time.

    Those whose queue has limits of its own on what runs, or is closed, are left out.
    """
    steady = {
        each.name
        for each in limits.queue
        if each.is_open and (each.max_running is None or each.max_running >= limits.max_running)
    }
    ends = sorted(
        max(now, (now if each.started_at is None else each.started_at) + each.minutes * 60)
        for each in live
        if not each.is_waiting
    )
    free_at = [now] * (limits.max_running - len(ends)) + ends
    starts: dict[int, float] = {}
    for request in live:
        if request.is_waiting and request.queue in steady and free_at:
            starts[request.id] = free_at.pop(0)
            free_at = sorted([*free_at, starts[request.id] + request.minutes * 60])
    return starts
