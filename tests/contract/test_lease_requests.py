"""Requests for jobs: what a launcher can take, and what is left."""

from __future__ import annotations

from typing import Any

import pytest

from balsam.client.local import LocalClient
from balsam.model.job import Job
from balsam.model.resources import NodeResources
from balsam.model.states import State
from balsam.model.wire import LeaseRequest
from tests.contract.pilot import Pilot, add, job, request

S = State


def ids_of(jobs: list[Job]) -> list[int]:
    return [job.id or 0 for job in jobs]


FILTERS: list[tuple[dict[str, Any], dict[str, Any], bool]] = [
    ({"workflow": "alloys/fcc"}, {"workflow_filter": "fcc"}, True),
    ({"workflow": "alloys/fcc"}, {"workflow_filter": "alloys"}, True),
    ({"workflow": "alloys/fcc"}, {"workflow_filter": "bcc"}, False),
    ({"workflow": "alloys/fcc"}, {"workflow_filter": "FCC"}, False),
    ({"workflow": "100%"}, {"workflow_filter": "0%"}, True),
    ({"workflow": "100"}, {"workflow_filter": "0%"}, False),
    ({"workflow": "a_b"}, {"workflow_filter": "a_"}, True),
    ({"workflow": "axb"}, {"workflow_filter": "a_"}, False),
    ({}, {"serial": False}, False),
    ({}, {"parallel": False}, True),
    ({"ranks_per_node": 2}, {"parallel": False}, False),
    ({"ranks_per_node": 2}, {"serial": False}, True),
    ({"num_nodes": 2}, {"parallel": False}, False),
    ({"num_nodes": 2}, {"serial": False}, True),
    ({"num_nodes": 2}, {"num_nodes": 2}, True),
    ({"num_nodes": 3}, {"num_nodes": 2}, False),
    ({"threads_per_rank": 4}, {"cores": 4}, True),
    ({"threads_per_rank": 5}, {"cores": 4}, False),
    ({"threads_per_rank": 8, "threads_per_core": 2}, {"cores": 4}, True),
    ({"threads_per_rank": 9, "threads_per_core": 2}, {"cores": 4}, True),
    ({"threads_per_rank": 10, "threads_per_core": 2}, {"cores": 4}, False),
    ({"threads_per_core": 4}, {"cores": 1}, True),
    ({"ranks_per_node": 2, "cores_per_rank": 2}, {"cores": 4}, True),
    ({"ranks_per_node": 2, "cores_per_rank": 3}, {"cores": 4}, False),
    ({"cores_per_rank": 2, "threads_per_rank": 99}, {"cores": 4}, True),
    ({"threads_per_rank": 99, "node_packing_count": 2}, {"cores": 4}, True),
    ({"gpus_per_rank": 1.0}, {"gpus": 0.0}, False),
    ({"gpus_per_rank": 1.0}, {"gpus": 1.0}, True),
    ({"gpus_per_rank": 0.5, "ranks_per_node": 3}, {"gpus": 1.0}, False),
    ({"gpus_per_rank": 0.1, "ranks_per_node": 10}, {"gpus": 1.0}, True),
    ({"gpus_per_rank": 1 / 49, "ranks_per_node": 49}, {"gpus": 1.0}, True),
    ({"gpus_per_rank": 0.07, "ranks_per_node": 98}, {"gpus": 7.0}, True),
    ({"gpus_per_rank": 0.07, "ranks_per_node": 100}, {"gpus": 7.0}, False),  # a device holds 14
    ({"gpus_per_rank": 0.6, "ranks_per_node": 3}, {"gpus": 2.0}, False),
    ({"gpus_per_rank": 2.0, "ranks_per_node": 2}, {"gpus": 4.0}, True),
    ({"memory_mib": 100}, {"memory_mib": 100}, True),
    ({"memory_mib": 101}, {"memory_mib": 100}, False),
    ({"wall_time_minutes": 10.0}, {"minutes_left": None}, True),
    ({"wall_time_minutes": 10.0}, {"minutes_left": 10.0}, True),
    ({"wall_time_minutes": 10.1}, {"minutes_left": 10.0}, False),
    ({"wall_time_minutes": 0.0}, {"minutes_left": 0.0}, True),
    ({"priority": 5}, {"only_priority_from": 5}, True),
    ({"priority": 4}, {"only_priority_from": 5}, False),
    ({"priority": -1}, {"only_priority_from": None}, True),
    ({}, {"owner": "somebody else"}, False),
    ({}, {"owner": ""}, True),
]


@pytest.mark.parametrize(("fields", "wanted", "fits"), FILTERS)
def test_what_a_launcher_takes(
    client: LocalClient,
    pilot: Pilot,
    fields: dict[str, Any],
    wanted: dict[str, Any],
    fits: bool,
) -> None:
    (id_,) = add(client, "x", **fields)
    assert ids_of(pilot.lease(**wanted)) == ([id_] if fits else [])


ABOUT_THE_NODE = [
    one for one in FILTERS if one[1] and set(one[1]) <= {"cores", "gpus", "memory_mib"}
]


@pytest.mark.parametrize(("fields", "wanted", "fits"), ABOUT_THE_NODE)
def test_the_store_and_the_node_agree_on_what_fits(
    fields: dict[str, Any], wanted: dict[str, Any], fits: bool
) -> None:
    """What is leased but does not fit could never be placed."""
    wide = request(**wanted)
    gpus = tuple(map(str, range(int(wide.gpus))))
    node = NodeResources(
        host="n", cores=wide.cores, threads=wide.cores, memory_mib=wide.memory_mib, gpus=gpus
    )
    assert (node.shortage(Job(name="x", **fields).request) == "") is fits


def test_the_owner_is_the_caller(client: LocalClient, pilot: Pilot) -> None:
    (id_,) = add(client, "x", owner="forged")
    assert pilot.lease(owner="forged") == []
    assert ids_of(pilot.lease(owner=job(client, id_).owner)) == [id_]


@pytest.mark.parametrize("state", [S.RUN_DONE, S.RUN_ERROR, S.RUN_TIMEOUT, S.POSTPROCESSED])
def test_after_its_run_a_job_needs_no_room(
    client: LocalClient, pilot: Pilot, rival: Pilot, state: State
) -> None:
    (id_,) = add(client, "big", num_nodes=50, memory_mib=1000, wall_time_minutes=60.0)
    (leased,) = pilot.lease()
    way = (S.RUNNING, S.RUN_DONE) if state is S.POSTPROCESSED else (S.RUNNING,)
    pilot.report(moves=pilot.path(leased, *way, state), released=[id_])
    small: dict[str, Any] = {"num_nodes": 1, "memory_mib": 1, "minutes_left": 1.0}
    assert ids_of(rival.lease(**small)) == [id_]


def test_the_limit_of_a_lease(client: LocalClient, pilot: Pilot) -> None:
    add(client, *(f"j{i}" for i in range(10)))
    assert pilot.lease(0) == []
    assert [len(pilot.lease(4)) for _ in range(4)] == [4, 4, 2, 0]


def test_jobs_that_do_not_fit_take_nobodys_place(client: LocalClient, pilot: Pilot) -> None:
    add(client, *"abc", num_nodes=200, priority=9)
    fits = add(client, "x", "y")
    assert ids_of(pilot.lease(2)) == fits


def test_the_outlook(client: LocalClient, pilot: Pilot, rival: Pilot) -> None:
    (parent,) = add(client, "parent", workflow="one")
    add(client, "child", workflow="one", parents=[parent])
    add(client, "big", "huge", num_nodes=200, workflow="one")
    add(client, "held", workflow="two")
    rival.lease(workflow_filter="two")

    def look(launcher: Pilot, **fields: Any) -> tuple[int, int, int, int]:
        seen = client.outlook(launcher.id, request(**fields))
        return seen.leasable, seen.unfit, seen.waiting, seen.held_elsewhere

    assert look(pilot) == (1, 2, 1, 1)
    assert look(rival) == (1, 2, 1, 0)
    assert look(pilot, workflow_filter="one") == (1, 2, 1, 0)
    assert look(pilot, workflow_filter="two") == (0, 0, 0, 1)
    assert look(pilot, num_nodes=500) == (3, 0, 1, 1)
    assert look(pilot, serial=False) == (0, 2, 0, 0)
    pilot.lease()
    assert look(pilot) == (0, 2, 1, 1)


def test_a_request_of_its_own_takes_serial_jobs_of_one_core(
    client: LocalClient, pilot: Pilot
) -> None:
    """The defaults of a request promise nothing that was not said."""
    plain = add(client, "a")
    add(client, "b", threads_per_rank=2)
    add(client, "c", gpus_per_rank=0.5)
    add(client, "d", memory_mib=1)
    assert ids_of(client.lease(pilot.id, LeaseRequest(limit=9)).jobs) == plain
