"""Jobs: made, changed, moved, killed, run again and removed."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from balsam import config
from balsam.client.local import LocalClient
from balsam.errors import InvalidInput, NotFound, UnknownField
from balsam.model.app import App, Parameter
from balsam.model.job import DERIVED, EDITABLE, Job
from balsam.model.query import ALL, Query, parse
from balsam.model.retry import parse_rules
from balsam.model.states import STATES, State
from balsam.model.wire import Outcome
from tests.contract.pilot import Clock, Pilot, add, everything, history, job, states

S = State


FULL: dict[str, Any] = {
    "signal": "USR1@120",
    "payload": "J[[1],{}]",
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
    "retry": parse_rules("exit=137,1-9: memory*2, max=3; signal=SEGV: delay=0.5; any: never"),
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
        timeouts=5,
        crashes=5,
        retry_at=5.0,
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
    assert id_ > 1, "numbers of jobs that came to nothing are not used again"


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


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"bete": 1}, "job 'bad': app 'sim' has no parameter 'bete'; it has beta, seed."),
        ({"seed": 1}, "job 'bad': parameter 'beta' of app 'sim' has no value"),
    ],
)
def test_parameters_are_those_of_the_app(
    client: LocalClient, given: dict[str, int], message: str
) -> None:
    seed = {"seed": Parameter(required=False, default="0")}
    client.add_app(App(name="sim", executable="sim {{beta}} {{seed}}", parameters=seed))
    good = Job(name="good", workflow="w", application="sim", parameters={"beta": 1})
    free = Job(name="free", workflow="w", application="a", parameters={"bete": 1})
    with pytest.raises(InvalidInput, match=message):
        client.create_jobs([good, msgspec.structs.replace(good, name="bad", parameters=given)])
    assert client.jobs(ALL) == []
    assert len(client.create_jobs([good, free])) == 2


def test_two_clients_of_one_site_see_the_same(client: LocalClient, site: Path) -> None:
    other = LocalClient(site, config.load(site))
    ids = add(client, "a")
    assert [job.id for job in other.jobs(ALL)] == ids
    assert other.jobs(ALL) == client.jobs(ALL)
    assert other.identity.uuid(1) == client.identity.uuid(1)
    other.close()
