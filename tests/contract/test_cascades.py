"""What ends with a job that ends: all that waits for what will never be."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy as sa

from balsam.client.local import LocalClient
from balsam.model.graph import Kind, Verdict, settled_state, verdict
from balsam.model.job import Job
from balsam.model.query import ALL, Query
from balsam.model.states import END_STATES, State
from tests.contract.pilot import Pilot, add, history, states

S = State
FIELD = {Kind.OK: "parents", Kind.FAIL: "parents_failed", Kind.ANY: "parents_any"}
#: Child, kind, parent.
Edges = list[tuple[int, Kind, int]]


@contextmanager
def statements(client: LocalClient) -> Iterator[list[str]]:
    """Give the statements that are executed meanwhile."""
    seen: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        seen.append(statement)

    engine = client._store.engine
    sa.event.listen(engine, "before_cursor_execute", note)
    yield seen
    sa.event.remove(engine, "before_cursor_execute", note)


def make(client: LocalClient, count: int, edges: Edges) -> list[int]:
    """Create jobs named by their number from 0; *edges* lead from earlier ones to later ones."""
    parents: list[dict[str, list[int]]] = [{} for _ in range(count)]
    for child, kind, parent in edges:
        parents[child].setdefault(FIELD[kind], []).append(-parent - 1)
    return client.create_jobs(
        [
            Job(name=str(i), workflow="w", application="a", **parents[i])  # type: ignore[arg-type]
            for i in range(count)
        ]
    )


def chain(length: int) -> Edges:
    return [(i, Kind.OK, i - 1) for i in range(1, length)]


def kill(client: LocalClient, id_: int) -> None:
    assert client.kill_jobs(ALL.where(id=id_)) == [id_]


def test_a_long_chain_falls_in_few_statements(client: LocalClient) -> None:
    counts = []
    for length in (10, 400):
        ids = make(client, length, chain(length))
        with statements(client) as seen:
            kill(client, ids[0])
        counts.append(len(seen))
        assert set(states(client, ids[1:])) == {S.FAILED}
    assert counts[0] == counts[1], counts


def test_each_says_which_parent_it_was_in_their_order(client: LocalClient) -> None:
    ids = make(client, 30, chain(30))
    kill(client, ids[0])
    events = [e for e in client.events(Query()) if e.to_state in END_STATES]
    assert [e.job for e in events] == ids
    assert events[1].message == f"parent {ids[0]} (0) ended as USER_KILLED"
    for i in range(2, 30):
        assert events[i].message == f"parent {ids[i - 1]} ({i - 1}) ended as FAILED"


def test_what_waits_for_a_failure_far_below_goes_on(client: LocalClient, pilot: Pilot) -> None:
    edges = [*chain(20), (20, Kind.FAIL, 19), (21, Kind.ANY, 19), (21, Kind.OK, 20)]
    ids = make(client, 22, edges)
    kill(client, ids[0])
    assert states(client, ids[19:]) == [S.FAILED, S.PREPROCESSED, S.AWAITING_PARENTS]
    assert pilot.run_all() == [ids[20]]
    assert pilot.run_all() == [ids[21]]


def test_what_a_launcher_reports_falls_as_far(client: LocalClient, pilot: Pilot) -> None:
    ids = make(client, 5, [*chain(4), (4, Kind.FAIL, 0)])
    pilot.start(*pilot.lease())
    (head,) = client.jobs(ALL.where(id=ids[0]))
    assert head.state is S.RUNNING
    add(client, "other")
    refused = pilot.report(
        moves=pilot.path(head, S.RUN_ERROR, S.FAILED), attempts=[], released=[ids[0]]
    )
    assert refused == []
    assert states(client, ids) == [S.FAILED] * 4 + [S.PREPROCESSED]
    assert history(client, ids[3])[-1] == (S.AWAITING_PARENTS, S.FAILED)


@pytest.mark.parametrize("seed", range(6))
def test_graphs_of_all_kinds_fall_by_the_rules(client: LocalClient, seed: int) -> None:
    chance = random.Random(seed)
    count = 60
    edges = [
        (child, chance.choice([Kind.OK, Kind.OK, *Kind]), parent)
        for child in range(3, count)
        for parent in chance.sample(range(max(0, child - 8), child), chance.randint(1, 3) % child)
    ]
    ids = make(client, count, edges)
    expected = dict(enumerate(states(client, ids)))
    ended = {0: S.USER_KILLED}
    expected |= ended
    while ended := _next_level(edges, expected, ended):
        expected |= ended
    kill(client, ids[0])
    found = states(client, ids)
    gone = [S.PREPROCESSED if _can_go(i, edges, expected) else expected[i] for i in range(count)]
    assert found == gone
    for job in client.jobs(ALL.where(state=S.AWAITING_PARENTS)):
        number = int(job.name)
        live = [p for c, _, p in edges if c == number and expected[p] not in END_STATES]
        assert job.pending_parents == len(live), job.name


def _next_level(edges: Edges, known: dict[int, State], ended: dict[int, State]) -> dict[int, State]:
    """Return the ends that follow from *ended*, by the first parent of each."""
    found: dict[int, State] = {}
    for child, kind, parent in sorted(edges, key=lambda edge: (edge[2], edge[0])):
        waits = parent in ended and known[child] is S.AWAITING_PARENTS
        if waits and verdict(kind, ended[parent]) is Verdict.NEVER:
            found.setdefault(child, settled_state(kind))
    return found


def _can_go(job: int, edges: Edges, known: dict[int, State]) -> bool:
    if known[job] is not S.AWAITING_PARENTS:
        return False
    return all(known[parent] in END_STATES for child, _, parent in edges if child == job)
