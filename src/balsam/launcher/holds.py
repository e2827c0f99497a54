"""Nodes held for jobs that do not fit now, and what may pass these meanwhile. Pure.

As in EASY back-filling (Lifka, "The ANL/IBM SP scheduling system", 1995), but on every node:
those that will have room first are held for the first job of a class that has to wait. On
them, others are started only where that does not make it wait longer: when they will have
ended by then, or what they take is not what it waits for. Where nobody knows how long jobs
take, only the latter can be told.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from balsam.launcher.placement import Grant, JobClass, Node
from balsam.model.resources import Request
from balsam.nodes.slots import Slots

#: Most classes for which nodes are held at the same time.
MOST_HOLDS = 8
#: Seconds after which it is looked again when a job will start, where that was not known.
LOOK_SECONDS = 1.0


class Hold:
    """Nodes that wait for one job, and when they will all have room for it."""

    def __init__(self, request: Request, nodes: list[Node], time: float, made_at: float) -> None:
        self.request = request
        self.made_at = made_at
        self.nodes = {node.name: node for node in nodes}
        self.time = time  #: `math.inf`: not known
        #: What is free on a node beside what the job waits for, at a version of the node.
        self.spare: dict[str, tuple[int, Slots]] = {}


class Holds:
    """The holds of all classes."""

    def __init__(self) -> None:
        self._of: dict[int, Hold] = {}  # classes
        self._before: list[Hold] = []  # of the classes before the one that is looked at
        self._now = 0.0

    def begin(self, ranked: list[JobClass], now: float) -> None:
        """Go through the classes from the first again; *ranked* are those with jobs ready."""
        self._now, self._before = now, []
        self._of = {c.id: self._of[c.id] for c in ranked if c.id in self._of}

    def nodes_of(self, job_class: JobClass) -> Iterable[Node]:
        hold = self._of.get(job_class.id)
        return hold.nodes.values() if hold else ()

    def drop(self, job_class: JobClass) -> None:
        """The job that the nodes were held for has started, or waits no more."""
        self._of.pop(job_class.id, None)

    def lose(self, name: str) -> None:
        """A node is gone: hold others."""
        self._of = {c: hold for c, hold in self._of.items() if name not in hold.nodes}

    def hold(self, job_class: JobClass, nodes: Iterable[Node]) -> None:
        """Hold nodes for the first job of a class, if there are enough that can have room."""
        if len(self._before) >= MOST_HOLDS:
            return
        hold = self._of.get(job_class.id)
        if hold is None or (hold.time == math.inf and self._now >= hold.made_at + LOOK_SECONDS):
            free = [n for n in nodes if not any(n.name in each.nodes for each in self._before)]
            hold = self._choose(job_class.request, free)
        if hold is not None:
            self._of[job_class.id] = hold
            self._before.append(hold)

    def let_pass(self, job_class: JobClass, node: Node) -> bool:
        """Tell whether the class may start a job on the node, with those before it in mind."""
        return all(
            node.name not in hold.nodes or self._lets_pass(hold, job_class, node)
            for hold in self._before
        )

    def _lets_pass(self, hold: Hold, job_class: JobClass, node: Node) -> bool:
        seconds = job_class.longest
        if seconds is not None and self._now + seconds <= hold.time < math.inf:
            return True
        version, spare = hold.spare.get(node.name, (-1, node.slots))
        if version != node.version:
            _, spare = self._room(node, hold.request)
            spare.take(hold.request)
            hold.spare[node.name] = node.version, spare
        return spare.has_room(job_class.request)

    def _choose(self, request: Request, nodes: list[Node]) -> Hold | None:
        """Return a hold on the nodes that have room first; None where too few ever have."""
        times = []
        for number, node in enumerate(nodes):
            if not node.resources.shortage(request):
                time, _ = self._room(node, request)
                times.append((time, len(node.grants), number, node))
        if len(times) < request.num_nodes:
            return None
        chosen = sorted(times)[: request.num_nodes]
        return Hold(request, [node for *_, node in chosen], chosen[-1][0], self._now)

    def _room(self, node: Node, request: Request) -> tuple[float, Slots]:
        """Return when *node* has room for *request*, and what it has free then.

        Its places are given back in the order of their ends, those that are not known last.
        """
        slots, time = node.slots.copy(), self._now
        ends = sorted((self._end_of(grant), id, grant) for id, grant in node.grants.items())
        for end, _, grant in ends:
            if slots.has_room(request):
                break
            taken = grant.taken_on(node)
            if taken is not None:
                slots.give_back(taken)
                time = end
        return time, slots

    def _end_of(self, grant: Grant) -> float:
        """Return when a place will be free at the latest, as far as is known."""
        seconds = grant.job_class.longest
        if seconds is None:
            return math.inf
        started = self._now if grant.started is None else grant.started  # it will, at once
        return max(self._now, started + seconds)
