"""A workflow made into a campaign: apps, and jobs that wait for each other.

Its files lie in one directory of the workflow, and are not linked from parents to children by
`input_files`: that looks for each file of a job in the directories of all its parents, 42,000
times for one job of a Montage of 1,000 tasks, and does not find what was written two steps
before. See docs/decisions/0014.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable
from pathlib import Path

import msgspec

from balsam.errors import InvalidInput, InvalidResources
from balsam.model.app import App, split_words
from balsam.model.job import Job, check_job, check_workflow
from balsam.wfformat import synthetic_task
from balsam.wfformat.names import file_name, plain, plain_names
from balsam.wfformat.workflow import Task, Workflow

#: Bytes of arguments that a process can be given, with room left for its environment.
MOST_ARGUMENTS = 1_500_000
_SHELL_WORDS = frozenset({"|", "||", "&", "&&", ";", "<", ">", ">>", "2>", "2>&1", "&>"})
MIB = 1 << 20


class Campaign(msgspec.Struct, kw_only=True):
    """What is to be added to a site."""

    workflow: str
    apps: list[App]
    #: Parents are given as minus their position among the jobs, from 1.
    jobs: list[Job]
    notes: list[str]


class Scale(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of the numbers of the file."""

    time: float = 1.0  #: factor of run times
    size: float = 1.0  #: factor of files' sizes
    resources: bool = True  #: False: every task takes one core and uncounted memory


def synthetic(workflow: Workflow, name: str, scale: Scale, python: str) -> Campaign:
    """Return a campaign of small programs that do as the tasks did (see `synthetic_task`).

    Parameters
    ----------
    name
        The workflow's name in the site; '': that of the file.
    python
        The interpreter that runs them.

    Raises
    ------
    InvalidInput
        A task cannot be a job; the message has its place in the file.
    """
    name = _workflow_name(workflow, name)
    words = [python, "-I", "-S", synthetic_task.__file__, f"data/{name}/files"]
    sizes = {file: round(size * scale.size) for file, size in workflow.sizes.items()}
    apps = _app_names(name, [task.kind for task in workflow.tasks])

    def fill(task: Task, job: Job) -> None:
        cores = job.threads_per_rank
        job.args = shlex.join([f"{task.seconds * scale.time:g}", str(cores), *_files(task, sizes)])
        if len(job.args) > MOST_ARGUMENTS:
            raise InvalidInput(
                f"{task.place}: task {task.id!r} has {len(task.inputs) + len(task.outputs)} files:"
                " more than fit into a command line"
            )

    return Campaign(
        workflow=name,
        apps=[App(name=app, executable=shlex.join(words)) for app in apps.values()],
        jobs=_jobs(workflow, name, scale, [apps[task.kind] for task in workflow.tasks], fill),
        notes=list(workflow.notes),
    )


def _files(task: Task, sizes: dict[str, int]) -> list[str]:
    lists = {
        "--read": [name for name in task.inputs if name in task.made_before],
        "--given": [name for name in task.inputs if name not in task.made_before],
        "--write": task.outputs,
    }
    words = []
    for option, names in lists.items():
        if names:
            words += [option, *(f"{sizes[name]}:{file_name(name)}" for name in names)]
    return words


def commands(workflow: Workflow, name: str, scale: Scale, directory: Path) -> Campaign:
    """Return a campaign of the commands that the file has, all run in *directory*.

    As in WfCommons' own translations, program and arguments are parts of a shell's command line:
    one may hold an option and its value. No shell runs it, so that nothing in it is expanded.

    Raises
    ------
    InvalidInput
        A task has no command, or one that cannot be split into words; the message has the place.
    """
    name = _workflow_name(workflow, name)
    for task in workflow.tasks:
        _check_program(task)
    programs = [split_words(task.program)[0] for task in workflow.tasks]
    apps = _app_names(name, programs)
    shell_words: list[str] = []

    def fill(task: Task, job: Job) -> None:
        words = split_words(task.program)[1:]
        for n, argument in enumerate(task.arguments):
            try:
                words += split_words(argument)
            except InvalidInput as error:
                raise InvalidInput(f"{task.run_place}.command.arguments[{n}]: {error}") from error
        if not _SHELL_WORDS.isdisjoint(words):
            shell_words.append(task.id)
        job.user_workdir = str(directory)
        job.args = shlex.join(_literal(words, job))

    jobs = _jobs(workflow, name, scale, [apps[program] for program in programs], fill)
    notes = list(workflow.notes)
    missing = [file for file in workflow.given_files if not (directory / file).exists()]
    if missing:
        notes.append(
            f"{len(missing)} of the files that no task writes are not in {directory}"
            f" (first: {missing[0]!r})"
        )
    if shell_words:
        notes.append(
            f"{len(shell_words)} commands (first: task {shell_words[0]!r}) have words such as"
            " '>' or '|', which they get as arguments: no shell runs them"
        )
    return Campaign(
        workflow=name,
        apps=[App(name=app, executable=shlex.quote(program)) for program, app in apps.items()],
        jobs=jobs,
        notes=notes,
    )


def _check_program(task: Task) -> None:
    place = f"{task.run_place}.command"
    if not task.program:
        raise InvalidInput(f"{place}: task {task.id!r} has no program; --synthetic needs none")
    if len(task.program.splitlines()) > 1:
        raise InvalidInput(
            f"{place}: task {task.id!r} has a script of several lines and no program;"
            " --synthetic does without"
        )
    try:
        words = split_words(task.program)
    except InvalidInput as error:
        raise InvalidInput(f"{place}: {error}") from error
    if not words or not words[0] or "{{" in words[0] or "\0" in task.program:
        raise InvalidInput(f"{place}: {task.program!r} cannot be an app's command")


def _literal(words: list[str], job: Job) -> list[str]:
    """Return *words* with those that Balsam would change as parameters of *job*."""
    result = []
    for word in words:
        if "{{" in word or word.startswith("~"):
            key = f"word{len(job.parameters) + 1}"
            job.parameters = {**job.parameters, key: word}
            word = f"{{{{{key}}}}}"
        result.append(word)
    return result


def _workflow_name(workflow: Workflow, name: str) -> str:
    name = name or plain(workflow.name).replace("{{", "__")
    check_workflow(name)
    if "{{" in name:  # it is in the apps' command
        raise InvalidInput(f"workflow {name!r} has '{{{{' in it; choose another name")
    return name


def _app_names(workflow: str, kinds: list[str]) -> dict[str, str]:
    """Return the name of the app of each kind: those of other workflows stay apart.

    So do the run times that launchers learn of them.
    """
    different = list(dict.fromkeys(kinds))
    names = plain_names(different)
    return {kind: f"{workflow}.{name}" for kind, name in zip(different, names, strict=True)}


def _jobs(
    workflow: Workflow,
    name: str,
    scale: Scale,
    apps: list[str],
    fill: Callable[[Task, Job], None],
) -> list[Job]:
    """Return a job for each task; *fill* sets what the kind of campaign has of its own."""
    jobs = []
    names = plain_names(task.id for task in workflow.tasks)
    for job_name, app, task in zip(names, apps, workflow.tasks, strict=True):
        job = Job(
            name=job_name,
            workflow=name,
            application=app,
            tags={"task": task.id},
            parents=[-(parent + 1) for parent in task.parents],
            wall_time_minutes=task.seconds * scale.time / 60,
            priority=_priority(task),
        )
        if scale.resources:
            job.threads_per_rank = math.ceil(task.cores)
            job.memory_mib = math.ceil(task.memory_bytes / MIB)
        fill(task, job)
        _check(job, task)
        jobs.append(job)
    return jobs


def _priority(task: Task) -> int:
    if abs(task.priority) >= 2**31:
        raise InvalidInput(f"{task.run_place}.priority: {task.priority:g} does not fit 32 bits")
    return round(task.priority)


def _check(job: Job, task: Task) -> None:
    try:
        check_job(job)
        if "\0" in task.id or "\0" in job.args:
            raise InvalidInput("a NUL character, which no command can have")
    except InvalidInput as error:
        kind = InvalidResources if isinstance(error, InvalidResources) else InvalidInput
        raise kind(f"{task.run_place}: {error}") from error
