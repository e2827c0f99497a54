"""Many launchers want the same jobs: each runs once, and no conflict reaches anybody."""

from __future__ import annotations

from collections import Counter

import pytest

from balsam.model.query import Query
from tests.integration.conftest import Campaign, Start, wait_until
from tests.integration.faults.conftest import all_finished, note_executions, persistent
from tests.integration.test_crash import check_accounts

#: What nobody may see.
CONFLICTS = ("deadlock", "serialize", "in the way", "locked", "Traceback")


@pytest.mark.slow
def test_two_launchers_want_one_job(campaign: Campaign, start: Start) -> None:
    """Each new job wakes both."""
    executed = note_executions(campaign, "note")
    with persistent(campaign, start, 2) as launchers:
        for i in range(60):
            job = campaign.job("note", f"j{i}")
            wait_until(lambda last=job: campaign.state(last) == "JOB_FINISHED")
    check_accounts(campaign, executed, 60)
    said = "".join(launcher.output for launcher in launchers)
    assert not [word for word in CONFLICTS if word in said], said


@pytest.mark.slow
@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_four_launchers_share_a_thousand_jobs(campaign: Campaign, start: Start) -> None:
    """With children, so that launchers report parents of the same jobs at the same time."""
    executed = note_executions(campaign, "note")
    with persistent(campaign, start, 4, "--output", "stream") as launchers:
        parents = campaign.jobs("note", *(f"p{i}" for i in range(800)))
        for i in range(200):
            campaign.job("note", f"c{i}", parents=parents[i * 4 : i * 4 + 4])
        wait_until(lambda: all_finished(campaign), campaign.states)
    check_accounts(campaign, executed, 1000)
    share = Counter(attempt.launcher_id for attempt in campaign.client.iterate_attempts(Query()))
    assert set(share) == {1, 2, 3, 4}, share
    said = "".join(launcher.output for launcher in launchers)
    assert not [word for word in CONFLICTS if word in said], said
