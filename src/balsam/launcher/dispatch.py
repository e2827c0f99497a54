"""Which job goes where: places are granted, class by class, and tasks made. Pure."""

from __future__ import annotations

from collections.abc import Callable

from balsam.errors import CannotStart
from balsam.launcher.actions import Action, RecallTasks, Send
from balsam.launcher.board import Board
from balsam.launcher.careers import Held, Step, hook_for
from balsam.launcher.holds import Holds
from balsam.launcher.messages import Place, Task
from balsam.launcher.placement import HOOKS, Grant, JobClass, Node, Spawner, Spot
from balsam.launcher.tasks import TaskBuilder
from balsam.lifecycle.journal import Sent
from balsam.nodes.slots import Taken


class Dispatcher:
    """Brings the waiting jobs of a board to its nodes.

    Parameters
    ----------
    most_hooks
        Hooks that may run at a time.
    reject
        Told of a job that cannot be started, with the reason.
    """

    def __init__(
        self,
        board: Board,
        builder: TaskBuilder,
        most_hooks: int,
        reject: Callable[[Held, str], None],
    ) -> None:
        self._board = board
        self._builder = builder
        self._most_hooks = most_hooks
        self._reject = reject
        self._holds = Holds()
        self._sends: dict[str, Send] = {}
        self._number = 0
        self._now = 0.0

    def _next(self) -> int:
        self._number += 1
        return self._number

    def node_lost(self, name: str) -> None:
        self._holds.lose(name)

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
        ranked = self._board.classes.ranked()
        self._holds.begin(ranked, now)
        for job_class in ranked:
            self._fill(job_class, can_end)
            if not job_class.ready:
                self._holds.drop(job_class)
            elif job_class is not ranked[-1]:  # there are others, which must not pass it
                usable = (node for node in self._board.nodes.values() if not node.set_aside)
                self._holds.hold(job_class, usable)
        self._board.touched.clear()
        recalls = self._recall_for_the_idle() if self._board.open else []
        for name in [name for name, node in self._board.open.items() if not node.slots.core_units]:
            del self._board.open[name]
        return [*(send for send in self._sends.values() if send.places or send.tasks), *recalls]

    def _send_to(self, spawner: Spawner) -> Send:
        return self._sends.setdefault(spawner.name, Send(spawner.name, [], [], []))

    def _place_hooks(self) -> None:
        """Start hooks on the node that joined first: mostly, that is where the launcher is."""
        node = next(iter(self._board.nodes.values()), None)
        if node is None or not self._board.hooks:
            return
        waiting, self._board.hooks = self._board.hooks, []
        for held in waiting:
            if self._board.classes.hooks.places >= self._most_hooks:
                self._board.hooks.append(held)
                continue
            job, app = held.job, held.app
            assert app is not None
            which = hook_for(job, app, held.state)
            try:
                task = self._builder.hook(self._next(), HOOKS, job, app, which, held.state)
            except CannotStart as error:
                self._reject(held, str(error))
                continue
            spawner = node.spawner_for(HOOKS)
            self._grant(self._board.classes.hooks, HOOKS, [], spawner)
            self._register(spawner, HOOKS, held, task)

    def _place_stranded(self) -> None:
        """Give places to tasks whose lane has none left.

        The worker may give a lane's last place back while further tasks are on their way.
        """
        for spawner, lane in list(self._board.stranded):
            job_class = self._board.classes[lane]
            while spawner.queued(lane) > 0 and self._grant_one(job_class, spawner.node, spawner):
                pass
            if spawner.queued(lane) <= 0 or spawner.placed.get(lane):
                self._board.stranded.discard((spawner, lane))

    def _grant(
        self, job_class: JobClass, lane: int, parts: list[tuple[Node, Taken]], spawner: Spawner
    ) -> Place:
        number = self._next()
        place = self._board.grants.add(number, Grant(job_class, lane, parts, spawner))
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
        for node in list(self._board.open.values()):
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
            for spawner in list(
                job_class.spawners if new else self._board.touched & job_class.spawners
            ):
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
        for node in dict.fromkeys((*self._holds.nodes_of(job_class), *self._board.open.values())):
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
        place = self._board.grants.add(number, Grant(job_class, -number, parts, spawner))
        bound = {tuple(n.slots.cpus(each, request.threads_per_core)) for n, each in parts}
        spot = Spot(
            hosts=tuple(node.host for node, _ in parts),
            cpus=bound.pop() if len(bound) == 1 else (),
            environ=place.environ,
        )
        if self._send(spawner, -number, job_class, held, spot):
            self._send_to(spawner).places.append(place)
        else:
            self._board.free(number)
        return True

    def _next_of(self, job_class: JobClass, can_end: Callable[[Held], bool]) -> Held | None:
        """Take the first job of the class that still can end."""
        while job_class.ready:
            held = self._board.take_first(job_class)
            if can_end(held):
                return held
        return None

    def _send(
        self, spawner: Spawner, lane: int, job_class: JobClass, held: Held, spot: Spot | None
    ) -> bool:
        """Send a job's run; tell whether it could be made a task."""
        job, attempt = held.job, held.job.attempt + 1
        try:
            task = self._builder.run(self._next(), lane, job, held.app, attempt, spot, held.results)
        except CannotStart as error:
            self._reject(held, str(error))
            return False
        held.step = Step.RUN
        self._register(spawner, job_class.id, held, task)
        sent = Sent(job.id or 0, attempt, held.state, self._now, spawner.node.host)
        self._send_to(spawner).runs.append(sent)
        return True

    def _register(self, spawner: Spawner, class_id: int, held: Held, task: Task) -> None:
        self._board.register(spawner, class_id, held, task)
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
        for job_class in self._board.classes:
            if job_class.ready or not job_class.depth or job_class.id in self._board.recalled:
                continue
            queues = [(s.queued(job_class.id), s) for s in job_class.spawners]
            waiting = [(count, s) for count, s in queues if count > 0]
            if not waiting or not any(map(job_class.fits, self._board.open.values())):
                continue
            count, spawner = max(waiting, key=lambda pair: pair[0])
            recalls.append(RecallTasks(spawner.name, job_class.id, (count + 1) // 2))
            self._board.recalled.add(job_class.id)
        return recalls
