"""Which jobs are where: nodes, the places granted on them, and classes of equal jobs.

Pure bookkeeping for `plan`. Classes of equal requests are placed, not jobs one by one: the
cost of a decision grows with the kinds of jobs, not with their number.
"""

from __future__ import annotations

from bisect import insort_right
from collections import deque
from collections.abc import ItemsView, Iterator
from functools import cached_property
from typing import NamedTuple

from balsam.launcher.messages import Place, Task
from balsam.model.cpus import cpu_text
from balsam.model.job import Job
from balsam.model.resources import UNITS, NodeResources, Request
from balsam.model.run_time import RunTime
from balsam.model.wire import Placement, placement_text
from balsam.nodes.slots import Slots, Taken

#: Seconds of work that wait behind each place on the worker, to hide the way to the head.
QUEUED_SECONDS = 0.25
#: Jobs that take longer than this, in seconds, wait at the head: the way is nothing beside them.
LONG_SECONDS = 10.0
#: Seconds of work to have in stock, leased and not sent: leases are made in batches.
STOCK_SECONDS = 1.0
#: Most tasks behind one place.
DEEPEST_QUEUE = 128
#: The class, and the lane, of hooks: they take no resources, only one of some places.
HOOKS = 0


class JobClass:
    """Jobs that ask for the same resources, those that wait in the order to run."""

    def __init__(self, number: int, request: Request) -> None:
        self.id = number
        self.request = request
        self.ready: deque[Job] = deque()
        self.mean_seconds: float | None = None
        self.longest: float | None = None  #: seconds of its jobs at most, as far as is known
        self.places = 0
        self.spawners: set[Spawner] = set()  #: those with places, for which there may be tasks
        self.is_new = True  #: jobs came since it was last looked at, when there were none

    @property
    def is_parallel(self) -> bool:
        """Whether its jobs are started by MPI."""
        return not self.request.is_serial

    def fits(self, node: Node) -> bool:
        """Tell whether the node has room for one of its jobs now."""
        return not node.set_aside and node.slots.has_room(self.request)

    def ran(self, seconds: float) -> None:
        """Learn from a run's duration."""
        self.longest = max(self.longest or 0.0, seconds)
        if self.mean_seconds is None:
            self.mean_seconds = seconds
        else:
            self.mean_seconds += 0.1 * (seconds - self.mean_seconds)

    def expect(self, run_time: RunTime) -> None:
        """Learn from runs of earlier launchers."""
        if self.mean_seconds is None:
            self.mean_seconds = run_time.expected
            self.longest = run_time.longest

    @property
    def depth(self) -> int:
        """Tasks to keep queued behind each place: none for jobs long against the way here."""
        if self.mean_seconds is None or self.mean_seconds > LONG_SECONDS or self.is_parallel:
            return 0
        return max(1, min(DEEPEST_QUEUE, int(QUEUED_SECONDS / max(self.mean_seconds, 1e-4))))

    def insert(self, job: Job) -> None:
        """Put a job where it belongs; most come in their order, and go to the end."""
        self.is_new = self.is_new or not self.ready
        if self.mean_seconds is None and job.wall_time_minutes:
            self.longest = max(self.longest or 0.0, 60 * job.wall_time_minutes)
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

    def __init__(
        self, job_class: JobClass, lane: int, parts: list[tuple[Node, Taken]], spawner: Spawner
    ) -> None:
        self.job_class = job_class
        self.lane = lane
        self.parts = parts  #: a hook's are none
        self.spawner = spawner  #: that starts its tasks
        self.started: float | None = None  #: when its last task did

    @property
    def hosts(self) -> tuple[str, ...]:
        return tuple(node.host for node, _ in self.parts)

    @cached_property
    def text(self) -> str:
        """What an attempt keeps of it."""
        return placement_text(node.placement(taken) for node, taken in self.parts)

    def taken_on(self, node: Node) -> Taken | None:
        return next((taken for each, taken in self.parts if each is node), None)


class Spawner:
    """One process of a node's worker, as the head sees it: what was sent to it."""

    def __init__(self, name: str, node: Node) -> None:
        self.name = name
        self.node = node
        self.tasks: set[int] = set()  #: sent and not ended
        self.sent: dict[int, int] = {}  #: the same, counted by lane
        self.placed: dict[int, int] = {}  #: places by lane
        self.blocked: set[int] = set()  #: tasks that wait for other jobs, without a place

    def queued(self, lane: int) -> int:
        """Return how many tasks of the lane wait there for a place."""
        return self.sent.get(lane, 0) - self.placed.get(lane, 0)

    def send(self, task: Task) -> None:
        self.tasks.add(task.id)
        self.sent[task.lane] = self.sent.get(task.lane, 0) + 1

    def forget(self, task: int, lane: int) -> None:
        """A task has ended or was given back."""
        self.tasks.discard(task)
        if task in self.blocked:
            self.blocked.discard(task)
        else:
            _count_down(self.sent, lane)

    def block(self, task: int, lane: int) -> None:
        """A task leaves its place to others."""
        self.blocked.add(task)
        _count_down(self.sent, lane)

    def unblock(self, task: int, lane: int) -> None:
        """A task that left its place waits for another one."""
        self.blocked.discard(task)
        self.sent[lane] = self.sent.get(lane, 0) + 1


class Node:
    """One node with its worker, as the head sees it."""

    def __init__(self, name: str, resources: NodeResources, spawners: list[str]) -> None:
        self.name = name
        self.host = resources.host
        self.resources = resources
        self.slots = Slots(resources)
        self.spawners = [Spawner(each, self) for each in spawners]
        self.grants: dict[int, Grant] = {}  #: those that take something of it
        self.version = 0  #: counts changes of what is free
        self.set_aside = ""  #: why nothing more is started here
        self.paused_until = 0.0  #: nothing is started here before it is known what ails it
        self.failed: dict[
            int, str
        ] = {}  #: jobs that failed here since one ended well, and their apps

    @property
    def tasks(self) -> set[int]:
        return set().union(*(spawner.tasks for spawner in self.spawners))

    def take(self, request: Request, like: Taken | None = None) -> Taken | None:
        """Take the resources of one job of *request* on this node, if they are free."""
        taken = self.slots.take(request, like)
        self.version += taken is not None
        return taken

    def give_back(self, taken: Taken) -> None:
        self.version += 1
        self.slots.give_back(taken)

    def placement(self, taken: Taken) -> Placement:
        """Return the record of what was taken here."""
        gpus = {self.resources.gpus[position]: units / UNITS for position, units in taken.gpus}
        return Placement(
            node=self.host,
            cores=cpu_text(taken.cores),
            count=taken.core_units / UNITS,
            gpus=gpus,
            memory_mib=taken.memory_mib,
        )

    def spawner_for(self, lane: int) -> Spawner:
        """Return the spawner with the fewest places of the lane."""
        if len(self.spawners) == 1:
            return self.spawners[0]
        return min(self.spawners, key=lambda s: (s.placed.get(lane, 0), len(s.tasks)))


def _count_down(counts: dict[int, int], key: int) -> None:
    counts[key] -= 1
    if not counts[key]:
        del counts[key]


class Spot(NamedTuple):
    """Where a parallel job starts, for its command."""

    hosts: tuple[str, ...]
    cpus: tuple[int, ...]  #: the same hardware threads of each host; (): they differ, or unknown
    environ: dict[str, str]  #: shows its devices, the same of each host, and no others


class Grants:
    """All places granted."""

    def __init__(self) -> None:
        self._grants: dict[int, Grant] = {}

    def __getitem__(self, number: int) -> Grant:
        return self._grants[number]

    def get(self, number: int) -> Grant | None:
        return self._grants.get(number)

    def items(self) -> ItemsView[int, Grant]:
        return self._grants.items()

    def add(self, number: int, grant: Grant) -> Place:
        """Note what was taken; return the place to send."""
        self._grants[number] = grant
        for node, _ in grant.parts:
            node.grants[number] = grant
        job_class, spawner = grant.job_class, grant.spawner
        spawner.placed[grant.lane] = spawner.placed.get(grant.lane, 0) + 1
        job_class.places += 1
        job_class.spawners.add(spawner)
        if not grant.parts:
            return Place(number, grant.lane)
        node, taken = grant.parts[0]
        binds = job_class.request.cpu_affinity not in ("", "none") and not job_class.is_parallel
        cpus = node.slots.cpus(taken, job_class.request.threads_per_core) if binds else []
        return Place(number, grant.lane, node.slots.environ(taken), cpus)

    def free(self, number: int) -> Grant | None:
        """Give back what a place holds; return it, None when that was done before."""
        grant = self._grants.pop(number, None)
        if grant is None:
            return None
        for node, taken in grant.parts:
            del node.grants[number]
            node.give_back(taken)
        job_class, spawner = grant.job_class, grant.spawner
        job_class.places -= 1
        _count_down(spawner.placed, grant.lane)
        if grant.lane not in spawner.placed and grant.lane not in spawner.sent:
            job_class.spawners.discard(spawner)
        return grant


class Stock(NamedTuple):
    """Jobs that are ready."""

    jobs: int
    units: int  #: core units of those that can run as soon as others end
    blocked: int  #: core units of classes that found no place: others may pass them


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

    def __iter__(self) -> Iterator[JobClass]:
        return iter(self._by_request.values())

    def ranked(self) -> list[JobClass]:
        """Return the classes that have jobs ready, in the order to serve them."""
        waiting = [c for c in self._by_request.values() if c.ready]
        return sorted(waiting, key=JobClass.rank)

    def highest_priority(self) -> int:
        """Return the priority of the job that is first in the queue."""
        return max((c.ready[0].priority for c in self._by_request.values() if c.ready), default=0)

    def stock(self, node_cores: int) -> Stock:
        """Return what is ready, on nodes of so many cores."""
        jobs = units = blocked = 0
        for job_class in self._by_request.values():
            if job_class.ready:
                jobs += len(job_class.ready)
                needs = len(job_class.ready) * job_class.request.all_core_units(node_cores)
                if job_class.places or job_class.is_new:
                    units += needs
                else:
                    blocked += needs
        return Stock(jobs, units, blocked)

    def stock_per_place(self) -> float:
        """Return how many jobs to have in stock for each place: enough for `STOCK_SECONDS`."""
        means = [c.mean_seconds for c in self._by_request.values() if c.mean_seconds is not None]
        return STOCK_SECONDS / max(min(means), 1e-4) if means else 0.0

    def remove(self, job: Job) -> None:
        """Take a job that waits out of its class."""
        self.of(job).ready.remove(job)
