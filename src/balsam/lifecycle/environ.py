"""The environment that Balsam gives to jobs and hooks, over the launcher's own."""

from __future__ import annotations

import json
from pathlib import Path

from balsam.model.identity import JobIdentity
from balsam.model.job import Job
from balsam.model.states import State


def job_environ(
    job: Job,
    identity: JobIdentity,
    site: Path,
    *,
    launcher_id: int,
    attempt: int,
    state: State | None = None,
) -> dict[str, str]:
    """Return the variables of one attempt, or of a hook.

    Balsam's own override those of the job.

    Parameters
    ----------
    state
        For a handler: the RUN_ERROR or RUN_TIMEOUT that it is to handle.
    """
    environ = dict(job.environ)
    if job.threads_per_rank > 1:
        environ["OMP_NUM_THREADS"] = str(job.threads_per_rank)
    parents = (*job.parents, *job.parents_failed, *job.parents_any)
    environ |= {
        "BALSAM_JOB_ID": job.job_id,
        "BALSAM_PARENT_IDS": json.dumps([str(identity.uuid(p)) for p in parents])
        if parents
        else "[]",
        "BALSAM_DB_PATH": str(site),
        "BALSAM_SITE": str(site),
        "BALSAM_ATTEMPT": str(attempt),
        "BALSAM_LAUNCHER_ID": str(launcher_id),
    }
    if state is State.RUN_TIMEOUT:
        environ["BALSAM_JOB_TIMEOUT"] = "TRUE"
    if state is State.RUN_ERROR:
        environ["BALSAM_JOB_ERROR"] = "TRUE"
    return environ
