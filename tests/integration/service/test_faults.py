"""The batch system, the database or the site's own files fail while the service runs."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from balsam.service import template
from tests.contract.schedulers import world
from tests.contract.schedulers.fake_system import FakeSystem
from tests.contract.schedulers.system import Fate, Fault
from tests.integration.conftest import Campaign, locked, wait_until
from tests.integration.service.conftest import Serve, Service

Configure = Callable[..., None]
on_sqlite = pytest.mark.parametrize("database", ["sqlite"], indirect=True)


@pytest.fixture
def requests(tmp_path: Path) -> Callable[[], list[world.Request]]:
    """Returns what the fake system has taken."""

    def requests() -> list[world.Request]:
        with world.opened(tmp_path / "fake" / "world.json") as state:
            return list(state.requests)

    return requests


Requests = Callable[[], list[world.Request]]


def states(service: Service) -> list[str]:
    return [str(each.state) for each in service.batch_jobs]


@on_sqlite
@pytest.mark.parametrize(
    ("fault", "word"),
    [
        (Fault.AWAY, "Unable to contact slurm controller"),
        (Fault.DAMAGED, "squeue wrote"),
        (Fault.HANGS, "did not end within 2 s"),
    ],
)
def test_a_batch_system_that_fails_for_a_while_is_told_and_forgotten(
    campaign: Campaign,
    configure: Configure,
    fake: FakeSystem,
    serve: Serve,
    fault: Fault,
    word: str,
) -> None:
    configure(scheduler="slurm", timeout=2)
    campaign.job("true")
    service = serve()
    service.wait_for(lambda: states(service) == ["queued"])
    fake.fault(fault)
    service.wait_for(lambda: word in service.status.trouble)
    assert "the batch system: " in service.status.trouble
    assert states(service) == ["queued"]
    fake.fault(None)
    service.wait_for(lambda: service.status.trouble == "")
    service.wait_for(lambda: any("answers again" in line for line in service.status.news))
    (batch,) = service.batch_jobs
    fake.start(batch.scheduler_id)
    service.wait_for(lambda: states(service) == ["running"])
    told = [line for line in service.status.news if "trying again" in line]
    assert len(told) <= 2, "said again and again"


@on_sqlite
def test_a_request_that_is_not_named_for_a_while_is_not_lost(
    campaign: Campaign, fake: FakeSystem, serve: Serve
) -> None:
    campaign.job("true")
    service = serve()
    service.wait_for(lambda: states(service) == ["queued"])
    looked_at = service.status.scheduler_seen_at or 0
    fake.fault(Fault.MISSING)
    service.wait_for(lambda: (service.status.scheduler_seen_at or 0) > looked_at + 2)
    assert states(service) == ["queued"]


@on_sqlite
def test_nodes_are_asked_for_where_it_is_not_told_which_are_free(
    campaign: Campaign,
    configure: Configure,
    serve: Serve,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Clusters under Cobalt have no `nodelist`."""
    system = FakeSystem("cobalt", tmp_path / "fake")
    (tmp_path / "fake" / "bin" / "nodelist").unlink()
    monkeypatch.setenv("PATH", f"{system.environ['PATH']}{os.pathsep}{os.environ['PATH']}")
    configure("[queues.batch]\n", scheduler="cobalt")
    campaign.job("true")
    service = serve()
    service.wait_for(lambda: states(service) == ["queued"])
    unseen = "which nodes are free cannot be told: there is no program 'nodelist'"
    service.wait_for(lambda: any(unseen in line for line in service.status.news))


@on_sqlite
def test_a_submission_that_was_taken_and_not_answered_is_made_once(
    campaign: Campaign, configure: Configure, fake: FakeSystem, serve: Serve, requests: Requests
) -> None:
    configure(scheduler="slurm", timeout=2)
    fake.fault(Fault.HANGS, only_submission=True)
    campaign.job("true")
    service = serve()
    service.wait_for(lambda: states(service) == ["queued"])
    service.wait_for(lambda: service.status.trouble == "")
    looked_at = service.status.scheduler_seen_at or 0
    service.wait_for(lambda: (service.status.scheduler_seen_at or 0) > looked_at)
    assert [each.name for each in requests()] == [service.batch_jobs[0].name]
    assert len(service.batch_jobs) == 1


@on_sqlite
def test_a_queue_that_refuses_is_paused_with_the_reason(
    campaign: Campaign, configure: Configure, fake: FakeSystem, serve: Serve
) -> None:
    configure('[queues.batch]\nflags = "--partition=nope"\n', scheduler="slurm")
    campaign.job("true")
    service = serve()
    service.wait_for(lambda: any(q.comment for q in service.status.queues))
    (queue,) = service.status.queues
    assert not queue.is_open
    assert "paused until" in queue.comment
    assert "invalid partition specified: nope" in queue.comment
    assert "3 failures in a row" in queue.comment
    assert states(service) == ["submit_failed"] * 3
    assert "queue batch is not used now: paused until" in service.status.waits
    configure("[queues.batch]\nmax_queued = 2\n", scheduler="slurm")
    assert service.end() == 0
    again = serve()  # what failed before its start is forgotten
    again.wait_for(lambda: states(again)[3:] == ["queued"])


@on_sqlite
def test_batch_jobs_that_start_no_launcher_pause_their_queue(
    campaign: Campaign, configure: Configure, fake: FakeSystem, serve: Serve
) -> None:
    configure("[queues.batch]\nmax_queued = 1\n", scheduler="slurm")
    campaign.job("true")
    service = serve()
    for number in range(3):
        service.wait_for(lambda n=number: states(service)[n:] == ["queued"])
        batch = service.batch_jobs[-1]
        fake.start(batch.scheduler_id)
        fake.end(batch.scheduler_id, "", Fate.FAILED)
        service.wait_for(lambda n=number: states(service)[n] == "failed")
    service.wait_for(lambda: "paused until" in service.status.waits)
    assert len(service.batch_jobs) == 3


@on_sqlite
def test_a_template_that_cannot_be_used_is_told(campaign: Campaign, serve: Serve) -> None:
    file = campaign.site / template.TEMPLATE_FILE
    good = template.default_text()
    file.write_text(good + "\n{{ no_such_variable }}\n")
    campaign.job("true")
    service = serve()
    service.wait_for(lambda: "no_such_variable" in service.status.trouble)
    assert f"{file}, line {len(good.splitlines()) + 2}" in service.status.trouble
    looked_at = service.status.scheduler_seen_at or 0
    service.wait_for(lambda: (service.status.scheduler_seen_at or 0) > looked_at + 1)
    assert "no_such_variable" in service.status.trouble
    assert sum("no_such_variable" in line for line in service.status.news) == 1
    assert not any("answers again" in line for line in service.status.news)
    assert service.batch_jobs == []
    file.write_text(good)
    service.wait_for_jobs(1)
    service.wait_until_quiet()
    assert service.status.trouble == ""


def test_a_database_that_is_busy_for_a_while_does_not_end_the_service(
    campaign: Campaign, serve: Serve
) -> None:
    service = serve()
    service.wait_until_registered()
    with locked(campaign):
        before = time.monotonic()
        wait_until(lambda: time.monotonic() > before + 3)  # some looks
        assert service.process.poll() is None
    campaign.job("true")
    service.wait_for_jobs(1)
    service.wait_until_quiet()
    assert service.process.poll() is None


@on_sqlite
def test_a_batch_system_that_is_away_at_first_is_waited_for(
    campaign: Campaign, fake: FakeSystem, serve: Serve
) -> None:
    fake.fault(Fault.AWAY)
    campaign.job("true")
    service = serve()
    service.wait_for(lambda: "Unable to contact" in service.status.trouble)
    assert service.batch_jobs == []
    fake.fault(None)
    service.wait_for(lambda: states(service) == ["queued"])


@on_sqlite
def test_a_signal_ends_the_service_when_the_command_that_hangs_has_had_its_time(
    campaign: Campaign, configure: Configure, fake: FakeSystem, serve: Serve, requests: Requests
) -> None:
    """The answer of a submission is waited for: it costs nothing to be killed, but time later."""
    configure(scheduler="slurm", timeout=3)
    fake.fault(Fault.HANGS, only_submission=True)
    campaign.job("true")
    service = serve()
    service.wait_for(requests)
    assert service.end() == 0
    (batch,) = service.batch_jobs
    assert (batch.state, batch.scheduler_id) == ("queued", str(requests()[0].id))
    found = campaign.client.service()
    assert found is not None
    assert found.message == "asked to by SIGTERM"


@on_sqlite
def test_an_allocation_that_somebody_cancels_is_followed_by_another(
    campaign: Campaign, fake: FakeSystem, serve: Serve
) -> None:
    campaign.job("true")
    service = serve()
    service.wait_for(lambda: states(service) == ["queued"])
    fake.start(service.batch_jobs[0].scheduler_id)
    fake.end(service.batch_jobs[0].scheduler_id, "", Fate.CANCELLED)
    service.wait_for(lambda: states(service) == ["cancelled", "queued"])
    word = "batch job 1 (101) ended, cancelled"
    service.wait_for(lambda: any(word in line for line in service.status.news))
