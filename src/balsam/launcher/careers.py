"""A job's way through one launcher: what follows when something happened to it.

Pure. `Held` is a job under lease; the functions return the moves that are due and say, by
`Held.step`, what must happen next. `plan` starts tasks and collects reports.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto
from typing import NamedTuple

from balsam.launcher import retries
from balsam.launcher.messages import Ended, Started
from balsam.launcher.retries import Verdict
from balsam.lifecycle.staging import needs_stage_in, needs_stage_out
from balsam.model.app import App
from balsam.model.job import Job
from balsam.model.retry import ending_text
from balsam.model.states import END_STATES, RUNNABLE_STATES, State
from balsam.model.wire import Aftermath, Attempt, Move, Outcome


class Step(Enum):
    """What a held job waits for, or must do next."""

    STAGE_IN = auto()
    PREPROCESS = auto()
    READY = auto()  #: for a place
    RUN = auto()  #: for its run, sent to a worker, to end
    POSTPROCESS = auto()
    STAGE_OUT = auto()
    ENDED = auto()  #: nothing; it can be forgotten
    GIVE_BACK = auto()  #: nothing here; others may go on with it


class Held:
    """A job under this launcher's lease."""

    def __init__(self, job: Job, app: App | None, results: Mapping[int, str] | None = None) -> None:
        self.job = job
        self.app = app
        self.results = results or {}  #: of parents, where they are among its arguments
        self.state = job.state
        self.step = next_step(job, app, job.state)
        self.task: int | None = None  #: its task on a worker
        self.attempt: Attempt | None = None  #: the execution that runs
        self.last: Attempt | None = None  #: the execution that ended here last
        self.loss: Loss | None = None  #: one of its nodes is gone; its end is under way
        self.killed = False  #: by a user: its state is USER_KILLED already
        self.timed_out = False  #: told to end because the launcher's time is over
        self.confirming = False  #: the step waits until the database has the state

    @property
    def is_staging(self) -> bool:
        """Whether its files are on their way."""
        return self.step in (Step.STAGE_IN, Step.STAGE_OUT) and not self.confirming

    def move(
        self, to: State, time: float, message: str = "", aftermath: Aftermath | None = None
    ) -> Move:
        """Return the move to *to*, and be there.

        It is not before the last one, though another's clock may have told the time of that.
        """
        number = self.job.attempt
        time = self.job.updated_at = max(time, self.job.updated_at)
        move = Move(self.job.id or 0, number, self.state, to, time, message, aftermath)
        self.state = self.job.state = to
        self.step = next_step(self.job, self.app, to)
        return move

    def follow(self, verdict: Verdict, time: float) -> Move:
        """Return the move that *verdict* says, and be there, with what changes in the job."""
        job, aftermath = self.job, verdict.aftermath
        job.retries += self.state is State.RUN_ERROR and verdict.to is State.RESTART_READY
        move = self.move(verdict.to, time, verdict.note, aftermath)
        if aftermath is not None:
            job.crashes += aftermath.crashed
            job.memory_mib = aftermath.memory_mib or job.memory_mib
            job.wall_time_minutes = aftermath.wall_time_minutes or job.wall_time_minutes
            if aftermath.retry_at is not None:
                self.step = Step.GIVE_BACK
        return move


def next_step(job: Job, app: App | None, state: State) -> Step:
    """Return what a job in *state* must do next.

    A handler for RUN_ERROR or RUN_TIMEOUT is a hook like the others.
    """
    if state in END_STATES:
        return Step.ENDED
    if state in RUNNABLE_STATES:
        return Step.READY
    hook = hook_for(job, app, state) if app else ""
    match state:
        case State.READY if needs_stage_in(job):
            return Step.STAGE_IN
        case State.READY | State.STAGED_IN:
            return Step.PREPROCESS if hook else Step.READY
        case State.RUNNING:
            return Step.RUN
        case State.RUN_DONE | State.RUN_ERROR | State.RUN_TIMEOUT if hook:
            return Step.POSTPROCESS
        case State.RUN_DONE | State.POSTPROCESSED if needs_stage_out(job):
            return Step.STAGE_OUT
    return Step.ENDED


def hook_for(job: Job, app: App, state: State) -> str:
    """Return the hook (of `model.app.HOOKS`) that a job in *state* is due to run; '': none.

    Without a handler of its own, an app's postprocess is it, for jobs that ask for that.
    """
    match state:
        case State.READY | State.STAGED_IN:
            wanted = ["preprocess"]
        case State.RUN_DONE:
            wanted = ["postprocess"]
        case State.RUN_ERROR:
            wanted = ["handle_error", *(["postprocess"] if job.post_error_handler else [])]
        case State.RUN_TIMEOUT:
            wanted = ["handle_timeout", *(["postprocess"] if job.post_timeout_handler else [])]
        case _:
            wanted = []
    return next((name for name in wanted if app.has_hook(name)), "")


def settle(held: Held, now: float) -> list[Move]:
    """Return the moves that a job can make without anything to do.

    Called whenever its state has changed: it passes stages that it does not use.
    """
    moves: list[Move] = []
    job = held.job
    while True:
        match held.state:
            case State.READY | State.STAGED_IN if held.step is Step.READY:
                moves.append(held.move(State.PREPROCESSED, now))
            case State.RUN_DONE if held.step is Step.STAGE_OUT:
                moves.append(held.move(State.POSTPROCESSED, now))
            case State.RUN_DONE | State.POSTPROCESSED if held.step is Step.ENDED:
                moves.append(held.move(State.JOB_FINISHED, now))
            case State.RUN_ERROR if held.step is Step.ENDED:
                verdict = retries.after_error(job, held.app, held.last, now)
                moves.append(held.follow(verdict, now))
            case State.RUN_TIMEOUT if held.step is Step.ENDED:
                verdict = retries.after_timeout(job, held.app, held.last, now)
                moves.append(held.follow(verdict, now))
            case _:
                return moves


def run_started(
    held: Held, started: Started, launcher_id: int, node: str, site: str, placement: str = ""
) -> Move:
    """Note that the job's program runs; its attempt begins."""
    job = held.job
    job.attempt += 1
    output = started.output_file
    held.attempt = Attempt(
        job=job.id or 0,
        number=job.attempt,
        launcher_id=launcher_id,
        node=node,
        pid=started.pid,
        placement=placement,
        started_at=started.time,
        output_file=output[len(site) + 1 :] if output.startswith(site + "/") else output,
        output_offset=started.output_offset,
    )
    return held.move(State.RUNNING, started.time, f"on {node}")


def run_ended(held: Held, ended: Ended, reason: str) -> list[Move]:
    """Note that the job's program has ended; its attempt is complete.

    Parameters
    ----------
    reason
        Why the launcher ended it, when its time was over.
    """
    attempt = held.attempt
    assert attempt is not None
    attempt.ended_at = ended.time
    attempt.exit_code = ended.exit_code
    attempt.peak_memory_mib = ended.peak_memory_mib
    attempt.cpu_seconds = ended.cpu_seconds
    attempt.output_size, attempt.result = ended.output_size, ended.result
    held.last, held.job.exit_code = attempt, ended.exit_code
    if held.killed:
        attempt.outcome, attempt.message = Outcome.KILLED, "killed by user"
        held.step = Step.GIVE_BACK
        return []
    if ended.exit_code == 0:
        attempt.outcome = Outcome.DONE
        moves = [held.move(State.RUN_DONE, ended.time)]
    elif held.timed_out:
        attempt.outcome, attempt.message = Outcome.TIMEOUT, reason
        held.job.timeouts += 1
        moves = [held.move(State.RUN_TIMEOUT, ended.time, reason)]
    else:
        attempt.outcome, attempt.message = Outcome.ERROR, describe(ended)
        moves = [held.move(State.RUN_ERROR, ended.time, attempt.message)]
    return moves


def describe(ended: Ended) -> str:
    """Return how a program failed: its exit code or signal, and the end of its output."""
    text = ending_text(ended.exit_code)
    return f"{text}: {ended.message}" if ended.message else text


def suspects(lost: list[Held]) -> set[int]:
    """Return which of the jobs *lost* with a worker may be why it died.

    Those that were heard to run; when there is none, all that were sent there.
    """
    heard = [held for held in lost if held.attempt is not None]
    return {held.job.id or 0 for held in heard or lost}


class Loss(NamedTuple):
    """The end of a worker, for one of its jobs."""

    node: str
    time: float
    message: str
    suspected: bool  #: the job may be why


def run_lost(held: Held, launcher_id: int, loss: Loss, crash_limit: int) -> list[Move]:
    """Note that the worker died with the job, which runs again, uncharged.

    Parameters
    ----------
    crash_limit
        How often the run of a job may be lost before it is FAILED; 0: without limit.
    """
    moves: list[Move] = []
    if held.attempt is None:  # sent, and nothing was heard of it
        started = Started(0, 0, loss.time, "", 0)
        moves.append(run_started(held, started, launcher_id, loss.node, "/"))
    assert held.attempt is not None
    held.attempt.ended_at, held.attempt.outcome = loss.time, Outcome.LOST
    held.attempt.message = loss.message
    if held.killed:
        held.step = Step.GIVE_BACK
        return moves
    verdict = retries.after_loss(held.job, loss.message, crash_limit, suspected=loss.suspected)
    moves.append(held.follow(verdict, loss.time))
    return moves


def hook_ended(held: Held, ended: Ended, now: float) -> list[Move]:
    """Return the moves after a hook (preprocess, postprocess or handler) has ended."""
    assert held.app is not None
    which = hook_for(held.job, held.app, held.state)
    if ended.exit_code != 0 or ended.pid == 0:
        what = ended.message if ended.pid == 0 else describe(ended)
        return [held.move(State.FAILED, now, f"{which}: {what}")]
    if held.step is Step.PREPROCESS:
        return [held.move(State.PREPROCESSED, now)]
    if held.state is State.RUN_DONE:
        return [held.move(State.POSTPROCESSED, now)]
    # A handler that repairs the job moves it itself, and what follows here is then refused.
    if which != "postprocess":
        held.step = Step.ENDED  # it goes on as without a handler
        return []
    note = f"the postprocess hook left the job in {held.state}"
    return [held.move(State.FAILED, now, note)]
