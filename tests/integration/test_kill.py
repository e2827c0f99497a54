"""Users kill jobs: those that run end within a second, and stay killed."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from balsam.errors import IllegalMove
from balsam.model.query import Query
from balsam.model.states import State
from balsam.model.wire import Outcome
from balsam.nodes.hardware import find_memory_mib
from tests.integration.conftest import Campaign, Start, is_running, wait_until

S = State
LOOP = "while :; do sleep 0.05; done"


@pytest.mark.parametrize(
    ("text", "exit_code"),
    [
        (f"trap 'exit 7' TERM; echo $$ ready; {LOOP}", 7),
        (f"trap '' TERM; echo $$ ready; {LOOP}", -9),
    ],
    ids=["obeys", "ignores SIGTERM"],
)
def test_a_running_job_ends_when_it_is_killed(
    campaign: Campaign, start: Start, text: str, exit_code: int
) -> None:
    """Fault S2; and A8: what the launcher tells of it later changes nothing."""
    campaign.app("long", f"#\n{text}")
    job = campaign.job("long", max_retries=3)
    other = campaign.job("long", "other")
    launcher = start()
    pid = int(campaign.wait_for_output(job, "ready").split()[0])
    campaign.wait_for_output(other, "ready")
    campaign.wait_for(job, S.RUNNING)
    asked = time.monotonic()
    assert campaign.client.kill_jobs(Query().where(id=job)) == [job]
    wait_until(lambda: not is_running(pid), lambda: campaign.tell(job))
    # KILL_SECONDS is half a second; the rest is the way there, on a machine that is busy.
    assert time.monotonic() - asked < 10
    wait_until(lambda: campaign.get(job).launcher_id is None, lambda: campaign.tell(job))
    assert campaign.path(job) == "PREPROCESSED RUNNING USER_KILLED"
    (attempt,) = campaign.attempts(job)
    assert (attempt.outcome, attempt.exit_code) == (Outcome.KILLED, exit_code)
    assert attempt.ended_at is not None
    with pytest.raises(IllegalMove, match="Cannot mutate state of a killed job"):
        campaign.client.move_jobs(Query().where(id=job), S.RESTART_READY)
    assert campaign.state(other) == S.RUNNING
    campaign.client.kill_jobs(Query())
    launcher.wait()
    assert campaign.states() == {"USER_KILLED": 2}


def test_a_waiting_job_that_is_killed_never_runs(campaign: Campaign, start: Start) -> None:
    """One is held by the launcher, behind a job that has all memory; one waits for a parent."""
    campaign.app("long", f"#\necho ready; {LOOP}")
    campaign.app("mark", "#\ntouch ran")
    share = {"memory_mib": find_memory_mib()}
    running = campaign.job("long", **share)
    held = campaign.job("mark", **share)
    waiting = campaign.job("mark", parents=[running])
    launcher = start()
    campaign.wait_for_output(running, "ready")
    wait_until(lambda: campaign.get(held).launcher_id, lambda: campaign.tell(held))
    both = {held, waiting}
    assert set(campaign.client.kill_jobs(Query().where(id__in=list(both)))) == both
    wait_until(lambda: campaign.get(held).launcher_id is None, lambda: campaign.tell(held))
    campaign.client.kill_jobs(Query().where(id=running))
    launcher.wait()
    assert campaign.path(held) == "PREPROCESSED USER_KILLED"
    assert campaign.path(waiting) == "CREATED AWAITING_PARENTS USER_KILLED"
    for job in (held, waiting):
        assert campaign.attempts(job) == []
        assert not Path(campaign.get(job).workdir, "ran").exists()


def test_descendants_are_killed_with_a_job(campaign: Campaign, start: Start) -> None:
    campaign.app("long", f"#\necho ready; {LOOP}")
    top = campaign.job("true")
    middle = campaign.jobs("long", "a", "b", parents=[top])
    bottom = campaign.job("true", parents=middle)
    apart = campaign.job("true", "apart")
    launcher = start()
    for job in middle:
        campaign.wait_for_output(job, "ready")
    assert set(campaign.client.kill_jobs(Query().where(id=top), recursive=True)) == {
        *middle,
        bottom,
    }
    launcher.wait()
    killed = [campaign.state(job) for job in (*middle, bottom)]
    assert killed == [S.USER_KILLED] * 3
    assert [campaign.state(job) for job in (top, apart)] == [S.JOB_FINISHED] * 2


def test_children_of_a_killed_job_do_not_run(campaign: Campaign, start: Start) -> None:
    campaign.app("long", f"#\necho ready; {LOOP}")
    job = campaign.job("long")
    child = campaign.job("true", parents=[job])
    anyway = campaign.job("true", "anyway", parents_any=[job])
    launcher = start()
    campaign.wait_for_output(job, "ready")
    campaign.client.kill_jobs(Query().where(id=job))
    launcher.wait()
    assert campaign.state(child) == S.FAILED
    assert "USER_KILLED" in campaign.message(child, S.FAILED)
    assert campaign.state(anyway) == S.JOB_FINISHED


def test_a_killed_job_can_be_run_again(campaign: Campaign, start: Start) -> None:
    campaign.app("app", f"#\necho ready $BALSAM_ATTEMPT; [ $BALSAM_ATTEMPT = 2 ] || {LOOP}")
    job = campaign.job("app")
    launcher = start("--persistent")
    campaign.wait_for_output(job, "ready 1")
    campaign.client.kill_jobs(Query().where(id=job))
    wait_until(lambda: campaign.client.rerun_jobs(Query().where(id=job)))
    campaign.wait_for(job, S.JOB_FINISHED)
    launcher.process.terminate()
    launcher.wait()
    assert [a.outcome for a in campaign.attempts(job)] == [Outcome.KILLED, Outcome.DONE]
    assert campaign.output(job) == "ready 1\nready 2\n"


def test_killing_while_short_jobs_flood_through(campaign: Campaign, start: Start) -> None:
    """Tasks that wait on the worker are taken back: each job ends as one thing or the other."""
    campaign.jobs("true", *(f"j{i}" for i in range(1500)))
    launcher = start()
    wait_until(lambda: campaign.states().get("JOB_FINISHED", 0) >= 100, launcher.wait)
    killed = campaign.client.kill_jobs(Query().where(id__gt=300))
    launcher.wait()
    states = campaign.states()
    assert set(states) == {"JOB_FINISHED", "USER_KILLED"}
    assert states["USER_KILLED"] == len(killed)
    for attempt in campaign.client.iterate_attempts(Query()):
        assert attempt.outcome in (Outcome.DONE, Outcome.KILLED), attempt
        assert attempt.ended_at is not None
