"""Batch jobs, the work that waits, and the service, as every database keeps them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from balsam import config
from balsam.client.local import LocalClient
from balsam.errors import BudgetSpent, NotFound, ServiceRuns
from balsam.model.batch_job import LIVE_STATES, BatchJob, BatchState
from balsam.model.demand import Waiting
from balsam.model.job import Job
from balsam.model.query import ALL
from balsam.model.service import QueueState, ServiceInfo, ServiceStatus
from balsam.model.states import State
from balsam.model.wire import LauncherInfo, LeaseRequest
from tests.contract.pilot import Clock, Pilot, add
from tests.contract.test_retries import fail


def only(client: LocalClient) -> BatchJob:
    (found,) = client.batch_jobs(ALL)
    return found


# batch jobs -------------------------------------------------------------------------


def test_a_batch_job_is_recorded_whole(client: LocalClient, clock: Clock) -> None:
    new = BatchJob(
        scheduler="slurm", name="balsam-7", project="p", queue="q", num_nodes=3,
        wall_time_minutes=30.0, wf_filter="it's", tags={"k": "v"}, scheduler_flags="--x 'y z'",
        host="h", owner="me",
    )  # fmt: skip
    made = client.create_batch_job(new)
    assert made.id is not None
    assert made.created_at == clock.now
    assert only(client) == made


def test_the_caller_owns_it(client: LocalClient) -> None:
    assert client.create_batch_job(BatchJob()).owner == config.user_name()


def test_what_has_ended_stays_as_it_is(client: LocalClient) -> None:
    id_ = client.create_batch_job(BatchJob()).id or 0
    assert client.update_batch_job(id_, {"state": BatchState.QUEUED, "scheduler_id": "17"})
    assert client.update_batch_job(id_, {"state": BatchState.FAILED, "exit_code": 3})
    assert not client.update_batch_job(id_, {"state": BatchState.RUNNING})
    assert not client.update_batch_job(id_ + 1, {"state": BatchState.RUNNING})
    found = only(client)
    assert (found.state, found.exit_code, found.scheduler_id) == (BatchState.FAILED, 3, "17")


def test_its_launcher_outranks_the_scheduler(client: LocalClient, clock: Clock) -> None:
    """Fault V: also a request whose answer was lost is known again when its launcher starts."""
    id_ = client.create_batch_job(BatchJob(message="Priority")).id or 0
    clock.now += 5
    info = LauncherInfo(host="h", pid=1, batch_job_id=id_, scheduler_id="17.server")
    client.register_launcher(info, 60)
    found = only(client)
    assert (found.state, found.scheduler_id) == (BatchState.RUNNING, "17.server")
    assert (found.started_at, found.message) == (clock.now, "")


def test_a_launcher_is_known_by_its_allocation(client: LocalClient) -> None:
    """Scripts of old templates do not tell it which batch job it is of."""
    over = client.create_batch_job(BatchJob(scheduler_id="17")).id or 0
    client.update_batch_job(over, {"state": BatchState.FINISHED})
    id_ = client.create_batch_job(BatchJob(scheduler_id="17")).id
    for allocation in ("17", "18", ""):
        client.register_launcher(LauncherInfo(host="h", pid=1, scheduler_id=allocation), 60)
    assert [info.batch_job_id for info in client.launchers()] == [id_, None, None]
    assert [each.state for each in client.batch_jobs(ALL)] == ["finished", "running"]


@pytest.mark.parametrize("state", [BatchState.LOST, BatchState.SUBMIT_FAILED, BatchState.CANCELLED])
def test_a_launcher_of_a_batch_job_that_was_over(client: LocalClient, state: BatchState) -> None:
    id_ = client.create_batch_job(BatchJob(scheduler_id="5", message="gone")).id or 0
    client.update_batch_job(id_, {"state": state})
    client.register_launcher(LauncherInfo(host="h", pid=1, batch_job_id=id_), 60)
    expected = state if state is BatchState.CANCELLED else BatchState.RUNNING
    assert (only(client).state, only(client).scheduler_id) == (expected, "5")


def test_a_launcher_of_no_batch_job_of_this_site(client: LocalClient) -> None:
    with pytest.raises(NotFound, match="no batch job 99"):
        client.register_launcher(LauncherInfo(host="h", pid=1, batch_job_id=99), 60)
    assert client.launchers() == []


def test_jobs_know_the_batch_job_that_ran_them(client: LocalClient) -> None:
    add(client, "one", "two")
    id_ = client.create_batch_job(BatchJob()).id
    launcher = client.register_launcher(LauncherInfo(host="h", pid=1, batch_job_id=id_), 60)
    client.lease(launcher, LeaseRequest(limit=1))
    assert [job.batch_job_id for job in client.jobs(ALL)] == [id_, None]


def test_node_hours(client: LocalClient, clock: Clock) -> None:
    waiting = BatchJob(num_nodes=2, wall_time_minutes=90)
    late = BatchJob(num_nodes=1, wall_time_minutes=60, started_at=clock.now - 7200)
    over = BatchJob(num_nodes=4, wall_time_minutes=600)
    never = BatchJob(num_nodes=8, wall_time_minutes=600)
    made = [client.create_batch_job(each) for each in (waiting, late, over, never)]
    ended = {"state": BatchState.FINISHED, "started_at": 100.0, "ended_at": 1900.0}
    client.update_batch_job(made[2].id or 0, ended)
    client.update_batch_job(made[3].id or 0, {"state": BatchState.CANCELLED, "ended_at": 1900.0})
    assert client.node_hours() == pytest.approx(3 + 2 + 2)
    in_python = sum(each.node_hours(clock.now) for each in client.batch_jobs(ALL))
    assert client.node_hours() == pytest.approx(in_python)


def test_a_budget_is_a_limit(client: LocalClient) -> None:
    client.create_batch_job(BatchJob(num_nodes=2, wall_time_minutes=60), budget=3.0)
    with pytest.raises(BudgetSpent, match=r"are 2 node-hours; of the budget of 3, 1 are left"):
        client.create_batch_job(BatchJob(num_nodes=2, wall_time_minutes=60), budget=3.0)
    assert len(client.batch_jobs(ALL)) == 1
    client.create_batch_job(BatchJob(num_nodes=1, wall_time_minutes=60), budget=3.0)


def test_a_budget_holds_for_all_who_ask_at_once(client: LocalClient, site: Path) -> None:
    def ask(number: int) -> bool:
        mine = LocalClient(site, config.load(site))
        try:
            mine.create_batch_job(BatchJob(name=str(number), wall_time_minutes=60), budget=3.0)
        except BudgetSpent:
            return False
        finally:
            mine.close()
        return True

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(ask, range(6))) == 3
    assert client.node_hours() == 3.0


# what waits -------------------------------------------------------------------------


def counted(client: LocalClient, limit: int | None = None) -> set[tuple[object, ...]]:
    return {
        (each.state, each.launcher_id, each.is_delayed, each.num_nodes, each.count)
        for each in client.waiting(limit)
    }


@pytest.mark.parametrize("limit", [None, 1000])
def test_waiting_jobs_are_counted_by_what_they_ask_for(
    client: LocalClient, pilot: Pilot, limit: int | None
) -> None:
    first = add(client, "s1", "s2", "s3", "ended", "killed")
    add(client, "wide", num_nodes=4)
    add(client, "child", parents=[first[0]])
    client.move_jobs(ALL.where(name="ended"), State.FAILED)
    client.kill_jobs(ALL.where(name="killed"))
    client.lease(pilot.id, LeaseRequest(limit=1))
    P, A = State.PREPROCESSED, State.AWAITING_PARENTS
    expected = {(P, pilot.id, False, 1, 1), (P, None, False, 1, 2), (P, None, False, 4, 1)}
    assert counted(client, limit) == expected | {(A, None, False, 1, 1)}


def test_each_class_has_an_example(client: LocalClient) -> None:
    ids = add(client, "a", "b", gpus_per_rank=0.5, wall_time_minutes=7.5, memory_mib=100)
    (found,) = client.waiting()
    assert found == Waiting(
        state=State.PREPROCESSED, gpus_per_rank=0.5, wall_time_minutes=7.5, memory_mib=100,
        application="a", owner=config.user_name(), count=2, example=ids[0],
    )  # fmt: skip
    assert found.request == client.jobs(ALL)[0].request


def test_a_bounded_look_sees_the_first_of_the_queue(client: LocalClient) -> None:
    add(client, *(f"s{i}" for i in range(10)))
    add(client, "wide", num_nodes=4)
    assert counted(client, 3) == {
        (State.PREPROCESSED, None, False, 4, 1),
        (State.PREPROCESSED, None, False, 1, 2),
    }


def test_jobs_that_wait_for_their_retry(client: LocalClient, pilot: Pilot, clock: Clock) -> None:
    ids = add(client, "a", "b")
    for leased in pilot.lease(2):
        fail(pilot, leased, retry_at=clock.now + 60)
    (found,) = client.waiting(100)
    assert (found.is_delayed, found.retry_at, found.count) == (True, clock.now + 60, 2)
    assert client.waiting() == [found]
    assert found.example == ids[0]


def test_of_jobs_that_run_the_mean_start_is_told(
    client: LocalClient, pilot: Pilot, clock: Clock
) -> None:
    add(client, "a", "b", "c")
    start = clock.now
    for leased in pilot.lease(2):
        pilot.start(leased)
        clock.now += 60
    since = {each.state: each.since for each in client.waiting(100)}
    assert since == {State.RUNNING: pytest.approx(start + 30), State.PREPROCESSED: 0.0}


def test_counting_by_workflow(client: LocalClient) -> None:
    jobs = [Job(name=str(i), workflow=f"w{i % 2}", application="a") for i in range(5)]
    client.create_jobs(jobs)
    assert {(w.workflow, w.count) for w in client.waiting(by_workflow=True)} == {
        ("w0", 3),
        ("w1", 2),
    }


# tags of launchers ------------------------------------------------------------------


def test_a_launcher_takes_jobs_with_its_tags(client: LocalClient, pilot: Pilot) -> None:
    add(client, "none")
    add(client, "one", tags={"kind": "x"})
    add(client, "both", tags={"kind": "x", "it's": "y z"})
    wanted = LeaseRequest(limit=9, tags={"kind": "x", "it's": "y z"})
    assert [job.name for job in client.lease(pilot.id, wanted).jobs] == ["both"]
    assert client.outlook(pilot.id, LeaseRequest(limit=9, tags={"kind": "x"})).leasable == 1


# the service ------------------------------------------------------------------------


def test_one_service_lives(client: LocalClient, clock: Clock) -> None:
    """Fault A3."""
    assert client.service() is None
    info = ServiceInfo(host="login1", pid=4711, pid_started="x", owner="me")
    first = client.register_service(info, 60)
    with pytest.raises(ServiceRuns, match="process 4711 on login1, of me"):
        client.register_service(info, 60)
    clock.now += 30
    status = ServiceStatus(scheduler="slurm", queues=[QueueState(name="q")], news=["hello"])
    assert client.renew_service(first, status, 60) is False
    clock.now += 59
    with pytest.raises(ServiceRuns):
        client.register_service(info, 60)
    clock.now += 2
    second = client.register_service(info, 60)
    with pytest.raises(ServiceRuns, match=f"service {first} was ended"):
        client.renew_service(first, status, 60)
    with pytest.raises(ServiceRuns):
        client.create_batch_job(BatchJob(service_id=first))
    found = client.service()
    assert found is not None
    assert (found.id, found.status) == (second, status)
    assert client.create_batch_job(BatchJob(service_id=second)).service_id == second


def test_a_service_is_asked_to_stop(client: LocalClient) -> None:
    assert client.request_service_stop() is False
    service = client.register_service(ServiceInfo(), 60)
    assert client.request_service_stop() is True
    assert client.renew_service(service, ServiceStatus(), 60) is True
    client.end_service(service, "asked to")
    found = client.service()
    assert found is not None
    assert (found.message, found.ended_at is None) == ("asked to", False)
    assert client.register_service(ServiceInfo(), 60) > service


def test_of_services_that_start_at_once_one_lives(client: LocalClient, site: Path) -> None:
    def start(number: int) -> bool:
        mine = LocalClient(site, config.load(site))
        try:
            mine.register_service(ServiceInfo(pid=number), 60)
        except ServiceRuns:
            return False
        finally:
            mine.close()
        return True

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(start, range(6))) == 1


def test_live_states_are_all_that_have_not_ended() -> None:
    assert BatchState.PENDING_SUBMISSION in LIVE_STATES
    assert BatchState.LOST not in LIVE_STATES
