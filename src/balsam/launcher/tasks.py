"""From a job to the process that a worker starts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from balsam.errors import CannotStart, InvalidInput
from balsam.launcher.messages import Task
from balsam.launcher.placement import Spot
from balsam.lifecycle.environ import job_environ
from balsam.model.app import App, command_line, split_words
from balsam.model.identity import JobIdentity
from balsam.model.job import Job
from balsam.model.states import State

#: Puts an MPI start command before the words of a parallel job, for where it is to start.
MpiStart = Callable[[Job, list[str], dict[str, str], Spot], list[str]]


class TaskBuilder:
    """Makes tasks; pure but for what *mpi* does.

    Parameters
    ----------
    stream
        Output goes to the worker's shared files, and jobs without files or hooks of their
        own get no directory: they run in their workflow's.
    hook_seconds
        How long a hook may take; 0: no limit.
    """

    def __init__(
        self,
        site: Path,
        identity: JobIdentity,
        *,
        stream: bool,
        mpi: MpiStart,
        hook_seconds: float = 0.0,
    ) -> None:
        self._data = f"{site}/data/"
        self._identity = identity
        self._stream = stream
        self._mpi = mpi
        self._hook_seconds = hook_seconds

    def run(
        self,
        number: int,
        lane: int,
        job: Job,
        app: App | None,
        attempt: int,
        spot: Spot | None = None,
    ) -> Task:
        """Return the task that runs *job*; for a parallel one, on *spot*.

        Raises
        ------
        CannotStart
            The app is gone, or its command cannot be made.
        """
        if app is None:
            raise CannotStart(f"app {job.application!r} does not exist (any more)")
        argv = command_line(app, job.args, job.parameters)
        environ = job_environ(job, self._identity, attempt)
        if spot is not None:
            argv = self._mpi(job, argv, environ, spot)
        own_directory = not self._stream or _has_files(job, app)
        cwd = job.workdir if own_directory else self._data + job.workflow
        return Task(
            id=number,
            lane=lane,
            argv=argv,
            cwd=cwd,
            environ=environ,
            output="" if self._stream else f"{job.name}.out",
            make_cwd=not job.user_workdir,
            append=not own_directory or attempt > 1 or _has_files(job, app),
            envscript=app.envscript,
        )

    def hook(self, number: int, lane: int, job: Job, app: App, which: str, state: State) -> Task:
        """Return the task that runs the app's *which* ('preprocess' or 'postprocess').

        Raises
        ------
        CannotStart
            The hook's command cannot be split into words.
        """
        command = getattr(app, which)
        try:
            argv = split_words(command)
        except InvalidInput as error:
            raise CannotStart(f"{which}: {error}") from error
        header = f"# Balsam {which.capitalize()}or: {command}\n"
        handles = state in (State.RUN_ERROR, State.RUN_TIMEOUT)
        if handles:
            header += f"# Invoked to handle {state}\n"
        handled = state if handles else None
        environ = job_environ(job, self._identity, job.attempt, handled)
        return Task(
            id=number,
            lane=lane,
            argv=argv,
            cwd=job.workdir,
            environ=environ,
            output=f"{which}.log",
            make_cwd=not job.user_workdir,
            header=header,
            envscript=app.envscript,
            seconds=self._hook_seconds,
        )


def _has_files(job: Job, app: App) -> bool:
    """Tell whether something else than the run uses the job's directory."""
    return bool(
        app.preprocess
        or app.postprocess
        or job.input_files
        or job.stage_in_url
        or job.stage_out_url
        or job.user_workdir
    )
