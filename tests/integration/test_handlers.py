"""An app's own handlers of errors and time-outs: who decides what becomes of the job."""

from __future__ import annotations

from pathlib import Path

import pytest

from balsam.model.states import State
from balsam.model.wire import Outcome
from tests.integration.conftest import Campaign, Run, Start, wait_until

S = State
FAILS_ONCE = "[ $BALSAM_ATTEMPT = 2 ] || exit 4"


def log(campaign: Campaign, job: int, which: str) -> list[str]:
    return Path(campaign.get(job).workdir, f"{which}.log").read_text().splitlines()


def test_a_handler_that_fails_fails_the_job(campaign: Campaign, run: Run) -> None:
    """Whatever the rules for retries say; the postprocess hook has no part in it."""
    program = campaign.program("app", FAILS_ONCE)
    handler = campaign.program("handler", "env | grep BALSAM_JOB_ERROR; echo no hope; exit 3")
    campaign.app("app", program, error_handler=handler, postprocess="/no/such/hook")
    job = campaign.job("app", max_retries=3)
    run()
    assert campaign.path(job) == "PREPROCESSED RUNNING RUN_ERROR FAILED"
    said = campaign.message(job, S.FAILED)
    assert said.startswith("handle_error: exit code 3: ")
    assert said.endswith("no hope")
    lines = log(campaign, job, "handle_error")
    assert lines[:2] == [f"# Balsam handle_error: {handler}", "# Invoked to handle RUN_ERROR"]
    assert lines[2:] == ["BALSAM_JOB_ERROR=TRUE", "no hope"]


@pytest.mark.parametrize(
    ("retries", "end"), [(0, "FAILED"), (1, "RESTART_READY RUNNING RUN_DONE JOB_FINISHED")]
)
def test_a_handler_that_decides_nothing_leaves_it_to_the_rules(
    campaign: Campaign, run: Run, retries: int, end: str
) -> None:
    campaign.app("app", campaign.program("app", FAILS_ONCE), error_handler="/bin/true")
    job = campaign.job("app", max_retries=retries)
    run()
    assert campaign.path(job) == f"PREPROCESSED RUNNING RUN_ERROR {end}"
    assert campaign.get(job).retries == retries


def test_a_handler_moves_its_job(campaign: Campaign, run: Run) -> None:
    """It goes on after that: what it moved does not run beside it."""
    program = campaign.program("app", FAILS_ONCE)
    move = "balsam modify $BALSAM_JOB_ID state RESTART_READY && sleep 0.4; echo more >&2"
    campaign.app("app", program, error_handler=campaign.program("handler", move))
    job = campaign.job("app")
    run("--idle-seconds", "2", env={"BALSAM_SITE": str(campaign.site)})
    path = "PREPROCESSED RUNNING RUN_ERROR RESTART_READY RUNNING RUN_DONE JOB_FINISHED"
    assert campaign.path(job) == path, campaign.tell(job)
    assert [a.outcome for a in campaign.attempts(job)] == [Outcome.ERROR, Outcome.DONE]
    assert log(campaign, job, "handle_error")[-1] == "more"


def test_a_preprocess_hook_moves_its_job_to_where_it_goes_anyway(
    campaign: Campaign, run: Run
) -> None:
    """It runs once, with what the hook changed in it."""
    text = """
    balsam modify $BALSAM_JOB_ID args changed && balsam modify $BALSAM_JOB_ID state PREPROCESSED
    """
    campaign.app("app", "/bin/echo", preprocess=campaign.program("pre", text))
    job = campaign.job("app", args="given")
    run("--idle-seconds", "2", env={"BALSAM_SITE": str(campaign.site)})
    assert campaign.path(job) == "READY PREPROCESSED RUNNING RUN_DONE JOB_FINISHED"
    assert campaign.output(job) == "changed\n"
    assert len(campaign.attempts(job)) == 1


def test_a_timeout_handler_leaves_its_job_to_run_again(
    campaign: Campaign, run: Run, start: Start
) -> None:
    program = campaign.program("app", "[ $BALSAM_ATTEMPT = 2 ] || exec sleep 1000")
    handler = campaign.program("handler", "echo $BALSAM_JOB_TIMEOUT")
    campaign.app("app", program, timeout_handler=handler)
    job = campaign.job("app")
    first = start()
    wait_until(lambda: campaign.state(job) == S.RUNNING, lambda: campaign.tell(job))
    first.process.terminate()
    first.process.wait()
    assert campaign.path(job) == "PREPROCESSED RUNNING RUN_TIMEOUT", campaign.tell(job)
    run()
    path = "PREPROCESSED RUNNING RUN_TIMEOUT RESTART_READY RUNNING RUN_DONE JOB_FINISHED"
    assert campaign.path(job) == path
    assert log(campaign, job, "handle_timeout")[1:] == ["# Invoked to handle RUN_TIMEOUT", "TRUE"]
