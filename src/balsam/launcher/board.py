"""Who works on what: nodes, the tasks on them, and the jobs that wait for a place.

Pure bookkeeping for `plan`: places are granted here, class by class, and tasks made.
"""

from __future__ import annotations

from collections.abc import Callable

from balsam.errors import CannotStart
from balsam.launcher.actions import Send
from balsam.launcher.careers import Held, Step
from balsam.launcher.journal import Sent
from balsam.launcher.messages import Task
from balsam.launcher.placement import HOOKS, Classes, JobClass, Node
from balsam.launcher.tasks import TaskBuilder
from balsam.model.resources import NodeResources

#: Seconds that a class without any place is passed over before the others make room for it.
PATIENCE_SECONDS = 10.0


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
        self, builder: TaskBuilder, most_hooks: int, reject: Callable[[Held, str], None]
    ) -> None:
        self.nodes: dict[str, Node] = {}
        self.classes = Classes()
        self._builder = builder
        self._most_hooks = most_hooks
        self._reject = reject
        self._held: dict[int, Held] = {}  # of tasks
        self._class_of: dict[int, int] = {}  # of tasks
        self._waiting: dict[int, Held] = {}  # ready jobs, by job id
        self._hooks: list[Held] = []  # jobs that wait for a place for their hook
        self._number = 0

    def _next(self) -> int:
        self._number += 1
        return self._number

    # nodes and tasks ------------------------------------------------------------------
    def join(self, name: str, resources: NodeResources) -> None:
        self.nodes[name] = Node(name, resources)

    def lose(self, name: str) -> tuple[Node | None, list[tuple[Held, bool]]]:
        """Take a node away; return it, and who was on it (and whether with a hook)."""
        node = self.nodes.pop(name, None)
        if node is None:
            return None, []
        for number in list(node.grants):
            node.free(number)
        return node, [self._forget(task) for task in list(node.tasks)]

    def _forget(self, task: int) -> tuple[Held, bool]:
        held = self._held.pop(task)
        held.task = None
        return held, self._class_of.pop(task) == HOOKS

    def run_of(self, task: int) -> Held | None:
        """Return the job whose run *task* is; None when it is a hook, or not known."""
        return None if self._class_of.get(task, HOOKS) == HOOKS else self._held[task]

    def class_of(self, task: int) -> JobClass:
        return self.classes[self._class_of[task]]

    def take_off(self, node: Node, task: int) -> tuple[Held, bool]:
        """A task has ended or come back: return its job, and whether it was a hook."""
        node.forget(task, self._class_of[task])
        return self._forget(task)

    def node_of(self, held: Held) -> Node | None:
        """Return the node that the job's task is on."""
        return next((n for n in self.nodes.values() if held.task in n.tasks), None)

    def tasks_on(self, node: Node) -> list[tuple[int, Held]]:
        return [(task, self._held[task]) for task in node.tasks]

    # waiting jobs -----------------------------------------------------------------------
    def add(self, held: Held) -> None:
        """Let a job wait for a place, where it belongs in its class."""
        self._waiting[held.job.id or 0] = held
        self.classes.of(held.job).insert(held.job)

    def add_hook(self, held: Held) -> None:
        self._hooks.append(held)

    def remove(self, held: Held) -> None:
        """A job no longer waits for a place, for itself or for its hook."""
        if self._waiting.pop(held.job.id or 0, None) is not None:
            self.classes.remove(held.job)
        elif held in self._hooks:
            self._hooks.remove(held)

    # granting ---------------------------------------------------------------------------
    def place(self, now: float, can_end: Callable[[Held], bool]) -> list[Send]:
        """Give places to the classes in their order; what does not fit lets others pass.

        A class that has no place at all is passed over only for `PATIENCE_SECONDS`: then
        nothing else is started until it fits, so that large jobs are not starved.

        Parameters
        ----------
        can_end
            Whether there is time enough for a job; where not, it is given back by whom
            is asked.
        """
        sends = {name: Send(name, [], [], []) for name in self.nodes}
        self._place_hooks(sends)
        for job_class in [*self._left_behind(), *self.classes.ranked()]:
            for node in self.nodes.values():
                self._fill(node, job_class, sends[node.name], now, can_end)
            if not job_class.ready or job_class.places:
                job_class.waiting_since = None
                continue
            if job_class.waiting_since is None:
                job_class.waiting_since = now
            if now - job_class.waiting_since >= PATIENCE_SECONDS:
                break
        return [send for send in sends.values() if send.places or send.tasks]

    def _left_behind(self) -> list[JobClass]:
        """Return the classes with tasks, but no more ready jobs, that want for places.

        The worker may give a class's last place back while further tasks are on their way.
        """
        numbers = {number for node in self.nodes.values() for number in node.short_of_places()}
        return [c for c in (self.classes[n] for n in sorted(numbers)) if not c.ready]

    def _place_hooks(self, sends: dict[str, Send]) -> None:
        """Start hooks on the first node: that is where the launcher is."""
        node = next(iter(self.nodes.values()), None)
        if node is None or not self._hooks:
            return
        waiting, self._hooks = self._hooks, []
        for held in waiting:
            place = node.grant_hook(self._next(), self.classes.hooks, self._most_hooks)
            if place is None:
                self._hooks.append(held)
                continue
            which = "preprocess" if held.step is Step.PREPROCESS else "postprocess"
            assert held.app is not None
            number = self._next()
            try:
                task = self._builder.hook(number, HOOKS, held.job, held.app, which, held.state)
            except CannotStart as error:
                node.free(place.id)
                self._reject(held, str(error))
                continue
            self._register(node, held, task)
            sends[node.name].places.append(place)
            sends[node.name].tasks.append(task)

    def _register(self, node: Node, held: Held, task: Task) -> None:
        node.send(task)
        held.task = task.id
        self._held[task.id] = held
        self._class_of[task.id] = task.class_id

    def _fill(
        self,
        node: Node,
        job_class: JobClass,
        send: Send,
        now: float,
        can_end: Callable[[Held], bool],
    ) -> None:
        """Place jobs of one class on one node, then queue some behind its places."""

        def send_one() -> bool:
            held = self._next_of(job_class, can_end)
            if held is None:
                return False
            self._send(node, job_class, held, send, now)
            return True

        while job_class.ready or node.queued(job_class) > 0:
            place = node.grant(self._next(), job_class)
            if place is None:
                break
            send.places.append(place)
            while node.queued(job_class) < 0 and send_one():
                pass
        while node.queued(job_class) < node.room_behind(job_class) and send_one():
            pass

    def _next_of(self, job_class: JobClass, can_end: Callable[[Held], bool]) -> Held | None:
        """Take the first job of the class that still can end."""
        while job_class.ready:
            held = self._waiting.pop(job_class.ready.popleft().id or 0)
            if can_end(held):
                return held
        return None

    def _send(self, node: Node, job_class: JobClass, held: Held, send: Send, now: float) -> None:
        job = held.job
        try:
            task = self._builder.run(self._next(), job_class.id, job, held.app, job.attempt + 1)
        except CannotStart as error:
            self._reject(held, str(error))
            return
        held.step = Step.RUN
        self._register(node, held, task)
        send.tasks.append(task)
        send.runs.append(Sent(job.id or 0, job.attempt + 1, held.state, now, node.host))
