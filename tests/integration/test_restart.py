"""The launcher's time is over, or it is asked to end: its jobs run again, uncharged."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from balsam.model.query import Query
from balsam.model.states import State
from balsam.model.wire import Outcome
from tests.integration.conftest import Campaign, Run, Start, is_running

S = State
#: Ends at once in its second attempt; obeys in its first.
PATIENT = "#\necho ready $BALSAM_ATTEMPT $PWD; [ $BALSAM_ATTEMPT = 2 ] || exec sleep 1000"


def check_restarted(campaign: Campaign, job: int, reason: str) -> None:
    """Check what became of a job of the app PATIENT after the first launcher."""
    found = campaign.get(job)
    assert campaign.path(job) == "PREPROCESSED RUNNING RUN_TIMEOUT RESTART_READY"
    assert (found.retries, found.attempt, found.launcher_id) == (0, 1, None)
    assert reason in campaign.message(job, S.RUN_TIMEOUT)
    (attempt,) = campaign.attempts(job)
    assert (attempt.outcome, attempt.exit_code) == (Outcome.TIMEOUT, -signal.SIGTERM)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_launcher_that_is_asked_to_end_gives_its_jobs_back(
    campaign: Campaign, start: Start, run: Run, number: int, code: int
) -> None:
    """Fault L5: all that runs is asked, and another launcher goes on in the same directory."""
    campaign.app("patient", PATIENT)
    jobs = campaign.jobs("patient", "a", "b", "c", node_packing_count=2)
    launcher = start()
    campaign.wait_for_output(jobs[0], "ready")
    campaign.wait_for_output(jobs[1], "ready")
    launcher.process.send_signal(number)
    said = launcher.wait(code)
    assert f"got {signal.Signals(number).name}" in said
    for job in jobs[:2]:
        check_restarted(campaign, job, signal.Signals(number).name)
    assert campaign.path(jobs[2]) == "PREPROCESSED"
    assert campaign.get(jobs[2]).launcher_id is None
    campaign.client.kill_jobs(Query().where(id=jobs[2]))
    run(env={"BALSAM_ATTEMPT": "99"})
    for job in jobs[:2]:
        assert campaign.state(job) == S.JOB_FINISHED
        directory = campaign.get(job).workdir
        assert campaign.output(job) == f"ready 1 {directory}\nready 2 {directory}\n"
        outcomes = [attempt.outcome for attempt in campaign.attempts(job)]
        assert outcomes == [Outcome.TIMEOUT, Outcome.DONE]
        assert campaign.get(job).retries == 0


def test_the_time_limit_ends_what_runs(campaign: Campaign, run: Run) -> None:
    """Fault L3: what cannot end in time is not begun, and what runs is not charged."""
    campaign.app("patient", PATIENT)
    campaign.app("never", "#\nexec sleep 1000")
    job = campaign.job("patient", node_packing_count=4)
    once = campaign.job("never", node_packing_count=4, auto_timeout_retry=False, max_retries=2)
    long = campaign.job("true", "long", wall_time_minutes=1)
    said = run("--time-limit-minutes", 0.1)
    assert "the launcher's time is over" in said
    check_restarted(campaign, job, "the launcher's time is over")
    assert campaign.path(once) == "PREPROCESSED RUNNING RUN_TIMEOUT FAILED"
    assert campaign.get(once).retries == 0
    assert campaign.path(long) == "PREPROCESSED"
    assert "1 jobs need more time than was left" in said


def test_a_job_that_saves_itself_in_its_time_of_grace_is_done(
    campaign: Campaign, start: Start
) -> None:
    """Fault L5: each of those that run has it, not only the first."""
    campaign.app(
        "saves",
        "#\ntrap 'sleep 0.3; echo saved; exit 0' TERM; echo ready; while :; do sleep 0.05; done",
    )
    jobs = campaign.jobs("saves", "a", "b", "c", node_packing_count=3)
    launcher = start()
    for job in jobs:
        campaign.wait_for_output(job, "ready")
    launcher.process.terminate()
    launcher.wait()
    for job in jobs:
        assert campaign.state(job) == S.JOB_FINISHED
        assert campaign.output(job).endswith("saved\n")


def test_a_second_signal_does_not_wait_for_the_grace(campaign: Campaign, start: Start) -> None:
    (campaign.site / "balsam.toml").write_text("[launcher]\ngrace_seconds = 3000\n")
    campaign.app("deaf", "#\ntrap 'echo asked' TERM; echo $$ ready; while :; do sleep 0.05; done")
    job = campaign.job("deaf")
    launcher = start()
    pid = int(campaign.wait_for_output(job, "ready").split()[0])
    launcher.process.terminate()
    campaign.wait_for_output(job, "asked")
    assert is_running(pid)
    launcher.process.terminate()
    launcher.wait()
    assert not is_running(pid)
    assert campaign.state(job) == S.RESTART_READY


def test_short_jobs_in_flight_are_given_back_when_the_launcher_ends(
    campaign: Campaign, start: Start, run: Run
) -> None:
    ran = campaign.site / "ran"
    campaign.app("note", f"#\necho $BALSAM_JOB_ID >> {ran}")
    jobs = campaign.jobs("note", *(f"j{i}" for i in range(800)))
    launcher = start()
    campaign.wait_for(jobs[20], S.JOB_FINISHED)
    launcher.process.terminate()
    launcher.wait()
    states = campaign.states()
    assert set(states) <= {"JOB_FINISHED", "PREPROCESSED", "RESTART_READY"}, states
    assert states["PREPROCESSED"] > 0, "nothing was left when it ended: too slow a machine?"
    run()
    assert campaign.states() == {"JOB_FINISHED": 800}
    attempts = sum(len(campaign.attempts(job)) for job in jobs)
    assert len(ran.read_text().split()) <= attempts
    assert {campaign.get(job).job_id for job in jobs} <= set(ran.read_text().split())


def test_what_a_launcher_is_asked_while_it_starts_is_heard(
    campaign: Campaign, start: Start
) -> None:
    """It may be before there is a worker."""
    campaign.job("true")
    launcher = start()
    log = campaign.site / "log"
    while launcher.process.poll() is None and not list(log.glob("*.log")):
        os.sched_yield()
    launcher.process.terminate()
    assert launcher.process.wait(30) in (0, -signal.SIGTERM)
    assert set(campaign.states()) <= {"PREPROCESSED", "JOB_FINISHED"}
    assert all(campaign.get(job.id or 0).launcher_id is None for job in campaign.client.jobs())


def test_a_directory_that_was_removed_is_made_again(campaign: Campaign, run: Run) -> None:
    campaign.app("remove", "#\n[ $BALSAM_ATTEMPT = 2 ] || { rm -r $PWD; exit 1; }; echo here")
    job = campaign.job("remove", max_retries=1)
    run()
    assert campaign.state(job) == S.JOB_FINISHED
    assert Path(campaign.get(job).workdir).is_dir()
    assert campaign.output(job) == "here\n"


def test_the_launcher_ends_before_its_allocation(campaign: Campaign, run: Run) -> None:
    """Slurm tells its jobs when that is; what the user says goes before it."""
    campaign.app("patient", PATIENT)
    job = campaign.job("patient")
    said = run(env={"SLURM_JOB_END_TIME": str(int(time.time()) + 10)})
    assert "the launcher's time is over" in said
    check_restarted(campaign, job, "the launcher's time is over")
    assert "nothing left to do" in run(
        "--time-limit-minutes", 5, env={"SLURM_JOB_END_TIME": str(int(time.time()) + 3)}
    )
    assert campaign.state(job) == S.JOB_FINISHED
