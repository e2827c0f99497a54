"""Jobs: made, changed, moved, killed, run again and removed."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from balsam import config
from balsam.client.local import LocalClient
from balsam.errors import IllegalMove, InvalidInput, NotFound, UnknownField
from balsam.model.app import App
from balsam.model.job import DERIVED, EDITABLE, Job
from balsam.model.query import ALL, Query, parse
from balsam.model.states import LIVE_STATES, STATES, State, may_ask
from balsam.model.wire import Outcome
from tests.contract.pilot import Clock, Pilot, add, history, job, states

S = State


def everything(client: LocalClient) -> Any:
    """All rows that there are, to show that nothing changed."""
    ids = [job.id or 0 for job in client.jobs(ALL)]
    events = client.events(ALL)
    return client.jobs(ALL), events, client.attempts(ids), client.dependencies(ids), client.apps()


FULL: dict[str, Any] = {
    "description": "Grüße\n日本 'quoted' \"twice\" \\ %s ? :x",
    "args": """'{"a":  "b c"}' --x=1""",
    "parameters": {"n": 1, "x": 0.5, "name": "é", "list": [1, "2", None, True]},
    "environ": {"PATH": "/a:/b", "EMPTY": "", "A": "x=y z"},
    "tags": {"k": "v", "with space": "1"},
    "data": {"reward": 0.5, "deep": {"er": [1, {"x": None}]}, "big": 2**53 + 1},
    "priority": -7,
    "num_nodes": 3,
    "ranks_per_node": 4,
    "threads_per_rank": 5,
    "threads_per_core": 2,
    "cores_per_rank": 6,
    "gpus_per_rank": 0.1,
    "memory_mib": 7,
    "node_packing_count": 8,
    "cpu_affinity": "depth",
    "mpi_flags": "--x",
    "wall_time_minutes": 1.5,
    "user_workdir": "/scratch/me",
    "input_files": "*.in",
    "stage_in_url": "host:/a",
    "stage_out_url": "host:/b",
    "stage_out_files": "*.out",
    "post_error_handler": True,
    "post_timeout_handler": True,
    "auto_timeout_retry": False,
    "max_retries": 9,
}


def test_what_is_given_comes_back(client: LocalClient) -> None:
    assert set(FULL) | {"name", "workflow", "application"} == set(EDITABLE) - set(DERIVED)
    given = Job(name="full", workflow="a/b", application="a", **FULL)
    (id_,) = client.create_jobs([given])
    found = job(client, id_)
    for field in EDITABLE:
        assert getattr(found, field) == getattr(given, field), field


def test_defaults_and_what_balsam_sets(client: LocalClient, clock: Clock, site: Path) -> None:
    (id_,) = add(client, "x y")
    found = job(client, id_)
    uuid = client.identity.uuid(id_)
    expected = Job(
        id=id_,
        name="x y",
        workflow="w",
        application="a",
        state=S.PREPROCESSED,
        job_id=str(uuid),
        owner=getpass.getuser(),
        created_at=clock.now,
        updated_at=clock.now,
        workdir=str(site / "data" / "w" / f"x_y_{str(uuid)[:8]}"),
    )
    assert found == expected


def test_fields_that_are_balsams_are_ignored(client: LocalClient, clock: Clock) -> None:
    forged = Job(
        id=77,
        job_id="x",
        name="x",
        workflow="w",
        application="a",
        state=S.JOB_FINISHED,
        owner="somebody",
        created_at=1.0,
        updated_at=1.0,
        pending_parents=5,
        attempt=5,
        retries=5,
        exit_code=5,
        launcher_id=5,
        workdir="/etc",
    )
    (id_,) = client.create_jobs([forged])
    (plain,) = add(client, "x")
    first, second = job(client, id_), job(client, plain)
    for derived in ("id", "job_id", "workdir"):
        assert getattr(first, derived) != getattr(forged, derived)
        setattr(first, derived, getattr(second, derived))
    assert first == second
    assert first.created_at == clock.now


def test_ids_ascend_in_the_order_of_the_jobs(client: LocalClient) -> None:
    first = add(client, "a", "b", "c")
    second = add(client, "d", "e")
    assert first + second == sorted(first + second)
    names = [job.name for job in client.jobs(ALL)]
    assert names == ["a", "b", "c", "d", "e"]
    assert client.create_jobs([]) == []


def test_an_id_is_never_used_again(client: LocalClient) -> None:
    ids = add(client, "a", "b")
    client.delete_jobs(ALL)
    assert min(add(client, "c")) > max(ids)


@pytest.mark.parametrize(
    ("fields", "state"),
    [
        ({}, S.PREPROCESSED),
        ({"application": "hooked"}, S.READY),
        ({"input_files": "*"}, S.READY),
        ({"stage_in_url": "h:/x"}, S.READY),
    ],
)
def test_a_job_starts_where_it_can_go_on(
    client: LocalClient, fields: dict[str, Any], state: State
) -> None:
    client.add_app(App(name="hooked", executable="x", preprocess="y"))
    (id_,) = add(client, "x", **fields)
    assert job(client, id_).state is state
    assert history(client, id_) == [("", state)]
    # The same after its parents ended, and when it is run again.
    (parent,) = add(client, "parent")
    (child,) = add(client, "child", parents=[parent], **fields)
    assert states(client, [child]) == [S.AWAITING_PARENTS]
    client.move_jobs(ALL.where(id=parent), S.FAILED)
    client.move_jobs(ALL.where(id=parent), S.RESTART_READY)
    assert states(client, [child]) == [S.FAILED]
    client.delete_jobs(ALL.where(id=parent))
    assert client.rerun_jobs(ALL.where(id=child)) == 1
    assert states(client, [child]) == [state]


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        ({"num_nodes": 0}, InvalidInput),
        ({"name": "a/b"}, InvalidInput),
        ({"application": "nope"}, NotFound),
        ({"application": ""}, InvalidInput),
        ({"parents": [999]}, NotFound),
        ({"parents_any": [999]}, NotFound),
        ({"parents_failed": [999]}, NotFound),
        ({"parents": [0]}, InvalidInput),
    ],
)
def test_one_bad_job_and_none_is_made(
    client: LocalClient, bad: dict[str, Any], error: type[Exception]
) -> None:
    add(client, "before")
    before = everything(client)
    good = {"name": "x", "workflow": "w", "application": "a"}
    with pytest.raises(error):
        client.create_jobs([Job(**good), Job(**(good | bad)), Job(**good)])  # type: ignore[arg-type]
    assert everything(client) == before
    (id_,) = add(client, "after")
    assert id_ == 2


def test_only_the_fields_asked_for(client: LocalClient) -> None:
    (id_,) = add(client, "x", tags={"k": "v"}, data={"d": 1}, priority=3)
    (found,) = client.jobs(ALL, ["priority", "tags"])
    assert found == Job(id=id_, priority=3, tags={"k": "v"})
    (found,) = client.jobs(ALL, ["workdir"])
    assert found.workdir == job(client, id_).workdir
    (child,) = add(client, "y", parents=[id_])
    (found,) = client.jobs(ALL.where(id=child), ["parents"])
    assert (found.id, found.parents, found.tags) == (child, [id_], {})


def test_counts(client: LocalClient) -> None:
    ids = add(client, *"abcde", workflow="one") + add(client, *"fg", workflow="two")
    client.kill_jobs(ALL.where(id__in=[ids[0], ids[5]]))
    assert client.count_jobs(ALL) == 7
    assert client.count_jobs(ALL.where(workflow="one")) == 5
    assert client.state_counts(ALL) == {S.PREPROCESSED: 5, S.USER_KILLED: 2}
    assert client.state_counts(ALL.where(workflow="none")) == {}
    assert client.workflow_counts(ALL) == {
        "one": {S.PREPROCESSED: 4, S.USER_KILLED: 1},
        "two": {S.PREPROCESSED: 1, S.USER_KILLED: 1},
    }
    sliced = Query(limit=3, offset=1)
    assert client.count_jobs(sliced) == 3
    assert client.state_counts(sliced) == {S.PREPROCESSED: 3}
    assert client.workflow_counts(Query(order=("-id",), limit=2)) == {
        "two": {S.PREPROCESSED: 1, S.USER_KILLED: 1}
    }


def test_counts_are_in_the_documented_order(client: LocalClient, pilot: Pilot) -> None:
    add(client, "waits", parents=add(client, "parent"))
    add(client, "ready", input_files="*")
    pilot.start(*pilot.lease(1))
    assert list(client.state_counts(ALL)) == [s for s in STATES if s in client.state_counts(ALL)]


# update -----------------------------------------------------------------------------


def test_update_sets_the_selected_and_counts_them(client: LocalClient) -> None:
    ids = add(client, "a", "b", "c")
    changes = {"priority": 5, "tags": {"x": "y"}, "data": [1], "args": "new"}
    assert client.update_jobs(ALL.where(id__in=ids[:2]), changes) == 2
    assert [job.priority for job in client.jobs(ALL)] == [5, 5, 0]
    assert [job.data for job in client.jobs(ALL)] == [[1], [1], {}]
    assert client.update_jobs(ALL.where(id=999), changes) == 0
    assert client.update_jobs(Query(order=("-id",), limit=1), {"name": "last"}) == 1
    assert [job.name for job in client.jobs(ALL)] == ["a", "b", "last"]


def test_update_of_every_field(client: LocalClient) -> None:
    (id_,) = add(client, "x")
    changes = FULL | {"name": "other", "workflow": "v/w", "application": "a"}
    assert client.update_jobs(ALL, changes) == 1
    found = job(client, id_)
    for field, value in changes.items():
        assert getattr(found, field) == value, field


@pytest.mark.parametrize("value", [None, 0, "", [], {}, False, "text", {"a": None}])
def test_data_can_be_any_json(client: LocalClient, value: Any) -> None:
    (made,) = add(client, "x", data=value)
    assert job(client, made).data == value
    client.update_jobs(ALL, {"data": "else"})
    client.update_jobs(ALL, {"data": value})
    assert job(client, made).data == value
    assert [job.id for job in client.jobs(ALL.where(data=value))] == [made]


def test_update_to_nothing_changes_nothing(client: LocalClient) -> None:
    add(client, "a", "b")
    before = everything(client)
    assert client.update_jobs(ALL, {}) == 2
    assert everything(client) == before


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"priority": 1, "num_nodes": -1}, InvalidInput),
        ({"priority": 1, "state": "FAILED"}, InvalidInput),
        ({"priority": 1, "nonsense": 1}, UnknownField),
        ({"priority": 1, "parents": [1]}, InvalidInput),
        ({"priority": 1, "application": "nope"}, NotFound),
        ({"priority": 1, "application": ""}, InvalidInput),
    ],
)
def test_a_bad_update_changes_nothing(
    client: LocalClient, changes: dict[str, Any], error: type[Exception]
) -> None:
    add(client, "a")
    before = everything(client)
    with pytest.raises(error):
        client.update_jobs(ALL, changes)
    assert everything(client) == before


def test_a_stale_object_wipes_nothing(client: LocalClient, pilot: Pilot) -> None:
    """Fault A1: what is saved is what was changed, not what was once read."""
    (id_,) = add(client, "x")
    stale = job(client, id_)
    pilot.start(*pilot.lease())
    client.update_jobs(ALL.where(id=stale.id), {"description": "seen"})
    found = job(client, id_)
    assert (found.state, found.launcher_id, found.attempt) == (S.RUNNING, pilot.id, 1)
    assert history(client, id_) == [("", "PREPROCESSED"), ("PREPROCESSED", "RUNNING")]


# moves by users ---------------------------------------------------------------------


def brought_to(client: LocalClient, pilot: Pilot, state: State) -> int:
    """A job in *state*, on a legal way there."""
    name = str(state)
    if state is S.READY:
        return add(client, name, input_files="*")[0]
    if state is S.AWAITING_PARENTS:
        return add(client, name, parents=add(client, "parent"))[0]
    (id_,) = add(client, name, input_files="*" if state is S.STAGED_IN else "")
    way: dict[State, tuple[State, ...]] = {
        S.STAGED_IN: (S.STAGED_IN,),
        S.PREPROCESSED: (),
        S.RUNNING: (S.RUNNING,),
        S.RUN_DONE: (S.RUNNING, S.RUN_DONE),
        S.POSTPROCESSED: (S.RUNNING, S.RUN_DONE, S.POSTPROCESSED),
        S.JOB_FINISHED: (S.RUNNING, S.RUN_DONE, S.JOB_FINISHED),
        S.RUN_TIMEOUT: (S.RUNNING, S.RUN_TIMEOUT),
        S.RUN_ERROR: (S.RUNNING, S.RUN_ERROR),
        S.RESTART_READY: (S.RUNNING, S.RUN_TIMEOUT, S.RESTART_READY),
        S.FAILED: (S.RUNNING, S.RUN_ERROR, S.FAILED),
    }
    if state is S.USER_KILLED:
        client.kill_jobs(ALL.where(id=id_))
    elif way[state]:
        (leased,) = [job for job in pilot.lease() if job.id == id_]
        released = [] if state is S.RUNNING else [id_]
        assert pilot.report(moves=pilot.path(leased, *way[state]), released=released) == []
    assert job(client, id_).state is state
    return id_


IN_DATABASE = [state for state in STATES if state is not S.CREATED]


@pytest.mark.parametrize("state", IN_DATABASE)
def test_where_a_user_can_move_a_job(client: LocalClient, pilot: Pilot, state: State) -> None:
    for target in STATES:
        id_ = brought_to(client, pilot, state)
        before = job(client, id_), history(client, id_)
        if target != state and (state is S.USER_KILLED or not may_ask(state, target)):
            with pytest.raises(IllegalMove, match=f"job {id_}") as caught:
                client.move_jobs(ALL.where(id=id_), target, "because")
            assert "\n" not in str(caught.value)
            assert (job(client, id_), history(client, id_)) == before
            continue
        moved = client.move_jobs(ALL.where(id=id_), target, "because")
        if target == state:
            assert moved == 0
            assert (job(client, id_), history(client, id_)) == before
            continue
        assert moved == 1
        assert history(client, id_)[len(before[1])] == (state, target)
        found = job(client, id_)
        if target is not S.CREATED:
            assert found.state is target
        elif state is S.AWAITING_PARENTS:
            assert found.state is S.AWAITING_PARENTS
        else:
            assert found.state in (S.READY, S.PREPROCESSED)


@pytest.mark.parametrize("target", [S.CREATED, S.RESTART_READY, S.FAILED, S.JOB_FINISHED])
def test_a_running_job_can_only_be_killed(client: LocalClient, pilot: Pilot, target: State) -> None:
    running = brought_to(client, pilot, S.RUNNING)
    with pytest.raises(IllegalMove, match="kill it first"):
        client.move_jobs(ALL.where(id=running), target)
    assert states(client, [running]) == [S.RUNNING]


def test_one_that_cannot_move_and_none_moves(client: LocalClient, pilot: Pilot) -> None:
    movable = add(client, "a", "b")
    stuck = brought_to(client, pilot, S.JOB_FINISHED)
    before = everything(client)
    with pytest.raises(IllegalMove, match=f"job {stuck} is JOB_FINISHED"):
        client.move_jobs(ALL.where(id__in=[*movable, stuck]), S.FAILED)
    assert everything(client) == before


def test_a_move_has_its_event(client: LocalClient, clock: Clock) -> None:
    (id_,) = add(client, "a")
    clock.now += 5
    client.move_jobs(ALL, S.FAILED, "bad input")
    event = client.events(ALL)[-1]
    assert (event.job, event.from_state, event.to_state) == (id_, "PREPROCESSED", "FAILED")
    assert (event.time, event.message) == (clock.now, "bad input")
    assert event.job_id == str(client.identity.uuid(id_))
    assert job(client, id_).updated_at == clock.now


def test_back_to_created_starts_the_count_anew(client: LocalClient, pilot: Pilot) -> None:
    (id_,) = add(client, "a", max_retries=3)
    (leased,) = pilot.lease()
    pilot.report(
        moves=pilot.path(leased, S.RUNNING, S.RUN_ERROR, S.RESTART_READY),
        released=[id_],
        attempts=[pilot.attempt(leased, Outcome.ERROR)],
    )
    found = job(client, id_)
    assert (found.retries, found.exit_code, found.attempt) == (1, 1, 1)
    assert client.move_jobs(ALL, S.CREATED) == 1
    found = job(client, id_)
    assert (found.state, found.retries, found.exit_code, found.attempt) == (
        S.PREPROCESSED,
        0,
        None,
        1,
    )


# rerun ------------------------------------------------------------------------------


@pytest.mark.parametrize("state", IN_DATABASE)
def test_rerun_takes_what_has_ended(client: LocalClient, pilot: Pilot, state: State) -> None:
    id_ = brought_to(client, pilot, state)
    before = everything(client)
    if state in LIVE_STATES:
        assert client.rerun_jobs(ALL.where(id=id_)) == 0
        assert everything(client) == before
    else:
        assert client.rerun_jobs(ALL.where(id=id_)) == 1
        assert states(client, [id_]) == [S.PREPROCESSED]
        assert pilot.run_all() == [id_]
        assert states(client, [id_]) == [S.JOB_FINISHED]


def test_a_job_that_runs_again_keeps_its_history(client: LocalClient, pilot: Pilot) -> None:
    (id_,) = add(client, "a")
    pilot.run_all(Outcome.ERROR)
    client.rerun_jobs(ALL)
    pilot.run_all(Outcome.DONE)
    assert history(client, id_) == [
        ("", "PREPROCESSED"),
        ("PREPROCESSED", "RUNNING"),
        ("RUNNING", "RUN_ERROR"),
        ("RUN_ERROR", "FAILED"),
        ("FAILED", "CREATED"),
        ("CREATED", "PREPROCESSED"),
        ("PREPROCESSED", "RUNNING"),
        ("RUNNING", "RUN_DONE"),
        ("RUN_DONE", "JOB_FINISHED"),
    ]
    attempts = client.attempts([id_])
    assert [(a.number, a.outcome, a.exit_code) for a in attempts] == [
        (1, Outcome.ERROR, 1),
        (2, Outcome.DONE, 0),
    ]
    assert job(client, id_).attempt == 2


# kill -------------------------------------------------------------------------------


@pytest.mark.parametrize("state", IN_DATABASE)
def test_kill_takes_what_lives(client: LocalClient, pilot: Pilot, state: State) -> None:
    """Fault A8: a job that has ended is not killed."""
    id_ = brought_to(client, pilot, state)
    before = everything(client)
    killed = client.kill_jobs(ALL.where(id=id_))
    if state in LIVE_STATES:
        assert killed == [id_]
        assert states(client, [id_]) == [S.USER_KILLED]
        assert history(client, id_)[-1] == (state, "USER_KILLED")
    else:
        assert killed == []
        assert everything(client) == before


def test_kill_counts_only_the_living(client: LocalClient) -> None:
    ids = add(client, "a", "b", "c")
    client.kill_jobs(ALL.where(id=ids[1]))
    assert sorted(client.kill_jobs(ALL)) == [ids[0], ids[2]]
    assert client.kill_jobs(ALL) == []


# delete -----------------------------------------------------------------------------


@pytest.mark.parametrize("state", IN_DATABASE)
def test_delete(client: LocalClient, pilot: Pilot, state: State) -> None:
    id_ = brought_to(client, pilot, state)
    if state is S.RUNNING:
        before = everything(client)
        with pytest.raises(IllegalMove, match=f"job {id_} is running"):
            client.delete_jobs(ALL)
        assert everything(client) == before
        return
    assert client.delete_jobs(ALL.where(id=id_)) == 1
    assert client.jobs(ALL.where(id=id_)) == []
    assert client.attempts([id_]) == []
    assert history(client, id_) == []
    assert client.dependencies([id_]) == []
    assert client.delete_jobs(ALL.where(id=id_)) == 0


def test_delete_of_a_slice(client: LocalClient) -> None:
    add(client, *"abcde")
    assert client.delete_jobs(Query(order=("-id",), limit=2)) == 2
    assert [job.name for job in client.jobs(ALL)] == ["a", "b", "c"]


# history ----------------------------------------------------------------------------


def test_events_are_told_in_their_order(client: LocalClient, pilot: Pilot, clock: Clock) -> None:
    """Fault A9: each line is there, with the time at which it was so."""
    first, second = add(client, "a", "b")
    leased = pilot.lease()
    clock.now += 1
    pilot.start(*leased)
    clock.now += 1
    pilot.end(*leased)
    events = client.events(ALL)
    assert [event.id for event in events] == sorted(event.id for event in events)
    assert [event.time for event in events] == sorted(event.time for event in events)
    for id_ in (first, second):
        mine = client.events(Query(filters=parse({"job": id_}, "events")))
        assert [(event.time - clock.now, event.to_state) for event in mine] == [
            (-2, "PREPROCESSED"),
            (-1, "RUNNING"),
            (0, "RUN_DONE"),
            (0, "JOB_FINISHED"),
        ]


def test_attempts_are_in_order_and_complete(client: LocalClient, pilot: Pilot) -> None:
    ids = add(client, "a", "b")
    for _ in range(3):
        pilot.run_all(Outcome.TIMEOUT)
    pilot.start(*pilot.lease(1))
    found = client.attempts(ids[::-1])
    assert [(a.job, a.number) for a in found] == [
        *((ids[0], n) for n in (1, 2, 3, 4)),
        *((ids[1], n) for n in (1, 2, 3)),
    ]
    assert found == list(client.iterate_attempts(ALL))
    assert found == list(client.iterate_attempts(ALL, page=1))
    assert list(client.iterate_attempts(ALL.where(name="b"))) == client.attempts(ids[1:])
    assert {a.job_id for a in found} == {str(client.identity.uuid(id_)) for id_ in ids}


def test_a_record_of_an_attempt_comes_back(client: LocalClient, pilot: Pilot) -> None:
    (id_,) = add(client, "a")
    (leased,) = pilot.lease()
    given = msgspec.structs.replace(
        pilot.attempt(leased, Outcome.DONE),
        pid=17,
        message="fine",
        peak_memory_mib=1.5,
        cpu_seconds=0.25,
        output_file="log/x",
        output_offset=10,
        output_size=20,
    )
    pilot.report(moves=pilot.path(leased, S.RUNNING, S.RUN_DONE), attempts=[given])
    (found,) = client.attempts([id_])
    assert found == msgspec.structs.replace(given, job_id=str(client.identity.uuid(id_)))


def test_two_clients_of_one_site_see_the_same(client: LocalClient, site: Path) -> None:
    other = LocalClient(site, config.load(site))
    ids = add(client, "a")
    assert [job.id for job in other.jobs(ALL)] == ids
    assert other.jobs(ALL) == client.jobs(ALL)
    assert other.identity.uuid(1) == client.identity.uuid(1)
    other.close()
