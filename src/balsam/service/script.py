"""The script of a batch job: what the batch system is given, and what it is to start."""

from __future__ import annotations

import math
import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from balsam.errors import InvalidInput, SiteError
from balsam.model.batch_job import BatchJob
from balsam.model.walltime import time_limit
from balsam.schedulers.command import SETTINGS
from balsam.schedulers.scheduler import Scheduler, Submission
from balsam.service.template import Template, Words

#: Where scripts and their output are, in the site.
DIRECTORY = "qsubmit"
#: The submitter's variables that a launcher needs, however the batch system treats the others.
_KEPT = ("BALSAM_HOME",)


def submission(
    site: Path, batch_job: BatchJob, cores_per_node: int = 0, gpus_per_node: int = 0
) -> Submission:
    """Return what the batch system is asked for.

    Raises
    ------
    InvalidInput
        The user's flags cannot be split into words.
    """
    try:
        flags = shlex.split(batch_job.scheduler_flags)
    except ValueError as error:
        raise InvalidInput(
            f"the scheduler flags {batch_job.scheduler_flags!r} are no words of a shell: {error}"
        ) from error
    stem = site.absolute() / DIRECTORY / f"qlaunch{batch_job.id}"
    return Submission(
        name=batch_job.name,
        script=f"{stem}.sh",
        output=f"{stem}.out",
        directory=str(site.absolute()),
        num_nodes=batch_job.num_nodes,
        minutes=math.ceil(batch_job.wall_time_minutes),
        queue=batch_job.queue,
        project=batch_job.project,
        flags=tuple(flags),
        cores_per_node=cores_per_node,
        gpus_per_node=gpus_per_node,
    )


def launcher_words(site: Path, batch_job: BatchJob, idle_seconds: float | None = None) -> list[str]:
    """Return the words of the command that runs the launcher of a batch job."""
    words = [
        # -P: a random.py in the site is not Python's.
        *(sys.executable, "-P", "-m", "balsam.cli.main"),
        *("--site", str(site.absolute()), "launcher", f"--{_filter(batch_job)}"),
        *("--job-mode", batch_job.job_mode),
        *("--time-limit-minutes", f"{time_limit(batch_job.wall_time_minutes):g}"),
        *("--batch-job", str(batch_job.id)),
    ]
    for key, value in batch_job.tags.items():
        words += ["--tag", f"{key}={value}"]
    if idle_seconds is not None:
        words += ["--idle-seconds", f"{idle_seconds:g}"]
    return words


def _filter(batch_job: BatchJob) -> str:
    return f"wf-filter={batch_job.wf_filter}" if batch_job.wf_filter else "consume-all"


def variables(
    site: Path,
    batch_job: BatchJob,
    asked: Submission,
    directives: list[str],
    idle_seconds: float | None = None,
    environ: Mapping[str, str] = os.environ,
) -> dict[str, Any]:
    """Return the values of all variables of templates.

    Raises
    ------
    InvalidInput
        A directive is not one line.
    """
    for line in directives:
        if "\n" in line:
            raise InvalidInput(f"the directive {line!r} is more than one line")
    programs = str(Path(sys.executable).parent)
    return {
        "project": batch_job.project,
        "queue": batch_job.queue,
        "nodes": batch_job.num_nodes,
        "time_minutes": asked.minutes,
        "job_mode": batch_job.job_mode,
        "wf_filter": _filter(batch_job),
        "sched_flags": Words(shlex.join(asked.flags)),
        "balsam_bin": programs,
        "pg_bin": programs,
        "balsam_db_path": str(site.absolute()),
        "directives": Words("\n".join(directives)),
        "launcher": Words(shlex.join(launcher_words(site, batch_job, idle_seconds))),
        "environment": Words(_environment(environ)),
        "site": str(site.absolute()),
        "name": batch_job.name,
        "batch_job": batch_job.id,
        "output": asked.output,
        "python": sys.executable,
    }


def _environment(environ: Mapping[str, str]) -> str:
    """Return lines that set what the launcher needs of the submitter's environment."""
    lines = [f"export {name}={shlex.quote(environ[name])}" for name in _KEPT if environ.get(name)]
    # What commands of batch systems are run with, many hand on to the script.
    for name, value in SETTINGS.items():
        if name in environ:
            lines.append(f"export {name}={shlex.quote(environ[name])}")
        else:
            lines.append(f'if [ "${{{name}-}}" = {shlex.quote(value)} ]; then unset {name}; fi')
    return "\n".join(lines)


def render(
    template: Template,
    site: Path,
    batch_job: BatchJob,
    scheduler: Scheduler,
    asked: Submission,
    idle_seconds: float | None = None,
    environ: Mapping[str, str] = os.environ,
) -> str:
    """Return the text of the script of a batch job (see `Template.render` for the errors)."""
    directives = scheduler.directives(asked)
    values = variables(site, batch_job, asked, directives, idle_seconds, environ)
    return template.render(values)


def write(asked: Submission, text: str) -> None:
    """Write the script where the request names it, for its owner alone; wholly or not at all.

    Raises
    ------
    SiteError
        It cannot be written.
    """
    file = Path(asked.script)
    aside = file.with_name(f"{file.name}.{os.getpid()}")
    try:
        file.parent.mkdir(mode=0o700, exist_ok=True)
        with open(
            os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o700),
            "w",
            encoding="utf-8",
            errors="surrogateescape",
        ) as written:
            written.write(text)
        aside.replace(file)
    except OSError as error:
        try:
            aside.unlink()
        except OSError:
            pass
        raise SiteError(f"cannot write the script {file}: {error.strerror}") from error
