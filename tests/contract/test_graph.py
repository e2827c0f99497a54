"""Dependencies: what a parent's end means for its children, and keeping the graph a graph."""

from __future__ import annotations

import pytest

from balsam.client.local import LocalClient
from balsam.errors import CyclicDependency
from balsam.model.app import App
from balsam.model.graph import Kind
from balsam.model.job import Job
from balsam.model.query import ALL, Query, parse
from balsam.model.states import State
from balsam.model.wire import Outcome
from tests.contract.pilot import Pilot, add, chain, history, job, states

S = State
FIELD = {Kind.OK: "parents", Kind.FAIL: "parents_failed", Kind.ANY: "parents_any"}


def last_message(client: LocalClient, id_: int) -> str:
    return client.events(Query(filters=parse({"job": id_}, "events")))[-1].message


def pending(client: LocalClient, id_: int) -> int:
    return job(client, id_).pending_parents


# kinds ------------------------------------------------------------------------------

#: What becomes of a child, by kind and by how its parent ends.
FATES = [
    (Kind.OK, Outcome.DONE, S.PREPROCESSED),
    (Kind.OK, Outcome.ERROR, S.FAILED),
    (Kind.OK, Outcome.KILLED, S.FAILED),
    (Kind.FAIL, Outcome.DONE, S.JOB_FINISHED),
    (Kind.FAIL, Outcome.ERROR, S.PREPROCESSED),
    (Kind.FAIL, Outcome.KILLED, S.PREPROCESSED),
    (Kind.ANY, Outcome.DONE, S.PREPROCESSED),
    (Kind.ANY, Outcome.ERROR, S.PREPROCESSED),
    (Kind.ANY, Outcome.KILLED, S.PREPROCESSED),
]


def end(client: LocalClient, pilot: Pilot, id_: int, outcome: Outcome) -> None:
    if outcome is Outcome.KILLED:
        client.kill_jobs(ALL.where(id=id_))
    else:
        (leased,) = pilot.lease()
        assert leased.id == id_
        pilot.run(leased, outcome=outcome)


@pytest.mark.parametrize(("kind", "outcome", "fate"), FATES)
def test_a_child_that_was_there_before(
    client: LocalClient, pilot: Pilot, kind: Kind, outcome: Outcome, fate: State
) -> None:
    (parent,) = add(client, "parent")
    (child,) = add(client, "child", **{FIELD[kind]: [parent]})
    assert states(client, [child]) == [S.AWAITING_PARENTS]
    assert history(client, child) == [("", "CREATED"), ("CREATED", "AWAITING_PARENTS")]
    end(client, pilot, parent, outcome)
    assert states(client, [child]) == [fate]
    assert history(client, child)[-1] == ("AWAITING_PARENTS", fate)


@pytest.mark.parametrize(("kind", "outcome", "fate"), FATES)
def test_a_child_that_comes_later(
    client: LocalClient, pilot: Pilot, kind: Kind, outcome: Outcome, fate: State
) -> None:
    (parent,) = add(client, "parent")
    end(client, pilot, parent, outcome)
    (child,) = add(client, "child", **{FIELD[kind]: [parent]})
    assert states(client, [child]) == [fate]
    assert history(client, child) == [("", "CREATED"), ("CREATED", fate)]


@pytest.mark.parametrize(("kind", "outcome", "fate"), FATES)
@pytest.mark.parametrize("ended_before", [True, False])
def test_an_edge_that_comes_later(
    client: LocalClient,
    pilot: Pilot,
    kind: Kind,
    outcome: Outcome,
    fate: State,
    ended_before: bool,
) -> None:
    (parent,) = add(client, "parent")
    if ended_before:
        end(client, pilot, parent, outcome)
    (child,) = add(client, "child")
    client.add_dependency(parent, child, kind)
    if not ended_before:
        assert states(client, [child]) == [S.AWAITING_PARENTS]
        end(client, pilot, parent, outcome)
    assert states(client, [child]) == [fate]


def test_why_a_child_will_not_run(client: LocalClient, pilot: Pilot) -> None:
    (parent,) = add(client, "parent")
    (repair,) = add(client, "repair", parents_failed=[parent])
    pilot.run_all()
    assert last_message(client, repair) == f"not needed: parent {parent} (parent) finished"
    (parent,) = add(client, "parent")
    (child,) = add(client, "child", parents=[parent])
    client.kill_jobs(ALL.where(id=parent))
    assert last_message(client, child) == f"parent {parent} (parent) ended as USER_KILLED"


def test_parents_come_back_by_kind(client: LocalClient) -> None:
    ok, fail, either = add(client, "a", "b", "c")
    (child,) = add(client, "x", parents=[ok], parents_failed=[fail], parents_any=[either])
    found = job(client, child)
    assert (found.parents, found.parents_failed, found.parents_any) == ([ok], [fail], [either])
    assert client.dependencies([child]) == [
        (ok, child, Kind.OK),
        (fail, child, Kind.FAIL),
        (either, child, Kind.ANY),
    ]
    assert client.dependencies([fail]) == [(fail, child, Kind.FAIL)]
    assert client.dependencies([]) == []


# shapes -----------------------------------------------------------------------------


def test_a_child_waits_for_all(client: LocalClient, pilot: Pilot) -> None:
    parents = add(client, "a", "b", "c")
    (child,) = add(client, "child", parents=parents)
    for left in (3, 2, 1):
        assert (pending(client, child), states(client, [child])) == (left, [S.AWAITING_PARENTS])
        pilot.run(*pilot.lease(1))
    assert (pending(client, child), states(client, [child])) == (0, [S.PREPROCESSED])


def test_a_diamond(client: LocalClient, pilot: Pilot) -> None:
    names = [("top", []), ("left", [-1]), ("right", [-1]), ("bottom", [-2, -3])]
    ids = client.create_jobs(
        [Job(name=name, workflow="w", application="a", parents=p) for name, p in names]
    )
    order = [pilot.run_all() for _ in range(4)]
    assert order == [ids[:1], ids[1:3], ids[3:], []]


def test_a_diamond_fails_once(client: LocalClient, pilot: Pilot) -> None:
    (top,) = add(client, "top")
    sides = add(client, "left", "right", parents=[top])
    (bottom,) = add(client, "bottom", parents=sides)
    pilot.run_all(Outcome.ERROR)
    assert states(client, [top, *sides, bottom]) == [S.FAILED] * 4
    assert history(client, bottom) == [
        ("", "CREATED"),
        ("CREATED", "AWAITING_PARENTS"),
        ("AWAITING_PARENTS", "FAILED"),
    ]


def test_five_thousand_children_of_one_parent(client: LocalClient, pilot: Pilot) -> None:
    (parent,) = add(client, "parent")
    children = add(client, *(f"c{i}" for i in range(5000)), parents=[parent])
    assert client.state_counts(ALL) == {S.AWAITING_PARENTS: 5000, S.PREPROCESSED: 1}
    pilot.run_all()
    assert client.state_counts(ALL) == {S.PREPROCESSED: 5000, S.JOB_FINISHED: 1}
    (last,) = add(client, "last", parents=children)
    assert pending(client, last) == 5000
    client.kill_jobs(ALL.where(id=children[-1]))
    assert states(client, [last]) == [S.FAILED]


def test_a_chain_runs_link_by_link(client: LocalClient, pilot: Pilot) -> None:
    ids = chain(client, 40)
    assert [pilot.run_all() for _ in ids] == [[id_] for id_ in ids]
    assert client.state_counts(ALL) == {S.JOB_FINISHED: 40}


def test_a_chain_fails_at_once(client: LocalClient, pilot: Pilot) -> None:
    ids = chain(client, 300)
    pilot.run_all(Outcome.ERROR)
    assert client.state_counts(ALL) == {S.FAILED: 300}
    assert last_message(client, ids[-1]) == f"parent {ids[-2]} (j298) ended as FAILED"


def test_what_is_not_needed_lets_its_own_children_go(client: LocalClient, pilot: Pilot) -> None:
    (parent,) = add(client, "parent")
    (repair,) = add(client, "repair", parents_failed=[parent])
    (after,) = add(client, "after", parents=[repair])
    pilot.run_all()
    assert states(client, [repair, after]) == [S.JOB_FINISHED, S.PREPROCESSED]


def test_an_app_that_gets_a_hook_prepares_its_waiting_jobs(
    client: LocalClient, pilot: Pilot
) -> None:
    client.add_app(App(name="b", executable="x"))
    (parent,) = add(client, "parent")
    (child,) = add(client, "child", parents=[parent], application="b")
    client.update_apps(Query(filters=parse({"name": "b"}, "apps")), {"preprocess": "prepare"})
    pilot.run_all()
    assert states(client, [child]) == [S.READY]


# cycles -----------------------------------------------------------------------------


def test_cycles_are_refused_and_shown(client: LocalClient) -> None:
    """Fault A5."""
    ids = chain(client, 4)
    before = client.dependencies(ids)
    with pytest.raises(CyclicDependency) as caught:
        client.add_dependency(ids[3], ids[0])
    labels = [f"j{i} [{job} | {client.identity.short(job)}]" for i, job in enumerate(ids)]
    assert str(caught.value) == (
        f"job {ids[0]} cannot wait for job {ids[3]}, a cycle: " + " → ".join([*labels, labels[0]])
    )
    assert client.dependencies(ids) == before
    assert states(client, ids) == [S.PREPROCESSED] + [S.AWAITING_PARENTS] * 3


def test_a_job_cannot_wait_for_itself(client: LocalClient) -> None:
    (id_,) = add(client, "x")
    with pytest.raises(CyclicDependency, match=rf"x \[{id_} \| \w{{8}}\] → x \[{id_} "):
        client.add_dependency(id_, id_)


def test_a_cycle_among_new_jobs_makes_none_of_them(client: LocalClient) -> None:
    jobs = [
        Job(name=name, workflow="w", application="a", parents=parents)
        for name, parents in [("fine", []), ("one", [-3]), ("two", [-2])]
    ]
    with pytest.raises(CyclicDependency, match=r"'one' → 'two' → 'one'|'two' → 'one' → 'two'"):
        client.create_jobs(jobs)
    assert client.count_jobs(ALL) == 0


def test_a_cycle_through_other_kinds_is_one_too(client: LocalClient) -> None:
    first, second = add(client, "a", "b")
    client.add_dependency(first, second, Kind.ANY)
    with pytest.raises(CyclicDependency):
        client.add_dependency(second, first, Kind.FAIL)
