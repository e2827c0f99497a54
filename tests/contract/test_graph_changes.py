"""Changes of a graph: edges added, jobs deleted, killed and run again."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from balsam.client.local import LocalClient
from balsam.errors import AlreadyExists, IllegalMove, NotFound
from balsam.model.graph import Kind
from balsam.model.job import Job
from balsam.model.query import ALL, Query, parse
from balsam.model.states import State
from balsam.model.wire import Move, Outcome
from tests.contract.pilot import Pilot, add, chain, history, job, states

S = State
FIELD = {Kind.OK: "parents", Kind.FAIL: "parents_failed", Kind.ANY: "parents_any"}


def last_message(client: LocalClient, id_: int) -> str:
    return client.events(Query(filters=parse({"job": id_}, "events")))[-1].message


def pending(client: LocalClient, id_: int) -> int:
    return job(client, id_).pending_parents


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


@contextmanager
def deleting(site: Path, ids: list[int]) -> Iterator[None]:
    """Have another process delete jobs one by one meanwhile, which must all be there."""
    program = """if True:
        import sys
        from pathlib import Path
        from balsam.client.connect import open_client
        from balsam.model.query import ALL
        client = open_client(Path(sys.argv[1]))
        print(flush=True)
        sys.stdin.readline()
        for job in sys.argv[2:]:
            assert client.delete_jobs(ALL.where(id=int(job))) == 1
    """
    with subprocess.Popen(
        [sys.executable, "-c", program, site, *map(str, ids)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as deleter:
        assert deleter.stdout is not None
        assert deleter.stdin is not None
        deleter.stdout.readline()
        deleter.stdin.write("\n")
        deleter.stdin.flush()
        yield
        deleter.communicate(timeout=60)
    assert deleter.returncode == 0


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


def test_deleting_parents_while_others_end_leaves_no_child_behind(
    client: LocalClient, pilot: Pilot, site: Path
) -> None:
    """Each child has a parent that ends and one that is deleted, at nearly the same time."""
    count = 60
    ending = add(client, *(f"ends{i}" for i in range(count)))
    leased = pilot.lease()
    pilot.start(*leased)
    doomed = add(client, *(f"doomed{i}" for i in range(count)))
    pairs = zip(ending, doomed, strict=True)
    children = [add(client, "child", parents=list(pair))[0] for pair in pairs]
    with deleting(site, doomed):
        for job in leased:
            assert pilot.end(job) == []
    assert [pending(client, child) for child in children] == [0] * count
    assert states(client, children) == [S.PREPROCESSED] * count
    assert client.dependencies(doomed) == []


def test_deleting_children_while_their_parents_end(
    client: LocalClient, pilot: Pilot, site: Path
) -> None:
    """The same rows from the other end: a release finds children that are on their way out."""
    parents = add(client, *(f"p{i}" for i in range(60)))
    leased = pilot.lease()
    pilot.start(*leased)
    children = [add(client, "doomed", "kept", parents=[parent]) for parent in parents]
    with deleting(site, [doomed for doomed, _ in children]):
        for job in leased:
            assert pilot.end(job) == []
    assert client.count_jobs(ALL) == 120
    assert states(client, [kept for _, kept in children]) == [S.PREPROCESSED] * 60


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


def test_a_dependency_that_is_removed_no_longer_holds(client: LocalClient, pilot: Pilot) -> None:
    first, second, child = add(client, "first", "second", "child")
    for parent in (first, second):
        client.add_dependency(parent, child)
    client.remove_dependency(first, child)
    assert [edge[:2] for edge in client.dependencies([child])] == [(second, child)]
    assert states(client, [child]) == [S.AWAITING_PARENTS]
    client.remove_dependency(second, child)
    assert states(client, [child]) == [S.PREPROCESSED]
    with pytest.raises(NotFound, match="does not depend"):
        client.remove_dependency(second, child)


def test_new_jobs_are_held_back_for_a_while(client: LocalClient, pilot: Pilot) -> None:
    """So that whoever made them can still give them parents."""
    parent = add(client, "parent")[0]
    held = client.create_jobs([Job(name="held", workflow="w", application="a")], hold_seconds=3600)
    assert [each.id for each in pilot.lease()] == [parent]
    client.add_dependency(parent, held[0])
    assert states(client, held) == [S.AWAITING_PARENTS]


def test_children_that_a_move_frees_are_held_back_when_asked(
    client: LocalClient, pilot: Pilot
) -> None:
    """So that whoever ended their parent can still give them another."""
    parent = add(client, "parent")[0]
    (leased,) = pilot.lease()
    child, other = add(client, "child", parents=[parent]) + add(client, "other")
    pilot.start(leased)
    failed = Move(parent, 1, S.RUNNING, S.RUN_ERROR, pilot.clock())
    pilot.report(moves=[failed], attempts=[pilot.attempt(leased, Outcome.ERROR, 1)])
    client.move_jobs(ALL.where(id=parent), S.JOB_FINISHED, hold_seconds=3600)
    assert states(client, [child]) == [S.PREPROCESSED]
    assert [each.id for each in pilot.lease()] == [other]
    client.remove_dependency(parent, child)
    client.add_dependency(other, child)
    assert states(client, [child]) == [S.AWAITING_PARENTS]
