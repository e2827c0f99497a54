"""A cluster for the plan: queues, launchers and jobs in memory, driven by a seed and the plan.

It keeps account independently of the plan, and fails as soon as a promise is broken. Times are in
minutes; records have seconds, as real ones.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from math import inf
from random import Random

import msgspec

from balsam.model.batch_job import BatchJob, BatchState
from balsam.model.demand import Waiting
from balsam.model.resources import NodeResources
from balsam.model.service import QueueState
from balsam.model.states import State
from balsam.model.walltime import time_limit
from balsam.model.wire import LauncherInfo
from balsam.schedulers.scheduler import Window
from balsam.service.demand import allocations_of, minutes_of, works_of
from balsam.service.estimate import Work, kind
from balsam.service.offer import most_nodes
from balsam.service.plan import Plan, Site, plan

#: Minutes from the start of a batch job until its launcher takes jobs.
BOOT = 0.3
#: Minutes that a launcher goes on without work; and between two looks of the service.
IDLE, LOOK = 2.0, 1.0
#: Minutes at the end of its time limit in which a launcher ends what runs.
GRACE = 0.2


class Task(msgspec.Struct, kw_only=True, eq=False):
    """A job of the campaign."""

    id: int
    asks: Waiting  #: what its class asks for
    rest: float  #: minutes that it really still needs
    parents: list[Task] = []
    arrives: float = 0.0
    runs: int = 0
    is_done: bool = False
    launcher: int | None = None
    ends: float = inf
    started: float = 0.0
    was_stopped: bool = False

    def state(self) -> State:
        if self.launcher is not None:
            return State.RUNNING
        ready = all(each.is_done for each in self.parents)
        return State.PREPROCESSED if ready else State.AWAITING_PARENTS


class Batch(msgspec.Struct, kw_only=True, eq=False):
    """A batch job, and the launcher in it."""

    record: BatchJob
    eligible: float  #: when the cluster would start it, were there nodes
    dies: float | None  #: so many minutes after its start it fails
    free: list[float] = []  #: of each node, the part that is free
    running: list[tuple[Task, list[int], float]] = []
    pilot: LauncherInfo | None = None
    idle_since: float = inf
    ran: int = 0

    @property
    def started(self) -> float:
        assert self.record.started_at is not None
        return self.record.started_at / 60

    @property
    def stops(self) -> float:
        """When its launcher ends what runs."""
        return self.started + time_limit(self.record.wall_time_minutes) - GRACE


class Cluster:
    """The campaign from its first job to its last.

    Parameters
    ----------
    sizes
        How many nodes each queue has.
    chance
        Of each batch job: that it fails or is cancelled by somebody.
    """

    def __init__(
        self,
        random: Random,
        tasks: Sequence[Task],
        queues: Sequence[QueueState],
        nodes: dict[str, NodeResources],
        *,
        sizes: dict[str, int],
        budget: float | None = None,
        chance: float = 0.0,
        delay: float = 10.0,
        backfill: bool = False,
    ) -> None:
        self.random, self.tasks, self.queues, self.nodes = random, tasks, queues, nodes
        self.sizes, self.budget, self.chance, self.delay = sizes, budget, chance, delay
        self.backfill = backfill
        self.now = 0.0
        self.batches: list[Batch] = []
        self.live: list[Batch] = []
        self.surplus: set[int] = set()
        self.plans = 0
        self.taken_back = 0
        self.failed = 0  #: that failed or were cancelled by somebody
        self.last: Plan | None = None

    # the service ------------------------------------------------------------------------

    def waiting(self) -> list[Waiting]:
        """Return the jobs that have not ended by class, as the record tells of them."""
        counted: Counter[tuple[Waiting, State, int | None, bool]] = Counter()
        examples: dict[tuple[Waiting, State, int | None, bool], int] = {}
        begun: dict[tuple[Waiting, State, int | None, bool], float] = defaultdict(float)
        for task in self.tasks:
            if not task.is_done and task.arrives <= self.now:
                key = task.asks, task.state(), task.launcher, task.was_stopped
                counted[key] += 1
                examples.setdefault(key, task.id)
                begun[key] += task.started * 60 if task.launcher is not None else 0.0
        return [
            msgspec.structs.replace(
                asks,
                state=state,
                launcher_id=launcher,
                was_timed_out=stopped,
                since=begun[asks, state, launcher, stopped] / count,
                count=count,
                example=examples[asks, state, launcher, stopped],
            )
            for (asks, state, launcher, stopped), count in counted.items()
        ]

    def foresee(self, *, queued: bool = True) -> Plan:
        """Return the plan of this moment; not *queued*: as if no queue had a most of requests."""
        waiting, now = self.waiting(), self.now * 60
        minutes = minutes_of([], 10.0, inf)
        pilots = {b.record.id: b.pilot for b in self.live if b.pilot}
        queues = self.queues
        if not queued:
            queues = [msgspec.structs.replace(queue, max_queued=None) for queue in queues]
        return plan(
            works_of(waiting, minutes, "me", now),
            Site(
                queues=queues,
                nodes=self.nodes,
                allocations=allocations_of(
                    [each.record for each in self.live],
                    pilots,
                    waiting,
                    minutes,
                    self.nodes,
                    "me",
                    now,
                ),
                windows=self.windows() if self.backfill else (),
                budget_left=None if self.budget is None else self.budget - self.spent(),
            ),
        )

    def windows(self) -> list[Window]:
        free = {name: self.free(name) for name in self.sizes}
        return [Window(queue=name, num_nodes=count) for name, count in free.items() if count]

    def spent(self) -> float:
        return sum(each.record.node_hours(self.now * 60) for each in self.batches)

    def look(self) -> None:
        """Plan, and carry it out."""
        self.plans += 1
        self.last = found = self.foresee()
        for asked in found.submissions:
            number = len(self.batches) + 1
            record = BatchJob(
                id=number,
                queue=asked.queue,
                num_nodes=asked.num_nodes,
                wall_time_minutes=asked.minutes,
                state=BatchState.QUEUED,
                service_id=1,
                created_at=self.now * 60,
            )
            dies = None
            if self.random.random() < self.chance:
                dies = self.random.choice((0.0, self.random.uniform(0, asked.minutes)))
            eligible = self.now + self.random.uniform(0, self.delay)
            batch = Batch(record=record, eligible=eligible, dies=dies)
            self.batches.append(batch)
            self.live.append(batch)
        self.check()
        again = self.surplus & set(found.surplus)
        self.surplus = set(found.surplus) - again
        for batch in [each for each in self.live if each.record.id in again]:
            assert batch.record.state is BatchState.QUEUED
            self.taken_back += 1
            self.end(batch, BatchState.CANCELLED)

    def check(self) -> None:
        """Fail when a limit is passed."""
        for queue in self.queues:
            live = [each.record for each in self.live if each.record.queue == queue.name]
            assert queue.max_queued is None or len(live) <= queue.max_queued
            for each in live:
                assert queue.min_nodes <= each.num_nodes <= most_nodes(queue)
                most = queue.max_minutes or inf
                assert queue.min_minutes <= each.wall_time_minutes <= most
        if self.budget is not None:
            assert self.spent() <= self.budget + 1e-9

    # the batch system -------------------------------------------------------------------

    def free(self, queue: str) -> int:
        """Return how many nodes of a queue are free."""
        held = [each.record for each in self.live if each.record.queue == queue]
        return self.sizes[queue] - sum(
            each.num_nodes for each in held if each.started_at is not None
        )

    def start(self) -> None:
        """Start the batch jobs for which there are nodes; in each queue in order."""
        for name in self.sizes:
            for batch in [each for each in self.live if each.record.queue == name]:
                if batch.record.started_at is not None:
                    continue
                if batch.eligible > self.now or batch.record.num_nodes > self.free(name):
                    break
                batch.record.state = BatchState.RUNNING
                batch.record.started_at = self.now * 60
                batch.free = [1.0] * batch.record.num_nodes
                batch.idle_since = self.now

    def end(self, batch: Batch, state: BatchState) -> None:
        batch.record.state = state
        batch.record.ended_at = self.now * 60
        for task, _, _ in list(batch.running):
            task.launcher, task.ends = None, inf
        batch.running = []
        batch.pilot = None
        self.live.remove(batch)

    # launchers --------------------------------------------------------------------------

    def work(self, batch: Batch) -> None:
        """Do what is due in an allocation now."""
        if batch.dies is not None and self.now >= batch.started + batch.dies - 1e-9:
            self.failed += 1
            self.end(batch, self.random.choice((BatchState.FAILED, BatchState.CANCELLED)))
            return
        for held in [each for each in batch.running if each[0].ends <= self.now + 1e-9]:
            task, places, part = held
            for place in places:
                batch.free[place] += part
            task.is_done, task.launcher, task.ends = True, None, inf
            batch.running.remove(held)
            batch.idle_since = self.now
        if self.now >= batch.stops - 1e-9:
            for task, _, _ in batch.running:  # they go on where they were stopped
                task.rest -= self.now - task.started
                task.was_stopped = True
            self.end(batch, BatchState.FINISHED)
            return
        if self.now >= batch.started + BOOT - 1e-9:
            if batch.pilot is None:
                number = batch.record.id or 0
                batch.pilot = LauncherInfo(id=number, host="h", pid=1, batch_job_id=number)
            self.fill(batch)
        if not batch.running and self.now >= batch.idle_since + IDLE - 1e-9:
            self.end(batch, BatchState.FINISHED)

    def fill(self, batch: Batch) -> None:
        """Start what there is room and time for, what needs most nodes and time first."""
        full: set[Waiting] = set()
        left = batch.stops - self.now
        for task in self.tasks:
            if task.is_done or task.launcher is not None or task.asks in full:
                continue
            if task.arrives > self.now or task.state() is not State.PREPROCESSED:
                continue
            if not task.was_stopped and task.asks.wall_time_minutes > left + 1e-9:
                continue
            places = self.places(batch, task)
            if places is None:
                full.add(task.asks)
                continue
            part = self.part(batch, task)
            for place in places:
                batch.free[place] -= part
            task.launcher, task.started = batch.record.id, self.now
            task.ends = self.now + task.rest
            task.runs += 1
            batch.ran += 1
            batch.running.append((task, places, part))

    def part(self, batch: Batch, task: Task) -> float:
        node = self.nodes[batch.record.queue]
        fits = kind(node, Work(request=task.asks.request, minutes=1, count=1, example=1))
        return 1.0 / fits.at_once if fits else inf

    def places(self, batch: Batch, task: Task) -> list[int] | None:
        part = self.part(batch, task)
        found = [n for n, free in enumerate(batch.free) if free >= part - 1e-9]
        count = task.asks.num_nodes
        return found[:count] if len(found) >= count else None

    # time -------------------------------------------------------------------------------

    def times(self) -> list[float]:
        """Return when something happens next, beside the looks of the service."""
        times = [task.arrives for task in self.tasks if task.arrives > self.now]
        for batch in self.live:
            if batch.record.started_at is None:
                times.append(batch.eligible)
                continue
            times += [task.ends for task, _, _ in batch.running]
            times += [batch.started + BOOT, batch.stops]
            if batch.dies is not None:
                times.append(batch.started + batch.dies)
            if not batch.running:
                times.append(batch.idle_since + IDLE)
        return [time for time in times if time > self.now + 1e-9]

    def run(self, most: float = 20_000) -> None:
        """Go on until all is quiet: no batch job is live, and the plan asks for none."""
        looked = -inf
        while self.now < most:
            self.start()
            for batch in list(self.live):
                if batch.record.started_at is not None:
                    self.work(batch)
            if self.now >= looked + LOOK - 1e-9:
                looked = self.now
                self.look()
                self.start()
            times = self.times()
            if not times and not self.live and looked == self.now:
                return
            self.now = min([*times, looked + LOOK])
        raise AssertionError(f"it goes on after {most} minutes: {self.tell()}")

    def tell(self) -> str:
        left = Counter(task.asks.wall_time_minutes for task in self.tasks if not task.is_done)
        lines = [
            f"{b.record.id} {b.record.queue} {b.record.num_nodes}x{b.record.wall_time_minutes:g}"
            f" made {b.record.created_at / 60:.1f} start {(b.record.started_at or -60) / 60:.1f}"
            f" end {(b.record.ended_at or -60) / 60:.1f} {b.record.state} ran {b.ran}"
            for b in self.batches
        ]
        return "\n".join(
            [f"{self.now:.1f} min, left by walltime {dict(left)}", *lines, str(self.last)]
        )
