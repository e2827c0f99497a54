"""Rules for dependencies: what a parent's end means for a child."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable
from enum import StrEnum

from balsam.model.states import END_STATES, State


class Kind(StrEnum):
    """What a child needs of its parent."""

    OK = "ok"  #: the parent finished
    FAIL = "fail"  #: the parent failed
    ANY = "any"  #: the parent ended, however


class Verdict(StrEnum):
    """What a parent's state means for one of its children."""

    WAIT = "wait"
    MET = "met"
    NEVER = "never"


def verdict(kind: Kind, parent: State) -> Verdict:
    """Tell whether a dependency of *kind* is met by a parent in state *parent*."""
    if parent not in END_STATES:
        return Verdict.WAIT
    match kind:
        case Kind.ANY:
            return Verdict.MET
        case Kind.OK:
            return Verdict.MET if parent == State.JOB_FINISHED else Verdict.NEVER
        case Kind.FAIL:
            return Verdict.NEVER if parent == State.JOB_FINISHED else Verdict.MET


def settled_state(kind: Kind) -> State:
    """Return the end state of a child whose dependency can never be met.

    A child that needed its parent to finish has failed with it. A child that was there
    for the parent's failure is not needed: it is done without having run, so that a
    campaign in which nothing went wrong ends well as a whole.
    """
    return State.JOB_FINISHED if kind == Kind.FAIL else State.FAILED


#: Jobs of a cycle that a message shows.
_MOST_SHOWN = 12


def spelled_cycle(labels: list[str]) -> str:
    """Return a cycle, first job repeated last, as ``a → b → a``; of a long one both its ends."""
    left_out = len(labels) - _MOST_SHOWN
    if left_out > 1:
        half = _MOST_SHOWN // 2
        labels = [*labels[:half], f"… ({left_out} more) …", *labels[-half:]]
    return " → ".join(labels)


Neighbours = Callable[[list[int]], dict[int, list[int]]]


def find_path(start: int, goal: int, children: Neighbours, parents: Neighbours) -> list[int]:
    """Return a path of ids from *start* to *goal* along child edges, or [].

    Looks down from *start* and up from *goal*, always on the side that has cost less so far:
    whoever builds a graph from its top or from its end has one side with nothing to look at.

    Parameters
    ----------
    children, parents
        Give the neighbours of many ids at once: one call a level, not one a job.
    """
    if start == goal:
        return [start]
    down, up = _Search(start, children), _Search(goal, parents)
    while down.level and up.level:
        near, far = (down, up) if len(down.came_from) <= len(up.came_from) else (up, down)
        met = near.go_on(far.came_from)
        if met is not None:
            return down.way_back(met)[::-1] + up.way_back(met)[1:]
    return []


class _Search:
    """A search from one job, level by level."""

    def __init__(self, start: int, neighbours: Neighbours) -> None:
        self.level = [start]
        self.came_from = {start: start}
        self._neighbours = neighbours

    def go_on(self, others: Container[int]) -> int | None:
        """Look at the next level; return a job that is among *others*, if there is one."""
        following: list[int] = []
        for job, found in self._neighbours(self.level).items():
            for other in found:
                if other not in self.came_from:
                    self.came_from[other] = job
                    following.append(other)
                    if other in others:
                        return other
        self.level = following
        return None

    def way_back(self, job: int) -> list[int]:
        """Return the path from *job* to where the search began."""
        path = [job]
        while self.came_from[path[-1]] != path[-1]:
            path.append(self.came_from[path[-1]])
        return path


def find_cycle(edges: Iterable[tuple[int, int]]) -> list[int]:
    """Return one cycle among (parent, child) *edges* as ids, first repeated last, or []."""
    children: dict[int, list[int]] = {}
    degree: dict[int, int] = {}
    for parent, child in edges:
        children.setdefault(parent, []).append(child)
        degree[child] = degree.get(child, 0) + 1
        degree.setdefault(parent, degree.get(parent, 0))
    free = [node for node, count in degree.items() if count == 0]
    while free:
        node = free.pop()
        del degree[node]
        for child in children.get(node, ()):
            degree[child] -= 1
            if degree[child] == 0:
                free.append(child)
    if not degree:
        return []
    # Whatever is left lies on or behind a cycle: walk backwards until a node repeats.
    parent_of = {c: p for p, cs in children.items() if p in degree for c in cs if c in degree}
    node = next(iter(degree))
    seen: dict[int, int] = {}
    walk: list[int] = []
    while node not in seen:
        seen[node] = len(walk)
        walk.append(node)
        node = parent_of[node]
    cycle = [*walk[seen[node] :], node]
    return cycle[::-1]
