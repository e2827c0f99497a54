"""One launcher and what it is given to run."""

from __future__ import annotations

import os
from pathlib import Path

from balsam.model.states import State
from balsam.model.wire import Outcome
from tests.integration.conftest import Campaign, Run, Start

S = State


def test_a_job_runs_once_and_all_of_it_is_recorded(campaign: Campaign, run: Run) -> None:
    campaign.app("say", "/bin/echo hello")
    job = campaign.job("say", "greeting", args="to 'the  world'")
    said = run()
    found = campaign.get(job)
    assert campaign.path(job) == "PREPROCESSED RUNNING RUN_DONE JOB_FINISHED"
    assert (found.attempt, found.exit_code, found.launcher_id) == (1, 0, None)
    directory = Path(found.workdir)
    assert directory == campaign.site / "data" / "w" / f"greeting_{found.job_id[:8]}"
    assert campaign.output(job) == "hello to the  world\n"
    (attempt,) = campaign.attempts(job)
    assert attempt.outcome is Outcome.DONE
    assert attempt.pid > 0
    assert attempt.started_at is not None
    assert attempt.ended_at is not None
    assert attempt.started_at <= attempt.ended_at
    assert attempt.output_file == str((directory / "greeting.out").relative_to(campaign.site))
    assert attempt.output_size == len("hello to the  world\n")
    assert "1 runs started, 1 jobs ended" in said
    (launcher,) = campaign.client.launchers(live=False)
    assert launcher.ended_at is not None
    assert launcher.message == "nothing left to do"
    assert list((campaign.site / "log").glob("*.journal")) == []


def test_running_is_recorded_when_the_program_starts(campaign: Campaign, start: Start) -> None:
    """Faults L4 and S8: neither after it has ended, nor with the launcher's pace added."""
    campaign.app("clock", "#\ndate +%s.%N; read line < gate; date +%s.%N")
    job = campaign.job("clock")
    directory = Path(campaign.get(job).workdir)
    directory.mkdir(parents=True)
    os.mkfifo(directory / "gate")
    launcher = start()
    campaign.wait_for(job, S.RUNNING)
    (attempt,) = campaign.attempts(job)
    assert attempt.outcome is Outcome.RUNNING
    with (directory / "gate").open("w") as gate:
        gate.write("go\n")
    launcher.wait()
    began, ended = map(float, campaign.output(job).split())
    running, done = (e.time for e in campaign.events(job) if e.to_state in (S.RUNNING, S.RUN_DONE))
    # The program's own clock is read between our records of its start and of its end.
    assert running <= began <= ended <= done
    (attempt,) = campaign.attempts(job)
    assert (attempt.started_at, attempt.ended_at) == (running, done)
