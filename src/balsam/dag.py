"""Jobs that make jobs: what programs, hooks and prompts of a site need, as 0.x had it.

::

    from balsam import dag          # or: from balsam.launcher import dag

    job = dag.current_job
    if job.state == "RUN_DONE" and job.data["residual"] > 1e-6:
        dag.spawn_child(clone=True, name="again", wall_time_minutes=job.wall_time_minutes + 10)

Nothing is opened or asked before something of it is used. `current_job` and what belongs to it
follow the environment, which a process that runs functions of many jobs changes from one to the
next.

Attributes
----------
current_job
    The job that this process is part of; None outside one. RuntimeError when it was removed.
parents, children
    The jobs that it depends on, and those that depend on it; None outside a job.
JOB_ID
    Its UUID; '' outside a job.
TIMEOUT, ERROR
    Whether this process is called as handler, because the launcher's time was over before the
    program's end, or because the program failed.
LAUNCHER_NODES
    How many nodes the launcher has; 1 outside one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any
from uuid import UUID

from balsam.client.site import default_site
from balsam.compat import workflows
from balsam.compat.apps import ApplicationDefinition, Applications
from balsam.compat.exceptions import NoCurrentJob
from balsam.compat.jobs import BalsamJob
from balsam.compat.jobset import BalsamJobs
from balsam.compat.workflows import add_dependency, detect_circular, kill
from balsam.errors import NotFound, SiteError

if TYPE_CHECKING:
    from balsam.client.history import BatchJob

    current_job: BalsamJob | None
    parents: BalsamJobs[BalsamJob] | None
    children: BalsamJobs[BalsamJob] | None
    JOB_ID: UUID | str
    TIMEOUT: bool
    ERROR: bool
    LAUNCHER_NODES: int

__all__ = [
    "ERROR",
    "JOB_ID",
    "LAUNCHER_NODES",
    "TIMEOUT",
    "BalsamJob",
    "add_app",
    "add_dependency",
    "add_job",
    "children",
    "clone",
    "current_job",
    "detect_circular",
    "get_active_database",
    "get_apps",
    "get_database_paths",
    "kill",
    "parents",
    "spawn_child",
    "submit",
    "wf_from_template",
]

#: The current job as it was loaded, and what the environment said then.
_current: tuple[tuple[str | None, ...], BalsamJob] | None = None


def __getattr__(name: str) -> Any:
    match name:
        case "current_job":
            return _current_job()
        case "parents":
            job = _current_job()
            return None if job is None else job.get_parents()
        case "children":
            job = _current_job()
            return None if job is None else job.get_children()
        case "JOB_ID":
            text = os.environ.get("BALSAM_JOB_ID", "")
            return UUID(text) if text else ""
        case "TIMEOUT" | "ERROR":
            return os.environ.get(f"BALSAM_JOB_{name}") == "TRUE"
        case "LAUNCHER_NODES":
            nodes = os.environ.get("BALSAM_LAUNCHER_NODES", "")
            return int(nodes) if nodes.isdecimal() else 1
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _current_job() -> BalsamJob | None:
    """Return the current job, the same object each time while the environment names it."""
    global _current
    names = ("BALSAM_JOB_ID", "BALSAM_ATTEMPT", "BALSAM_DB_PATH")
    asked = (*map(os.environ.get, names), str(os.getpid()))
    if not asked[0]:
        return None
    if _current is None or _current[0] != asked:
        try:
            _current = asked, BalsamJob.objects.get(job_id=asked[0])
        except NotFound as error:
            raise NoCurrentJob(
                f"BALSAM_JOB_ID is {asked[0]}, and there is no such job at {default_site().path};"
                " unset BALSAM_JOB_ID outside of jobs"
            ) from error
    return _current[1]


def add_job(
    name: str = "",
    workflow: str = "",
    application: str = "",
    description: str = "",
    args: str | None = "",
    mpi_flags: str | None = "",
    num_nodes: int = 1,
    ranks_per_node: int = 1,
    cpu_affinity: str = "depth",
    threads_per_rank: int = 1,
    threads_per_core: int = 1,
    environ_vars: str | Mapping[str, Any] | None = None,
    data: Any = None,
    save: bool = True,
    **kwargs: Any,
) -> BalsamJob:
    """Add a job and return it; with ``save=False`` it is yet to be saved.

    Parameters
    ----------
    kwargs
        Further fields of `BalsamJob`.

    Raises
    ------
    UnknownField
        There is no such field (also a ValueError).
    DoesNotExist
        There is no such application (of `ApplicationDefinition`).
    InvalidInput
        A value cannot be taken.
    """
    job = BalsamJob(
        name=name,
        workflow=workflow,
        application=application,
        description=description,
        args=args,
        mpi_flags=mpi_flags,
        num_nodes=num_nodes,
        ranks_per_node=ranks_per_node,
        cpu_affinity=cpu_affinity,
        threads_per_rank=threads_per_rank,
        threads_per_core=threads_per_core,
        environ_vars=environ_vars,
        data={} if data is None else data,
        **kwargs,
    )
    if save:
        job.save()
    return job


#: As documents of 0.x call it.
create_job = add_job


def clone(job: BalsamJob, **fields: Any) -> BalsamJob:
    """Return a new job, not saved, like *job* but for *fields* and `user_workdir`."""
    return job.clone(**fields)


def spawn_child(*, clone: bool = True, **fields: Any) -> BalsamJob:
    """Add a job that waits for the current one and for its parents, and return it.

    Parameters
    ----------
    clone
        Whether it is like the current job but for *fields*; else only the workflow is.
    fields
        Fields of `BalsamJob`. With ``wait_for_parents=False`` it can run at once.

    Raises
    ------
    NoCurrentJob
        This process is part of no job (also a RuntimeError).
    UnknownField
        There is no such field (also a ValueError).
    """
    job = _current_job()
    if job is None:
        raise NoCurrentJob("spawn_child works inside a job, and BALSAM_JOB_ID is not set")
    child = job.clone(**fields) if clone else BalsamJob(**{"workflow": job.workflow, **fields})
    if "parents" not in fields:
        child.parents = [*job.get_parents_by_id(), job.job_id]
    child.save()
    return child


def wf_from_template(
    source_wf: str, new_wf: str, **changes: Mapping[str, Any]
) -> BalsamJobs[BalsamJob]:
    """Copy a workflow with its dependencies, all at once, and return the new jobs.

    Parameters
    ----------
    changes
        By the name of a job, the fields that are different.

    Raises
    ------
    InvalidInput
        There is no such workflow, two of its jobs have one name, or there is one of the new name.
    """
    return workflows.copied(source_wf, new_wf, changes)


def add_app(
    name: str,
    executable: str,
    description: str = "",
    envscript: str = "",
    preprocess: str | Callable[[Any], Any] = "",
    postprocess: str | Callable[[Any], Any] = "",
    checkexe: bool = False,
) -> ApplicationDefinition:
    """Register an application, or change the one of this name; return it.

    Parameters
    ----------
    preprocess, postprocess
        A command, or a function that is called with the job (see `balsam.api.Job`).
    checkexe
        Raise FileNotFoundError unless the program is there.
    """
    return workflows.add_app(
        checkexe,
        name=name,
        executable=executable,
        description=description,
        envscript=envscript,
        preprocess=preprocess,
        postprocess=postprocess,
    )


def get_apps() -> Applications[ApplicationDefinition]:
    """Return all applications."""
    return ApplicationDefinition.objects.all()


def get_database_paths(verbose: bool = True) -> list[str]:
    """Return the directories of the user's known sites; with *verbose* also print them."""
    found = workflows.database_paths()
    if verbose:
        print("\n".join([f"{len(found)} Balsam sites are known", *found]))
    return found


def get_active_database(verbose: bool = True) -> str:
    """Return the directory of the site in use, '' without one; with *verbose* also print it."""
    try:
        path = str(default_site().path)
    except SiteError:
        path = ""
    if verbose:
        print(f"Active Balsam site: {path}" if path else "No Balsam site is active")
    return path


def submit(
    project: str = "",
    queue: str = "",
    nodes: int = 1,
    wall_minutes: float = 0,
    job_mode: str = "auto",
    wf_filter: str = "",
    sched_flags: str = "",
    *,
    tags: Mapping[str, str] | None = None,
) -> BatchJob:
    """Submit a batch job: a request for nodes and time, with a launcher on them; return it.

    It belongs to the site that `Job.objects` is of. Blocks until the batch system has answered.

    Parameters
    ----------
    project, queue
        '' is the setting's (`scheduler.project`, `scheduler.queue`), or the batch system's
        default.
    job_mode
        'auto', 'serial' (only jobs of one rank) or 'mpi'.
    wf_filter
        Its launcher runs jobs whose workflow contains this.
    sched_flags
        Further words for the batch system, as in a shell.
    tags
        Its launcher runs jobs that have all these.

    Raises
    ------
    InvalidInput
        It asks for what there cannot be, or the site's template cannot be used.
    BudgetSpent
        It would cost more than `service.budget_node_hours` has left. Nothing is recorded.
    SchedulerRefused
        The batch system does not take it. It is recorded so.
    SchedulerAway
        The batch system does not answer. It is recorded, and its fate is found out later.
    """
    from balsam.compat.batch_jobs import submit as send

    return send(
        default_site(),
        num_nodes=nodes,
        wall_time_minutes=wall_minutes,
        queue=queue,
        project=project,
        job_mode=job_mode,
        wf_filter=wf_filter,
        tags=dict(tags or {}),
        scheduler_flags=sched_flags,
    )
