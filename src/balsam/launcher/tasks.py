"""From a job to the process that a worker starts."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import sys
from collections.abc import Callable, Mapping
from functools import cache
from os.path import expanduser
from pathlib import Path

import msgspec

from balsam.errors import CannotStart, InvalidInput
from balsam.launcher.container import Surroundings, container_words
from balsam.launcher.messages import Call, Task
from balsam.launcher.placement import Spot
from balsam.launcher.prelude import prelude
from balsam.launcher.runners import runner_words
from balsam.lifecycle.environ import job_environ, parameters_of
from balsam.model.app import HOOKS, App, command_line, split_words
from balsam.model.hook import hook_function
from balsam.model.identity import JobIdentity
from balsam.model.job import Job
from balsam.model.states import State

#: Puts an MPI start command before the words of a parallel job, for where it is to start.
MpiStart = Callable[[Job, list[str], dict[str, str], Spot], list[str]]


class FunctionFiles:
    """The files from which processes of jobs load functions, one for each content.

    Parameters
    ----------
    directory
        Where they are, which all nodes see; made when it is needed.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._files: dict[str, str] = {}

    def file(self, code: str) -> str:
        """Return the file with *code*, written when there is none yet.

        Raises
        ------
        CannotStart
            It cannot be written.
        """
        found = self._files.get(code)
        if found is None:
            name = hashlib.blake2s(code.encode(), digest_size=16).hexdigest()
            path = self._directory / f"{name}.function"
            try:
                self._directory.mkdir(parents=True, exist_ok=True)
                path.write_text(code)
            except OSError as error:
                raise CannotStart(f"cannot write {path}: {error.strerror}") from error
            found = self._files[code] = str(path)
        return found

    def write_call(self, job: Job, attempt: int, call: Call) -> str:
        """Write what the ranks of a parallel job call; return the file.

        Raises
        ------
        CannotStart
            It cannot be written.
        """
        path = self._directory / f"{job.id}-{attempt}.call"
        try:
            path.write_bytes(msgspec.json.encode(msgspec.structs.asdict(call)))
        except OSError as error:
            raise CannotStart(f"cannot write {path}: {error.strerror}") from error
        return str(path)


@cache
def _cloudpickle() -> str:
    """Return the file of Balsam's own cloudpickle, for interpreters that have none; '': none."""
    spec = importlib.util.find_spec("cloudpickle")
    return spec.origin or "" if spec else ""


class TaskBuilder:
    """Makes tasks; pure but for what *mpi* does, and the files of *functions*.

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
        functions: FunctionFiles,
        hook_seconds: float = 0.0,
    ) -> None:
        self._site, self._data = str(site), f"{site}/data/"
        self._identity = identity
        self._stream = stream
        self._mpi = mpi
        self._functions = functions
        self._hook_seconds = hook_seconds

    def run(
        self,
        number: int,
        lane: int,
        job: Job,
        app: App | None,
        attempt: int,
        spot: Spot | None = None,
        results: Mapping[int, str] | None = None,
    ) -> Task:
        """Return the task that runs *job*; for a parallel one, on *spot*.

        Parameters
        ----------
        results
            What parents returned, where that is among the arguments of a function.

        Raises
        ------
        CannotStart
            The app is gone, or its command cannot be made.
        """
        if app is None:
            raise CannotStart(f"app {job.application!r} does not exist (any more)")
        environ = job_environ(job, self._identity, attempt, app=app)
        stream, call, calls_file = self._stream, None, ""
        if "run" in app.function.hooks:
            argv, call = self._call(job, app, attempt, results or {})
            if spot is None:
                stream = True
            else:  # MPI starts its processes, each for this one call
                calls_file = self._functions.write_call(job, attempt, call)
                argv, call = [*argv, f"--once={calls_file}"], None
        else:
            argv = command_line(app, job.args, parameters_of(job, app))
        own_directory = not stream or _has_files(job, app)
        cwd = job.workdir if own_directory else self._data + job.workflow
        if app.container.image and call is None:
            argv = self._in_container(job, app, cwd, environ) + argv
        if spot is not None:
            argv = self._mpi(job, argv, environ, spot)
        return Task(
            id=number,
            lane=lane,
            argv=prelude(app) + argv,
            cwd=cwd,
            environ=environ,
            output="" if stream else f"{job.name}.out",
            make_cwd=not job.user_workdir,
            append=not own_directory or attempt > 1 or _has_files(job, app),
            envscript=app.envscript,
            call=call,
            calls_file=calls_file,
        )

    def _call(
        self, job: Job, app: App, attempt: int, results: Mapping[int, str]
    ) -> tuple[list[str], Call]:
        """Return the command of the process that calls the job's function, and the call."""
        function = app.function
        argv = runner_words(function.python or sys.executable, function.path, _cloudpickle())
        keywords = json.dumps([[], job.parameters])  # Python has the defaults
        call = Call(
            function=self._functions.file(function.code),
            payload=job.payload or f"J{keywords}",
            results={str(p): results[p] for p in job.parents if p in results},
            result_file=f"{job.workdir}/result-{attempt}.pickle",
            may_block=job.memory_mib == 0 and job.gpus_per_rank == 0,
        )
        return argv, call

    def _in_container(self, job: Job, app: App, cwd: str, environ: Mapping[str, str]) -> list[str]:
        """Return the words that come before the program of a job in the app's container."""
        container = msgspec.structs.replace(app.container, image=expanduser(app.container.image))
        own = [self._site, *([] if cwd.startswith(self._data) else [cwd])]
        binds = [f"{path}:{path}" for path in own] + [expanduser(b) for b in container.binds]
        around = Surroundings(cwd, binds, os.getuid(), os.getgid())
        return container_words(container, around, environ, wants_gpus=job.gpus_per_rank > 0)

    def hook(self, number: int, lane: int, job: Job, app: App, which: str, state: State) -> Task:
        """Return the task that runs the app's hook *which* (of `model.app.HOOKS`).

        Hooks run beside the app's container, in the rest of its environment.

        Raises
        ------
        CannotStart
            The hook's command cannot be split into words, or names no function.
        """
        command = getattr(app, HOOKS[which])
        try:
            is_function = hook_function(command) is not None
            argv = split_words(command)
        except InvalidInput as error:
            raise CannotStart(f"{which}: {error}") from error
        title = which if which.startswith("handle") else f"{which.capitalize()}or"
        if is_function or not command:  # files of the job's directory are no modules (-P)
            argv = [app.function.python or sys.executable, "-P", "-m", "balsam.hooks", which]
            command = command or f"{app.function.reference or app.name}.{which}"
        header = f"# Balsam {title}: {command}\n"
        handles = state in (State.RUN_ERROR, State.RUN_TIMEOUT)
        if handles:
            header += f"# Invoked to handle {state}\n"
        handled = state if handles else None
        environ = job_environ(job, self._identity, job.attempt, handled, app)
        return Task(
            id=number,
            lane=lane,
            argv=prelude(app) + argv,
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
        any(map(app.has_hook, HOOKS))
        or job.input_files
        or job.stage_in_url
        or job.stage_out_url
        or job.user_workdir
    )
