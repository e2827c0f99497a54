"""Why jobs do not run, asked of real databases."""

from __future__ import annotations

from typing import Any

import pytest

from balsam.client.local import LocalClient
from balsam.config import user_name
from balsam.model.app import App
from balsam.model.batch_job import BatchJob, BatchState
from balsam.model.job import Job
from balsam.model.query import ALL
from balsam.model.service import QueueState, ServiceInfo, ServiceStatus, Unmet
from balsam.model.states import LIVE_STATES, STATES, State
from balsam.model.wire import LauncherInfo, LeaseRequest, Outcome
from balsam.report import why
from balsam.report.reasons.findings import Answer, Group
from tests.contract.pilot import IN_DATABASE, Clock, Pilot, add, brought_to, chain

S = State


def launch(client: LocalClient, **fields: Any) -> int:
    """Register a launcher of two nodes of eight cores; return its id."""
    size = {"nodes": 2, "cores": 16, "memory_mib": 1000, "owner": user_name()}
    return client.register_launcher(LauncherInfo(host="n1", pid=1, **{**size, **fields}), 60.0)


def answers(client: LocalClient, *ids: int) -> list[Answer]:
    return list(why.explain(client, ALL.where(id__in=list(ids))))


def answer(client: LocalClient, id_: int) -> Answer:
    (found,) = answers(client, id_)
    assert found.id == id_
    return found


def counted(client: LocalClient) -> dict[str, int]:
    """How many jobs wait for each reason."""
    found: dict[str, int] = {}
    for group in why.explain_all(client):
        found[group.reason] = found.get(group.reason, 0) + group.count
    return found


@pytest.mark.parametrize("state", IN_DATABASE)
def test_every_state_has_an_answer(client: LocalClient, pilot: Pilot, state: State) -> None:
    id_ = brought_to(client, pilot, state)
    found = answer(client, id_)
    assert (found.state, found.job_id) == (state, client.identity.text(id_))
    assert found.reason
    assert found.waits_for


def test_all_jobs_that_have_not_ended_are_counted_once(client: LocalClient, pilot: Pilot) -> None:
    for state in IN_DATABASE:
        brought_to(client, pilot, state)
    add(client, "large", num_nodes=9)
    found = why.explain_all(client)
    assert sum(group.count for group in found) == client.count_jobs(
        ALL.where(state__in=list(LIVE_STATES))
    )
    assert [group.count for group in found] == sorted((g.count for g in found), reverse=True)
    assert len(STATES) == len(IN_DATABASE) + 1


def test_the_first_job_stands_for_a_group(client: LocalClient) -> None:
    first, *_ = add(client, "a", "b")
    add(client, "c", wall_time_minutes=5.0)
    (group,) = why.explain_all(client)
    assert (group.count, group.reason, group.example) == (3, "no_launcher", first)


def test_a_chain_is_followed_to_its_first_job(client: LocalClient) -> None:
    first, second, third = chain(client, 3)
    found = answer(client, third)
    assert found.reason == "parents"
    assert f"({second} → {first}) for job {first}, which waits for a launcher" in found.waits_for
    assert "`balsam launcher --consume-all`" in found.help


def test_a_very_long_chain_has_an_answer(client: LocalClient) -> None:
    assert answer(client, chain(client, 80)[-1]).reason == "parents"


def test_a_parent_that_does_not_run_goes_before_one_that_does(
    client: LocalClient, pilot: Pilot
) -> None:
    (runs,) = add(client, "runs")
    pilot.start(*pilot.lease())
    (free,) = add(client, "free")
    (child,) = add(client, "child", parents=[runs, free])
    found = answer(client, child)
    assert "2 of its 2 parents" in found.waits_for
    assert f"such as job {free}," in found.waits_for


def test_a_failure_is_followed_to_where_it_began(client: LocalClient, pilot: Pilot) -> None:
    first, _, third = chain(client, 3)
    pilot.run(*pilot.lease(), outcome=Outcome.ERROR)
    assert answer(client, first).reason == "failed"
    assert "attempt 1 on node1: error, exit code 1" in answer(client, first).waits_for
    found = answer(client, third)
    assert found.reason == "parent_failed"
    assert f"because job {first} failed" in found.waits_for


def test_one_that_fails_by_itself_does_not_fail_because_of_a_parent(
    client: LocalClient, pilot: Pilot
) -> None:
    (parent,) = add(client, "a")
    client.add_app(App(name="p", executable="/bin/true", preprocess="/bin/false"))
    (child,) = client.create_jobs([Job(name="b", workflow="w", application="p", parents=[parent])])
    pilot.run_all()
    (free,) = pilot.lease()
    assert not pilot.report(moves=pilot.path(free, S.FAILED, message="preprocess failed"))
    client.rerun_jobs(ALL.where(id=parent))
    pilot.run(*pilot.lease(), outcome=Outcome.ERROR)
    found = answer(client, child)
    assert (found.state, found.reason) == (S.FAILED, "failed")
    assert "preprocess failed" in found.waits_for


def test_a_job_that_ran_before_fails_because_of_a_parent(client: LocalClient, pilot: Pilot) -> None:
    first, second = chain(client, 2)
    assert [*pilot.run_all(), *pilot.run_all()] == [first, second]
    client.rerun_jobs(ALL.where(id__in=[first, second]))
    pilot.run(*pilot.lease(), outcome=Outcome.ERROR)
    found = answer(client, second)
    assert found.reason == "parent_failed"
    assert f"because job {first} failed" in found.waits_for


def test_a_launcher_that_died_is_told(client: LocalClient, clock: Clock, pilot: Pilot) -> None:
    (id_,) = add(client, "a")
    pilot.start(*pilot.lease())
    assert answer(client, id_).reason == "running"
    clock.now += 3600
    assert answer(client, id_).reason == "launcher_lost"


def test_higher_priorities_are_counted(client: LocalClient) -> None:
    number = launch(client)
    add(client, *(f"r{i}" for i in range(16)))
    leased = client.lease(
        number, LeaseRequest(limit=16, cores=8, num_nodes=2, memory_mib=1000)
    ).jobs
    assert len(leased) == 16
    pilot = Pilot(client, Clock(client.now()))
    client.retire_launcher(pilot.id, "not needed")
    pilot.id = number
    assert pilot.start(*leased) == []
    (low,) = add(client, "low")
    add(client, "h1", "h2", priority=5)
    found = answer(client, low)
    assert found.reason == "busy"
    assert "16 jobs running, and 2 jobs of a higher priority before it" in found.waits_for


# launchers that take some of the jobs -----------------------------------------------


def test_what_a_workflow_filter_holds_is_counted_apart(client: LocalClient) -> None:
    launch(client, workflow_filter="scan")
    add(client, "a", "b", workflow="scan/1")
    (other,) = add(client, "c", workflow="rest")
    add(client, "d", workflow="scan/2")
    assert counted(client) == {"starting": 3, "other_workflow": 1}
    assert _group(client, "other_workflow").example == other


def test_the_example_of_what_is_left_is_one_of_these(client: LocalClient) -> None:
    launch(client, tags={"k": "v"})
    add(client, "a", tags={"k": "v"})
    (other, _) = add(client, "b", "c", tags={"k": "w"})
    add(client, "d", tags={"k": "v", "l": "m"})
    assert counted(client) == {"starting": 2, "other_tags": 2}
    assert _group(client, "other_tags").example == other
    assert answer(client, other).reason == "other_tags"


def test_a_key_of_a_tag_may_have_any_characters(client: LocalClient) -> None:
    launch(client, tags={"a__b": "v", "c.d": "w"})
    add(client, "a", tags={"a__b": "v", "c.d": "w"})
    add(client, "b", tags={"a__b": "v"})
    assert counted(client) == {"starting": 1, "other_tags": 1}


def test_jobs_of_two_filters_are_counted_once(client: LocalClient) -> None:
    launch(client, workflow_filter="scan")
    launch(client, workflow_filter="an", tags={"k": "v"})
    add(client, "a", workflow="scan", tags={"k": "v"})
    add(client, "b", workflow="an", tags={"k": "v"})
    add(client, "c", workflow="an")
    assert counted(client) == {"starting": 2, "other_tags": 1}


def _group(client: LocalClient, reason: str) -> Group:
    (found,) = [group for group in why.explain_all(client) if group.reason == reason]
    return found


# batch jobs and the service ---------------------------------------------------------


def test_batch_jobs_are_looked_at(client: LocalClient) -> None:
    (id_,) = add(client, "a")
    queued = BatchJob(owner=user_name(), num_nodes=1, wall_time_minutes=30)
    made = client.create_batch_job(queued)
    assert made.id is not None
    client.update_batch_job(made.id, {"state": BatchState.QUEUED, "message": "(Priority)"})
    assert answer(client, id_).reason == "batch_job_queued"
    assert counted(client) == {"batch_job_queued": 1}
    client.update_batch_job(made.id, {"state": BatchState.CANCELLED, "message": "by ann"})
    assert f"batch job {made.id}, is cancelled: by ann" in answer(client, id_).waits_for


def test_the_service_is_asked_for_nothing_but_its_row(client: LocalClient) -> None:
    (id_, like) = add(client, "a", "b", num_nodes=2)
    info = ServiceInfo(host="login", pid=1, owner=user_name())
    number = client.register_service(info, 60.0)
    unmet = Unmet(count=2, example=id_, what="2 nodes", reason="the queue is for others")
    status = ServiceStatus(queues=[QueueState(name="debug")], unmet=[unmet])
    client.renew_service(number, status, 60.0)
    assert [each.reason for each in answers(client, id_, like)] == ["unmet", "unmet"]
    assert counted(client) == {"unmet": 2}
    client.end_service(number, "asked to")
    assert answer(client, id_).reason == "service_down"


def test_examples_of_the_service_that_were_removed_do_no_harm(client: LocalClient) -> None:
    (id_, gone) = add(client, "a", "b")
    number = client.register_service(ServiceInfo(host="h", pid=1, owner=user_name()), 60.0)
    unmet = [Unmet(count=1, example=gone, what="x", reason="y")]
    client.renew_service(number, ServiceStatus(unmet=unmet), 60.0)
    client.delete_jobs(ALL.where(id=gone))
    assert answer(client, id_).reason == "service_soon"


# many -------------------------------------------------------------------------------


def test_one_answer_a_job_in_the_order_of_ids_over_many_pages(client: LocalClient) -> None:
    ids = add(client, *(f"j{i}" for i in range(1100)))
    assert [each.id for each in why.explain(client, ALL)] == ids


def test_kinds_beyond_the_limit_are_counted_together(client: LocalClient) -> None:
    launch(client, ended_at=1.0)
    for nodes in range(3, 213):
        add(client, "a", num_nodes=nodes)
    found = why.explain_all(client)
    assert len(found) == 201
    assert sum(group.count for group in found) == 210
    assert found[0].reason == "other"
    assert found[0].count == 10


def test_many_workflows_are_not_counted_one_by_one(client: LocalClient) -> None:
    launch(client, workflow_filter="scan")
    (other,) = add(client, "b", workflow="rest")
    kinds = [Job(name="a", workflow=f"scan/{i}", application="a") for i in range(2500)]
    client.create_jobs(kinds)
    assert counted(client) == {"starting": 2500, "other_workflow": 1}
    assert _group(client, "other_workflow").example == other


def test_children_of_one_parent_have_one_way(client: LocalClient) -> None:
    first, second = chain(client, 2)
    children = [
        Job(name="c", workflow="w", application="a", parents=[second, first]) for _ in range(20)
    ]
    ids = client.create_jobs(children)
    found = [each.waits_for for each in answers(client, *ids)]
    assert set(found) == {found[0]}
    assert f"such as job {first}, which waits for a launcher" in found[0]
    assert answer(client, ids[-1]).waits_for == found[0]
    below = add(client, "d", parents=[ids[0]])[0]
    assert f"({ids[0]} → {first}) for job {first}" in answer(client, below).waits_for
