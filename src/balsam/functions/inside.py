"""What a function finds that itself runs as a job."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from balsam.client.interface import Client
from balsam.model.job import Job
from balsam.model.query import Query

_FIELDS = ("workflow", "tags", "priority", "application")
_last: tuple[str, Job | None] = "", None


def current_job(client: Client) -> Job | None:
    """Return the job that this process carries out, if it is one of *client*'s site.

    Of its fields only `workflow`, `tags`, `priority` and `application` are filled.
    """
    global _last
    job_id = os.environ.get("BALSAM_JOB_ID", "")
    if not job_id:
        return None
    key = f"{client.path} {job_id}"
    if _last[0] != key:
        number = client.identity.parse(job_id)
        found = client.jobs(Query().where(id=number), _FIELDS) if number else []
        _last = key, found[0] if found else None
    return _last[1]


def inherited(client: Client) -> dict[str, Any]:
    """Return the fields of jobs that a job submits.

    They run before others of their kind: what a call waits for comes first, so that recursion
    goes to its bottom before it goes on, and few calls wait at a time.
    """
    job = current_job(client)
    if job is None:
        return {}
    return {"workflow": job.workflow, "tags": job.tags, "priority": job.priority + 1}


@contextmanager
def waiting() -> Iterator[None]:
    """Give this call's place to others while it waits for other jobs."""
    runner = sys.modules.get("__balsam_runner__")
    if runner is None:
        yield
        return
    runner.blocked()
    try:
        yield
    finally:
        runner.unblocked()
