"""The environment that Balsam gives to jobs and hooks, over the launcher's own."""

from __future__ import annotations

import json
from typing import Any

from balsam.model.app import App
from balsam.model.identity import JobIdentity
from balsam.model.job import Job
from balsam.model.states import State

#: Parents whose UUIDs are given. Linux takes 128 KiB for one variable, which is 3,276 of them.
MOST_PARENTS = 3000


def launcher_environ(site: str, launcher_id: int, *, nodes: int, job_mode: str) -> dict[str, str]:
    """Return the variables that are the same for all jobs of a launcher."""
    return {
        "BALSAM_DB_PATH": site,
        "BALSAM_SITE": site,
        "BALSAM_LAUNCHER_ID": str(launcher_id),
        "BALSAM_LAUNCHER_NODES": str(nodes),
        "BALSAM_JOB_MODE": job_mode,
        "BALSAM_PARENT_IDS": "[]",
    }


def job_environ(
    job: Job,
    identity: JobIdentity,
    attempt: int,
    state: State | None = None,
    app: App | None = None,
) -> dict[str, str]:
    """Return the further variables of one attempt, or of a hook.

    The job's override its app's; Balsam's own (all that begin with ``BALSAM_``) override both.

    Parameters
    ----------
    state
        For a handler: the RUN_ERROR or RUN_TIMEOUT that it is to handle.
    """
    given = {**app.environ, **job.environ} if app else job.environ
    environ = {k: v for k, v in given.items() if not k.startswith("BALSAM_")}
    if job.threads_per_rank > 1:
        environ["OMP_NUM_THREADS"] = str(job.threads_per_rank)
    environ["BALSAM_JOB_ID"] = job.job_id
    environ["BALSAM_ATTEMPT"] = str(attempt)
    parents = (*job.parents, *job.parents_failed, *job.parents_any)
    if len(parents) > MOST_PARENTS:
        # No list at all, so that nobody takes a part of it, or none, for the whole.
        environ["BALSAM_PARENT_IDS"] = ""
    elif parents:
        environ["BALSAM_PARENT_IDS"] = json.dumps([identity.text(parent) for parent in parents])
    if state is State.RUN_TIMEOUT:
        environ["BALSAM_JOB_TIMEOUT"] = "TRUE"
    if state is State.RUN_ERROR:
        environ["BALSAM_JOB_ERROR"] = "TRUE"
    return environ


def parameters_of(job: Job, app: App) -> dict[str, Any]:
    """Return what stands for the parameters of the job's command: its own, or its app's."""
    defaults = {name: p.default for name, p in app.parameters.items() if not p.required}
    return {**defaults, **job.parameters}
