"""kill -9 of whoever inserts many jobs: whole batches are there, and the next call works."""

from __future__ import annotations

import re

import psycopg
import pytest

from balsam import config
from balsam.cli.insertion import BATCH
from balsam.model.query import Query, parse
from balsam.model.states import State
from tests import postgres
from tests.integration.conftest import Campaign, wait_until
from tests.integration.faults.conftest import array, balsam, count_jobs

TOTAL = 4 * BATCH


def check_whole(campaign: Campaign, count: int) -> None:
    """Check that the first *count* jobs are there, each once and complete."""
    names = [job.name for job in campaign.client.iterate_jobs(Query(), ["name"])]
    assert sorted(names) == sorted(f"n{i}" for i in range(count))
    created = Query(filters=parse({"from_state": ""}, "events"))
    assert len({event.job for event in campaign.client.iterate_events(created)}) == count
    assert campaign.states() == ({str(State.PREPROCESSED): count} if count else {})


def check_goes_on(campaign: Campaign) -> None:
    """Check that a further call adds its jobs, with ids of their own."""
    before = count_jobs(campaign)
    again = balsam(campaign, *array(10, "again"))
    out, err = again.communicate()
    assert (again.returncode, err) == (0, ""), out
    assert count_jobs(campaign) == before + 10


def test_a_command_that_is_killed_between_batches(campaign: Campaign) -> None:
    inserting = balsam(campaign, *array(TOTAL))
    wait_until(lambda: count_jobs(campaign), inserting.poll)
    inserting.kill()
    inserting.communicate()
    check_goes_on(campaign)
    campaign.client.delete_jobs(Query().where(workflow="again"))
    count = count_jobs(campaign)
    assert 0 < count < TOTAL, "killed too late"
    assert count % BATCH == 0
    check_whole(campaign, count)


def waits_for_a_lock(url: str) -> int | None:
    """Return the process that waits for a lock, if there is one."""
    with psycopg.connect(url) as look:
        found = look.execute("SELECT pid FROM pg_locks WHERE NOT granted").fetchone()
    return found[0] if found else None


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_a_command_that_is_killed_within_a_transaction(campaign: Campaign) -> None:
    """The server undoes what was copied, though nobody tells it to."""
    url = config.load(campaign.site).database.url
    with psycopg.connect(url) as other:
        other.execute("LOCK TABLE events IN EXCLUSIVE MODE")
        inserting = balsam(campaign, *array(BATCH))
        backend = wait_until(lambda: waits_for_a_lock(url), inserting.poll)
        inserting.kill()
        inserting.communicate()
    with psycopg.connect(url, autocommit=True) as look:
        there = "SELECT 1 FROM pg_stat_activity WHERE pid = %s"
        wait_until(lambda: look.execute(there, (backend,)).fetchone() is None)
    check_whole(campaign, 0)
    check_goes_on(campaign)


class TestServerDies:
    """The command waits for the server, and then knows what has been done."""

    @pytest.fixture
    def database(self, server: postgres.Server) -> str:
        return server.new_database()

    def test_while_many_jobs_are_inserted(
        self, campaign: Campaign, server: postgres.Server
    ) -> None:
        inserting = balsam(campaign, *array(TOTAL))
        wait_until(lambda: count_jobs(campaign), inserting.poll)
        server.kill()
        assert inserting.poll() is None
        server.start()
        out, err = inserting.communicate()
        assert (inserting.returncode, err) == (0, "")
        assert re.search(rf"{TOTAL}", out.replace(",", "")), out
        check_whole(campaign, TOTAL)

    def test_for_good(self, campaign: Campaign, server: postgres.Server) -> None:
        """One line, once it has waited as long as the settings say."""
        (campaign.site / "balsam.toml").write_text("[database]\nbusy_seconds = 0.2\n")
        server.kill()
        listing = balsam(campaign, "ls")
        out, err = listing.communicate()
        assert (listing.returncode, out) == (1, "")
        assert re.fullmatch(r"balsam: .*cannot be reached.*\n", err), err
        server.start()
        check_goes_on(campaign)
