"""The planner: decides what a launcher does. Pure: events in, actions out, the time given.

The driver calls the methods that are named for events as these happen, then `plan`, and
carries out the actions that it returns. `take_report` gives what the database is to be told.

Why it is right, in short:

* A job is in `held` exactly while the launcher has its lease, so what is reported is fenced.
* A task is on exactly one node's list from the moment it is sent until its end, its return
  or the node's loss is heard; each of the three moves the job on, so none is forgotten.
* Resources are taken with a place and given back with it; workers run one task on a place
  at a time. So what runs never exceeds what the node has.
* Whatever waits for somebody has an event that ends the wait: an end, a confirmation of the
  database, the loss of a worker, or the clock (`wake_at`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from balsam.errors import CannotStart
from balsam.launcher import careers
from balsam.launcher.careers import Held, Step
from balsam.launcher.journal import Sent
from balsam.launcher.messages import Done, Ended, Place, Started, Task
from balsam.launcher.placement import HOOKS, Classes, JobClass, Node
from balsam.launcher.tasks import TaskBuilder
from balsam.model.job import Job
from balsam.model.resources import UNITS, NodeResources
from balsam.model.states import State
from balsam.model.wire import Attempt, Lease, LeaseRequest, Move, Refusal, Report

#: Seconds after which an idle launcher looks for work by itself, though no bell rang.
LOOK_SECONDS = 5.0
#: Seconds that a class without any place is passed over before the others make room for it.
PATIENCE_SECONDS = 10.0
#: Seconds between SIGTERM and SIGKILL when a user kills a job.
KILL_SECONDS = 0.5
#: Most jobs leased at once, and most held back for the free places.
LARGEST_LEASE, LARGEST_STOCK = 1000, 4000


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


class Options(msgspec.Struct, kw_only=True):
    """What a planner is told once."""

    launcher_id: int
    site: str
    lease: LeaseRequest  #: whose jobs, and which; sizes are filled in as workers join
    idle_seconds: float
    persistent: bool = False  #: never end for want of work
    grace_seconds: float = 10.0
    ends_at: float | None = None  #: when the allocation is over
    hooks: int = 1  #: most hooks at a time
    hook_seconds: float = 0.0


class Planner:
    """See the module's head."""

    def __init__(self, options: Options, builder: TaskBuilder) -> None:
        self.options = options
        self.held: dict[int, Held] = {}
        self.labels: dict[int, str] = {}  #: how the log calls the jobs in hand
        self.stopping = ""  #: why no more is started
        self.unconfirmed = False  #: the database has not yet heard all that was taken
        self.started_count = self.ended_count = 0
        self._builder = builder
        self._classes = Classes()
        self._nodes: dict[str, Node] = {}
        self._tasks: dict[int, Held] = {}
        self._task_class: dict[int, int] = {}
        self._number = 0
        self._hooks: list[Held] = []  #: jobs that wait for a place for their hook
        self._report = Report(moves=[], attempts=[], released=[])
        self._attempts: dict[tuple[int, int], Attempt] = {}
        self._actions: list[Action] = []
        self._hungry = True  #: there may be jobs to lease
        self._leasing = False
        self._mean_units = UNITS
        self._idle_since: float | None = None
        self._looked_at = 0.0
        self._hook_deadlines: dict[int, float] = {}
        self._finished = False

    # what happened ------------------------------------------------------------------
    def worker_joined(self, name: str, resources: NodeResources) -> None:
        self._nodes[name] = Node(name, resources)
        request, nodes = self.options.lease, self._nodes.values()
        request.num_nodes = 1  # a job is placed on one node
        request.cores = max(n.slots.node.cores for n in nodes)
        request.gpus = max(len(n.slots.node.gpus) for n in nodes)
        request.memory_mib = max(n.slots.node.memory_mib for n in nodes)
        self._hungry = True

    def worker_lost(self, name: str, message: str, now: float) -> None:
        """Everything that was on the node runs again."""
        node = self._nodes.pop(name, None)
        if node is None:
            return
        for number in list(node.grants):
            node.free(number)
        for task in node.tasks:
            held = self._end_task(task)
            if self._task_class.pop(task) == HOOKS:
                self._go_on(held, now)
            else:
                moves = careers.run_lost(held, self.options.launcher_id, node.host, now, message)
                self._tell(held, moves)
                self._go_on(held, now)

    def leased(self, lease: Lease, now: float) -> None:
        """Take jobs into hand."""
        self._leasing = False
        self._hungry = len(lease.jobs) >= self.options.lease.limit
        if lease.jobs:
            self._idle_since = None
        for job in lease.jobs:
            held = Held(job, lease.apps.get(job.application))
            self.held[job.id or 0] = held
            self.labels[job.id or 0] = f"[{job.name} | {job.job_id[:8]}]"
            self._go_on(held, now)
        cores = max((n.slots.node.cores for n in self._nodes.values()), default=1)
        if lease.jobs:
            units = sum(job.request.core_units(cores) for job in lease.jobs)
            self._mean_units = max(1, units // len(lease.jobs))

    def lease_failed(self) -> None:
        """The database could not answer; ask again when the clock says so."""
        self._leasing = False

    def work_may_have_come(self) -> None:
        """Somebody changed something."""
        self._hungry = True

    def jobs_of(self, tasks: Iterable[int]) -> list[int]:
        """Return the jobs whose runs these tasks are."""
        runs = [t for t in tasks if self._task_class.get(t, HOOKS) != HOOKS]
        return [self._tasks[task].job.id or 0 for task in runs]

    def heard(self, name: str, done: Done, now: float) -> None:
        """Take a worker's news."""
        node = self._nodes.get(name)
        if node is None:
            return
        for started in done.started:
            self._run_started(node, started)
        for ended in done.ended:
            if ended.task in node.tasks:
                self._task_ended(node, ended, now)
        for number in done.freed:
            node.free(number)
        for task in done.returned:
            held = self._forget_task(node, task)
            held.step = careers.next_step(held.job, held.app, held.state)
            self._go_on(held, now)

    def staged(self, job: int, note: str, error: str, now: float) -> None:
        """A job's files were moved, or could not be (*error*)."""
        held = self.held.get(job)
        if held is None:
            return
        if held.killed:
            held.step = Step.GIVE_BACK
        elif error:
            self._tell(held, [held.move(State.FAILED, now, error)])
        elif held.step is Step.STAGE_IN:
            self._tell(held, [held.move(State.STAGED_IN, now, note)])
        else:
            before = [held.move(State.POSTPROCESSED, now)] if held.state == State.RUN_DONE else []
            self._tell(held, [*before, held.move(State.JOB_FINISHED, now, note)])
        self._go_on(held, now)

    def confirmed(self, report: Report, refusals: list[Refusal], now: float) -> None:
        """The database has *report*, but for what it refused."""
        reached = {move.job: move.to_state for move in report.moves}
        for refusal in refusals:
            reached.pop(refusal.job)
            if refusal.job in self.held:
                self._drop(refusal.job)
            else:
                self._report.released.append(refusal.job)
        for job, state in reached.items():
            held = self.held.get(job)
            if held and held.confirming and held.state == state:
                held.confirming = False
                self._go_on(held, now)
        for job in {move.job for move in report.moves}.difference(self.held):
            self.labels.pop(job, None)
        if any(move.to_state in (State.JOB_FINISHED, State.FAILED) for move in report.moves):
            self._hungry = True  # children may have been released

    def killed(self, jobs: Iterable[int], now: float) -> None:
        """A user killed these: their state is USER_KILLED already."""
        for job in jobs:
            self._drop(job)

    def stop(self, reason: str) -> None:
        """Start nothing more, ask what runs to end, and finish when it has."""
        if self.stopping:
            return
        self.stopping = reason
        self._give_back_waiting()
        for node in self._nodes.values():
            self._actions.append(RecallTasks(node.name))
            running = [t for t in node.tasks if self._tasks[t].step is not Step.READY]
            for task in running:
                self._tasks[task].timed_out = True
            if running:
                self._actions.append(KillTasks(node.name, running, self.options.grace_seconds))

    def hurry(self) -> None:
        """Kill what is still running, without grace."""
        for node in self._nodes.values():
            self._actions.append(KillTasks(node.name, list(node.tasks), 0.0))

    # what to do ---------------------------------------------------------------------
    def plan(self, now: float) -> list[Action]:
        """Return what is to be done now."""
        if self.options.ends_at is not None and now >= self.stop_at(self.options.ends_at):
            self.stop("the launcher's time is over")
        if not self.stopping:
            self._serve_hooks(now)
            self._place_jobs(now)
            self._lease(now)
        self._force_hooks(now)
        self._finish(now)
        actions, self._actions = self._actions, []
        return actions

    def stop_at(self, ends_at: float) -> float:
        """Return when to begin the end: time for the grace, the kill and the last report."""
        return ends_at - self.options.grace_seconds - 2.0

    def wake_at(self, now: float) -> float:
        """Return when to call `plan` again at the latest, though nothing happened."""
        times = [self._looked_at + LOOK_SECONDS]
        if self.options.ends_at is not None:
            times.append(self.stop_at(self.options.ends_at))
        if self._idle_since is not None and not self.options.persistent:
            times.append(self._idle_since + self.options.idle_seconds)
        times += self._hook_deadlines.values()
        times += [
            c.waiting_since + PATIENCE_SECONDS
            for c in self._classes.ranked()
            if c.waiting_since is not None
        ]
        return min((t for t in times if t > now), default=now + LOOK_SECONDS)

    @property
    def has_report(self) -> bool:
        return bool(self._report.moves or self._attempts or self._report.released)

    @property
    def is_short_of_work(self) -> bool:
        """Places are free and nothing is there for them: news for the database cannot wait."""
        return not self._classes.ranked() and any(
            n.slots.core_units >= UNITS for n in self._nodes.values()
        )

    def take_report(self) -> Report:
        """Return what happened since the last call."""
        report, self._report = self._report, Report(moves=[], attempts=[], released=[])
        report.attempts = [msgspec.structs.replace(a) for a in self._attempts.values()]
        self._attempts = {}
        return report

    # the way of one job -------------------------------------------------------------
    def _go_on(self, held: Held, now: float) -> None:
        """Do, or queue, what the job needs next."""
        self._tell(held, careers.settle(held, now))
        job = held.job.id or 0
        if held.killed and held.step in (Step.READY, Step.ENDED):
            held.step = Step.GIVE_BACK
        match held.step:
            case Step.GIVE_BACK:
                self._report.released.append(job)
                del self.held[job]
            case Step.ENDED:
                self.ended_count += 1
                del self.held[job]
            case _ if self.stopping:
                self._report.released.append(job)
                del self.held[job]
            case Step.READY:
                job_class = self._classes.of(held.job)
                if held.job.attempt:
                    job_class.insert(held.job)
                else:
                    job_class.ready.append(held.job)
            case Step.PREPROCESS | Step.POSTPROCESS if not held.confirming:
                self._hooks.append(held)
            case Step.STAGE_IN | Step.STAGE_OUT if not held.confirming:
                self._actions.append(StageFiles(held.job, held.step is Step.STAGE_IN))

    def _tell(self, held: Held, moves: list[Move]) -> None:
        """Add to the next report. What a hook or the user may look at must be there first."""
        self._report.moves += moves
        if held.attempt is not None:
            self._attempts[held.attempt.job, held.attempt.number] = held.attempt
            if held.attempt.ended_at is not None:
                held.attempt = None
        if moves and held.step in (Step.POSTPROCESS, Step.STAGE_OUT, Step.PREPROCESS):
            held.confirming = True

    def _drop(self, job: int) -> None:
        """Let go of a job whose state somebody else has changed; end what runs of it."""
        held = self.held.get(job)
        if held is None:
            return
        held.killed = True
        if held.task is not None:
            for node in self._nodes.values():
                if held.task in node.tasks:
                    self._actions.append(KillTasks(node.name, [held.task], KILL_SECONDS))
            return
        if held.step is Step.READY:
            self._classes.remove(held.job)
        elif held in self._hooks:
            self._hooks.remove(held)
        elif held.step in (Step.STAGE_IN, Step.STAGE_OUT) and not held.confirming:
            return  # its files are being moved: `staged` lets it go
        self._report.released.append(job)
        del self.held[job]

    def _run_started(self, node: Node, started: Started) -> None:
        if started.task not in node.tasks or self._task_class[started.task] == HOOKS:
            return
        held = self._tasks[started.task]
        site, launcher = self.options.site, self.options.launcher_id
        self.started_count += 1
        self._tell(held, [careers.run_started(held, started, launcher, node.host, site)])

    def _task_ended(self, node: Node, ended: Ended, now: float) -> None:
        number = self._task_class[ended.task]
        held = self._forget_task(node, ended.task)
        if number == HOOKS:
            self._hook_deadlines.pop(ended.task, None)
            if held.killed:
                held.step = Step.GIVE_BACK
            elif held.timed_out:
                held.step = Step.GIVE_BACK  # another launcher runs the hook again
            else:
                self._tell(held, careers.hook_ended(held, ended, now))
        elif ended.pid == 0:
            if held.killed:
                held.step = Step.GIVE_BACK
            else:
                self._tell(held, [held.move(State.FAILED, ended.time, ended.message)])
        else:
            if held.attempt is not None and held.attempt.started_at is not None:
                self._classes[number].ran(ended.time - held.attempt.started_at)
            self._tell(held, careers.run_ended(held, ended, self.stopping))
        self._go_on(held, now)

    def _forget_task(self, node: Node, task: int) -> Held:
        node.forget(task, self._task_class.pop(task))
        return self._end_task(task)

    def _end_task(self, task: int) -> Held:
        held = self._tasks.pop(task)
        held.task = None
        return held

    # placing ------------------------------------------------------------------------
    def _next(self) -> int:
        self._number += 1
        return self._number

    def _serve_hooks(self, now: float) -> None:
        """Start hooks on the first node: that is where the launcher is."""
        node = next(iter(self._nodes.values()), None)
        if node is None or not self._hooks:
            return
        hooks, places, tasks = self._classes.hooks, [], []
        waiting, self._hooks = self._hooks, []
        for held in waiting:
            place = node.grant_hook(self._next(), hooks, self.options.hooks)
            if place is None:
                self._hooks.append(held)
                continue
            which = "preprocess" if held.step is Step.PREPROCESS else "postprocess"
            assert held.app is not None
            try:
                task = self._builder.hook(
                    self._next(), HOOKS, held.job, held.app, which, held.state
                )
            except CannotStart as error:
                node.free(place.id)
                self._tell(held, [held.move(State.FAILED, now, str(error))])
                self._go_on(held, now)
                continue
            self._register(node, held, task)
            if self.options.hook_seconds:
                self._hook_deadlines[task.id] = now + self.options.hook_seconds
            places.append(place)
            tasks.append(task)
        if tasks:
            self._actions.append(Send(node.name, places, tasks, []))

    def _force_hooks(self, now: float) -> None:
        for task, deadline in list(self._hook_deadlines.items()):
            if deadline <= now:
                del self._hook_deadlines[task]
                for node in self._nodes.values():
                    if task in node.tasks:
                        self._actions.append(KillTasks(node.name, [task], 0.0))

    def _register(self, node: Node, held: Held, task: Task) -> None:
        node.send(task)
        held.task = task.id
        self._tasks[task.id] = held
        self._task_class[task.id] = task.class_id

    def _place_jobs(self, now: float) -> None:
        """Give places to the classes in their order; what does not fit lets others pass.

        A class that has no place at all is passed over only for `PATIENCE_SECONDS`: then
        nothing else is started until it fits, so that large jobs are not starved.
        """
        sends: dict[str, Send] = {}
        for job_class in self._classes.ranked():
            for node in self._nodes.values():
                send = sends.setdefault(node.name, Send(node.name, [], [], []))
                self._fill(node, job_class, send, now)
            if not job_class.ready or job_class.places:
                job_class.waiting_since = None
                continue
            if job_class.waiting_since is None:
                job_class.waiting_since = now
            if now - job_class.waiting_since >= PATIENCE_SECONDS:
                break
        self._actions += [send for send in sends.values() if send.places or send.tasks]

    def _fill(self, node: Node, job_class: JobClass, send: Send, now: float) -> None:
        """Place jobs of one class on one node, then queue some behind its places."""
        while job_class.ready or node.queued(job_class) > 0:
            place = node.grant(self._next(), job_class)
            if place is None:
                break
            send.places.append(place)
            if node.queued(job_class) < 0 and not self._send_one(node, job_class, send, now):
                break
        room = node.placed.get(job_class.id, 0) * job_class.depth - node.queued(job_class)
        for _ in range(room):
            if not self._send_one(node, job_class, send, now):
                break

    def _send_one(self, node: Node, job_class: JobClass, send: Send, now: float) -> bool:
        """Send the first job of the class that can be started; False when none is left."""
        while job_class.ready:
            job = job_class.ready.popleft()
            held = self.held[job.id or 0]
            if self.options.ends_at is not None:
                seconds_left = self.stop_at(self.options.ends_at) - now
                if job.wall_time_minutes * 60 > seconds_left:  # cannot end here any more
                    held.step = Step.GIVE_BACK
                    self._go_on(held, now)
                    continue
            number = self._next()
            try:
                task = self._builder.run(number, job_class.id, job, held.app, job.attempt + 1)
            except CannotStart as error:
                self._tell(held, [held.move(State.FAILED, now, str(error))])
                self._go_on(held, now)
                continue
            held.step = Step.RUN
            self._register(node, held, task)
            send.tasks.append(task)
            send.runs.append(Sent(job.id or 0, job.attempt + 1, held.state, now, node.host))
            return True
        return False

    # getting work, and the end --------------------------------------------------------
    def _lease(self, now: float) -> None:
        """Ask for jobs when fewer are in stock than will soon be needed."""
        if now - self._looked_at >= LOOK_SECONDS:
            self._hungry = True
        if self._leasing or not self._hungry or not self._nodes:
            return
        cores = [n.slots.node.cores * UNITS for n in self._nodes.values()]
        count, units = self._classes.ready_units(max(cores) // UNITS)
        wanted = 2 * sum(cores) * (1 + self._classes.deepest())
        if units > wanted // 2 or count > LARGEST_STOCK:
            return
        limit = max(1, (wanted - units) // self._mean_units)
        self.options.lease.limit = min(limit, LARGEST_LEASE)
        if self.options.ends_at is not None:
            left = (self.stop_at(self.options.ends_at) - now) / 60
            self.options.lease.minutes_left = left
        self._looked_at, self._leasing = now, True
        self._actions.append(LeaseJobs(msgspec.structs.replace(self.options.lease)))

    def _finish(self, now: float) -> None:
        """End when there is nothing left to do, or when all has stopped."""
        if self.held or self.has_report or self.unconfirmed:
            self._idle_since = None
        elif self._finished or self._leasing or not (self._nodes or self.stopping):
            return
        elif self.stopping:
            self._actions.append(Finish(self.stopping))
            self._finished = True
        elif self._idle_since is None:
            self._idle_since = now
        elif not self.options.persistent and now - self._idle_since >= self.options.idle_seconds:
            self._actions.append(Finish("nothing left to do"))
            self._finished = True

    def _give_back_waiting(self) -> None:
        """Release what was leased and not begun."""
        for job, held in list(self.held.items()):
            moving = held.step in (Step.STAGE_IN, Step.STAGE_OUT) and not held.confirming
            if held.task is None and not moving:
                self._report.released.append(job)
                del self.held[job]
