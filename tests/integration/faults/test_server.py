"""kill -9 of PostgreSQL: launchers go on with what they hold and report afterwards."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence

import pytest

from balsam.model.query import Query
from balsam.model.wire import Outcome
from tests import postgres
from tests.integration.conftest import Campaign, Launcher, Start, wait_until
from tests.integration.faults.conftest import (
    all_finished,
    executions,
    note_executions,
    persistent,
    settings,
)
from tests.integration.test_crash import check_accounts
from tests.proxy import Proxy


@pytest.fixture
def database(server: postgres.Server) -> str:
    return server.new_database()


def wait_for_more(campaign: Campaign, launchers: Sequence[Launcher], more: int = 10) -> None:
    """Wait until some more jobs have finished."""
    least = campaign.states().get("JOB_FINISHED", 0) + more
    wait_until(
        lambda: campaign.states().get("JOB_FINISHED", 0) >= least,
        lambda: (campaign.states(), [launcher.output for launcher in launchers]),
    )


def check_untouched(campaign: Campaign, launchers: Sequence[Launcher]) -> None:
    """Check that no run was lost, and no launcher ended or was taken for dead."""
    outcomes = {attempt.outcome for attempt in campaign.client.iterate_attempts(Query())}
    assert outcomes == {Outcome.DONE}
    assert len(campaign.client.launchers()) == len(launchers)
    for launcher in launchers:
        assert launcher.process.poll() is None, launcher.output


@pytest.mark.slow
def test_the_server_is_killed_and_started_again(
    campaign: Campaign, server: postgres.Server, start: Start
) -> None:
    """Programs that run meanwhile end, and others of those in hand are started."""
    settings(campaign, "[database]\nbusy_seconds = 1\n")
    executed = note_executions(campaign, "note", "sleep 0.05")
    with persistent(campaign, start, 2) as launchers:
        campaign.jobs("note", *(f"j{i}" for i in range(400)))
        for _ in range(2):
            wait_for_more(campaign, launchers)
            server.kill()
            before = executions(executed)
            wait_until(lambda least=before + 5: executions(executed) >= least)
            server.start()
        wait_until(lambda: all_finished(campaign), campaign.states)
        check_untouched(campaign, launchers)
    check_accounts(campaign, executed, 400)


@pytest.mark.slow
def test_the_server_is_away_for_longer_than_anybody_waits(
    campaign: Campaign, server: postgres.Server, start: Start
) -> None:
    """The launcher says so, runs all that it holds, and tells of it afterwards."""
    settings(campaign, "[database]\nbusy_seconds = 0.2\n")
    executed = note_executions(campaign, "note")
    with persistent(campaign, start, 1) as (launcher,):
        held = campaign.job("note", "first")
        campaign.wait_for(held, "JOB_FINISHED")
        campaign.app("gate", "#\nuntil [ -e go ]; do sleep 0.05; done")
        gate = campaign.job("gate")
        campaign.wait_for(gate, "RUNNING")
        go = campaign.get(gate).workdir + "/go"
        server.kill()
        wait_until(lambda: "the database cannot answer" in launcher.output, lambda: launcher.output)
        open(go, "w").close()
        wait_until(lambda: launcher.output.count("cannot answer") > 2, lambda: launcher.output)
        server.start()
        campaign.wait_for(gate, "JOB_FINISHED")
        wait_until(lambda: "the database answers again" in launcher.output)
        check_untouched(campaign, [launcher])
        campaign.client.delete_jobs(Query().where(id=gate))
    check_accounts(campaign, executed, 1)


@pytest.mark.slow
def test_connections_are_killed_on_the_server(
    campaign: Campaign, server: postgres.Server, start: Start
) -> None:
    """kill -9 of one: the server ends all others, too, and recovers."""
    executed = note_executions(campaign, "note", "sleep 0.05")
    with persistent(campaign, start, 2) as launchers:
        campaign.jobs("note", *(f"j{i}" for i in range(300)))
        for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL):
            wait_for_more(campaign, launchers)
            os.kill(server.backends()[0], number)
        wait_until(lambda: all_finished(campaign), campaign.states)
        check_untouched(campaign, launchers)
    check_accounts(campaign, executed, 300)


class TestBehindAProxy:
    """Connections that end while both sides live."""

    @pytest.fixture
    def database(self, server: postgres.Server, proxy: Proxy) -> str:
        return server.url_at(proxy.port, server.new_database())

    @pytest.mark.slow
    def test_connections_are_cut_again_and_again(
        self, campaign: Campaign, proxy: Proxy, start: Start
    ) -> None:
        executed = note_executions(campaign, "note", "sleep 0.02")
        with persistent(campaign, start, 2) as launchers:
            campaign.jobs("note", *(f"j{i}" for i in range(400)))
            for _ in range(10):
                wait_for_more(campaign, launchers)
                proxy.cut_all()
            wait_until(lambda: all_finished(campaign), campaign.states)
            check_untouched(campaign, launchers)
        assert proxy.cuts >= 20
        check_accounts(campaign, executed, 400)
