"""Rules of dependencies, and searches for paths and cycles."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balsam.model.graph import (
    Kind,
    Neighbours,
    Verdict,
    find_cycle,
    find_path,
    settled_state,
    spelled_cycle,
    verdict,
)
from balsam.model.states import END_STATES, STATES, State

edges = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), max_size=30)


def look_up(pairs: list[tuple[int, int]], calls: list[list[int]] | None = None) -> Neighbours:
    """Gives the second of those of *pairs* whose first is asked for."""
    after: dict[int, list[int]] = {}
    for one, other in pairs:
        after.setdefault(one, []).append(other)

    def neighbours(ids: list[int]) -> dict[int, list[int]]:
        if calls is not None:
            calls.append(ids)
        return {one: after.get(one, []) for one in ids}

    return neighbours


def path_between(
    start: int, goal: int, pairs: list[tuple[int, int]], calls: list[list[int]] | None = None
) -> list[int]:
    turned = [(child, parent) for parent, child in pairs]
    return find_path(start, goal, look_up(pairs, calls), look_up(turned, calls))


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("state", [state for state in STATES if state not in END_STATES])
def test_a_live_parent_makes_wait(kind: Kind, state: State) -> None:
    assert verdict(kind, state) is Verdict.WAIT


@pytest.mark.parametrize(
    ("kind", "finished", "failed", "killed"),
    [
        (Kind.OK, Verdict.MET, Verdict.NEVER, Verdict.NEVER),
        (Kind.FAIL, Verdict.NEVER, Verdict.MET, Verdict.MET),
        (Kind.ANY, Verdict.MET, Verdict.MET, Verdict.MET),
    ],
)
def test_an_ended_parent(kind: Kind, finished: Verdict, failed: Verdict, killed: Verdict) -> None:
    assert verdict(kind, State.JOB_FINISHED) is finished
    assert verdict(kind, State.FAILED) is failed
    assert verdict(kind, State.USER_KILLED) is killed


def test_a_child_that_is_not_needed_ends_well() -> None:
    assert settled_state(Kind.FAIL) is State.JOB_FINISHED
    assert settled_state(Kind.OK) is State.FAILED


@given(edges)
def test_a_cycle_is_found_exactly_when_there_is_one(pairs: list[tuple[int, int]]) -> None:
    cycle = find_cycle(pairs)
    nodes = {node for pair in pairs for node in pair}
    after = {node: {c for p, c in pairs if p == node} for node in nodes}
    on_cycle = [node for node in nodes if any(_reaches(pairs, c, node) for c in after[node])]
    assert bool(cycle) is bool(on_cycle)
    if cycle:
        assert cycle[0] == cycle[-1]
        assert set(pairwise(cycle)) <= set(pairs)
        assert len(set(cycle)) == len(cycle) - 1


@given(edges, st.integers(0, 12), st.integers(0, 12))
def test_a_path_is_found_exactly_when_there_is_one(
    pairs: list[tuple[int, int]], start: int, goal: int
) -> None:
    path = path_between(start, goal, pairs)
    assert bool(path) is _reaches(pairs, start, goal)
    if path:
        assert (path[0], path[-1]) == (start, goal)
        assert set(pairwise(path)) <= set(pairs)


def _reaches(pairs: list[tuple[int, int]], start: int, goal: int) -> bool:
    reached = {start}
    for _ in pairs:
        reached |= {b for a, b in pairs if a in reached}
    return goal in reached


def test_a_path_costs_one_look_up_a_level() -> None:
    wide = [(0, n) for n in range(1, 1000)] + [(n, 1000) for n in range(1, 1000)]
    calls: list[list[int]] = []
    assert len(path_between(0, 1000, wide, calls)) == 3
    assert len(calls) == 2


@pytest.mark.parametrize("ends", [(1, 0), (2001, 2000)], ids=["from the end", "from the top"])
def test_a_chain_that_grows_costs_no_search_of_its_whole(ends: tuple[int, int]) -> None:
    """The next link is put before the first, or after the last."""
    calls: list[list[int]] = []
    assert path_between(*ends, list(pairwise(range(1, 2001))), calls) == []
    assert len(calls) <= 2


def test_a_job_that_depends_on_itself_is_a_cycle() -> None:
    assert find_cycle([(3, 3)]) == [3, 3]
    assert path_between(3, 3, []) == [3]


def test_a_long_chain_is_no_cycle() -> None:
    assert find_cycle(pairwise(range(100_000))) == []


def test_a_long_cycle_is_shown_by_its_ends() -> None:
    assert spelled_cycle(["a", "b", "a"]) == "a → b → a"
    labels = [*map(str, range(500)), "0"]
    shown = spelled_cycle(labels)
    assert shown.startswith("0 → 1 → ")
    assert " … (489 more) … " in shown
    assert shown.endswith(" → 499 → 0")
