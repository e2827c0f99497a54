"""Looking batch jobs up in the site's record."""

from __future__ import annotations

from balsam.client.interface import Client
from balsam.errors import NotFound
from balsam.model.batch_job import LIVE_STATES, BatchJob
from balsam.model.query import Query, parse


def batch_job(client: Client, number: int) -> BatchJob:
    """Return the batch job with this id.

    Raises
    ------
    NotFound
        There is none.
    """
    found = client.batch_jobs(Query(filters=parse({"id": number}, "batch_jobs")))
    if not found:
        raise NotFound(f"there is no batch job {number} on this site; see `balsam queue ls --all`")
    return found[0]


def is_of(batch_job: BatchJob, scheduler: str, host: str) -> bool:
    """Tell whether *batch_job* was submitted to the batch system of this name, asked on *host*.

    'local' is another one on each host.
    """
    if batch_job.scheduler not in ("", scheduler):
        return False
    return scheduler != "local" or batch_job.host in ("", host)


def live(client: Client) -> list[BatchJob]:
    """Return the batch jobs that may hold nodes, now or later, oldest first."""
    states = sorted(LIVE_STATES)
    terms = parse({"state__in": states}, "batch_jobs")
    return client.batch_jobs(Query(filters=terms, order=("id",)))
