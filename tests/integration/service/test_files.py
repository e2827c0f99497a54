"""The service moves the files of jobs, as a launcher without nodes; launchers, when it does not."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from balsam.model.query import ALL
from balsam.model.states import State
from balsam.model.transfer import TransferState
from balsam.model.wire import LauncherKind
from tests.integration.conftest import Campaign, Start
from tests.integration.service.conftest import Serve
from tests.integration.transfers.web import Web

S = State


@pytest.fixture
def database() -> str:
    """What leases do is tried on both in contract/test_files_of_service.py."""
    return "sqlite"


@pytest.fixture
def web() -> Iterator[Web]:
    server = Web()
    yield server
    server.close()


def movers(campaign: Campaign) -> set[int]:
    """The launchers that services were."""
    found = campaign.client.launchers(live=False, kind=LauncherKind.SERVICE)
    return {one.id for one in found}


def test_files_come_before_nodes_are_asked_for_and_go_after_these_are_free(
    campaign: Campaign, serve: Serve, web: Web, tmp_path: Path
) -> None:
    """No launcher lives while they come; the launcher of the batch job has none to move."""
    web.files["/in.dat"] = bytes(2**20)
    web.pause = threading.Event()
    campaign.app("use", "#\nwc -c < in.dat > out.txt")
    job = campaign.job(
        "use",
        stage_in_url=f"{web.url}/in.dat",
        stage_out_url=f"local:{tmp_path / 'results'}",
        stage_out_files="out.txt",
    )
    service = serve()
    service.wait_for(lambda: any(t.bytes_done for t in campaign.client.transfers(ALL)))
    service.wait_for(lambda: service.status.files.in_hand == 1)
    assert service.batch_jobs == []
    web.pause.set()
    campaign.wait_for(job, S.JOB_FINISHED)
    assert (tmp_path / "results" / "out.txt").read_text().strip() == str(2**20)
    told = campaign.client.transfers(ALL)
    assert [t.state for t in told] == [TransferState.DONE] * 2, service.tell()
    assert {t.launcher_id for t in told} == movers(campaign)
    (batch_job,) = service.batch_jobs
    assert campaign.get(job).batch_job_id == batch_job.id
    service.wait_for(lambda: service.status.files.done == 2)
    service.wait_until_quiet()
    assert service.end() == 0


def test_another_service_goes_on_where_one_was_killed(
    campaign: Campaign, serve: Serve, web: Web
) -> None:
    """Its lease need not be waited for: its process is seen to be gone. The rest alone comes."""
    web.files["/in.dat"] = bytes(3 * 2**20)
    web.pause = threading.Event()
    job = campaign.job("true", stage_in_url=f"{web.url}/in.dat")
    first = serve()
    first.wait_for(lambda: any(t.bytes_done for t in campaign.client.transfers(ALL)))
    first.end(9)
    web.pause.set()
    second = serve()
    campaign.wait_for(job, S.JOB_FINISHED)
    assert second.batch_jobs
    assert web.asked[-1][2].startswith("bytes=")  # it was resumed
    ended = campaign.client.launchers(live=False, kind=LauncherKind.SERVICE)[0]
    assert "died" in ended.message
    second.wait_until_quiet()
    assert second.end() == 0


def test_launchers_move_files_when_the_service_has_ended(
    campaign: Campaign, configure: Callable[..., None], serve: Serve, start: Start, web: Web
) -> None:
    """A launcher that was there all the time takes over by itself."""
    configure(more="elastic = false")
    web.files["/in.dat"] = bytes(2**20)
    web.pause = threading.Event()
    job = campaign.job("true", stage_in_url=f"{web.url}/in.dat")
    service = serve()
    service.wait_for(lambda: any(t.bytes_done for t in campaign.client.transfers(ALL)))
    start("--idle-seconds", "60")
    other = campaign.job("true", "other")
    campaign.wait_for(other, S.JOB_FINISHED)
    assert campaign.state(job) == S.READY
    assert service.end() == 0
    web.pause.set()
    campaign.wait_for(job, S.JOB_FINISHED)
    (told,) = campaign.client.transfers(ALL)
    (pilot,) = campaign.client.launchers(live=False)
    assert told.launcher_id == pilot.id


def test_a_job_that_is_killed_is_moved_no_further(
    campaign: Campaign, configure: Callable[..., None], serve: Serve, web: Web
) -> None:
    configure(more="elastic = false")
    web.files["/in.dat"] = bytes(2**20)
    web.pause = threading.Event()
    job = campaign.job("true", stage_in_url=f"{web.url}/in.dat")
    missing = campaign.job("true", stage_in_url=f"{web.url}/none")
    service = serve()
    service.wait_for(lambda: any(t.bytes_done for t in campaign.client.transfers(ALL)))
    campaign.client.kill_jobs(ALL.where(id=job))
    service.wait_for(lambda: campaign.get(job).launcher_id is None)
    campaign.wait_for(missing, S.FAILED)
    assert "404" in campaign.message(missing, S.FAILED)
    assert json.dumps([t.state for t in campaign.client.transfers(ALL)]) == '["stopped", "failed"]'
    assert service.end() == 0
