"""Futures of jobs that are there already."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from balsam.client.interface import Client
from balsam.client.job_ids import number_of
from balsam.client.site import Site, default_site
from balsam.config import user_name
from balsam.errors import NotFound
from balsam.functions.futures import Future
from balsam.functions.watcher import watcher_of
from balsam.model.job import Job
from balsam.model.query import Filter, Query

#: Jobs of one query.
SLICE = 5000


def attach(
    job_ids: Iterable[int | str | Job] | int | str | Job,
    *,
    site: Site | str | os.PathLike[str] | None = None,
    any_owner: bool = False,
) -> list[Future]:
    """Return futures of jobs, also of an earlier program, in the given order.

    Parameters
    ----------
    job_ids
        Ids, UUIDs or jobs.
    site
        Where they are; default: the site in use.
    any_owner
        Load pickled results also of other users' jobs, which runs whatever they put there.

    Raises
    ------
    NotFound
        There is no such job.
    """
    site = site_of(site)
    client = site.client
    given = [job_ids] if isinstance(job_ids, int | str | Job) else list(job_ids)
    numbers = [_number(client, one) for one in given]
    found: dict[int, Job] = {}
    for start in range(0, len(numbers), SLICE):
        query = Query(filters=(Filter("id", (), "in", numbers[start : start + SLICE]),))
        found.update({job.id or 0: job for job in client.jobs(query, ["name", "owner"])})
    me, watcher = user_name(), watcher_of(site)
    futures: dict[int, Future] = {}
    for number, one in zip(numbers, given, strict=True):
        if number not in found:
            raise NotFound(f"there is no job {one!r} in {site.path}")
        job = found[number]
        trusted = any_owner or job.owner == me
        futures[number] = Future(watcher, number, job.name, stored=True, trusted=trusted)
    watcher.follow(list(futures.values()))
    return [futures[number] for number in numbers]


def _number(client: Client, one: int | str | Job) -> int:
    """Return the id of a job that is given as one, as id (also as text) or UUID."""
    if isinstance(one, str) and one.isdigit() and len(one) < len(str(2**63)):
        return int(one)
    return number_of(client, one.id if isinstance(one, Job) else one)


def attach_one(site: str, number: int) -> Future:
    """Return the future of one job: how a pickled future is loaded."""
    return attach([number], site=site)[0]


def site_of(site: Any) -> Site:
    """Return *site* as a site: one, a path, or None for the one in use."""
    if isinstance(site, Site):
        return site
    default = default_site() if site is None or os.environ.get("BALSAM_SITE") else None
    if site is None:
        assert default is not None
        return default
    found = Site(site)
    return default if default == found and default is not None else found
