"""Why a job that somebody has in hand, or that has ended, is where it is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from balsam.model.app import App, Function
from balsam.model.run_time import RunTime
from balsam.model.states import END_STATES, STATES, State
from balsam.model.wire import Attempt, Outcome
from balsam.report.reasons.facts import Ancestor, Held
from balsam.report.reasons.reason import Reason
from tests.unit.why import NOW, batch_job, facts, job, launcher, service, why

S = State


def ended(**fields: Any) -> Attempt:
    given = {"job": 7, "number": 2, "launcher_id": 3, "node": "n1", "outcome": Outcome.ERROR}
    return Attempt(**{**given, **fields})


def test_a_job_that_is_done() -> None:
    answer = why(job(state=S.JOB_FINISHED), message="not needed: parent 3 finished")
    assert answer.reason == "finished"
    assert answer.waits_for == "finished 60 s ago: not needed: parent 3 finished"
    assert answer.help == ""


def test_a_job_that_was_killed_can_be_run_again() -> None:
    answer = why(job(state=S.USER_KILLED))
    assert (answer.reason, answer.help) == ("killed", "run it again: `balsam rerun 7`")


@pytest.mark.parametrize(
    ("fields", "end"),
    [({"exit_code": 3}, "exit code 3"), ({"exit_code": -9}, "ended by SIGKILL")],
)
def test_a_failed_job_says_how_its_last_run_ended(fields: dict[str, Any], end: str) -> None:
    answer = why(job(state=S.FAILED), attempt=ended(**fields), message="no more retries")
    assert answer.reason == "failed"
    assert answer.waits_for.endswith(f"no more retries (attempt 2 on n1: error, {end})")
    assert "`balsam logs 7`" in answer.help
    assert "`balsam rerun 7`" in answer.help


def test_what_was_not_there_for_the_run_is_the_reason() -> None:
    missing = "cannot load the module 'gcc/14'; `module avail` lists what is there (on n1)"
    said = f"exit code 1: ERROR: Unable to locate\nbalsam: {missing}"
    answer = why(job(state=S.FAILED), attempt=ended(exit_code=1, message=said))
    assert answer.waits_for == f"failed 60 s ago: {missing} (attempt 2 on n1: error, exit code 1)"


def test_a_job_that_failed_without_a_run_has_no_output_to_look_at() -> None:
    answer = why(job(state=S.FAILED), message="preprocess failed")
    assert answer.waits_for == "failed 60 s ago: preprocess failed; it did not run"
    assert answer.help == "run it again: `balsam rerun 7`"


def test_a_job_that_failed_with_its_parent_names_where_it_began() -> None:
    root = [Ancestor(5, ""), Ancestor(2, "failed: exit code 1")]
    answer = why(job(state=S.FAILED), root=root, message="parent 5 ended as FAILED")
    assert answer.reason == "parent_failed"
    assert answer.waits_for == "failed 60 s ago, because job 2 failed: exit code 1"
    assert "`balsam rerun 2 7`" in answer.help


def test_a_running_job_says_where_since_when_and_how_long_it_takes() -> None:
    run_times = {
        ("sim", 1): RunTime(application="sim", ranks=1, count=5, mean_seconds=240, deviation=1)
    }
    running = ended(outcome=Outcome.RUNNING, started_at=NOW - 120)
    site = facts(
        launchers=[launcher(batch_job_id=4)],
        batch_jobs=[batch_job(started_at=NOW - 600)],
        run_times=run_times,
    )
    asked = job(state=S.RUNNING, launcher_id=3, wall_time_minutes=20)
    answer = why(asked, site, attempt=running)
    assert answer.reason == "running"
    assert "on n1 since 1970-01-12 13:44:40 UTC, 2 min by now of the 20 min" in answer.waits_for
    assert "such runs take 4 min on average" in answer.waits_for
    assert "its launcher's time ends 1970-01-12 14:34:40 UTC, in 48 min" in answer.waits_for


@pytest.mark.parametrize("state", [S.RUNNING, S.PREPROCESSED, S.READY])
def test_a_launcher_that_is_silent_is_told(state: State) -> None:
    silent = launcher(expires_at=NOW - 300)
    answer = why(job(state=state, launcher_id=3), facts(launchers=[silent]))
    assert answer.reason == "launcher_lost"
    assert "from launcher 3 on n1, whose sign of life was due 5 min ago" in answer.waits_for
    assert "`balsam launcher" in answer.help


@pytest.mark.parametrize(
    "others", [{"launchers": [launcher(expires_at=0.0), launcher(id=4)]}, {"service": service()}]
)
def test_where_somebody_lives_who_takes_over_nothing_is_to_be_done(others: Any) -> None:
    site = facts(**{"launchers": [launcher(expires_at=0.0)], **others})
    answer = why(job(state=S.RUNNING, launcher_id=3), site)
    assert answer.reason == "launcher_lost"
    assert answer.help.startswith("nothing")


def test_a_job_in_the_stock_of_a_launcher() -> None:
    site = facts(launchers=[launcher()], held={3: Held(running=16)})
    answer = why(job(launcher_id=3), site)
    assert answer.reason == "in_stock"
    assert "launcher 3 on n1, which has taken it and runs 16 jobs now" in answer.waits_for


@pytest.mark.parametrize(
    ("state", "step"),
    [
        (S.STAGED_IN, "preprocess hook"),
        (S.RUN_DONE, "postprocess hook"),
        (S.POSTPROCESSED, "stages its files out"),
        (S.RUN_ERROR, "error handler"),
        (S.RUN_TIMEOUT, "timeout handler"),
    ],
)
def test_a_job_between_two_steps(state: State, step: str) -> None:
    answer = why(job(state=state, launcher_id=3), facts(launchers=[launcher()]))
    assert answer.reason == "step"
    assert step in answer.waits_for


def test_a_retry_says_its_time() -> None:
    answer = why(job(state=S.RESTART_READY, retry_at=NOW + 300), facts(launchers=[launcher()]))
    assert answer.reason == "retry_wait"
    assert answer.waits_for.endswith("1970-01-12 13:51:40 UTC, in 5 min")


def test_a_retry_whose_time_has_come_waits_no_more() -> None:
    answer = why(job(state=S.RESTART_READY, retry_at=NOW - 1))
    assert answer.reason == "no_launcher"


def test_an_app_that_is_gone() -> None:
    answer = why(job(application="gone"), facts(launchers=[launcher()]))
    assert answer.reason == "app_missing"
    assert "no app 'gone'" in answer.waits_for


def test_an_app_without_a_command_runs_when_it_is_a_function() -> None:
    area = App(name="m.area", function=Function(code="gA==", hooks=["run"]))
    hollow = App(name="hollow")
    site = facts(apps={"m.area": area, "hollow": hollow})
    assert why(job(application="m.area"), site).reason == "no_launcher"
    answer = why(job(application="hollow"), site)
    assert answer.reason == "app_missing"
    assert "app 'hollow' has no executable" in answer.waits_for


def test_a_parent_is_followed_to_where_it_begins() -> None:
    asked = job(state=S.AWAITING_PARENTS)
    root = [Ancestor(5, "waits for parents itself"), Ancestor(2, "waits for X", "do Y")]
    parents = {S.JOB_FINISHED: 2, S.AWAITING_PARENTS: 1}
    answer = why(asked, parents=parents, root=root)
    assert answer.reason == "parents"
    assert answer.waits_for == (
        "waits for 1 of its 3 parents (1 AWAITING_PARENTS), in the end (5 → 2) for job 2, which"
        " waits for X"
    )
    assert answer.help == "do Y"


def test_one_parent_is_not_counted() -> None:
    asked = job(state=S.AWAITING_PARENTS)
    answer = why(asked, parents={S.RUNNING: 1}, root=[Ancestor(2, "runs")])
    assert answer.waits_for == "waits for its parent, job 2, which runs"


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("number", [None, 3])
def test_there_is_an_answer_in_every_state(state: State, number: int | None) -> None:
    answer = why(job(state=state, launcher_id=number), facts(launchers=[launcher()]))
    assert answer.reason
    assert answer.waits_for
    assert answer.help or state in (S.CREATED, S.JOB_FINISHED, S.AWAITING_PARENTS)
    assert (state in END_STATES) == (answer.reason in ("finished", "killed", "failed"))
    assert answer.layers[0].layer == "state"


def test_the_guide_has_all_reasons() -> None:
    guide = Path(__file__).parents[2] / "docs" / "guide" / "why.md"
    rows = re.findall(r"^\| `(\w+)` \|", guide.read_text(), re.MULTILINE)
    assert rows == [reason for reason in Reason if reason]
