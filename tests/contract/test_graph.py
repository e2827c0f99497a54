"""Dependencies: what a parent's end means for its children, and keeping the graph a graph."""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from balsam.client.local import LocalClient
from balsam.errors import AlreadyExists, CyclicDependency, IllegalMove, NotFound
from balsam.model.app import App
from balsam.model.graph import Kind
from balsam.model.job import Job
from balsam.model.query import ALL, Query, parse
from balsam.model.states import State
from balsam.model.wire import Outcome
from tests.contract.pilot import Pilot, add, history, job, states

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
    assert last_message(client, repair) == f"not needed: parent {parent} finished"
    (parent,) = add(client, "parent")
    (child,) = add(client, "child", parents=[parent])
    client.kill_jobs(ALL.where(id=parent))
    assert last_message(client, child) == f"parent {parent} ended as USER_KILLED"


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


def chain(client: LocalClient, length: int) -> list[int]:
    return client.create_jobs(
        [
            Job(name=f"j{i}", workflow="w", application="a", parents=[-i] if i else [])
            for i in range(length)
        ]
    )


def test_a_chain_runs_link_by_link(client: LocalClient, pilot: Pilot) -> None:
    ids = chain(client, 40)
    assert [pilot.run_all() for _ in ids] == [[id_] for id_ in ids]
    assert client.state_counts(ALL) == {S.JOB_FINISHED: 40}


def test_a_chain_fails_at_once(client: LocalClient, pilot: Pilot) -> None:
    ids = chain(client, 300)
    pilot.run_all(Outcome.ERROR)
    assert client.state_counts(ALL) == {S.FAILED: 300}
    assert last_message(client, ids[-1]) == f"parent {ids[-2]} ended as FAILED"


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
    shown = [int(part) for part in str(caught.value).split(": ")[1].split(" would")[0].split(" → ")]
    assert shown[0] == shown[-1] == ids[0]
    edges = {(parent, child) for parent, child, _ in before} | {(ids[3], ids[0])}
    assert set(pairwise(shown)) <= edges
    assert client.dependencies(ids) == before
    assert states(client, ids) == [S.PREPROCESSED] + [S.AWAITING_PARENTS] * 3


def test_a_job_cannot_wait_for_itself(client: LocalClient) -> None:
    (id_,) = add(client, "x")
    with pytest.raises(CyclicDependency, match=f"{id_} → {id_}"):
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


# adding edges -----------------------------------------------------------------------


@pytest.mark.parametrize("kind", Kind)
def test_an_edge_is_there_once(client: LocalClient, kind: Kind) -> None:
    parent, child = add(client, "a", "b")
    client.add_dependency(parent, child)
    with pytest.raises(AlreadyExists, match=f"job {child} already depends on job {parent}"):
        client.add_dependency(parent, child, kind)
    assert client.dependencies([child]) == [(parent, child, Kind.OK)]
    assert pending(client, child) == 1


@pytest.mark.parametrize("missing", ["parent", "child"])
def test_an_edge_to_nothing(client: LocalClient, missing: str) -> None:
    (id_,) = add(client, "a")
    ends = {"parent": id_, "child": id_} | {missing: 999}
    with pytest.raises(NotFound, match="999"):
        client.add_dependency(ends["parent"], ends["child"])
    assert client.dependencies([id_]) == []


def test_a_waiting_child_waits_for_one_more(client: LocalClient, pilot: Pilot) -> None:
    first, second = add(client, "a", "b")
    (child,) = add(client, "child", parents=[first])
    before = history(client, child)
    client.add_dependency(second, child)
    assert pending(client, child) == 2
    assert history(client, child) == before
    assert pilot.run_all() == [first, second]
    assert pilot.run_all() == [child]


@pytest.mark.parametrize("state", [S.READY, S.PREPROCESSED, S.RESTART_READY])
def test_a_child_that_could_run_waits_again(
    client: LocalClient, pilot: Pilot, state: State
) -> None:
    (child,) = add(client, "child", input_files="*" if state is S.READY else "")
    if state is S.RESTART_READY:
        pilot.run_all(Outcome.TIMEOUT)
    assert states(client, [child]) == [state]
    (parent,) = add(client, "parent")
    client.add_dependency(parent, child)
    assert states(client, [child]) == [S.AWAITING_PARENTS]
    assert last_message(client, child) == f"depends on job {parent}"
    assert pilot.run_all() == [parent]
    assert pilot.run_all() == [child]
    assert states(client, [child]) == [S.JOB_FINISHED]


def test_a_leased_child_cannot_wait(client: LocalClient, pilot: Pilot) -> None:
    (child,) = add(client, "child")
    (leased,) = pilot.lease()
    (parent,) = add(client, "parent")
    for what in ("is about to run", "is RUNNING", "is JOB_FINISHED"):
        with pytest.raises(IllegalMove, match=f"job {child} {what}"):
            client.add_dependency(parent, child)
        assert client.dependencies([child]) == []
        if what == "is about to run":
            pilot.start(leased)
        elif what == "is RUNNING":
            pilot.end(leased)


def test_forty_edges_from_four_processes_are_all_kept(client: LocalClient, site: Path) -> None:
    """Fault A2."""
    parents = add(client, *(f"p{i}" for i in range(40)))
    (child,) = add(client, "child")
    program = """if True:
        import sys
        from pathlib import Path
        from balsam.client.connect import open_client
        client = open_client(Path(sys.argv[1]))
        print(flush=True)
        sys.stdin.readline()
        for parent in sys.argv[3:]:
            client.add_dependency(int(parent), int(sys.argv[2]))
    """
    adders = [
        subprocess.Popen(
            [sys.executable, "-c", program, site, str(child), *map(str, parents[i::4])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for i in range(4)
    ]
    for adder in adders:
        assert adder.stdout is not None
        adder.stdout.readline()
    for adder in adders:
        assert adder.stdin is not None
        adder.stdin.write("\n")
        adder.stdin.flush()
    for adder in adders:
        adder.communicate(timeout=60)
        assert adder.returncode == 0
    assert job(client, child).parents == parents
    assert pending(client, child) == 40


# deleting ---------------------------------------------------------------------------


def test_a_parent_that_is_deleted_holds_nobody_back(client: LocalClient) -> None:
    """Fault A6."""
    first, second = add(client, "a", "b")
    (child,) = add(client, "child", parents=[first, second])
    client.delete_jobs(ALL.where(id=first))
    assert (pending(client, child), states(client, [child])) == (1, [S.AWAITING_PARENTS])
    client.delete_jobs(ALL.where(id=second))
    assert states(client, [child]) == [S.PREPROCESSED]
    assert client.dependencies([child]) == []


def test_an_ended_parent_that_is_deleted_changes_nothing(client: LocalClient, pilot: Pilot) -> None:
    parents = add(client, "a", "b", "c")
    (child,) = add(client, "child", parents=parents)
    pilot.run(*pilot.lease(1))
    client.delete_jobs(ALL.where(id=parents[0]))
    assert (pending(client, child), states(client, [child])) == (2, [S.AWAITING_PARENTS])


def test_a_whole_graph_can_be_deleted(client: LocalClient) -> None:
    ids = chain(client, 20)
    assert client.delete_jobs(ALL) == 20
    assert client.dependencies(ids) == []
    assert client.events(ALL) == []


def test_a_deleted_child_leaves_its_parent(client: LocalClient, pilot: Pilot) -> None:
    (parent,) = add(client, "parent")
    (child,) = add(client, "child", parents=[parent])
    client.delete_jobs(ALL.where(id=child))
    assert pilot.run_all() == [parent]
    assert states(client, [parent]) == [S.JOB_FINISHED]


def test_deleting_a_parent_that_runs_again_spares_its_ended_children(
    client: LocalClient, pilot: Pilot
) -> None:
    (parent,) = add(client, "parent")
    (child,) = add(client, "child", parents=[parent])
    pilot.run_all()
    pilot.run_all()
    client.rerun_jobs(ALL.where(id=parent))
    assert client.delete_jobs(ALL.where(id=parent)) == 1
    assert states(client, [child]) == [S.JOB_FINISHED]


# killing and running again ----------------------------------------------------------


def test_a_recursive_kill_takes_all_below(client: LocalClient, pilot: Pilot) -> None:
    (top,) = add(client, "top")
    below = add(client, "left", "right", parents=[top])
    (bottom,) = add(client, "bottom", parents=below)
    (aside,) = add(client, "aside")
    killed = client.kill_jobs(ALL.where(id=top), recursive=True)
    assert sorted(killed) == [top, *below, bottom]
    assert client.state_counts(ALL) == {S.USER_KILLED: 4, S.PREPROCESSED: 1}
    assert pilot.run_all() == [aside]


def test_a_recursive_kill_goes_through_what_has_ended(client: LocalClient, pilot: Pilot) -> None:
    (top,) = add(client, "top")
    (middle,) = add(client, "middle", parents=[top])
    (bottom,) = add(client, "bottom", parents=[middle])
    pilot.run_all()
    pilot.run_all()
    assert client.kill_jobs(ALL.where(id=top), recursive=True) == [bottom]
    assert states(client, [top, middle, bottom]) == [S.JOB_FINISHED] * 2 + [S.USER_KILLED]


def test_a_kill_that_is_not_recursive_fails_what_is_below(client: LocalClient) -> None:
    ids = chain(client, 3)
    assert client.kill_jobs(ALL.where(id=ids[0])) == [ids[0]]
    assert states(client, ids) == [S.USER_KILLED, S.FAILED, S.FAILED]


def test_a_failed_subtree_runs_again(client: LocalClient, pilot: Pilot) -> None:
    ids = chain(client, 4)
    pilot.run_all()
    pilot.run_all(Outcome.ERROR)
    assert states(client, ids) == [S.JOB_FINISHED, S.FAILED, S.FAILED, S.FAILED]
    assert client.rerun_jobs(ALL.where(state="FAILED")) == 3
    assert states(client, ids) == [S.JOB_FINISHED, S.PREPROCESSED] + [S.AWAITING_PARENTS] * 2
    assert [pilot.run_all() for _ in range(3)] == [[id_] for id_ in ids[1:]]
    assert client.state_counts(ALL) == {S.JOB_FINISHED: 4}


def test_a_child_runs_again_only_with_its_parent(client: LocalClient, pilot: Pilot) -> None:
    ids = chain(client, 2)
    pilot.run_all(Outcome.ERROR)
    assert client.rerun_jobs(ALL.where(id=ids[1])) == 1
    assert states(client, ids) == [S.FAILED, S.FAILED]
    assert history(client, ids[1])[-2:] == [("FAILED", "CREATED"), ("CREATED", "FAILED")]


def test_a_waiting_child_waits_for_a_parent_that_runs_again(
    client: LocalClient, pilot: Pilot
) -> None:
    first, second = add(client, "a", "b")
    (child,) = add(client, "child", parents=[first, second])
    pilot.run(*pilot.lease(1))
    assert pending(client, child) == 1
    client.rerun_jobs(ALL.where(id=first))
    assert pending(client, child) == 2
    pilot.run(*pilot.lease(1))
    assert states(client, [first, child]) == [S.JOB_FINISHED, S.AWAITING_PARENTS]
    assert pilot.run_all() == [second]
    assert pilot.run_all() == [child]


def test_an_edge_counts_parents_that_run_again(client: LocalClient, pilot: Pilot) -> None:
    (first,) = add(client, "a")
    (child,) = add(client, "child", parents=[first])
    pilot.run_all()
    client.rerun_jobs(ALL.where(id=first))
    (second,) = add(client, "b")
    client.add_dependency(second, child)
    assert pending(client, child) == 2
    assert pilot.run_all() == [first, second]
    assert pilot.run_all() == [child]


def test_a_parent_that_runs_again_fails_the_child_that_waits(
    client: LocalClient, pilot: Pilot
) -> None:
    first, second = add(client, "a", "b")
    (child,) = add(client, "child", parents=[first, second])
    pilot.run(*pilot.lease(1))
    client.rerun_jobs(ALL.where(id=first))
    pilot.run(*pilot.lease(1), outcome=Outcome.ERROR)
    assert states(client, [first, second, child]) == [S.FAILED, S.PREPROCESSED, S.FAILED]
