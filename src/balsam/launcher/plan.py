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

import msgspec

from balsam.launcher import actions, careers
from balsam.launcher.board import PATIENCE_SECONDS, Board
from balsam.launcher.careers import Held, Loss, Step
from balsam.launcher.leasing import LOOK_SECONDS, Leasing
from balsam.launcher.messages import Done, Ended, Started
from balsam.launcher.placement import Node
from balsam.launcher.tasks import TaskBuilder
from balsam.model.resources import UNITS, NodeResources
from balsam.model.states import END_STATES, State
from balsam.model.wire import Attempt, Lease, LeaseRequest, Move, Refusal, Report

#: Seconds between SIGTERM and SIGKILL when a user kills a job.
KILL_SECONDS = 0.5


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
    crash_limit: int = 0  #: how often a job may be lost with its worker; 0: no limit


class Planner:
    """See the module's head."""

    def __init__(self, options: Options, builder: TaskBuilder) -> None:
        self.options = options
        self.held: dict[int, Held] = {}
        self.labels: dict[int, str] = {}  #: how the log calls the jobs in hand
        self.stopping = ""  #: why no more is started
        self.unconfirmed = False  #: the database has not yet heard all that was taken
        self.started_count = self.ended_count = 0
        self._board = Board(builder, options.hooks, self._reject)
        self._report = Report(moves=[], attempts=[], released=[])
        self._attempts: dict[tuple[int, int], Attempt] = {}
        self._actions: list[actions.Action] = []
        self._leasing = Leasing(options.lease)
        self._idle_since: float | None = None
        self._finished = False
        self._now = 0.0

    # what happened ------------------------------------------------------------------
    def worker_joined(self, name: str, resources: NodeResources) -> None:
        self._board.join(name, resources)
        request, nodes = self.options.lease, self._resources()
        request.num_nodes = 1  # a job is placed on one node
        request.cores = max(node.cores for node in nodes)
        request.gpus = max(len(node.gpus) for node in nodes)
        request.memory_mib = max(node.memory_mib for node in nodes)
        self._leasing.look()

    def _resources(self) -> list[NodeResources]:
        return [node.slots.node for node in self._board.nodes.values()]

    def worker_lost(self, name: str, message: str, now: float) -> None:
        """Everything that was on the node runs again."""
        node, lost = self._board.lose(name)
        suspects = careers.suspects([held for held, was_hook in lost if not was_hook])
        for held, was_hook in lost:
            if node and not was_hook:
                loss = Loss(node.host, now, message, held.job.id in suspects)
                launcher, limit = self.options.launcher_id, self.options.crash_limit
                self._tell(held, careers.run_lost(held, launcher, loss, limit))
            self._go_on(held, now)

    def leased(self, lease: Lease, now: float) -> None:
        """Take jobs into hand."""
        self._leasing.answered(lease, self._resources(), now)
        if lease.jobs:
            self._idle_since = None
        for job in lease.jobs:
            held = Held(job, lease.apps.get(job.application))
            self.held[job.id or 0] = held
            self.labels[job.id or 0] = f"[{job.name} | {job.job_id[:8]}]"
            self._go_on(held, now)

    def work_may_have_come(self) -> None:
        """Somebody changed something."""
        self._leasing.look(urgent=True)

    def jobs_of(self, tasks: Iterable[int]) -> list[int]:
        """Return the jobs whose runs these tasks are."""
        runs = [self._board.run_of(task) for task in tasks]
        return [held.job.id or 0 for held in runs if held]

    def heard(self, name: str, done: Done, now: float) -> None:
        """Take a worker's news."""
        node = self._board.nodes.get(name)
        if node is None:
            return
        for started in done.started:
            held = self._board.run_of(started.task)
            if held is not None:
                self._run_started(held, node, started)
        for ended in done.ended:
            self._task_ended(node, ended, now)
        for number in done.freed:
            node.free(number)
        for task in done.returned:
            held, _ = self._board.take_off(node, task)
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
        if report.released or any(move.to_state in END_STATES for move in report.moves):
            self._leasing.look()  # children are free, or a hook moved its job to where it can run

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
        for node in self._board.nodes.values():
            self._actions.append(actions.RecallTasks(node.name))
            running = self._board.tasks_on(node)
            for _, held in running:
                held.timed_out = True
            if running:
                tasks = [task for task, _ in running]
                self._actions.append(
                    actions.KillTasks(node.name, tasks, self.options.grace_seconds)
                )

    def hurry(self) -> None:
        """Kill what is still running, without grace."""
        for node in self._board.nodes.values():
            self._actions.append(actions.KillTasks(node.name, list(node.tasks), 0.0))

    # what to do ---------------------------------------------------------------------
    def plan(self, now: float) -> list[actions.Action]:
        """Return what is to be done now."""
        self._now = now
        if self.options.ends_at is not None and now >= self.stop_at(self.options.ends_at):
            self.stop("the launcher's time is over")
        if not self.stopping:
            self._actions += self._board.place(now, lambda held: self._can_end(held, now))
            request = self._leasing.due(now, self._board, self._minutes_left(now))
            self._actions += [actions.LeaseJobs(request)] if request else []
        self._finish(now)
        due, self._actions = self._actions, []
        return due

    def stop_at(self, ends_at: float) -> float:
        """Return when to begin the end: time for the grace, the kill and the last report."""
        return ends_at - self.options.grace_seconds - 2.0

    def _minutes_left(self, now: float) -> float | None:
        """Return the time that jobs have; None: any."""
        ends_at = self.options.ends_at
        return None if ends_at is None else (self.stop_at(ends_at) - now) / 60

    def wake_at(self, now: float) -> float:
        """Return when to call `plan` again at the latest, though nothing happened."""
        times = self._leasing.times()
        if self.options.ends_at is not None:
            times.append(self.stop_at(self.options.ends_at))
        times += [
            c.waiting_since + PATIENCE_SECONDS
            for c in self._board.classes.ranked()
            if c.waiting_since is not None
        ]
        soonest = min((t for t in times if t > now), default=now + LOOK_SECONDS)
        if self._idle_since is not None and not self.options.persistent:
            soonest = min(soonest, max(self._idle_since + self.options.idle_seconds, now + 0.001))
        return soonest

    @property
    def has_report(self) -> bool:
        return bool(self._report.moves or self._attempts or self._report.released)

    @property
    def is_short_of_work(self) -> bool:
        """Places are free and nothing is there for them: news for the database cannot wait."""
        return not self._board.classes.ranked() and any(
            node.slots.core_units >= UNITS for node in self._board.nodes.values()
        )

    def status(self) -> str:
        """Return how far it is, in one line."""
        return (
            f"{self.ended_count} jobs ended, {self.started_count} runs started,"
            f" {len(self.held)} jobs in hand"
        )

    def take_report(self) -> Report:
        """Return what happened since the last call."""
        report, self._report = self._report, Report(moves=[], attempts=[], released=[])
        # An attempt that goes on will change while the report is on its way.
        copy = msgspec.structs.replace
        report.attempts = [a if a.ended_at else copy(a) for a in self._attempts.values()]
        self._attempts = {}
        return report

    # the way of one job -------------------------------------------------------------
    def _go_on(self, held: Held, now: float) -> None:
        """Do, or queue, what the job needs next."""
        self._tell(held, careers.settle(held, now))
        job = held.job.id or 0
        grown = held.step is Step.READY and held.job.memory_mib > self.options.lease.memory_mib
        if held.killed or grown:
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
                self._board.add(held)
            case Step.PREPROCESS | Step.POSTPROCESS if not held.confirming:
                self._board.add_hook(held)
            case Step.STAGE_IN | Step.STAGE_OUT if not held.confirming:
                self._actions.append(actions.StageFiles(held.job, held.step is Step.STAGE_IN))

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
        node = self._board.node_of(held)
        if node is not None and held.task is not None:
            self._actions.append(actions.KillTasks(node.name, [held.task], KILL_SECONDS))
        elif held.step not in (Step.STAGE_IN, Step.STAGE_OUT) or held.confirming:
            self._board.remove(held)
            self._report.released.append(job)
            del self.held[job]

    def _reject(self, held: Held, reason: str) -> None:
        """A job cannot be started."""
        self._tell(held, [held.move(State.FAILED, self._now, reason)])
        self._go_on(held, self._now)

    def _can_end(self, held: Held, now: float) -> bool:
        """Tell whether there is time enough for a job; give it back where not."""
        left = self._minutes_left(now)
        if left is None or held.job.wall_time_minutes <= left:
            return True
        held.step = Step.GIVE_BACK
        self._go_on(held, now)
        return False

    def _run_started(self, held: Held, node: Node, started: Started) -> None:
        site, launcher = self.options.site, self.options.launcher_id
        self.started_count += 1
        self._tell(held, [careers.run_started(held, started, launcher, node.host, site)])

    def _task_ended(self, node: Node, ended: Ended, now: float) -> None:
        job_class = self._board.class_of(ended.task)
        held, was_hook = self._board.take_off(node, ended.task)
        if was_hook:
            if held.killed or (held.timed_out and ended.exit_code):
                held.step = Step.GIVE_BACK  # in the second case another launcher runs it again
            else:
                self._tell(held, careers.hook_ended(held, ended, now))
        elif ended.pid == 0:
            if held.killed:
                held.step = Step.GIVE_BACK
            else:
                self._tell(held, [held.move(State.FAILED, ended.time, ended.message)])
        else:
            if held.attempt is not None and held.attempt.started_at is not None:
                job_class.ran(ended.time - held.attempt.started_at)
            self._tell(held, careers.run_ended(held, ended, self.stopping))
        self._go_on(held, now)

    # the end -----------------------------------------------------------------------
    def _finish(self, now: float) -> None:
        """End when there is nothing left to do, or when all has stopped."""
        if self.held or self.has_report or self.unconfirmed or self._awaits_retry:
            self._idle_since = None
        elif self._finished or self._leasing.is_asked or not (self._board.nodes or self.stopping):
            return
        elif self._idle_since is None and not self.stopping:
            self._idle_since = now
        elif self.stopping or self._has_been_idle(now):
            self._actions.append(actions.Finish(self.stopping or "nothing left to do"))
            self._finished = True

    @property
    def _awaits_retry(self) -> bool:
        """Whether a job will come that waits for its retry, in time for us."""
        retry_at, ends_at = self._leasing.retry_at, self.options.ends_at
        if self.stopping or retry_at is None:
            return False
        return ends_at is None or retry_at < self.stop_at(ends_at)

    def _has_been_idle(self, now: float) -> bool:
        idle = 0.0 if self._idle_since is None else now - self._idle_since
        return idle >= self.options.idle_seconds and not self.options.persistent

    def _give_back_waiting(self) -> None:
        """Release what was leased and not begun."""
        for job, held in list(self.held.items()):
            moving = held.step in (Step.STAGE_IN, Step.STAGE_OUT) and not held.confirming
            if held.task is None and not moving:
                self._report.released.append(job)
                del self.held[job]
