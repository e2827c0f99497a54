"""A launcher that is stopped past the end of its lease, and goes on."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from balsam.model.states import State
from balsam.model.wire import Outcome
from tests.integration.conftest import (
    Campaign,
    Start,
    is_running,
    stop_between_transactions,
    wait_until,
)
from tests.integration.faults.conftest import settings

S = State


@pytest.mark.parametrize("at_first", ["exit 0", "exit 3"], ids=["done", "failed"])
def test_what_a_stopped_launcher_tells_is_refused_and_recorded(
    campaign: Campaign, start: Start, at_first: str
) -> None:
    """Another has taken over; the late one learns of it, kills what it runs, and ends."""
    settings(campaign, "[launcher]\nlease_seconds = 1\n")
    campaign.app(
        "app",
        "#\necho ready $BALSAM_ATTEMPT\n"
        "[ $BALSAM_ATTEMPT = 1 ] || exit 0\n"
        f"until [ -e go ]; do sleep 0.05; done; echo ended; {at_first}",
    )
    campaign.app(
        "long", "#\necho ready $BALSAM_ATTEMPT; [ $BALSAM_ATTEMPT = 1 ] && exec sleep 1000"
    )
    late, running = campaign.job("app"), campaign.job("long")
    first = start()
    for job in (late, running):
        campaign.wait_for_output(job, "ready 1")
        campaign.wait_for(job, S.RUNNING)
    worker = first.worker()
    pids = [worker.pid, *(child.pid for child in worker.children())]
    stop_between_transactions(campaign, first.process)
    Path(campaign.get(late).workdir, "go").touch()
    campaign.wait_for_output(late, "ended")
    wait_until(lambda: len(worker.children()) == 1)
    second = start("--persistent")
    campaign.wait_for(late, S.JOB_FINISHED)
    wait_until(lambda: campaign.state(running) == S.FAILED, lambda: campaign.tell(running))
    first.process.send_signal(signal.SIGCONT)
    wait_until(lambda: first.process.poll() is not None, lambda: first.output)
    assert first.process.returncode == 1
    assert "has lost its lease" in first.output
    wait_until(lambda: not any(map(is_running, pids)))
    path = "PREPROCESSED RUNNING RESTART_READY RUNNING RUN_DONE JOB_FINISHED"
    assert campaign.path(late) == path
    outcomes = [(a.outcome, a.launcher_id) for a in campaign.attempts(late)]
    assert outcomes == [(Outcome.REFUSED, 1), (Outcome.DONE, 2)], campaign.tell(late)
    assert campaign.get(late).retries == 0
    second.process.terminate()
    said = second.wait()
    assert "launcher 1 on" in said
    assert campaign.client.launchers() == []


def test_a_launcher_that_is_stopped_within_its_lease_goes_on(
    campaign: Campaign, start: Start
) -> None:
    """Nobody takes over what it holds."""
    settings(campaign, "[launcher]\nlease_seconds = 600\n")
    campaign.app("wait", "#\necho ready; until [ -e go ]; do sleep 0.05; done; echo ended")
    job = campaign.job("wait")
    first = start()
    campaign.wait_for_output(job, "ready")
    campaign.wait_for(job, S.RUNNING)
    stop_between_transactions(campaign, first.process)
    Path(campaign.get(job).workdir, "go").touch()
    campaign.wait_for_output(job, "ended")
    second = start()
    assert "nothing left to do" in second.wait()
    first.process.send_signal(signal.SIGCONT)
    first.wait()
    assert campaign.path(job) == "PREPROCESSED RUNNING RUN_DONE JOB_FINISHED"
    assert [a.outcome for a in campaign.attempts(job)] == [Outcome.DONE]
