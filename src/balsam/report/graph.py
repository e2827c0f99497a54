"""Graphs of jobs as they are drawn: read from a client, and made small enough to be looked at.

A graph of ten thousand alike jobs is read by nobody, so jobs that are alike are drawn as one
node with a count: as few such nodes as show the graph's shape.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from enum import StrEnum
from typing import NamedTuple

from balsam.client.interface import Client
from balsam.model.graph import Kind
from balsam.model.query import Query
from balsam.model.states import STATES, State

FIELDS = ("name", "workflow", "application", "state", "parents", "parents_failed", "parents_any")
_PARENTS = ((Kind.OK, "parents"), (Kind.FAIL, "parents_failed"), (Kind.ANY, "parents_any"))
_KINDS = tuple(Kind)
#: What still fits a picture.
MOST_NODES, MOST_EDGES = 100, 400


class Level(StrEnum):
    """Which jobs are drawn as one node."""

    JOBS = "jobs"  #: none
    EQUAL = "equal"  #: those of one app and state that wait for the same nodes
    LAYERS = "layers"  #: those of one app and the same number of jobs above them
    APPS = "apps"  #: those of one app


class JobGraph:
    """Jobs and the dependencies among them, in columns: a million fit into memory.

    Jobs are known by their position, in the order in which they were added.
    """

    def __init__(self) -> None:
        self.ids = array("q")
        self.names: list[str] = []
        self.states: list[State] = []
        self.programs: list[tuple[str, str]] = []  #: (workflow, application)
        self.parents = array("q")  #: of each edge: the parent's position
        self.children = array("q")
        self.kinds = bytearray()  #: places in `Kind`
        self.outside: dict[int, int] = {}  #: position → parents that are not among the jobs

    def __len__(self) -> int:
        return len(self.ids)

    def edges(self) -> Iterable[tuple[int, int, Kind]]:
        """Yield (parent, child, kind) of all edges, by position of the child."""
        for parent, child, kind in zip(self.parents, self.children, self.kinds, strict=True):
            yield parent, child, _KINDS[kind]


def read_graph(client: Client, query: Query) -> JobGraph:
    """Return the selected jobs (at most as many as the query's limit), read by keyset pages."""
    graph = JobGraph()
    shared: dict[tuple[str, str], tuple[str, str]] = {}
    edges: list[array[int]] = [array("q"), array("q")]
    kinds = bytearray()
    for job in client.iterate_jobs(query, FIELDS):
        position = len(graph.ids)
        program = job.workflow, job.application
        graph.ids.append(job.id or 0)
        graph.names.append(job.name)
        graph.states.append(job.state)
        graph.programs.append(shared.setdefault(program, program))
        for place, (_, field) in enumerate(_PARENTS):
            for parent in getattr(job, field):
                edges[0].append(parent)
                edges[1].append(position)
                kinds.append(place)
        if position + 1 == query.limit:
            break
    places = {job: position for position, job in enumerate(graph.ids)}
    for parent, child, kind in zip(*edges, kinds, strict=True):
        found = places.get(parent)
        if found is None:
            graph.outside[child] = graph.outside.get(child, 0) + 1
        else:
            graph.parents.append(found)
            graph.children.append(child)
            graph.kinds.append(kind)
    return graph


class Node(NamedTuple):
    """One job, or several alike."""

    id: int  #: of the first job
    name: str  #: of the first job
    workflow: str
    application: str
    states: dict[State, int]

    @property
    def jobs(self) -> int:
        return sum(self.states.values())


class Edge(NamedTuple):
    """The dependencies of one kind from the jobs of a node to those of another; by place."""

    parent: int
    child: int
    kind: Kind
    dependencies: int


class Picture(NamedTuple):
    """What is drawn."""

    level: Level
    nodes: list[Node]
    edges: list[Edge]

    @property
    def jobs(self) -> int:
        return sum(node.jobs for node in self.nodes)

    def fits(self) -> bool:
        """Tell whether it can still be looked at."""
        return len(self.nodes) <= MOST_NODES and len(self.edges) <= MOST_EDGES


def picture(graph: JobGraph, level: Level) -> Picture:
    """Return *graph* with the jobs that *level* takes for alike as one node."""
    return _picture(graph, level, _groups(graph, level))


def _picture(graph: JobGraph, level: Level, groups: Sequence[int]) -> Picture:
    first: dict[int, int] = {}
    states: list[Counter[State]] = []
    for position, group in enumerate(groups):
        if group not in first:
            first[group] = position
            states.append(Counter())
        states[group][graph.states[position]] += 1
    nodes = []
    for group, position in first.items():
        counts = {state: states[group][state] for state in STATES if state in states[group]}
        nodes.append(
            Node(graph.ids[position], graph.names[position], *graph.programs[position], counts)
        )
    edges = Counter((groups[parent], groups[child], kind) for parent, child, kind in graph.edges())
    return Picture(level, nodes, [Edge(*ends, count) for ends, count in edges.items()])


def fitting_picture(graph: JobGraph) -> Picture:
    """Return the picture with the most nodes that fits, or that of the apps."""
    for level in (Level.JOBS, Level.EQUAL, Level.LAYERS):
        groups = _groups(graph, level)
        if max(groups, default=0) >= MOST_NODES:
            continue
        drawn = _picture(graph, level, groups)
        if drawn.fits():
            return drawn
    return picture(graph, Level.APPS)


def _groups(graph: JobGraph, level: Level) -> Sequence[int]:
    """Return the number of each job's group; groups are numbered as they are met."""
    match level:
        case Level.JOBS:
            return range(len(graph))
        case Level.EQUAL:
            return _renumbered(_equal(graph))
        case Level.LAYERS:
            return _renumbered(zip(graph.programs, depths(graph), strict=True))
        case Level.APPS:
            return _renumbered(graph.programs)


def _renumbered(keys: Iterable[Hashable]) -> list[int]:
    numbers: dict[Hashable, int] = {}
    return [numbers.setdefault(key, len(numbers)) for key in keys]


class _Above:
    """The edges to each job's parents, and an order in which parents come first."""

    def __init__(self, graph: JobGraph) -> None:
        count = len(graph)
        self.edges: list[list[int]] = [[] for _ in range(count)]
        below: list[list[int]] = [[] for _ in range(count)]
        left = [0] * count
        for edge, child in enumerate(graph.children):
            self.edges[child].append(edge)
            below[graph.parents[edge]].append(child)
            left[child] += 1
        self.order = [job for job in range(count) if not left[job]]
        for job in self.order:  # grows as it is walked
            for child in below[job]:
                left[child] -= 1
                if not left[child]:
                    self.order.append(child)


def depths(graph: JobGraph) -> list[int]:
    """Return how many jobs the longest way down to each job has, itself left out."""
    above = _Above(graph)
    found = [0] * len(graph)
    for job in above.order:
        found[job] = max((found[graph.parents[edge]] + 1 for edge in above.edges[job]), default=0)
    return found


def _equal(graph: JobGraph) -> list[int]:
    """Return a number for each job, the same for jobs that are alike and wait for the alike."""
    above = _Above(graph)
    numbers: dict[Hashable, int] = {}
    found = [0] * len(graph)
    for job in above.order:
        waits = frozenset(
            (found[graph.parents[edge]], graph.kinds[edge]) for edge in above.edges[job]
        )
        key = graph.programs[job], graph.states[job], waits
        found[job] = numbers.setdefault(key, len(numbers))
    return found
