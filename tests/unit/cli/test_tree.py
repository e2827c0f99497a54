"""The forest of `balsam ls --tree`."""

from __future__ import annotations

from balsam.cli.tree import Forest
from balsam.model.graph import Kind
from balsam.model.states import State
from balsam.report.graph import JobGraph
from tests.unit.test_graph_pictures import fan, made

S = State


def lines(graph: JobGraph, width: int = 20, depth: int = 20, *, apart: bool = False) -> list[str]:
    return list(Forest(graph, width, depth, apart=apart).lines())


def test_children_beyond_the_width_are_counted() -> None:
    shown = lines(fan(10_000, done=9010), width=3)
    assert shown == [
        "1 prepare [w] JOB_FINISHED",
        "|   2 sim0 [w] JOB_FINISHED",
        "|   |   10002 collect [w] AWAITING_PARENTS",
        "|   3 sim1 [w] JOB_FINISHED",
        "|   |   10002 collect [w] AWAITING_PARENTS (see above)",
        "|   4 sim2 [w] JOB_FINISHED",
        "|   |   10002 collect [w] AWAITING_PARENTS (see above)",
        "|   … and 9,997 more: 990 RUNNING, 9,007 JOB_FINISHED",
    ]


def test_one_child_beyond_the_width_is_shown() -> None:
    assert [line for line in lines(fan(4), width=3) if "more" in line] == []
    assert [line for line in lines(fan(5), width=3) if "sim4" in line] == []


def test_levels_beyond_the_depth_are_counted() -> None:
    chain = made([(f"j{i}", "a", S.AWAITING_PARENTS) for i in range(2000)], pairs(2000))
    assert lines(chain, depth=2) == [
        "1 j0 [w] AWAITING_PARENTS",
        "|   2 j1 [w] AWAITING_PARENTS",
        "|   |   … 1 below: 1 AWAITING_PARENTS (1,997 jobs below them)",
    ]
    assert len(lines(chain, depth=2000)) == 2000


def pairs(count: int) -> list[tuple[int, int] | tuple[int, int, Kind]]:
    return [(i, i + 1) for i in range(count - 1)]


def test_conditions_and_parents_that_are_not_among_the_jobs() -> None:
    jobs = [(name, "a", S.READY) for name in ("p", "repair", "clean")]
    graph = made(jobs, [(0, 1, Kind.FAIL), (0, 2, Kind.ANY)])
    graph.outside = {0: 2, 2: 1}
    assert lines(graph) == [
        "1 p [w] READY (waits for 2 jobs not shown)",
        "|   2 repair [w] READY (if it fails)",
        "|   3 clean [w] READY (in any case) (waits for 1 job not shown)",
    ]


def test_workflows_apart_are_each_a_forest() -> None:
    graph = made([("x", "a", S.READY), ("y", "a", S.READY), ("z", "a", S.READY)], [(0, 1), (0, 2)])
    graph.programs[1] = ("v", "a")
    assert lines(graph, apart=True) == [
        *("v", "  2 y [v] READY"),
        *("w", "  1 x [w] READY", "  |   3 z [w] READY"),
    ]


def test_jobs_below_what_is_counted_are_counted_once() -> None:
    jobs = [("p", "a", S.READY), *((f"c{i}", "b", S.READY) for i in range(8))]
    edges: list[tuple[int, int] | tuple[int, int, Kind]] = [(0, i) for i in range(1, 5)]
    edges += [(i, i + 4) for i in range(1, 5)]
    assert lines(made(jobs, edges), width=1) == [
        "1 p [w] READY",
        "|   2 c0 [w] READY",
        "|   |   6 c4 [w] READY",
        "|   … and 3 more: 3 READY (3 jobs below them)",
    ]
