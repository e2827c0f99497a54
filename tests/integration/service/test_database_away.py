"""PostgreSQL is killed while the service runs: it waits for it, and goes on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from balsam.model.batch_job import BatchState
from tests import postgres
from tests.integration.conftest import Campaign, wait_until
from tests.integration.faults.conftest import settings
from tests.integration.service.conftest import Serve


@pytest.fixture
def server() -> Iterator[postgres.Server]:
    """A server for one test, which keeps what it confirmed."""
    server = postgres.Server(postgres.require(), postgres.DURABLE)
    yield server
    server.stop()


@pytest.fixture
def database(server: postgres.Server) -> str:
    return server.new_database()


def test_the_service_outlives_its_database(
    campaign: Campaign, server: postgres.Server, serve: Serve
) -> None:
    settings(campaign, "[database]\nbusy_seconds = 1\n")
    service = serve()
    service.wait_until_registered()
    campaign.job("true", "before")
    service.wait_for_jobs(1)
    server.kill()
    wait_until(lambda: "trying again" in service.said, lambda: service.said)
    assert service.process.poll() is None
    server.start()
    campaign.job("true", "after")
    service.wait_for_jobs(2)
    service.wait_until_quiet()
    assert {each.state for each in service.batch_jobs} == {BatchState.FINISHED}
    assert service.end() == 0
