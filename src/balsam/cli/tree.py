"""`balsam ls --tree`: jobs as a forest, parents above their children."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from balsam.cli import columns, output
from balsam.cli.context import warn
from balsam.client.interface import Client
from balsam.errors import InvalidInput
from balsam.model.graph import Kind
from balsam.model.query import Query
from balsam.model.states import STATES

if TYPE_CHECKING:
    from balsam.report.graph import JobGraph

#: Children of one job that are shown, and levels.
WIDTH, DEPTH = 20, 20
_KINDS = {Kind.OK: "", Kind.FAIL: " (if it fails)", Kind.ANY: " (in any case)"}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that a tree alone has."""
    parser.add_argument(
        "--width",
        type=columns.row_limit,
        metavar="N",
        help=f"of a tree: at most N children of a job, the others are counted ({WIDTH}; 0: all)",
    )
    parser.add_argument(
        "--depth",
        type=columns.row_limit,
        metavar="N",
        help=f"of a tree: at most N levels ({DEPTH}; 0: all)",
    )


def check_options(args: argparse.Namespace) -> None:
    """Raise `InvalidInput` when options do not go with ``--tree``, or need it."""
    if args.tree and args.order:
        raise InvalidInput("--order and --tree exclude each other; a tree is ordered by id")
    for option in ("width", "depth"):
        if getattr(args, option) is not None and not args.tree:
            raise InvalidInput(f"--{option} is of a tree; give --tree, too")


def print_tree(
    args: argparse.Namespace, client: Client, selected: Query, *, by_workflow: bool = False
) -> None:
    """Print the *selected* jobs as a forest, or as JSON with nodes and edges."""
    from msgspec.structs import replace

    from balsam.report.graph import Level, picture, read_graph

    if args.json:
        from balsam.report.graph_text import record

        graph = read_graph(client, replace(selected, limit=args.limit or None))
        output.print_json(record(picture(graph, Level.JOBS), client.identity))
        return
    graph = read_graph(client, selected)
    if not len(graph):
        print("No jobs found matching query")
        return
    width = WIDTH if args.width is None else args.width
    depth = DEPTH if args.depth is None else args.depth
    forest = Forest(graph, width or len(graph), depth or len(graph), apart=by_workflow)
    most = columns.limit(args.limit, client.path)
    for number, line in enumerate(forest.lines()):
        if number == most:
            warn(f"only {most} lines are shown; --limit 0 or BALSAM_LS_LIMIT=0 shows all")
            break
        sys.stdout.write(f"{line}\n")


class _Rest(NamedTuple):
    """Jobs that are counted, not shown."""

    jobs: list[int]
    level: int
    has_siblings: bool  #: others of the same parent are shown


#: What is still to be printed: (job, level, kind), or what is counted.
_Item = tuple[int, int, Kind] | _Rest


class Forest:
    """Trees of jobs: each job once, below the first of its parents; elsewhere it is referred to.

    Parameters
    ----------
    width, depth
        Children of a job, and levels, that are shown; the others are counted.
    apart
        Show each workflow under its name, without what its jobs have to do with others.
    """

    def __init__(self, graph: JobGraph, width: int, depth: int, *, apart: bool = False) -> None:
        self._graph = graph
        self._width, self._depth, self._apart = width, depth, apart
        self._children: list[list[tuple[int, Kind]]] = [[] for _ in range(len(graph))]
        self._has_parent = bytearray(len(graph))
        for parent, child, kind in graph.edges():
            if not apart or graph.programs[parent][0] == graph.programs[child][0]:
                self._children[parent].append((child, kind))
                self._has_parent[child] = True
        self._shown = bytearray(len(graph))
        self._counted = bytearray(len(graph))

    def lines(self) -> Iterator[str]:
        """Yield the lines of all trees."""
        roots = [job for job in range(len(self._graph)) if not self._has_parent[job]]
        if not self._apart:
            for root in roots:
                yield from self._tree(root, 0)
            return
        by_workflow: dict[str, list[int]] = {}
        for root in roots:
            by_workflow.setdefault(self._graph.programs[root][0], []).append(root)
        for workflow in sorted(by_workflow):
            yield workflow
            for root in by_workflow[workflow]:
                for line in self._tree(root, 0):
                    yield f"  {line}"

    def _tree(self, root: int, level: int) -> Iterator[str]:
        """Yield the line of *root* and, below it, those of its children."""
        left: list[_Item] = [(root, level, Kind.OK)]
        while left:
            item = left.pop()
            if isinstance(item, _Rest):
                # Only now is it known which of the jobs below them are shown elsewhere.
                yield "|   " * item.level + self._told(item)
                continue
            job, level, kind = item
            known = self._shown[job]
            self._shown[job] = True
            yield self._line(job, level, kind, known=bool(known))
            if not known:
                left += reversed(list(self._below(job, level + 1)))

    def _below(self, job: int, level: int) -> Iterator[_Item]:
        """Yield the children of *job* to show, and the others together."""
        children = self._children[job]
        room = self._width if level < self._depth else 0
        if len(children) == room + 1 and room:
            room += 1  # the line that counts one job is as long as the job's
        for child, kind in children[:room]:
            yield child, level, kind
        if len(children) > room:
            yield _Rest([child for child, _ in children[room:]], level, room > 0)

    def _line(self, job: int, level: int, kind: Kind, *, known: bool) -> str:
        graph = self._graph
        outside = graph.outside.get(job, 0)
        text = f"{graph.ids[job]} {graph.names[job]} [{graph.programs[job][0]}] {graph.states[job]}"
        text = f"{'|   ' * level}{text}{_KINDS[kind]}"
        if known:
            return f"{text} (see above)"
        plural = "s" if outside > 1 else ""
        return f"{text} (waits for {outside} job{plural} not shown)" if outside else text

    def _told(self, rest: _Rest) -> str:
        """Return ``… and 990 more: 900 JOB_FINISHED, 90 RUNNING (40 jobs below them)``."""
        jobs = rest.jobs
        counts = Counter(self._graph.states[job] for job in jobs)
        states = ", ".join(f"{counts[state]:,} {state}" for state in STATES if state in counts)
        more = f"… and {len(jobs):,} more" if rest.has_siblings else f"… {len(jobs):,} below"
        under = self._count_below(jobs)
        plural = "s" if under > 1 else ""
        return f"{more}: {states}" + (f" ({under:,} job{plural} below them)" if under else "")

    def _count_below(self, jobs: list[int]) -> int:
        """Count the jobs below *jobs* that are neither shown nor counted yet."""
        for job in jobs:
            self._counted[job] = True
        found, left = 0, list(jobs)
        while left:
            for child, _ in self._children[left.pop()]:
                if not self._counted[child] and not self._shown[child]:
                    self._counted[child] = True
                    found += 1
                    left.append(child)
        return found
