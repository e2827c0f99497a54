"""Whether a job is run again after a run that did not end well, and with what."""

from __future__ import annotations

from typing import Any

import pytest

from balsam.launcher import careers
from balsam.launcher.careers import Held, Step
from balsam.launcher.messages import Started
from balsam.model.app import App
from balsam.model.retry import parse_rules
from balsam.model.states import State
from balsam.model.wire import Aftermath, Move
from tests.unit.launcher.jobs_in_hand import HOOKED, ended, held, loss, path, running

S = State


@pytest.mark.parametrize(
    ("crashes", "limit", "to"),
    [
        (0, 5, S.RESTART_READY),
        (3, 5, S.RESTART_READY),
        (4, 5, S.FAILED),
        (7, 5, S.FAILED),
        (7, 0, S.RESTART_READY),
        (0, 1, S.FAILED),
    ],
)
def test_a_job_that_is_lost_too_often_fails(crashes: int, limit: int, to: State) -> None:
    job = running(crashes=crashes, retry=parse_rules("any: max=9; signal=KILL: max=9"))
    (move,) = careers.run_lost(job, 3, loss(), limit)
    assert (move.to_state, move.aftermath) == (to, Aftermath(crashed=True))
    assert (job.job.crashes, job.job.retries) == (crashes + 1, 0)
    if to is S.FAILED:
        assert f"died {crashes + 1} times while it ran" in move.message
        assert move.message.endswith("(worker died)")


def test_a_job_that_is_not_suspected_is_not_counted() -> None:
    job = running(crashes=4)
    (move,) = careers.run_lost(job, 3, loss(suspected=False), 5)
    assert (move.to_state, move.aftermath, job.job.crashes) == (S.RESTART_READY, None, 4)


def test_those_that_ran_are_suspected_and_without_one_all_that_were_sent() -> None:
    jobs = [held(S.PREPROCESSED, id=number) for number in (1, 2, 3)]
    assert careers.suspects(jobs) == {1, 2, 3}
    careers.run_started(jobs[1], Started(5, 1, 1.0, "x", 0), 3, "node", "/site")
    assert careers.suspects(jobs) == {2}
    assert careers.suspects([]) == set()


# retries --------------------------------------------------------------------------------


def failed(code: int, rules: str, app_rules: str = "", **fields: Any) -> tuple[Held, Move]:
    """A job with these rules whose run ended after 100 s with *code*; and its last move."""
    app = App(name="a", executable="x", retry=parse_rules(app_rules))
    job = running(app, retry=parse_rules(rules), **fields)
    moves = careers.run_ended(job, ended(code), "") + careers.settle(job, 300.0)
    path(moves)
    return job, moves[-1]


@pytest.mark.parametrize(
    ("code", "rules", "app_rules", "fields", "to", "message"),
    [
        (3, "", "", {"max_retries": 2}, S.RESTART_READY, "retry 1 of 2 (exit code 3)"),
        (-11, "", "", {"max_retries": 1}, S.RESTART_READY, "retry 1 of 1 (ended by SIGSEGV)"),
        (3, "exit=3: max=4", "", {"max_retries": 2}, S.RESTART_READY, "retry 1 of 4 (exit code 3)"),
        (3, "exit=4: max=4", "", {"max_retries": 2}, S.RESTART_READY, "retry 1 of 2 (exit code 3)"),
        (3, "exit=4: max=4", "", {}, S.FAILED, ""),
        (3, "timeout: max=4", "", {}, S.FAILED, ""),
        (3, "", "any: max=6", {}, S.RESTART_READY, "retry 1 of 6 (exit code 3)"),
        (3, "exit=3: max=2", "any: max=6", {}, S.RESTART_READY, "retry 1 of 2 (exit code 3)"),
        (3, "exit=4: max=2", "any: max=6", {}, S.RESTART_READY, "retry 1 of 6 (exit code 3)"),
        (3, "exit=3: max=2; any: max=9", "", {}, S.RESTART_READY, "retry 1 of 2 (exit code 3)"),
        (
            3, "exit=3: never", "any: max=6", {"max_retries": 3}, S.FAILED,
            "not retried (exit code 3), as 'exit=3: never' says",
        ),
        (
            3, "exit=3: max=2", "", {"retries": 2, "max_retries": 9}, S.FAILED,
            "no retry left: 2 of 2 (exit code 3), by 'exit=3: max=2'",
        ),
        (
            137, "exit=137: memory*2, max=3, delay=30", "", {"memory_mib": 1024}, S.RESTART_READY,
            "retry 1 of 3 (exit code 137): memory 1024 → 2048 MiB, in 30 s",
        ),
        (
            137, "exit=137: memory*2, max=3", "", {}, S.RESTART_READY,
            "retry 1 of 3 (exit code 137): memory 0 → 26 MiB",
        ),
        (
            1, "any: time+1.5, memory+2, max=3", "", {"wall_time_minutes": 2.0, "memory_mib": 1},
            S.RESTART_READY, "retry 1 of 3 (exit code 1): memory 1 → 3 MiB, time 2 → 3.5 min",
        ),
    ],
)  # fmt: skip
def test_what_follows_a_failure(
    code: int, rules: str, app_rules: str, fields: dict[str, Any], to: State, message: str
) -> None:
    job, move = failed(code, rules, app_rules, **fields)
    assert (move.to_state, move.message) == (to, message)
    assert job.job.retries == fields.get("retries", 0) + (to is S.RESTART_READY)


def test_growth_is_in_the_move_and_in_the_job() -> None:
    job, move = failed(9, "any: memory*2, time*3", memory_mib=100, wall_time_minutes=2.0)
    assert move.aftermath == Aftermath(memory_mib=200, wall_time_minutes=6.0)
    assert (job.job.memory_mib, job.job.wall_time_minutes) == (200, 6.0)
    assert job.job.request.memory_mib == 200
    assert job.step is Step.READY


def test_a_delayed_job_is_given_back() -> None:
    job, move = failed(9, "any: delay=10, backoff=2, max=5", retries=2)
    assert move.aftermath == Aftermath(retry_at=340.0)
    assert (move.message, job.step) == ("retry 3 of 5 (exit code 9): in 40 s", Step.GIVE_BACK)


def test_a_retry_without_more_changes_nothing_but_the_state() -> None:
    _, move = failed(9, "any: max=5")
    assert move.aftermath is None


def test_an_error_that_another_launcher_saw_is_retried_with_what_is_known_of_it() -> None:
    job = held(S.RUN_ERROR, exit_code=137, retry=parse_rules("exit=137: memory*2; any: never"))
    (move,) = careers.settle(job, 1.0)
    assert (move.to_state, move.message) == (S.RESTART_READY, "retry 1 of 1 (exit code 137)")
    unknown = held(S.RUN_ERROR, retry=parse_rules("exit=137: memory*2; any: max=2"))
    (move,) = careers.settle(unknown, 1.0)
    assert (move.to_state, move.message) == (S.RESTART_READY, "retry 1 of 2")


def test_a_handler_comes_before_the_rules() -> None:
    job = running(HOOKED, post_error_handler=True, retry=parse_rules("any: max=3"))
    moves = careers.run_ended(job, ended(1), "") + careers.settle(job, 300.0)
    assert path(moves) == [S.RUN_ERROR]
    assert job.step is Step.POSTPROCESS


@pytest.mark.parametrize(
    ("rules", "fields", "to", "message"),
    [
        ("any: max=9", {}, S.RESTART_READY, ""),
        ("any: never", {}, S.RESTART_READY, ""),
        ("timeout: max=2", {}, S.RESTART_READY, "time-out 1 of 2"),
        ("timeout: max=2", {"timeouts": 1}, S.RESTART_READY, "time-out 2 of 2"),
        (
            "timeout: max=2", {"timeouts": 2}, S.FAILED,
            "out of time 3 times; 'timeout: max=2' allows 2",
        ),
        ("timeout: max=2", {"auto_timeout_retry": False}, S.RESTART_READY, "time-out 1 of 2"),
        ("timeout: max=2", {"retries": 7}, S.RESTART_READY, "time-out 1 of 2"),
        (
            "timeout: never", {}, S.FAILED,
            "out of time; not retried, as 'timeout: never' says",
        ),
        (
            "timeout: time*1.5, max=4", {"wall_time_minutes": 30.0}, S.RESTART_READY,
            "time-out 1 of 4: time 30 → 45 min",
        ),
        (
            "timeout: time*3, max=4, delay=5", {}, S.RESTART_READY,
            "time-out 1 of 4: time 0 → 5 min, in 5 s",
        ),
    ],
)  # fmt: skip
def test_what_follows_the_end_of_time(
    rules: str, fields: dict[str, Any], to: State, message: str
) -> None:
    job = running(retry=parse_rules(rules), **fields)
    job.timed_out = True
    moves = careers.run_ended(job, ended(-15), "over") + careers.settle(job, 300.0)
    assert path(moves) == [S.RUN_TIMEOUT, to]
    assert moves[-1].message == message
    assert job.job.timeouts == fields.get("timeouts", 0) + 1
    assert job.job.retries == fields.get("retries", 0), "charged"


def test_a_time_out_of_the_first_version_is_not_counted_yet() -> None:
    job = held(S.RUN_TIMEOUT, retry=parse_rules("timeout: max=2"))
    (move,) = careers.settle(job, 1.0)
    assert (move.to_state, move.message) == (S.RESTART_READY, "time-out 1 of 2")
