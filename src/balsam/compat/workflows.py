"""Graphs of jobs as scripts of 0.x make and change them."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from balsam import config
from balsam.client.jobs import Job
from balsam.compat import links
from balsam.compat.apps import ApplicationDefinition
from balsam.compat.jobs import BalsamJob
from balsam.compat.jobset import BalsamJobs
from balsam.errors import InvalidInput
from balsam.model.app import split_words


class NotOne(InvalidInput, AssertionError):
    """A query set of one job was asked for, and it has none or several."""


def add_dependency(parent: Any, child: Any) -> None:
    """Make *child* wait for *parent*: jobs, UUIDs (also as text), or query sets of one job.

    A child that is not saved yet has the dependency when it is.

    Raises
    ------
    InvalidInput
        A text is no UUID (also a ValueError).
    NotOne
        A query set has not exactly one job (also an AssertionError).
    DoesNotExist
        There is no such job.
    AlreadyExists
        There is the dependency already (also a RuntimeError).
    CyclicDependency
        They would wait for each other (also a RuntimeError); the message shows the circle.
    IllegalMove
        The child runs or has ended.
    """
    above, below = one_job(parent), one_job(child)
    real: Job = below._real
    if real.id is None:
        links.keep(real, [*links.parents(real), above.number])
        return
    real.site.client.add_dependency(above.number, real.id)
    links.reload(real)


def one_job(reference: Any) -> BalsamJob:
    """Return the job that *reference* (see `add_dependency`) stands for."""
    if isinstance(reference, BalsamJob):
        return reference
    if isinstance(reference, BalsamJobs):
        found: list[BalsamJob] = list(reference[:2])
        if len(found) != 1:
            count = "several" if found else "no"
            raise NotOne(f"the query set has {count} jobs; it must have exactly one")
        return found[0]
    if isinstance(reference, str):
        try:
            reference = UUID(reference)
        except ValueError as error:
            raise InvalidInput(f"{reference!r} is no job id; give a UUID or a job") from error
    if isinstance(reference, Job):
        reference = reference.job_id
    if not isinstance(reference, UUID | str):
        raise InvalidInput(f"{reference!r} is no job; give a BalsamJob, its UUID or a query set")
    return BalsamJob.objects.get(pk=reference)


def kill(job: Any, recursive: bool = True) -> None:
    """Stop a job for good, with *recursive* all that depend on it; what has ended stays so."""
    one = one_job(job)
    real: Job = one._real
    real.site.client.kill_jobs(real._me, recursive=recursive)
    real._reload_state()


def detect_circular(job: BalsamJob) -> bool:
    """Tell whether the job waits for itself. That cannot be: such dependencies are refused."""
    return False


def copied(
    source: str, new: str, changes: Mapping[str, Mapping[str, Any]]
) -> BalsamJobs[BalsamJob]:
    """Copy a workflow with its dependencies (see `dag.wf_from_template`)."""
    old = list(BalsamJob.objects.filter(workflow=source))
    if not old:
        raise InvalidInput(f"there is no job of workflow {source!r}")
    if BalsamJob.objects.filter(workflow=new).exists():
        raise InvalidInput(f"there are jobs of workflow {new!r} already; give a new name")
    names = {job.name for job in old}
    if len(names) != len(old):
        raise InvalidInput(f"jobs of workflow {source!r} have the same name; each needs its own")
    if unknown := set(changes) - names:
        raise InvalidInput(f"workflow {source!r} has no job {min(unknown)!r}")
    copies = [job.clone(**{**changes.get(job.name, {}), "workflow": new}) for job in old]
    of = {job.number: copy.number for job, copy in zip(old, copies, strict=True)}
    for copy in copies:
        for field in ("parents", "parents_failed", "parents_any"):
            found = getattr(copy._real, field)
            setattr(copy._real, field, [of.get(parent, parent) for parent in found])
    BalsamJob.objects.bulk_create(copies)
    return BalsamJob.objects.filter(workflow=new)


def add_app(checked: bool, **fields: Any) -> ApplicationDefinition:
    """Register an application or change it (see `dag.add_app`)."""
    words = split_words(fields["executable"])
    if checked and not (words and shutil.which(words[0])):
        raise FileNotFoundError(f"there is no program {fields['executable']!r}")
    app: Any
    app, made = ApplicationDefinition.objects.get_or_create(defaults=fields, name=fields["name"])
    if not made:
        for name, value in fields.items():
            setattr(app, name, value)
        app.save()
    found: ApplicationDefinition = app
    return found


def database_paths() -> list[str]:
    """Return the directories of the user's known sites that are there."""
    return [str(path) for path in config.known_sites() if config.is_site(path)]
