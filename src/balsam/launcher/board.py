"""Who works on what: nodes, the tasks on them, and the jobs that wait for a place.

Pure bookkeeping for `plan`: places are granted here, class by class, and tasks made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from balsam.errors import CannotStart
from balsam.launcher.actions import Action, RecallTasks, Send
from balsam.launcher.careers import Held, Step
from balsam.launcher.holds import Holds
from balsam.launcher.journal import Sent
from balsam.launcher.messages import Place, Task
from balsam.launcher.placement import HOOKS, Classes, Grant, Grants, JobClass, Node, Spawner, Spot
from balsam.launcher.tasks import TaskBuilder
from balsam.model.job import Job
from balsam.model.resources import UNITS, NodeResources
from balsam.nodes.slots import Taken


class Lost(NamedTuple):
    """What the loss of a node interrupts."""

    runs: list[Held]  #: whose run is over
    hooks: list[Held]  #: whose hook is over
    cut: list[tuple[Spawner, Held]]  #: parallel jobs of which a part is gone: to be ended
    torn: list[tuple[Spawner, Held]]  #: where the rest of a parallel job may still be


class Board:
    """Nodes, tasks and waiting jobs of one launcher.

    Parameters
    ----------
    most_hooks
        Hooks that may run at a time.
    reject
        Told of a job that cannot be started, with the reason.
    """

    def __init__(
        self,
        builder: TaskBuilder,
        most_hooks: int,
        reject: Callable[[Held, str], None],
    ) -> None:
        self.nodes: dict[str, Node] = {}
        self.classes = Classes()
        self.grants = Grants()
        self._builder = builder
        self._most_hooks = most_hooks
        self._reject = reject
        self._spawners: dict[str, Spawner] = {}
        self._held: dict[int, Held] = {}  # of tasks
        self._task: dict[int, tuple[int, int, Spawner]] = {}  # class, lane and where it is
        self._waiting: dict[int, Held] = {}  # ready jobs, by job id
        self._hooks: list[Held] = []  # jobs that wait for a place for their hook
        self._number = 0
        # Only what has changed is looked at again: nodes with something free, and spawners
        # whose tasks became fewer.
        self._open: dict[str, Node] = {}
        self._touched: set[Spawner] = set()
        self._stranded: set[tuple[Spawner, int]] = set()  # lanes with tasks and without places
        self._holds = Holds()
        self._sends: dict[str, Send] = {}
        self._can_hold: dict[int, bool] = {}  # classes
        self._recalled: set[int] = set()  # classes of which tasks were asked back
        self._now = 0.0

    def _next(self) -> int:
        self._number += 1
        return self._number

    # nodes and tasks ------------------------------------------------------------------
    def join(self, name: str, resources: NodeResources, spawners: list[str]) -> None:
        node = Node(name, resources, spawners)
        self.nodes[name] = self._open[name] = node
        self._spawners.update((spawner.name, spawner) for spawner in node.spawners)

    @property
    def has_idle_cores(self) -> bool:
        return any(node.slots.core_units >= UNITS for node in self._open.values())

    def spawner(self, name: str) -> Spawner | None:
        return self._spawners.get(name)

    def lose(self, name: str) -> Lost:
        """Take a node away; return what that interrupts."""
        node = self.nodes.pop(name)
        self._open.pop(name, None)
        self._holds.lose(name)
        lost = Lost([], [], [], [])
        for spawner in node.spawners:
            del self._spawners[spawner.name]
            for task in list(spawner.tasks):
                others = [other for other in self.ranks_of(task) if other.node is not node]
                held, was_hook = self.take_off(task)
                (lost.hooks if was_hook else lost.runs).append(held)
                lost.torn.extend((other, held) for other in others)
        for number, grant in list(self.grants.items()):
            if grant.spawner.node is node:
                self.free(number)
            elif grant.taken_on(node) is not None:  # its start command is on another node
                tasks = [t for t in grant.spawner.tasks if self._task[t][1] == grant.lane]
                lost.cut.extend((grant.spawner, self._held[task]) for task in tasks)
                grant.parts[:] = [part for part in grant.parts if part[0] is not node]
        self._touched.difference_update(node.spawners)
        self._stranded = {each for each in self._stranded if each[0].node is not node}
        for job_class in self.classes:
            job_class.spawners.difference_update(node.spawners)
        return lost

    def ranks_of(self, task: int) -> list[Spawner]:
        """Return where a parallel job has processes, one spawner a node; [] for a serial one."""
        grant = self.grants.get(-self._task[task][1])
        return [node.spawners[0] for node, _ in grant.parts] if grant else []

    def run_of(self, task: int) -> Held | None:
        """Return the job whose run *task* is; None when it is a hook, or not known."""
        known = self._task.get(task)
        return None if known is None or known[0] == HOOKS else self._held[task]

    def class_of(self, task: int) -> JobClass:
        return self.classes[self._task[task][0]]

    def take_off(self, task: int) -> tuple[Held, bool]:
        """A task has ended or come back: return its job, and whether it was a hook."""
        number, lane, spawner = self._task.pop(task)
        spawner.forget(task, lane)
        self._touched.add(spawner)
        self._recalled.discard(number)
        held = self._held.pop(task)
        held.task = None
        return held, number == HOOKS

    def free(self, number: int) -> None:
        """A place was given back."""
        grant = self.grants.free(number)
        if grant is None:
            return
        for node, _ in grant.parts:
            if node.name in self.nodes:
                self._open[node.name] = node
        if grant.lane > HOOKS and grant.spawner.queued(grant.lane) > 0:
            self._stranded.add((grant.spawner, grant.lane))

    def spawner_of(self, held: Held) -> Spawner | None:
        """Return where the job's task is."""
        known = self._task.get(held.task) if held.task is not None else None
        return known[2] if known else None

    def tasks(self) -> Iterable[tuple[Spawner, list[tuple[int, Held]]]]:
        """Return all tasks that were sent, by where they are."""
        for spawner in self._spawners.values():
            if spawner.tasks:
                yield spawner, [(task, self._held[task]) for task in spawner.tasks]

    # waiting jobs -----------------------------------------------------------------------
    def add(self, held: Held) -> None:
        """Let a job wait for a place, where it belongs in its class."""
        self._waiting[held.job.id or 0] = held
        job_class = self.classes.of(held.job)
        job_class.insert(held.job)
        self._recalled.discard(job_class.id)

    def can_hold(self, job: Job) -> bool:
        """Tell whether the nodes, when nothing is on them, have room for a job."""
        job_class = self.classes.of(job)
        found = self._can_hold.get(job_class.id)
        if found is None:
            request, nodes = job_class.request, self.nodes.values()
            able = sum(not n.set_aside and not n.resources.shortage(request) for n in nodes)
            found = self._can_hold[job_class.id] = able >= request.num_nodes
        return found

    def nodes_changed(self) -> list[Held]:
        """A node is there, gone, or set aside: return the ready jobs that it leaves no room for."""
        self._can_hold.clear()
        waiting = [c.ready[0] for c in self.classes if c.ready]
        unfit = {self.classes.of(job).id for job in waiting if not self.can_hold(job)}
        if not unfit:
            return []
        return [h for h in self._waiting.values() if self.classes.of(h.job).id in unfit]

    def add_hook(self, held: Held) -> None:
        self._hooks.append(held)

    def remove(self, held: Held) -> None:
        """A job no longer waits for a place, for itself or for its hook."""
        if self._waiting.pop(held.job.id or 0, None) is not None:
            self.classes.remove(held.job)
        elif held in self._hooks:
            self._hooks.remove(held)

    # granting ---------------------------------------------------------------------------
    def place(self, now: float, can_end: Callable[[Held], bool]) -> list[Action]:
        """Give places to the classes in their order; what does not fit lets others pass.

        For the first job of a class that has to wait, nodes are held (see `holds`), so that
        those that come after it do not starve it.

        Parameters
        ----------
        can_end
            Whether there is time enough for a job; where not, it is given back by whom
            is asked.
        """
        self._now, self._sends = now, {}
        self._place_hooks()
        self._place_stranded()
        ranked = self.classes.ranked()
        self._holds.begin(ranked, now)
        for job_class in ranked:
            self._fill(job_class, can_end)
            if not job_class.ready:
                self._holds.drop(job_class)
            elif job_class is not ranked[-1]:  # there are others, which must not pass it
                usable = (node for node in self.nodes.values() if not node.set_aside)
                self._holds.hold(job_class, usable)
        self._touched.clear()
        recalls = self._recall_for_the_idle() if self._open else []
        for name in [name for name, node in self._open.items() if not node.slots.core_units]:
            del self._open[name]
        return [*(send for send in self._sends.values() if send.places or send.tasks), *recalls]

    def _send_to(self, spawner: Spawner) -> Send:
        return self._sends.setdefault(spawner.name, Send(spawner.name, [], [], []))

    def _place_hooks(self) -> None:
        """Start hooks on the first node: that is where the launcher is."""
        node = next(iter(self.nodes.values()), None)
        if node is None or not self._hooks:
            return
        waiting, self._hooks = self._hooks, []
        for held in waiting:
            if self.classes.hooks.places >= self._most_hooks:
                self._hooks.append(held)
                continue
            which = "preprocess" if held.step is Step.PREPROCESS else "postprocess"
            assert held.app is not None
            try:
                task = self._builder.hook(
                    self._next(), HOOKS, held.job, held.app, which, held.state
                )
            except CannotStart as error:
                self._reject(held, str(error))
                continue
            spawner = node.spawner_for(HOOKS)
            self._grant(self.classes.hooks, HOOKS, [], spawner)
            self._register(spawner, HOOKS, held, task)

    def _place_stranded(self) -> None:
        """Give places to tasks whose lane has none left.

        The worker may give a lane's last place back while further tasks are on their way.
        """
        for spawner, lane in list(self._stranded):
            job_class = self.classes[lane]
            while spawner.queued(lane) > 0 and self._grant_one(job_class, spawner.node, spawner):
                pass
            if spawner.queued(lane) <= 0 or spawner.placed.get(lane):
                self._stranded.discard((spawner, lane))

    def _grant(
        self, job_class: JobClass, lane: int, parts: list[tuple[Node, Taken]], spawner: Spawner
    ) -> Place:
        number = self._next()
        place = self.grants.add(number, Grant(job_class, lane, parts, spawner))
        self._send_to(spawner).places.append(place)
        return place

    def _grant_one(self, job_class: JobClass, node: Node, spawner: Spawner) -> bool:
        """Grant a place of the class on one node, if it has room."""
        taken = node.take(job_class.request)
        if taken is None:
            return False
        self._grant(job_class, job_class.id, [(node, taken)], spawner)
        return True

    def _fill(self, job_class: JobClass, can_end: Callable[[Held], bool]) -> None:
        """Place jobs of one class on all nodes that have room, then queue some behind."""
        new, job_class.is_new = job_class.is_new, False
        if job_class.is_parallel:
            while job_class.ready and self._start_parallel(job_class, can_end):
                pass
            return
        for node in list(self._open.values()):
            if not job_class.ready:
                break
            while job_class.ready and self._may_use(node, job_class):
                spawner = node.spawner_for(job_class.id)
                if not self._grant_one(job_class, node, spawner):
                    break
                while spawner.queued(job_class.id) < 0:
                    if not self._send_next(job_class, spawner, can_end):
                        break
        if job_class.depth and job_class.ready:
            for spawner in list(job_class.spawners if new else self._touched & job_class.spawners):
                if self._may_use(spawner.node, job_class):
                    self._queue_behind(job_class, spawner, can_end)

    def _queue_behind(
        self, job_class: JobClass, spawner: Spawner, can_end: Callable[[Held], bool]
    ) -> None:
        lane = job_class.id
        room = spawner.placed.get(lane, 0) * job_class.depth
        while spawner.queued(lane) < room and self._send_next(job_class, spawner, can_end):
            pass

    def _send_next(
        self, job_class: JobClass, spawner: Spawner, can_end: Callable[[Held], bool]
    ) -> bool:
        """Send the next job of the class to a spawner that has places; tell whether there was."""
        held = self._next_of(job_class, can_end)
        if held is None:
            return False
        self._send(spawner, job_class.id, job_class, held, None)
        return True

    def _start_parallel(self, job_class: JobClass, can_end: Callable[[Held], bool]) -> bool:
        """Start one job of a parallel class on as many nodes as it needs; tell whether it did."""
        request = job_class.request
        parts: list[tuple[Node, Taken]] = []
        for node in dict.fromkeys((*self._holds.nodes_of(job_class), *self._open.values())):
            if len(parts) == request.num_nodes:
                break
            if self._may_use(node, job_class):
                taken = node.take(request, parts[0][1] if parts else None)
                if taken is not None:
                    parts.append((node, taken))
        held = self._next_of(job_class, can_end) if len(parts) == request.num_nodes else None
        if held is None:
            for node, taken in parts:
                node.give_back(taken)
            return False
        self._holds.drop(job_class)
        number = self._next()
        first, taken = parts[0]
        spawner = first.spawner_for(-number)
        place = self.grants.add(number, Grant(job_class, -number, parts, spawner))
        bound = {tuple(n.slots.cpus(each, request.threads_per_core)) for n, each in parts}
        spot = Spot(
            hosts=tuple(node.host for node, _ in parts),
            cpus=bound.pop() if len(bound) == 1 else (),
            environ=place.environ,
        )
        if self._send(spawner, -number, job_class, held, spot):
            self._send_to(spawner).places.append(place)
        else:
            self.free(number)
        return True

    def _next_of(self, job_class: JobClass, can_end: Callable[[Held], bool]) -> Held | None:
        """Take the first job of the class that still can end."""
        while job_class.ready:
            held = self._waiting.pop(job_class.ready.popleft().id or 0)
            if can_end(held):
                return held
        return None

    def _send(
        self, spawner: Spawner, lane: int, job_class: JobClass, held: Held, spot: Spot | None
    ) -> bool:
        """Send a job's run; tell whether it could be made a task."""
        job, attempt = held.job, held.job.attempt + 1
        try:
            task = self._builder.run(self._next(), lane, job, held.app, attempt, spot)
        except CannotStart as error:
            self._reject(held, str(error))
            return False
        held.step = Step.RUN
        self._register(spawner, job_class.id, held, task)
        sent = Sent(job.id or 0, attempt, held.state, self._now, spawner.node.host)
        self._send_to(spawner).runs.append(sent)
        return True

    def _register(self, spawner: Spawner, class_id: int, held: Held, task: Task) -> None:
        spawner.send(task)
        held.task = task.id
        self._held[task.id] = held
        self._task[task.id] = class_id, task.lane, spawner
        self._send_to(spawner).tasks.append(task)

    def _may_use(self, node: Node, job_class: JobClass) -> bool:
        return (
            not node.set_aside
            and node.paused_until <= self._now
            and self._holds.let_pass(job_class, node)
        )

    def _recall_for_the_idle(self) -> list[Action]:
        """Ask tasks back that wait behind places while a node has room for them."""
        recalls: list[Action] = []
        for job_class in self.classes:
            if job_class.ready or not job_class.depth or job_class.id in self._recalled:
                continue
            queues = [(s.queued(job_class.id), s) for s in job_class.spawners]
            waiting = [(count, s) for count, s in queues if count > 0]
            if not waiting or not any(map(job_class.fits, self._open.values())):
                continue
            count, spawner = max(waiting, key=lambda pair: pair[0])
            recalls.append(RecallTasks(spawner.name, job_class.id, (count + 1) // 2))
            self._recalled.add(job_class.id)
        return recalls
