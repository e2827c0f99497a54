"""Which jobs are where: workers, the places granted on them, and classes of equal jobs.

Pure bookkeeping for `plan`. Classes of equal requests are placed, not jobs one by one: the
cost of a decision grows with the kinds of jobs, not with their number.
"""

from __future__ import annotations

from bisect import insort_right
from collections import deque

from balsam.launcher.messages import Place, Task
from balsam.model.job import Job
from balsam.model.resources import NodeResources, Request
from balsam.nodes.slots import Slots, Taken

#: Seconds of work that wait behind each place on the worker, to hide the way to the head.
QUEUED_SECONDS = 0.25
#: Seconds of work to have in stock, leased and not sent: leases are made in batches.
STOCK_SECONDS = 1.0
#: Most tasks behind one place.
DEEPEST_QUEUE = 128
#: The class of hooks: they take no resources, only one of a fixed number of places.
HOOKS = 0


class JobClass:
    """Jobs that ask for the same resources, those that wait in the order to run."""

    def __init__(self, number: int, request: Request) -> None:
        self.id = number
        self.request = request
        self.ready: deque[Job] = deque()
        self.mean_seconds: float | None = None
        self.places = 0
        self.waiting_since: float | None = None  #: ready, but without any place

    def ran(self, seconds: float) -> None:
        """Learn from a run's duration."""
        if self.mean_seconds is None:
            self.mean_seconds = seconds
        else:
            self.mean_seconds += 0.1 * (seconds - self.mean_seconds)

    @property
    def depth(self) -> int:
        """Tasks to keep queued behind each place: none for jobs long against the way here."""
        if self.mean_seconds is None:
            return 0
        return min(DEEPEST_QUEUE, int(QUEUED_SECONDS / max(self.mean_seconds, 1e-4)))

    def insert(self, job: Job) -> None:
        """Put a job where it belongs; most come in their order, and go to the end."""
        if not self.ready or _order(self.ready[-1]) <= _order(job):
            self.ready.append(job)
        else:
            insort_right(self.ready, job, key=_order)

    def rank(self) -> tuple[float, ...]:
        """Return what classes are ordered by: their first job's place in the queue."""
        job = self.ready[0]
        return (-job.priority, -job.num_nodes, -job.wall_time_minutes, job.id or 0)


def _order(job: Job) -> tuple[float, ...]:
    """Return what the jobs of a class are ordered by: among equals, those that ran before first."""
    return (-job.priority, not job.attempt, -job.wall_time_minutes, job.id or 0)


class Grant:
    """A place and what it holds."""

    __slots__ = ("job_class", "taken")

    def __init__(self, job_class: JobClass, taken: Taken | None) -> None:
        self.job_class = job_class
        self.taken = taken


class Node:
    """One worker as the head sees it."""

    def __init__(self, name: str, resources: NodeResources) -> None:
        self.name = name  #: of the worker
        self.host = resources.host
        self.slots = Slots(resources)
        self.grants: dict[int, Grant] = {}
        self.tasks: set[int] = set()  #: sent and not ended
        self.sent: dict[int, int] = {}  #: the same, counted by class
        self.placed: dict[int, int] = {}  #: places by class

    def queued(self, job_class: JobClass) -> int:
        """Return how many tasks of the class wait on the worker for a place."""
        return self.sent.get(job_class.id, 0) - self.placed.get(job_class.id, 0)

    def short_of_places(self) -> list[int]:
        """Return the classes that have more tasks here than places."""
        return [c for c, sent in self.sent.items() if c != HOOKS and sent > self.placed.get(c, 0)]

    def room_behind(self, job_class: JobClass) -> int:
        """Return how many tasks of the class should wait on the worker."""
        return self.placed.get(job_class.id, 0) * job_class.depth

    def grant(self, number: int, job_class: JobClass) -> Place | None:
        """Take the resources of one job of *job_class*, if they are free."""
        taken = self.slots.take(job_class.request)
        if taken is None:
            return None
        return self._add(number, job_class, taken, self.slots.environ(taken))

    def grant_hook(self, number: int, hooks: JobClass, most: int) -> Place | None:
        """Take one of the *most* places for hooks."""
        if self.placed.get(hooks.id, 0) >= most:
            return None
        return self._add(number, hooks, None, {})

    def _add(
        self, number: int, job_class: JobClass, taken: Taken | None, environ: dict[str, str]
    ) -> Place:
        self.grants[number] = Grant(job_class, taken)
        self.placed[job_class.id] = self.placed.get(job_class.id, 0) + 1
        job_class.places += 1
        return Place(number, job_class.id, environ)

    def free(self, number: int) -> None:
        """Take a place back."""
        grant = self.grants.pop(number)
        grant.job_class.places -= 1
        self.placed[grant.job_class.id] -= 1
        if grant.taken is not None:
            self.slots.give_back(grant.taken)

    def send(self, task: Task) -> None:
        self.tasks.add(task.id)
        self.sent[task.class_id] = self.sent.get(task.class_id, 0) + 1

    def forget(self, task: int, class_id: int) -> None:
        """A task has ended or was given back."""
        self.tasks.discard(task)
        self.sent[class_id] -= 1


class Classes:
    """All classes seen, by their request."""

    def __init__(self) -> None:
        self.hooks = JobClass(HOOKS, Request())
        self._by_request: dict[Request, JobClass] = {}
        self._by_id: dict[int, JobClass] = {HOOKS: self.hooks}

    def of(self, job: Job) -> JobClass:
        request = job.request
        found = self._by_request.get(request)
        if found is None:
            found = JobClass(len(self._by_id), request)
            self._by_request[request] = self._by_id[found.id] = found
        return found

    def __getitem__(self, number: int) -> JobClass:
        return self._by_id[number]

    def ranked(self) -> list[JobClass]:
        """Return the classes that have jobs ready, in the order to serve them."""
        waiting = [c for c in self._by_request.values() if c.ready]
        return sorted(waiting, key=JobClass.rank)

    def highest_priority(self) -> int:
        """Return the priority of the job that is first in the queue."""
        return max((c.ready[0].priority for c in self._by_request.values() if c.ready), default=0)

    def ready_units(self, node_cores: int) -> tuple[int, int]:
        """Return (number, core units) of all jobs that are ready."""
        count = units = 0
        for job_class in self._by_request.values():
            if job_class.ready:
                count += len(job_class.ready)
                units += len(job_class.ready) * job_class.request.core_units(node_cores)
        return count, units

    def stock_per_place(self) -> float:
        """Return how many jobs to have in stock for each place: enough for `STOCK_SECONDS`."""
        means = [c.mean_seconds for c in self._by_request.values() if c.mean_seconds is not None]
        return STOCK_SECONDS / max(min(means), 1e-4) if means else 0.0

    def remove(self, job: Job) -> None:
        """Take a job that waits out of its class."""
        self.of(job).ready.remove(job)
