"""The planner: decides what a launcher does. Pure: events in, actions out, the time given.

The driver calls the methods that are named for events as these happen, then `plan`, and
carries out the actions that it returns. `ledger` has what the database is to be told.

Why it is right, in short:

* A job is in `held` exactly while the launcher has its lease, so what is reported is fenced.
* A task is on exactly one spawner's list from the moment it is sent until its end, its return
  or the node's loss is heard; each of the three moves the job on, so none is forgotten.
* Resources are taken with a place and given back with it; workers run one task on a place
  at a time. So what runs never exceeds what the nodes have.
* A parallel job has one task, on its first node, and takes of all its nodes with one place. When
  another of them is lost, the task is ended, and the job runs again.
* Whatever waits for somebody has an event that ends the wait: an end, a confirmation of the
  database, the loss of a worker, or the clock (`wake_at`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from balsam.launcher import actions, careers
from balsam.launcher.blame import Blame
from balsam.launcher.board import Board
from balsam.launcher.careers import Held, Loss, Step
from balsam.launcher.deadline import Deadline
from balsam.launcher.dispatch import Dispatcher
from balsam.launcher.leasing import LOOK_SECONDS, Leasing
from balsam.launcher.ledger import Ledger
from balsam.launcher.messages import Done, Ended, Started
from balsam.launcher.options import Options
from balsam.launcher.placement import JobClass, Node
from balsam.launcher.tasks import TaskBuilder
from balsam.model.resources import NodeResources, capacity
from balsam.model.states import END_STATES, State
from balsam.model.transfer import after_transfers
from balsam.model.wire import Lease, Move, Refusal, Report

#: Seconds between SIGTERM and SIGKILL when a user kills a job.
KILL_SECONDS = 0.5


class Planner:
    """See the module's head."""

    def __init__(self, options: Options, builder: TaskBuilder) -> None:
        self.options = options
        self.held: dict[int, Held] = {}
        self.labels: dict[int, str] = {}  #: how the log calls the jobs in hand
        self.stopping = ""  #: why no more is started
        self.unconfirmed = False  #: the database has not yet heard all that was taken
        self.awaits_nodes = False  #: not all nodes have been there, and some may come yet
        self.started_count = self.ended_count = self.failed_count = 0
        self._board = Board()
        self._dispatcher = Dispatcher(self._board, builder, options.hooks, self._reject)
        self._blame = Blame(options.node_failure_limit)
        self._deadline = Deadline(options.ends_at, options.grace_seconds)
        self.ledger = Ledger()
        self._actions: list[actions.Action] = []
        self._leasing = Leasing(options.lease, options.stage_files)
        self._idle_since: float | None = None
        self._finished = False
        self._now = 0.0

    # what happened ------------------------------------------------------------------
    def worker_joined(
        self, name: str, resources: NodeResources, spawners: list[str] | None = None
    ) -> None:
        """A node's worker is there, with *spawners* (one of the node's name, if not given)."""
        self._board.join(name, resources, spawners or [name])
        self._nodes_changed()
        self._leasing.look()

    def _nodes_changed(self) -> None:
        request, nodes = self.options.lease, self._resources()
        request.num_nodes = max(1, len(nodes))
        request.cores = max((node.cores for node in nodes), default=1)
        request.gpus = max((len(node.gpus) for node in nodes), default=0)
        request.memory_mib = max((node.memory_mib for node in nodes), default=0)
        for held in self._board.nodes_changed():
            self._board.remove(held)
            self._release(held.job.id or 0)

    def _resources(self) -> list[NodeResources]:
        return [node.resources for node in self._board.nodes.values() if not node.set_aside]

    def worker_lost(self, name: str, message: str, now: float) -> None:
        """Everything that was on the node runs again."""
        node = self._board.nodes.get(name)
        if node is None:
            return
        lost = self._board.lose(name)
        self._dispatcher.node_lost(name)
        self._blame.paused.discard(node)
        self._nodes_changed()
        suspects = careers.suspects(lost.runs + [held for _, held in lost.cut])
        for spawner, held in lost.torn:
            self._actions.append(actions.SweepJob(spawner.name, held.job, held.job.attempt))
        for spawner, held in lost.cut:
            held.loss = Loss(node.host, now, message, held.job.id in suspects)
            assert held.task is not None
            self._actions.append(actions.KillTasks(spawner.name, [held.task], 0.0))
        for held in lost.runs:
            loss = Loss(node.host, now, message, held.job.id in suspects)
            self._lose_run(held, loss)
            self._go_on(held, now)
        for held in lost.hooks:
            self._go_on(held, now)

    def _lose_run(self, held: Held, loss: Loss) -> None:
        launcher, limit = self.options.launcher_id, self.options.crash_limit
        self._tell(held, careers.run_lost(held, launcher, loss, limit))

    def leased(self, lease: Lease, now: float) -> None:
        """Take jobs into hand."""
        self._leasing.answered(lease, self._resources(), now)
        self._deadline.learn(lease.run_times)
        for job in lease.jobs:
            held = Held(job, lease.apps.get(job.application), lease.results)
            if (run_time := self._deadline.run_time(job)) is not None:
                self._board.classes.of(job).expect(run_time)
            self.held[job.id or 0] = held
            self.labels[job.id or 0] = f"[{job.name} | {job.job_id[:8]}]"
            self._go_on(held, now)
        if self.held:
            self._idle_since = None

    def work_may_have_come(self) -> None:
        """Somebody changed something."""
        self._leasing.look(urgent=True)

    def jobs_of(self, tasks: Iterable[int]) -> list[int]:
        """Return the jobs whose runs these tasks are."""
        return [held.job.id or 0 for held in map(self._board.run_of, tasks) if held]

    def heard(self, name: str, done: Done, now: float) -> None:
        """Take a spawner's news."""
        spawner = self._board.spawner(name)
        if spawner is None:
            return
        for started in done.started:
            held = self._board.run_of(started.task)
            if held is not None:
                self._run_started(held, spawner.node, started)
        for ended in done.ended:
            self._task_ended(spawner.node, ended, now)
        self._board.take_places(done)
        for task in done.returned:
            held, _ = self._board.take_off(task)
            held.step = careers.next_step(held.job, held.app, held.state)
            self._go_on(held, now)

    def staged(self, job: int, note: str, error: str, now: float, *, stopped: bool = False) -> None:
        """A job's files were moved, could not be (*error*), or were *stopped* on their way."""
        self._leasing.staging -= 1
        held = self.held.get(job)
        if held is None:
            return
        if held.killed or stopped:
            held.step = Step.GIVE_BACK
        else:
            self._tell(held, [held.move(after_transfers(held.state, error), now, error or note)])
        self._go_on(held, now)

    def confirmed(self, report: Report, refusals: list[Refusal], now: float) -> None:
        """The database has *report*, but for what it refused."""
        reached = {move.job: move.to_state for move in report.moves}
        for refusal in refusals:
            reached.pop(refusal.job)
            if refusal.job in self.held:
                self._drop(refusal.job)
            else:
                self.ledger.release(refusal.job)
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
        for spawner, tasks in self._board.tasks():
            self._actions.append(actions.RecallTasks(spawner.name))
            for _, held in tasks:
                held.timed_out = True
            numbers, grace = [task for task, _ in tasks], self.options.grace_seconds
            self._actions.append(actions.KillTasks(spawner.name, numbers, grace))

    def hurry(self) -> None:
        """Kill what is still running, without grace."""
        for spawner, tasks in self._board.tasks():
            numbers = [task for task, _ in tasks]
            self._actions.append(actions.KillTasks(spawner.name, numbers, 0.0))

    # what to do ---------------------------------------------------------------------
    def plan(self, now: float) -> list[actions.Action]:
        """Return what is to be done now."""
        self._now = now
        if now >= self._deadline.stop_at:
            self.stop("the launcher's time is over")
        self._warn(now)
        if not self.stopping:
            self._actions += self._dispatcher.place(now, lambda held: self._can_end(held, now))
            left, too_long = self._deadline.minutes_left(now), self._deadline.too_long(now)
            request = self._leasing.due(now, self._board, left, too_long)
            self._actions += [actions.LeaseJobs(request)] if request else []
        self._finish(now)
        due, self._actions = self._actions, []
        return due

    def wake_at(self, now: float) -> float:
        """Return when to call `plan` again at the latest, though nothing happened."""
        times = self._leasing.times() + self._deadline.times()
        times += [node.paused_until for node in self._blame.paused]
        soonest = min((t for t in times if t > now), default=now + LOOK_SECONDS)
        return min(soonest, max(self._idle_ends_at, now + 0.001))

    @property
    def is_short_of_work(self) -> bool:
        """Places are free and nothing is there for them: news for the database cannot wait."""
        return not self._board.classes.ranked() and self._board.has_idle_cores

    def capacity(self) -> str:
        """Return what the nodes have that are there, in one line."""
        return capacity(self._resources())

    def status(self) -> str:
        """Return how far it is, in one line."""
        return (
            f"{self.ended_count} jobs ended, {self.started_count} runs started,"
            f" {len(self.held)} jobs in hand"
        )

    # the way of one job -------------------------------------------------------------
    def _go_on(self, held: Held, now: float) -> None:
        """Do, or queue, what the job needs next."""
        self._tell(held, careers.settle(held, now))
        job = held.job.id or 0
        too_large = held.step is Step.READY and not self._board.can_hold(held.job)
        leaves_files = held.step is Step.STAGE_OUT and self._leasing.leaves_files
        if held.killed or too_large or leaves_files:
            held.step = Step.GIVE_BACK
        match held.step:
            case Step.ENDED:
                self.ended_count += 1
                self.failed_count += held.state is State.FAILED
                del self.held[job]
            case _ if self.stopping or held.step is Step.GIVE_BACK:
                self._release(job)
            case Step.READY if not held.confirming:
                self._board.add(held)
            case Step.PREPROCESS | Step.POSTPROCESS if not held.confirming:
                self._board.add_hook(held)
            case Step.STAGE_IN | Step.STAGE_OUT if not held.confirming:
                self._leasing.staging += 1
                self._actions.append(actions.StageFiles(held.job, held.step is Step.STAGE_IN))

    def _release(self, job: int) -> None:
        """Others may go on with it."""
        self.ledger.release(job)
        del self.held[job]

    def _tell(self, held: Held, moves: list[Move]) -> None:
        """Add to the next report. What a hook or the user may look at must be there first."""
        self.ledger.add(held, moves)
        if moves and held.step in (Step.POSTPROCESS, Step.STAGE_OUT, Step.PREPROCESS):
            held.confirming = True

    def _drop(self, job: int) -> None:
        """Let go of a job whose state somebody else has changed; end what runs of it."""
        held = self.held.get(job)
        if held is None:
            return
        held.killed = True
        spawner = self._board.spawner_of(held)
        if spawner is not None and held.task is not None:
            self._actions.append(actions.KillTasks(spawner.name, [held.task], KILL_SECONDS))
        elif not held.is_staging:
            self._board.remove(held)
            self._release(job)

    def _reject(self, held: Held, reason: str) -> None:
        """A job cannot be started."""
        self._tell(held, [held.move(State.FAILED, self._now, reason)])
        self._go_on(held, self._now)

    def _can_end(self, held: Held, now: float) -> bool:
        """Tell whether there is time enough for a job; give it back where not."""
        if self._deadline.can_end(held.job, now):
            return True
        held.step = Step.GIVE_BACK
        self._go_on(held, now)
        return False

    def _run_started(self, held: Held, node: Node, started: Started) -> None:
        site, launcher = self.options.site, self.options.launcher_id
        self.started_count += 1
        grant = self._board.grants.get(started.place)
        if grant is not None:
            grant.started = started.time
        placement = grant.text if grant else ""
        self._tell(held, [careers.run_started(held, started, launcher, node.host, site, placement)])
        self._deadline.warn(held.job, held.app, started)

    def _warn(self, now: float) -> None:
        """Warn the jobs whose time will be over, as they wish."""
        for warned in self._deadline.due(now):
            held = self._board.run_of(warned.task)
            spawner = self._board.spawner_of(held) if held else None
            if spawner is not None:
                self._actions.append(actions.WarnTasks(spawner.name, [warned.task], warned.signal))

    def _task_ended(self, node: Node, ended: Ended, now: float) -> None:
        job_class, strays = self._board.class_of(ended.task), self._board.strays_of(ended.task)
        held, was_hook = self._board.take_off(ended.task)
        if was_hook:
            if held.killed or (held.timed_out and ended.exit_code):
                held.step = Step.GIVE_BACK  # in the second case another launcher runs it again
            else:
                self._tell(held, careers.hook_ended(held, ended, now))
                held.confirming = True  # it may have moved the job itself, or changed it
        elif ended.pid == 0:
            if held.killed:
                held.step = Step.GIVE_BACK
            else:
                self._tell(held, [held.move(State.FAILED, ended.time, ended.message)])
        else:
            if ended.exit_code:  # its ranks may not know, or ignore it
                for spawner in strays:
                    self._actions.append(actions.SweepJob(spawner.name, held.job, held.job.attempt))
            self._run_ended(held, node, job_class, ended)
        self._go_on(held, now)

    def _run_ended(self, held: Held, node: Node, job_class: JobClass, ended: Ended) -> None:
        if held.loss is not None and ended.exit_code:
            self._lose_run(held, held.loss)
            held.loss = None
            return
        if held.attempt is not None and held.attempt.started_at is not None:
            job_class.ran(ended.time - held.attempt.started_at)
        self._tell(held, careers.run_ended(held, ended, self.stopping))
        if not held.killed and not held.timed_out:
            nodes = self._board.nodes.values()
            due = self._blame.ended(node, held.job, ended, nodes, self._now)
            self._actions += due
            if due:  # a node was set aside, perhaps
                self._nodes_changed()

    # the end -----------------------------------------------------------------------
    def _finish(self, now: float) -> None:
        """End when there is nothing left to do, or when all has stopped."""
        awaits_more = (self.awaits_nodes and not self.stopping) or self._awaits_retry
        if self.held or not self.ledger.is_empty or self.unconfirmed or awaits_more:
            self._idle_since = None
        elif self._finished or self._leasing.is_asked or not (self._board.nodes or self.stopping):
            return
        elif self._idle_since is None and not self.stopping:
            self._idle_since = now
        elif self.stopping or now >= self._idle_ends_at:
            self._actions.append(actions.Finish(self.stopping or "nothing left to do"))
            self._finished = True

    @property
    def _awaits_retry(self) -> bool:
        """Whether a job will come that waits for its retry, in time for us."""
        retry_at = self._leasing.retry_at
        return not self.stopping and retry_at is not None and retry_at < self._deadline.stop_at

    @property
    def _idle_ends_at(self) -> float:
        if self._idle_since is None or self.options.persistent:
            return math.inf
        return self._idle_since + self.options.idle_seconds

    def _give_back_waiting(self) -> None:
        """Release what was leased and not begun."""
        for job, held in list(self.held.items()):
            if held.task is None and not held.is_staging:
                self._board.remove(held)
                self._release(job)
