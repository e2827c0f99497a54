"""A job's way through a launcher, step by step."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from balsam.launcher import careers
from balsam.launcher.careers import Step
from balsam.launcher.messages import Started
from balsam.model.app import App
from balsam.model.states import LEASABLE_STATES, State
from balsam.model.wire import Outcome
from tests.unit.launcher.jobs_in_hand import HOOKED, PLAIN, STAGED, ended, held, loss, path, running

S = State


@pytest.mark.parametrize(
    ("state", "app", "fields", "step"),
    [
        (S.READY, PLAIN, {}, Step.READY),
        (S.READY, HOOKED, {}, Step.PREPROCESS),
        (S.READY, HOOKED, STAGED, Step.STAGE_IN),
        (S.READY, PLAIN, {"input_files": "*"}, Step.STAGE_IN),
        (S.STAGED_IN, HOOKED, STAGED, Step.PREPROCESS),
        (S.STAGED_IN, PLAIN, STAGED, Step.READY),
        (S.PREPROCESSED, HOOKED, STAGED, Step.READY),
        (S.RESTART_READY, HOOKED, STAGED, Step.READY),
        (S.RUNNING, HOOKED, {}, Step.RUN),
        (S.RUN_DONE, PLAIN, {}, Step.ENDED),
        (S.RUN_DONE, HOOKED, {}, Step.POSTPROCESS),
        (S.RUN_DONE, PLAIN, STAGED, Step.STAGE_OUT),
        (S.RUN_DONE, HOOKED, STAGED, Step.POSTPROCESS),
        (S.RUN_DONE, PLAIN, {"stage_out_files": "*"}, Step.ENDED),
        (S.POSTPROCESSED, HOOKED, {}, Step.ENDED),
        (S.POSTPROCESSED, HOOKED, STAGED, Step.STAGE_OUT),
        (S.RUN_ERROR, HOOKED, {}, Step.ENDED),
        (S.RUN_ERROR, HOOKED, {"post_error_handler": True}, Step.POSTPROCESS),
        (S.RUN_ERROR, PLAIN, {"post_error_handler": True}, Step.ENDED),
        (S.RUN_ERROR, HOOKED, {"post_timeout_handler": True}, Step.ENDED),
        (S.RUN_TIMEOUT, HOOKED, {"post_timeout_handler": True}, Step.POSTPROCESS),
        (S.RUN_TIMEOUT, HOOKED, {"post_error_handler": True}, Step.ENDED),
        (S.RUN_TIMEOUT, PLAIN, {"post_timeout_handler": True}, Step.ENDED),
        (S.JOB_FINISHED, HOOKED, STAGED, Step.ENDED),
        (S.FAILED, HOOKED, STAGED, Step.ENDED),
        (S.USER_KILLED, HOOKED, STAGED, Step.ENDED),
        (S.READY, None, {}, Step.READY),
        (S.RUN_DONE, None, {}, Step.ENDED),
    ],
)
def test_what_a_job_must_do_next(
    state: State, app: App | None, fields: dict[str, Any], step: Step
) -> None:
    assert held(state, app, **fields).step is step


@pytest.mark.parametrize(
    ("state", "fields", "passes"),
    [
        (S.READY, {}, [S.PREPROCESSED]),
        (S.STAGED_IN, {}, [S.PREPROCESSED]),
        (S.PREPROCESSED, {}, []),
        (S.RUN_DONE, {}, [S.JOB_FINISHED]),
        (S.POSTPROCESSED, {}, [S.JOB_FINISHED]),
        (S.RUN_ERROR, {}, [S.FAILED]),
        (S.RUN_ERROR, {"max_retries": 1}, [S.RESTART_READY]),
        (S.RUN_ERROR, {"max_retries": 1, "retries": 1}, [S.FAILED]),
        (S.RUN_TIMEOUT, {}, [S.RESTART_READY]),
        (S.RUN_TIMEOUT, {"auto_timeout_retry": False}, [S.FAILED]),
        (
            S.RUN_TIMEOUT,
            {"auto_timeout_retry": False, "post_timeout_handler": True},
            [S.RESTART_READY],
        ),
        (S.RUN_TIMEOUT, {"auto_timeout_retry": False, "max_retries": 9}, [S.FAILED]),
    ],
)
def test_stages_without_work_are_passed(
    state: State, fields: dict[str, Any], passes: list[State]
) -> None:
    job = held(state, **fields)
    assert path(careers.settle(job, 1.0)) == passes
    assert careers.settle(job, 1.0) == []


@pytest.mark.parametrize("state", LEASABLE_STATES)
@pytest.mark.parametrize("app", [None, PLAIN, HOOKED], ids=["none", "plain", "hooked"])
@pytest.mark.parametrize("fields", [{}, STAGED], ids=["", "staged"])
def test_a_settled_job_has_something_to_do_or_has_ended(
    state: State, app: App | None, fields: dict[str, Any]
) -> None:
    job = held(state, app, **fields)
    path(careers.settle(job, 1.0))
    assert (job.step is Step.ENDED) is (job.state in (S.JOB_FINISHED, S.FAILED))


# runs -----------------------------------------------------------------------------------


def test_a_start_begins_an_attempt() -> None:
    job = held(S.RESTART_READY, attempt=1)
    started = Started(5, 99, 200.0, "/site/data/x/j.out", 7)
    move = careers.run_started(job, started, 3, "node", "/site")
    assert (move.from_state, move.to_state, move.attempt) == (S.RESTART_READY, S.RUNNING, 2)
    assert (move.time, move.message) == (200.0, "on node")
    attempt = job.attempt
    assert attempt
    assert (attempt.number, attempt.launcher_id, attempt.node, attempt.pid) == (2, 3, "node", 99)
    assert (attempt.started_at, attempt.outcome) == (200.0, Outcome.RUNNING)
    assert (attempt.output_file, attempt.output_offset) == ("data/x/j.out", 7)


@pytest.mark.parametrize(
    ("file", "kept"),
    [("/site/a.out", "a.out"), ("/sites/a.out", "/sites/a.out"), ("/b/a.out", "/b/a.out")],
)
def test_output_is_named_relative_to_the_site_where_it_lies_below(file: str, kept: str) -> None:
    job = held(S.PREPROCESSED)
    careers.run_started(job, Started(5, 1, 1.0, file, 0), 3, "node", "/site")
    assert job.attempt
    assert job.attempt.output_file == kept


@pytest.mark.parametrize(
    ("code", "flags", "outcome", "state", "message"),
    [
        (0, {}, Outcome.DONE, S.RUN_DONE, ""),
        (0, {"timed_out": True}, Outcome.DONE, S.RUN_DONE, ""),
        (3, {}, Outcome.ERROR, S.RUN_ERROR, "exit code 3: tail"),
        (-signal.SIGSEGV, {}, Outcome.ERROR, S.RUN_ERROR, "ended by SIGSEGV: tail"),
        (-63, {}, Outcome.ERROR, S.RUN_ERROR, "ended by signal 63: tail"),
        (-15, {"timed_out": True}, Outcome.TIMEOUT, S.RUN_TIMEOUT, "time is over"),
        (1, {"timed_out": True}, Outcome.TIMEOUT, S.RUN_TIMEOUT, "time is over"),
    ],
)
def test_the_end_of_a_run(
    code: int, flags: dict[str, bool], outcome: Outcome, state: State, message: str
) -> None:
    job = running()
    for flag, value in flags.items():
        setattr(job, flag, value)
    attempt = job.attempt
    moves = careers.run_ended(job, ended(code, "tail"), "time is over")
    assert path(moves) == [state]
    assert moves[0].message == message
    assert attempt
    assert (attempt.outcome, attempt.exit_code, attempt.message) == (outcome, code, message)
    assert (attempt.ended_at, attempt.peak_memory_mib, attempt.cpu_seconds) == (300.0, 12.5, 0.5)
    assert attempt.output_size == 42


@pytest.mark.parametrize("code", [0, -15, 1])
def test_the_end_of_a_killed_run_moves_nothing(code: int) -> None:
    """Fault A8: its state is the user's."""
    job = running()
    job.killed = job.timed_out = True
    attempt = job.attempt
    assert careers.run_ended(job, ended(code), "time is over") == []
    assert attempt
    assert (attempt.outcome, attempt.exit_code) == (Outcome.KILLED, code)
    assert job.step is Step.GIVE_BACK


def test_retries_are_counted_once_for_each_error() -> None:
    job = running(max_retries=2)
    states = []
    for _ in range(3):
        moves = careers.run_ended(job, ended(1), "")
        moves += careers.settle(job, 300.0)
        states.append(path(moves)[-1])
        if job.step is Step.READY:
            careers.run_started(job, Started(6, 1, 400.0, "x", 0), 3, "node", "/site")
    assert states == [S.RESTART_READY, S.RESTART_READY, S.FAILED]
    assert job.job.retries == 2


@pytest.mark.parametrize("known", [True, False], ids=["started", "only sent"])
def test_a_lost_run_runs_again_uncharged(known: bool) -> None:
    job = running(max_retries=1) if known else held(S.PREPROCESSED, max_retries=1)
    moves = careers.run_lost(job, 3, loss(), 5)
    assert path(moves) == ([] if known else [S.RUNNING]) + [S.RESTART_READY]
    assert job.attempt
    assert (job.attempt.number, job.attempt.outcome) == (1, Outcome.LOST)
    assert (job.attempt.ended_at, job.attempt.exit_code) == (500.0, None)
    assert job.job.retries == 0
    assert job.step is Step.READY


def test_a_killed_run_that_is_lost_does_not_run_again() -> None:
    job = running()
    job.killed = True
    assert careers.run_lost(job, 3, loss(), 5) == []
    assert job.step is Step.GIVE_BACK


# hooks ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "code", "to", "message"),
    [
        (S.READY, 0, S.PREPROCESSED, ""),
        (S.READY, 2, S.FAILED, "preprocess: exit code 2: tail"),
        (S.RUN_DONE, 0, S.POSTPROCESSED, ""),
        (S.RUN_DONE, -9, S.FAILED, "postprocess: ended by SIGKILL: tail"),
        (S.RUN_ERROR, 0, S.FAILED, "the postprocess hook left the job in RUN_ERROR"),
        (S.RUN_ERROR, 1, S.FAILED, "postprocess: exit code 1: tail"),
        (S.RUN_TIMEOUT, 0, S.FAILED, "the postprocess hook left the job in RUN_TIMEOUT"),
    ],
)
def test_the_end_of_a_hook(state: State, code: int, to: State, message: str) -> None:
    job = held(state, HOOKED, post_error_handler=True, post_timeout_handler=True)
    moves = careers.hook_ended(job, ended(code, "tail"), 400.0)
    assert path(moves) == [to]
    assert moves[0].message == message


def test_a_hook_that_could_not_start_says_why() -> None:
    (move,) = careers.hook_ended(held(S.READY, HOOKED), ended(1, "cannot start"), 400.0)
    assert (move.to_state, move.message) == (S.FAILED, "preprocess: cannot start")
