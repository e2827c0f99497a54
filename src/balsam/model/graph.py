"""Rules for dependencies: what a parent's end means for a child."""

from __future__ import annotations

from collections.abc import Callable, Iterable
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


def find_path(
    start: int, goal: int, children: Callable[[list[int]], dict[int, list[int]]]
) -> list[int]:
    """Return a path of ids from *start* to *goal* along child edges, or [].

    Parameters
    ----------
    children
        Gives the children of many ids at once: one call a level, not one a job.
    """
    came_from: dict[int, int] = {start: start}
    level = [start]
    while level:
        if goal in came_from:
            path = [goal]
            while path[-1] != start:
                path.append(came_from[path[-1]])
            return path[::-1]
        following: list[int] = []
        for parent, found in children(level).items():
            for child in found:
                if child not in came_from:
                    came_from[child] = parent
                    following.append(child)
        level = following
    return []


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
