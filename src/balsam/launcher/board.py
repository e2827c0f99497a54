"""Who works on what: nodes, the tasks on them, and the jobs that wait for a place. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from balsam.launcher.careers import Held
from balsam.launcher.messages import Done, Task
from balsam.launcher.placement import HOOKS, Classes, Grants, JobClass, Node, Spawner
from balsam.model.job import Job
from balsam.model.resources import UNITS, NodeResources


class Lost(NamedTuple):
    """What the loss of a node interrupts."""

    runs: list[Held]  #: whose run is over
    hooks: list[Held]  #: whose hook is over
    cut: list[tuple[Spawner, Held]]  #: parallel jobs of which a part is gone: to be ended
    torn: list[tuple[Spawner, Held]]  #: where the rest of a parallel job may still be


class Board:
    """Nodes, tasks and waiting jobs of one launcher."""

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}
        self.classes = Classes()
        self.grants = Grants()
        self._spawners: dict[str, Spawner] = {}
        self._held: dict[int, Held] = {}  # of tasks
        self._task: dict[int, tuple[int, int, Spawner]] = {}  # class, lane and where it is
        self._waiting: dict[int, Held] = {}  # ready jobs, by job id
        self.hooks: list[Held] = []  # jobs that wait for a place for their hook
        # Only what has changed is looked at again: nodes with something free, and spawners
        # whose tasks became fewer.
        self.open: dict[str, Node] = {}
        self.touched: set[Spawner] = set()
        self.stranded: set[tuple[Spawner, int]] = set()  # lanes with tasks and without places
        self._can_hold: dict[int, bool] = {}  # classes
        self.recalled: set[int] = set()  # classes of which tasks were asked back

    # nodes and tasks ------------------------------------------------------------------
    def join(self, name: str, resources: NodeResources, spawners: list[str]) -> None:
        node = Node(name, resources, spawners)
        self.nodes[name] = self.open[name] = node
        self._spawners.update((spawner.name, spawner) for spawner in node.spawners)

    @property
    def has_idle_cores(self) -> bool:
        return any(node.slots.core_units >= UNITS for node in self.open.values())

    def spawner(self, name: str) -> Spawner | None:
        return self._spawners.get(name)

    def lose(self, name: str) -> Lost:
        """Take a node away; return what that interrupts."""
        node = self.nodes.pop(name)
        self.open.pop(name, None)
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
        self.touched.difference_update(node.spawners)
        self.stranded = {each for each in self.stranded if each[0].node is not node}
        for job_class in self.classes:
            job_class.spawners.difference_update(node.spawners)
        return lost

    def ranks_of(self, task: int) -> list[Spawner]:
        """Return where a parallel job has processes, one spawner a node; [] for a serial one."""
        grant = self.grants.get(-self._task[task][1])
        return [node.spawners[0] for node, _ in grant.parts] if grant else []

    def strays_of(self, task: int) -> list[Spawner]:
        """Return where a task may leave processes that are not of its group: see `Sweep`."""
        held, spawner = self._held[task], self._task[task][2]
        in_container = held.app is not None and held.app.container.image
        return self.ranks_of(task) or ([spawner] if in_container else [])

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
        self.touched.add(spawner)
        self.recalled.discard(number)
        held = self._held.pop(task)
        held.task = None
        return held, number == HOOKS

    def take_places(self, done: Done) -> None:
        """Note what a spawner says of places: who left one, who needs one, which are free."""
        for task in done.blocked:
            self.block(task)
        for task in done.unblocked:
            self.unblock(task)
        for number in done.freed:
            self.free(number)

    def block(self, task: int) -> None:
        """A call waits for another job: it has no place, and needs none for now."""
        if task in self._task:
            _, lane, spawner = self._task[task]
            spawner.block(task, lane)

    def unblock(self, task: int) -> None:
        """A call that waited needs a place again."""
        if task in self._task:
            _, lane, spawner = self._task[task]
            spawner.unblock(task, lane)
            if spawner.queued(lane) > 0:
                self.stranded.add((spawner, lane))

    def free(self, number: int) -> None:
        """A place was given back."""
        grant = self.grants.free(number)
        if grant is None:
            return
        for node, _ in grant.parts:
            if node.name in self.nodes:
                self.open[node.name] = node
        if grant.lane > HOOKS and grant.spawner.queued(grant.lane) > 0:
            self.stranded.add((grant.spawner, grant.lane))

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
        self.recalled.discard(job_class.id)

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
        self.hooks.append(held)

    def take_first(self, job_class: JobClass) -> Held:
        """Take the first job of a class that has jobs ready: it waits no more."""
        return self._waiting.pop(job_class.ready.popleft().id or 0)

    def register(self, spawner: Spawner, class_id: int, held: Held, task: Task) -> None:
        """A job's task is sent to a spawner."""
        spawner.send(task)
        held.task = task.id
        self._held[task.id] = held
        self._task[task.id] = class_id, task.lane, spawner

    def remove(self, held: Held) -> None:
        """A job no longer waits for a place, for itself or for its hook."""
        if self._waiting.pop(held.job.id or 0, None) is not None:
            self.classes.remove(held.job)
        elif held in self.hooks:
            self.hooks.remove(held)
