"""Disks that fill up while launchers run: nothing is lost, and all goes on when there is room."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from balsam.client.connect import create_site, open_client
from balsam.errors import StoreError, StoreFull
from balsam.launcher.log import Log
from balsam.model.job import Job
from balsam.model.query import Query
from balsam.model.states import State
from tests import postgres
from tests.integration.conftest import Campaign, Run, Start, is_running, wait_until
from tests.integration.faults.conftest import (
    Mount,
    all_finished,
    executions,
    fill_up,
    note_executions,
    persistent,
    settings,
)
from tests.integration.test_crash import check_accounts

S = State
COUNT = 200


def wait_for_some(campaign: Campaign, more: int = 20) -> None:
    least = campaign.states().get("JOB_FINISHED", 0) + more
    wait_until(lambda: campaign.states().get("JOB_FINISHED", 0) >= least, campaign.states)


@pytest.mark.slow
def test_the_disk_of_the_journal_and_the_log(
    campaign: Campaign, mount: Mount, start: Start, run: Run
) -> None:
    """The launcher says so, leaves nothing running, and the next one goes on."""
    log = campaign.site / "log"
    mount(log, "256k")
    executed = note_executions(campaign, "note", "sleep 0.02")
    campaign.jobs("note", *(f"j{i}" for i in range(COUNT)))
    launcher = start()
    wait_for_some(campaign)
    below = [process.pid for process in launcher.guardian().children(recursive=True)]
    ballast = fill_up(log)
    wait_until(lambda: launcher.process.poll() is not None, lambda: launcher.output)
    assert launcher.process.returncode == 1
    assert re.search(rf"cannot write the (journal|log) {log}/launcher_1\.", launcher.output)
    assert "Traceback" not in launcher.output
    assert not any(map(is_running, below))
    ballast.unlink()
    assert "launcher 1 on" in run()
    check_accounts(campaign, executed, COUNT)


def test_a_log_that_cannot_be_written_is_told_once(tmp_path: Path, mount: Mount) -> None:
    """What was left over does not hide that when the log is closed."""
    mount(tmp_path, "64k")
    log = Log(tmp_path / "launcher_1.log", lambda: 1.0)
    fill_up(tmp_path)
    with pytest.raises(StoreFull, match=r"cannot write the log .*launcher_1\.log: No space left"):
        log.line("x" * 10_000)
    log.close()


class TestSite:
    """The disk that all of the site is on, with the database of SQLite."""

    @pytest.fixture
    def campaign(self, tmp_path: Path, mount: Mount, balsam_home: Path) -> Iterator[Campaign]:
        (tmp_path / "disk").mkdir()
        mount(tmp_path / "disk", "8m")
        create_site(tmp_path / "disk" / "site")
        client = open_client(tmp_path / "disk" / "site")
        yield Campaign(client, tmp_path / "scripts")
        client.close()

    @pytest.mark.slow
    def test_the_disk_of_the_site(
        self, campaign: Campaign, tmp_path: Path, start: Start, run: Run
    ) -> None:
        executed = tmp_path / "executed"
        campaign.app("note", f"#\necho $BALSAM_JOB_ID $BALSAM_ATTEMPT >> {executed}; sleep 0.02")
        campaign.jobs("note", *(f"j{i}" for i in range(COUNT)))
        launcher = start("--output", "stream")
        wait_for_some(campaign)
        ballast = fill_up(tmp_path / "disk")
        wait_until(lambda: launcher.process.poll() is not None, lambda: launcher.output)
        assert launcher.process.returncode == 1
        assert re.search("no space left|No space left|quota is full", launcher.output)
        assert "Traceback" not in launcher.output
        ballast.unlink()
        run("--output", "stream")
        check_accounts(campaign, executed, COUNT)


class TestServer:
    """The disk of PostgreSQL's data directory."""

    @pytest.fixture
    def disk(self, tmp_path: Path, mount: Mount) -> Path:
        disk = tmp_path / "disk"
        disk.mkdir()
        mount(disk, "160m")
        return disk

    @pytest.fixture
    def server(self, disk: Path) -> Iterator[postgres.Server]:
        few = f"{postgres.DURABLE} -c max_wal_size=32MB -c min_wal_size=32MB"
        server = postgres.Server(postgres.require(), few, place=disk)
        yield server
        server.stop()

    @pytest.fixture
    def database(self, server: postgres.Server) -> str:
        return server.new_database()

    @pytest.mark.slow
    def test_the_disk_of_the_server(
        self, campaign: Campaign, disk: Path, server: postgres.Server, start: Start
    ) -> None:
        """Launchers wait for room, whether the server refuses to write or has crashed of it."""
        settings(campaign, "[database]\nbusy_seconds = 0.5\n")
        executed = note_executions(campaign, "note", "sleep 0.02")
        with persistent(campaign, start, 2) as launchers:
            campaign.jobs("note", *(f"j{i}" for i in range(COUNT)))
            wait_for_some(campaign)
            ballast = fill_up(disk)
            before = executions(executed)
            refused = wait_until(lambda: refusal(campaign))
            assert "\n" not in refused
            wait_until(lambda: executions(executed) > before)
            ballast.unlink()
            if not server.answers():
                server.kill()
                server.start()
            wait_until(lambda: all_finished(campaign), campaign.states)
            for launcher in launchers:
                assert launcher.process.poll() is None, launcher.output
            campaign.client.delete_jobs(Query().where(workflow="big"))
        check_accounts(campaign, executed, COUNT)


def refusal(campaign: Campaign) -> str:
    """Insert a large job; return why it could not be."""
    big = Job(name="big", workflow="big", application="true", description="x" * 500_000)
    try:
        campaign.client.create_jobs([big] * 4)
    except StoreError as error:
        return str(error)
    return ""
