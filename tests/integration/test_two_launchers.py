"""Two launchers on one site share its work."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

from balsam.model.query import Query
from balsam.model.states import State
from balsam.model.wire import Outcome
from tests.integration.conftest import Campaign, Start, wait_until
from tests.integration.test_crash import check_accounts, kill_all_of

S = State


def both_are_there(campaign: Campaign) -> bool:
    return len(campaign.client.launchers()) == 2


def test_two_launchers_share_the_jobs_of_a_site(campaign: Campaign, start: Start) -> None:
    """Each job runs once, and both get some: the first jobs end when both have started one."""
    first, others = 4 * (os.cpu_count() or 1), 2000  # more than one launcher takes at a time
    count = first + others
    executed = campaign.site / "executed"
    note = f"echo $BALSAM_JOB_ID $BALSAM_ATTEMPT >> {executed}"
    by = f"{campaign.site}/by"
    meet = f"touch {by}-$BALSAM_LAUNCHER_ID; until [ -e {by}-1 -a -e {by}-2 ]; do sleep 0.05; done"
    campaign.app("meet", f"#\n{meet}; {note}")
    campaign.app("note", f"/bin/sh -c '{note}'")
    launchers = [start("--persistent"), start("--persistent", "--output", "stream")]
    campaign.jobs("meet", *(f"meet{i}" for i in range(first)))
    campaign.jobs("note", *(f"j{i}" for i in range(others)))
    wait_until(
        lambda: campaign.states() == {"JOB_FINISHED": count},
        lambda: (campaign.states(), [launcher.output for launcher in launchers]),
    )
    for launcher in launchers:
        launcher.process.terminate()
    for launcher in launchers:
        launcher.wait()
    check_accounts(campaign, executed, count)
    attempts = list(campaign.client.iterate_attempts(Query()))
    assert len(attempts) == count
    share = Counter(attempt.launcher_id for attempt in attempts)
    assert set(share) == {1, 2}, share


def test_a_launcher_takes_over_from_one_that_dies_beside_it(
    campaign: Campaign, start: Start
) -> None:
    """It looks for the dead by itself, also while it has work of its own."""
    (campaign.site / "balsam.toml").write_text("[launcher]\nlease_seconds = 1.5\n")
    campaign.app("app", "#\necho ready $BALSAM_ATTEMPT; [ $BALSAM_ATTEMPT = 2 ] || exec sleep 1000")
    job = campaign.job("app")
    first = start("--persistent")
    campaign.wait_for_output(job, "ready 1")
    campaign.wait_for(job, S.RUNNING)
    second = start("--persistent")
    wait_until(lambda: both_are_there(campaign))
    kill_all_of(first)
    campaign.wait_for(job, S.JOB_FINISHED)
    second.process.terminate()
    said = second.wait()
    assert "launcher 1 on" in said
    assert [a.outcome for a in campaign.attempts(job)] == [Outcome.LOST, Outcome.DONE]
    assert [a.launcher_id for a in campaign.attempts(job)] == [1, 2]


def test_the_end_of_one_launcher_s_job_wakes_the_other(campaign: Campaign, start: Start) -> None:
    """A child of a job that runs elsewhere starts as soon as that has ended."""
    campaign.app("wait", "#\necho ready; while [ ! -e go ]; do sleep 0.05; done")
    parent = campaign.job("wait", workflow="one")
    child = campaign.job("true", "child", workflow="two", parents=[parent])
    one = start("--wf-filter", "one")
    campaign.wait_for_output(parent, "ready")
    other = start("--wf-filter", "two", "--persistent")
    wait_until(lambda: both_are_there(campaign))
    Path(campaign.get(parent).workdir, "go").touch()
    one.wait()
    campaign.wait_for(child, S.JOB_FINISHED)
    other.process.terminate()
    other.wait()
    assert [a.launcher_id for a in campaign.attempts(child)] == [2]
