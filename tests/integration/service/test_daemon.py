"""The service on `local`: it gets nodes for the work, and one lives on a site at a time."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

import pytest

from balsam.model.batch_job import BatchState
from balsam.model.query import Query
from balsam.model.states import State
from tests.integration.conftest import Campaign, wait_until
from tests.integration.service.conftest import Serve

Configure = Callable[..., None]
#: What does not depend on the database is tried on one.
on_sqlite = pytest.mark.parametrize("database", ["sqlite"], indirect=True)
QUEUES = """
max_running = 2
[[queue]]
name = "debug"
max_minutes = 5
max_queued = 1
[[queue]]
name = "batch"
max_minutes = 60
max_queued = 2
"""
POLICY = "[queues.debug]\nmax_queued = 5\n[queues.batch]\nmax_queued = 5\n"


def test_a_campaign_ends_in_few_batch_jobs(
    campaign: Campaign, configure: Configure, serve: Serve
) -> None:
    configure(POLICY, QUEUES)
    jobs = campaign.jobs("true", *(f"j{n}" for n in range(60)))
    service = serve()
    service.wait_for_jobs(60)
    service.wait_until_quiet()
    assert all(len(campaign.attempts(job)) == 1 for job in jobs)
    made = service.batch_jobs
    assert len(made) <= 2, service.tell()
    assert {each.state for each in made} <= {BatchState.FINISHED, BatchState.CANCELLED}
    assert service.end() == 0
    status = service.status
    assert (status.trouble, status.unmet) == ("", [])
    assert status.spent_node_hours >= 0


def test_work_that_comes_later_gets_nodes(campaign: Campaign, serve: Serve) -> None:
    service = serve()
    service.wait_until_registered()
    first = campaign.job("true", "first")
    service.wait_for_jobs(1)
    service.wait_until_quiet()
    parent = campaign.job("true", "parent")
    campaign.job("true", "child", parents=[parent])
    service.wait_for_jobs(3)
    service.wait_until_quiet()
    assert campaign.state(first) is State.JOB_FINISHED


def test_of_two_services_one_lives(campaign: Campaign, serve: Serve) -> None:
    one, other = serve(), serve()
    wait_until(lambda: one.process.poll() is not None or other.process.poll() is not None)
    loser, winner = (one, other) if one.process.poll() is not None else (other, one)
    assert loser.process.returncode != 0
    assert "has a service already" in loser.said
    campaign.job("true")
    winner.wait_for_jobs(1)
    winner.wait_until_quiet()
    assert winner.process.poll() is None
    assert len(winner.batch_jobs) == 1


def test_a_service_ends_when_it_is_asked_to(campaign: Campaign, serve: Serve) -> None:
    service = serve()
    service.wait_until_registered()
    campaign.client.request_service_stop()
    assert service.process.wait(20) == 0
    found = campaign.client.service()
    assert found is not None
    assert found.message == "asked to by `balsam service stop`"


@on_sqlite
def test_batch_jobs_outlive_the_service(campaign: Campaign, serve: Serve) -> None:
    campaign.app("wait", "while [ ! -e go ]; do sleep 0.05; done\n")
    job = campaign.job("wait")
    service = serve()
    campaign.wait_for(job, State.RUNNING)
    assert service.end(signal.SIGINT) == 0
    (batch,) = service.batch_jobs
    assert batch.is_live
    (campaign.site / campaign.get(job).workdir / "go").touch()
    campaign.wait_for(job, State.JOB_FINISHED)
    again = serve()
    again.wait_until_quiet()
    (batch,) = again.batch_jobs
    assert batch.state is BatchState.FINISHED


@on_sqlite
def test_jobs_of_somebody_else_are_not_asked_for(campaign: Campaign, serve: Serve) -> None:
    campaign.job("true", owner="somebody-else")
    service = serve()
    service.wait_for(lambda: service.status.scheduler_seen_at)
    mine = campaign.job("true", "mine")
    campaign.wait_for(mine, State.JOB_FINISHED)
    service.wait_until_quiet()
    assert len(service.batch_jobs) == 1


@on_sqlite
def test_jobs_that_no_queue_can_run_are_told(
    campaign: Campaign, configure: Configure, serve: Serve
) -> None:
    configure(POLICY, QUEUES)
    wide = campaign.job("true", "wide", num_nodes=3)
    campaign.job("true", "long", wall_time_minutes=100)
    service = serve()
    service.wait_for(lambda: len(service.status.unmet) == 2)
    reasons = " | ".join(f"{each.what}: {each.reason}" for each in service.status.unmet)
    assert "3 nodes" in reasons
    assert "queue batch allows 1 at most" in reasons
    assert "a job needs 100 minutes, queue batch allows 60" in reasons
    assert {each.example for each in service.status.unmet} >= {wide}
    assert service.batch_jobs == []


@on_sqlite
def test_the_budget_is_kept(campaign: Campaign, configure: Configure, serve: Serve) -> None:
    configure("budget_node_hours = 0.001\n", QUEUES)
    campaign.job("true")
    service = serve()
    service.wait_for(lambda: "the budget has 0.001 node-hours left" in service.status.waits)
    assert service.batch_jobs == []


@on_sqlite
def test_requests_are_taken_back_when_their_jobs_are_gone(
    campaign: Campaign, configure: Configure, serve: Serve
) -> None:
    configure("", "max_running = 0\n")
    job = campaign.job("true")
    service = serve()
    service.wait_for(lambda: [each.state for each in service.batch_jobs] == [BatchState.QUEUED])
    campaign.client.kill_jobs(Query().where(id=job))
    service.wait_for(lambda: service.batch_jobs[0].state is BatchState.CANCELLED)
    assert service.batch_jobs[0].cancel_reason == "no job needs it any more"
    assert service.batch_jobs[0].node_hours(time.time()) == 0


@on_sqlite
def test_the_time_that_launchers_keep_for_their_end_is_asked_for(
    campaign: Campaign, configure: Configure, serve: Serve
) -> None:
    """Else one launcher after the other would come and find too little time for the job."""
    configure("[launcher]\ngrace_seconds = 100\n")
    campaign.job("true", wall_time_minutes=3)
    service = serve()
    service.wait_for_jobs(1)
    service.wait_until_quiet()
    assert len(service.batch_jobs) == 1
