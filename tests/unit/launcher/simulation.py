"""A world for the planner: workers, a database and a clock, all in memory, driven by a seed.

It keeps account independently of the planner, and fails as soon as a promise is broken.
"""

from __future__ import annotations

from collections import ChainMap, deque
from collections.abc import Callable, Iterator
from heapq import heappop, heappush
from itertools import count
from pathlib import Path
from random import Random

import msgspec

from balsam.launcher.actions import (
    Finish,
    KillTasks,
    LeaseJobs,
    RecallTasks,
    Say,
    Send,
    StageFiles,
    SweepJob,
    WarnTasks,
)
from balsam.launcher.messages import Done, Ended, Place, Started, Task
from balsam.launcher.options import Options
from balsam.launcher.placement import HOOKS
from balsam.launcher.plan import Planner
from balsam.launcher.tasks import FunctionFiles, TaskBuilder
from balsam.model.app import App
from balsam.model.identity import JobIdentity
from balsam.model.job import Job
from balsam.model.resources import UNITS, NodeResources
from balsam.model.states import END_STATES, State
from balsam.model.wire import Lease, LeaseRequest, Outcome, Report
from tests.unit.launcher.database import LAUNCHER, Database

S = State
IDENTITY = JobIdentity(b"0123456789abcdef")
SITE = "/site"


class Worker:
    """Runs tasks as the worker does, without processes; counts what its node has in use."""

    def __init__(self, world: World, name: str, node: NodeResources) -> None:
        self.world = world
        self.name = name
        self.node = node
        self.alive = True
        self.places: dict[int, Place] = {}
        self.requests: dict[int, Job] = {}  #: a job of each lane
        self.elsewhere: dict[int, tuple[str, ...]] = {}  #: of parallel lanes, their other hosts
        self.queues: dict[int, deque[Task]] = {}
        self.idle: dict[int, list[Place]] = {}
        self.running: dict[int, tuple[Task, Place, float]] = {}
        self.resuming: dict[int, deque[tuple[Task, float, int]]] = {}  #: waited for others
        self.ends: dict[int, int] = {}  #: exit code that a task will have been ended with
        self.pid = count(1000)

    def run(self, places: list[Place], tasks: list[Task]) -> None:
        for task in tasks:
            if task.lane != HOOKS:
                self.requests[task.lane] = self.world.sent_job(task)
            if task.argv[0] == "mpi":
                first, *others = task.argv[1].split(",")
                assert first == self.node.host
                assert len(others) == self.requests[task.lane].num_nodes - 1
                assert len(set(others)) == len(others)
                self.elsewhere[task.lane] = tuple(others)
            self.queues.setdefault(task.lane, deque()).append(task)
        for place in places:
            assert place.id not in self.places
            self.places[place.id] = place
            self.idle.setdefault(place.lane, []).append(place)
        for worker in self.world.workers.values():
            worker.check_capacity()
        news = Done([], [], [], [])
        for lane in {p.lane for p in places} | {t.lane for t in tasks}:
            while self.idle.get(lane):
                self.use(self.idle[lane].pop(), news)
        self.say(news)

    def use(self, place: Place, news: Done) -> None:
        """Start the next task of the place's class on it, or give the place back."""
        resuming = self.resuming.get(place.lane)
        while resuming:
            task, seconds, code = resuming.popleft()
            if task.id in self.running:
                self.running[task.id] = task, place, self.running[task.id][2]
                self.world.after(seconds, lambda t=task, c=code: self.end(t, c))
                return
        queue = self.queues.get(place.lane)
        while queue:
            task = queue.popleft()
            if self.world.start(self, task, place, news):
                return
        del self.places[place.id]
        self.elsewhere.pop(place.lane, None)
        news.freed.append(place.id)

    def end(self, task: Task, exit_code: int) -> None:
        if not self.alive or task.id not in self.running:
            return
        _, place, _ = self.running.pop(task.id)
        ended = Ended(task.id, 1, self.world.now, exit_code, 1.0, 0.1, 0, "")
        news = Done([], [ended], [], [])
        self.world.ended(task)
        if place is not None:
            self.use(place, news)
        self.say(news)

    def wait(self, task: Task, seconds: float, rest: float, code: int) -> None:
        """A call waits for another job, for so long, then runs for the *rest*."""
        if not self.alive or task.id not in self.running:
            return
        _, place, started = self.running[task.id]
        assert place is not None
        self.running[task.id] = task, None, started
        news = Done([], [], [], [], blocked=[task.id])
        self.use(place, news)
        self.say(news)
        self.world.after(seconds, lambda: self.want_place(task, rest, code))

    def want_place(self, task: Task, rest: float, code: int) -> None:
        if not self.alive or task.id not in self.running:
            return
        self.resuming.setdefault(task.lane, deque()).append((task, rest, code))
        self.say(Done([], [], [], [], unblocked=[task.id]))

    def kill(self, tasks: list[int], grace: float) -> None:
        for number in tasks:
            if number in self.running:
                task, _, _ = self.running[number]
                obeys = grace > 0 and self.world.random.random() < 0.7
                delay = self.world.random.uniform(0, grace) if obeys else grace
                self.world.after(delay, lambda t=task, o=obeys: self.end(t, -15 if o else -9))
        self.give_back(set(tasks))

    def give_back(
        self, chosen: set[int] | None = None, lane: int | None = None, most: int = 0
    ) -> None:
        news = Done([], [], [], [])
        for each, queue in self.queues.items():
            if lane not in (None, each):
                continue
            back = [t for t in queue if chosen is None or t.id in chosen][-most:]
            news.returned.extend(t.id for t in back)
            for task in back:
                queue.remove(task)
        self.say(news)

    def say(self, news: Done) -> None:
        if news != Done([], [], [], []):
            self.world.deliver(self, news)

    def granted(self) -> Iterator[Place]:
        """The places that take something of this node, granted here or to another's worker."""
        yield from self.places.values()
        for worker in self.world.workers.values():
            for place in worker.places.values():
                if self.node.host in worker.elsewhere.get(place.lane, ()):
                    yield place

    def check_capacity(self) -> None:
        """What the granted places take never exceeds the node."""
        cores = memory = 0
        gpus: dict[str, int] = {}
        hooks = 0
        for place in self.granted():
            if place.lane == HOOKS:
                hooks += 1
                continue
            requests = ChainMap(*(worker.requests for worker in self.world.workers.values()))
            if place.lane not in requests:  # no job of its class could be made a task
                continue
            job = requests[place.lane]
            cores += job.request.core_units(self.node.cores)
            memory += job.memory_mib
            seen = place.environ.get("CUDA_VISIBLE_DEVICES", "")
            devices = seen.split(",") if seen else []
            assert len(devices) == -(-job.request.gpu_units // UNITS), (place, job.gpus_per_rank)
            for device in devices:
                share = min(job.gpus_per_rank, 1.0)
                gpus[device] = gpus.get(device, 0) + round(share * UNITS)
        assert cores <= self.node.cores * UNITS, "cores over-committed"
        assert memory <= self.node.memory_mib, "memory over-committed"
        assert all(units <= UNITS for units in gpus.values()), f"GPUs over-committed: {gpus}"
        assert set(gpus) <= set(self.node.gpus)
        assert hooks <= self.world.options.hooks, "more hooks than allowed"


class World:
    """One launcher from its start to its end."""

    def __init__(
        self,
        seed: int,
        nodes: NodeResources | list[NodeResources],
        jobs: list[Job],
        apps: dict[str, App],
        **options: float,
    ) -> None:
        self.random = Random(seed)
        self.now = 1_000_000.0
        self.database = Database(jobs, apps)
        if "ends_at" in options:
            options["ends_at"] += self.now
        self.options = Options(
            launcher_id=LAUNCHER,
            site=SITE,
            lease=LeaseRequest(limit=0),
            **({"idle_seconds": 2.0} | options),
        )
        builder = TaskBuilder(
            Path(SITE),
            IDENTITY,
            stream=False,
            mpi=lambda job, argv, environ, spot: ["mpi", ",".join(spot.hosts), *argv],
            functions=FunctionFiles(Path(SITE, "run")),
        )
        self.planner = Planner(self.options, builder)
        self.nodes = [nodes] if isinstance(nodes, NodeResources) else nodes
        self.workers: dict[str, Worker] = {}
        self.said: list[str] = []
        self.warned: list[tuple[float, int, int]] = []  #: when, which job, by which signal
        self.swept: list[tuple[str, int]] = []  #: what was to be killed where, of which job
        self.finished = ""
        self.executed: list[tuple[int, int]] = []  #: (job, attempt) in the order of their starts
        self.started_at: list[tuple[float, int]] = []
        self.leased_at: list[tuple[float, int]] = []
        self.in_hook: set[int] = set()
        self.known_killed: set[int | None] = set()  #: of which the planner was told
        #: What a run of a job does: seconds and exit code, or None when it cannot start.
        self.behaviour: Callable[[Job, int], tuple[float, int] | None] = lambda job, n: (1.0, 0)
        #: The same, where it depends on the node.
        self.on_node: Callable[[str, Job], tuple[float, int] | None] = lambda name, job: None
        #: Seconds for which a job waits for another in the middle of its run; 0: it does not.
        self.waits: Callable[[Job], float] = lambda job: 0.0
        #: What a hook does: seconds, exit code, and where it moves the job itself.
        self.hook: Callable[[Job], tuple[float, int, State | None]] = lambda job: (0.1, 0, None)
        self.staging_error: Callable[[Job], str] = lambda job: ""
        self.database_seconds: Callable[[], float] = lambda: self.random.uniform(0.001, 0.05)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = count()
        self._worker_numbers = count(1)
        self._pending = Report(moves=[], attempts=[], released=[])
        self._reporting = False
        self._clerk_free_at = self.now
        for node in self.nodes:
            self.join(node)

    # time
    def after(self, seconds: float, call: Callable[[], None]) -> None:
        heappush(self._events, (self.now + seconds, next(self._numbers), call))

    def run(self, hours: float = 10.0) -> None:
        """Go on until the planner finishes; fail when that takes more than *hours*."""
        limit = self.now + hours * 3600
        while not self.finished:
            self._act()
            if self.finished:
                break
            wake = self.planner.wake_at(self.now)
            assert wake > self.now
            if self._events and self._events[0][0] <= wake:
                self.now, _, call = heappop(self._events)
                call()
            else:
                self.now = wake
            assert self.now < limit, f"never finishes; in hand: {self._in_hand()}"

    def _in_hand(self) -> list[str]:
        return [f"{id_}: {h.state} {h.step}" for id_, h in self.planner.held.items()]

    def _act(self) -> None:
        for action in self.planner.plan(self.now):
            match action:
                case Send(node, places, tasks, runs):
                    for run in runs:
                        assert run.from_state == self.planner.held[run.job].state
                    started = {self.job_of(task).id for task in tasks}
                    assert not started & self.known_killed, "started although it was killed"
                    self._to(node, lambda w, p=places, t=tasks: w.run(p, t))
                case KillTasks(node, tasks, grace):
                    self._to(node, lambda w, t=tasks, g=grace: w.kill(t, g))
                case RecallTasks(node, lane, most):
                    self._to(node, lambda w, a=lane, m=most: w.give_back(None, a, m))
                case WarnTasks(node, tasks, number):
                    for task in tasks:
                        assert task in self.workers[node].running
                        id_ = self.job_of(self.workers[node].running[task][0]).id or 0
                        self.warned.append((self.now, id_, number))
                case Say(text):
                    self.said.append(text)
                case SweepJob(node, job, _):
                    self.swept.append((node, job.id or 0))
                case LeaseJobs(request):
                    self._ask(lambda r=request: self.database.lease(r, self.now), self._leased)
                case StageFiles(job, _):
                    error = self.staging_error(job)
                    id_ = job.id or 0
                    self.after(
                        self.random.uniform(0, 1),
                        lambda i=id_, e=error: self.planner.staged(i, "", e, self.now),
                    )
                case Finish(message):
                    self.finished = message
        self._flush()

    # the way to the database: one call at a time, in order
    def _ask(self, call: Callable[[], object], then: Callable[[object], None]) -> None:
        made = max(self.now, self._clerk_free_at) + self.database_seconds()
        self._clerk_free_at = made

        def make() -> None:
            answer = call()
            self.after(0.0, lambda: then(answer))

        self.after(made - self.now, make)

    def _leased(self, lease: object) -> None:
        assert isinstance(lease, Lease)
        self.leased_at += [(self.now, job.id or 0) for job in lease.jobs]
        self.planner.leased(lease, self.now)

    def _flush(self) -> None:
        if not self.planner.ledger.is_empty:
            news = self.planner.ledger.take()
            self._pending.moves += news.moves
            self._pending.attempts += news.attempts
            self._pending.released += news.released
        waiting = bool(self._pending.moves or self._pending.attempts or self._pending.released)
        self.planner.unconfirmed = waiting or self._reporting
        if waiting and not self._reporting:
            report, self._pending = self._pending, Report(moves=[], attempts=[], released=[])
            self._reporting = True
            self._ask(lambda: self.database.report(report), lambda r: self._reported(report, r))

    def _reported(self, report: Report, refusals: object) -> None:
        assert isinstance(refusals, list)
        self._reporting = False
        self.planner.unconfirmed = bool(
            self._pending.moves or self._pending.attempts or self._pending.released
        )
        self.planner.confirmed(report, refusals, self.now)

    # workers
    def join(self, node: NodeResources) -> None:
        worker = Worker(self, f"{node.host}-{next(self._worker_numbers)}", node)
        self.workers[worker.name] = worker
        self.planner.worker_joined(worker.name, node)

    def lose(self) -> None:
        """A worker dies with all it runs; some of its last words are lost."""
        if not self.workers:
            return
        worker = self.workers.pop(self.random.choice(list(self.workers)))
        worker.alive = False
        for task, _, _ in worker.running.values():
            self.ended(task)
        self.after(0.2, lambda: self.planner.worker_lost(worker.name, "died", self.now))
        self.after(1.0, lambda: self.join(worker.node))
        for other in self.workers.values():  # a parallel job may notice that a part is gone
            for task, place, _ in list(other.running.values()):
                hosts = other.elsewhere.get(task.lane, ()) if place else ()
                if worker.node.host in hosts and self.random.random() < 0.5:
                    self.after(0.1, lambda o=other, t=task: o.end(t, 255))

    def _to(self, name: str, call: Callable[[Worker], None]) -> None:
        worker = self.workers.get(name)
        if worker is not None:
            self.after(0.001, lambda: call(worker) if worker.alive else None)

    def deliver(self, worker: Worker, news: Done) -> None:
        def heard() -> None:
            if worker.alive or self.random.random() < 0.5:
                self.planner.heard(worker.name, news, self.now)

        self.after(0.002, heard)

    def sent_job(self, task: Task) -> Job:
        """The job of a task as it is now for the planner, whose retries the database hears of."""
        job = self.job_of(task)
        held = self.planner.held.get(job.id or 0)
        return msgspec.structs.replace(held.job if held else job)

    def job_of(self, task: Task) -> Job:
        id_ = IDENTITY.parse(task.environ["BALSAM_JOB_ID"])
        assert id_ is not None
        return self.database.jobs[id_]

    def start(self, worker: Worker, task: Task, place: Place, news: Done) -> bool:
        """Start a task on a worker; False when it cannot be started."""
        job = self.job_of(task)
        id_ = job.id or 0
        assert task.lane == place.lane
        if task.lane == HOOKS:
            seconds, code, moves_to = self.hook(job)
            assert id_ not in self.in_hook, "two hooks of one job at a time"
            self.in_hook.add(id_)
            handled = ("BALSAM_JOB_ERROR", S.RUN_ERROR), ("BALSAM_JOB_TIMEOUT", S.RUN_TIMEOUT)
            for variable, state in handled:
                if variable in task.environ:
                    # What the handler repairs must be in the database before it looks.
                    assert job.state in (state, S.USER_KILLED), f"the hook finds {job.state}"
            if moves_to is not None:
                self.after(seconds / 2, lambda: self._repair(worker, task, moves_to))
        else:
            found = self.on_node(worker.name, job) or self.behaviour(
                job, int(task.environ["BALSAM_ATTEMPT"])
            )
            if found is None:
                news.ended.append(Ended(task.id, 0, self.now, 1, 0.0, 0.0, 0, "no program"))
                return False
            seconds, code = found
            assert self.now >= self.database.not_before.get(id_, 0.0), "run before its time"
            self.executed.append((id_, int(task.environ["BALSAM_ATTEMPT"])))
            self.started_at.append((self.now, id_))
        worker.running[task.id] = task, place, self.now
        news.started.append(Started(task.id, 1, self.now, f"{SITE}/data/x.out", 0, place.id))
        waits = self.waits(job) if task.lane != HOOKS and task.lane > 0 else 0.0
        if waits:
            self.after(seconds / 2, lambda: worker.wait(task, waits, seconds / 2, code))
        else:
            self.after(seconds, lambda: worker.end(task, code))
        return True

    def _repair(self, worker: Worker, task: Task, state: State) -> None:
        job = self.job_of(task)
        if task.id in worker.running and job.state in (S.RUN_ERROR, S.RUN_TIMEOUT):
            self.database.move(job.id or 0, state)

    def ended(self, task: Task) -> None:
        if task.lane == HOOKS:
            self.in_hook.discard(self.job_of(task).id or 0)

    # users
    def kill(self, id_: int) -> None:
        """A user kills a job; the launcher hears of it with its next sign of life."""
        if self.database.jobs[id_].state in END_STATES:
            return
        self.database.move(id_, S.USER_KILLED)

        def tell() -> None:
            killed = self.database.killed()
            self.known_killed.update(killed)
            self.planner.killed(killed, self.now)

        self.after(0.3, tell)

    # the accounts
    def check(self) -> None:
        """Check what must hold when the launcher has ended."""
        assert not self.planner.held
        assert not [j.id for j in self.database.jobs.values() if j.launcher_id == LAUNCHER]
        for worker in self.workers.values():
            assert not worker.running
            assert not worker.places
        assert len(set(self.executed)) == len(self.executed), "an attempt was executed twice"
        told = set(self.database.attempts)
        assert set(self.executed) <= told, f"not told of {set(self.executed) - told}"
        for key, attempt in self.database.attempts.items():
            assert attempt.ended_at is not None, (key, attempt)
            assert attempt.outcome is not Outcome.RUNNING, (key, attempt)
        for id_, job in self.database.jobs.items():
            path = self.database.paths[id_]
            assert job.retries <= max([job.max_retries, *(rule.max for rule in job.retry)]), path
            lost = [self.outcome(id_, n) is Outcome.LOST for n in range(1, job.attempt + 1)]
            assert job.crashes <= sum(lost), path
            if self.options.crash_limit:
                assert job.crashes <= self.options.crash_limit, path
            failed = sum(self.outcome(id_, n) is Outcome.ERROR for n in range(1, job.attempt + 1))
            assert job.retries <= failed, f"charged without an error: {path}"
            assert path.count(S.JOB_FINISHED) <= 1
            if S.USER_KILLED in path:
                assert path[-1] == S.USER_KILLED

    def outcome(self, id_: int, number: int) -> Outcome | None:
        found = self.database.attempts.get((id_, number))
        return found.outcome if found else None
