"""Batch jobs to the batch system, and back: what is asked for is recorded before it is asked.

So whatever dies in between, nothing is asked for twice and nothing is forgotten: a request is
known to the batch system by a name that no other has.
"""

from __future__ import annotations

import re
import secrets
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from balsam.client.interface import Client
from balsam.config import Settings
from balsam.errors import (
    InvalidInput,
    NoScheduler,
    SchedulerAway,
    SchedulerError,
    SchedulerRefused,
)
from balsam.model.batch_job import WAITING_STATES, BatchJob, BatchState
from balsam.schedulers.scheduler import Run, Scheduler, Submission
from balsam.service import database, record, script, template

JOB_MODES = ("auto", "serial", "mpi")
#: Largest requests that are no typing errors.
_MOST_NODES = 100_000
_MOST_MINUTES = 365 * 24 * 60.0


class BatchRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked for; '' is the setting's, or the batch system's default."""

    num_nodes: int = 1
    wall_time_minutes: float
    queue: str = ""
    project: str = ""
    job_mode: str = "auto"
    wf_filter: str = ""
    tags: dict[str, str] = {}
    scheduler_flags: str = ""


def prepare(
    client: Client,
    settings: Settings,
    scheduler: Scheduler,
    request: BatchRequest,
    *,
    service: int | None = None,
) -> BatchJob:
    """Return the batch job of *request*, with the settings filled in; nothing is stored.

    Raises
    ------
    InvalidInput
        It asks for what there cannot be.
    SiteError
        Launchers on other hosts could not use the site's database.
    """
    if not 1 <= request.num_nodes <= _MOST_NODES:
        raise InvalidInput(f"{request.num_nodes} nodes; give 1 to {_MOST_NODES}")
    if not 0 < request.wall_time_minutes <= _MOST_MINUTES:
        raise InvalidInput(
            f"a walltime of {request.wall_time_minutes:g} minutes; give more than 0, up to a year"
        )
    if request.job_mode not in JOB_MODES:
        raise InvalidInput(f"job mode {request.job_mode!r}; give one of {', '.join(JOB_MODES)}")
    database.check(client.path, settings, scheduler.name)
    asked = settings.scheduler
    flags = " ".join(filter(None, (asked.flags, request.scheduler_flags)))
    return BatchJob(
        scheduler=scheduler.name,
        name=_name(client.path),
        project=request.project or asked.project,
        queue=request.queue or asked.queue,
        num_nodes=request.num_nodes,
        wall_time_minutes=request.wall_time_minutes,
        job_mode=request.job_mode,
        wf_filter=request.wf_filter,
        tags=request.tags,
        scheduler_flags=flags,
        host=socket.gethostname(),
        service_id=service,
    )


def _name(site: Path) -> str:
    """Return a name for the batch system: one that tells the site, and that no other has."""
    words = re.sub(r"[^A-Za-z0-9_.-]+", "-", site.name).strip("-.") or "site"
    return f"balsam-{words[:24]}-{secrets.token_hex(4)}"


def _submission(client: Client, settings: Settings, new: BatchJob) -> Submission:
    nodes = settings.nodes
    return script.submission(client.path, new, nodes.cores, max(0, nodes.gpus))


def script_text(
    client: Client, settings: Settings, scheduler: Scheduler, batch_job: BatchJob
) -> str:
    """Return the script of a batch job, of one that is not stored with ``None`` for its id.

    Raises
    ------
    InvalidInput
        The site's template, or what is asked for, cannot be used.
    """
    found = template.load(client.path)
    asked = _submission(client, settings, batch_job)
    idle = settings.service.idle_minutes * 60 if batch_job.service_id is not None else None
    return script.render(found, client.path, batch_job, scheduler, asked, idle)


def submit(
    client: Client,
    settings: Settings,
    scheduler: Scheduler,
    run: Run,
    new: BatchJob,
    *,
    budget: float = 0.0,
) -> BatchJob:
    """Record *new*, write its script and submit it; return it as it is recorded then.

    Raises
    ------
    InvalidInput
        Its script cannot be made; nothing is recorded.
    BudgetSpent
        It would cost more node-hours than *budget* has left; nothing is recorded.
    SchedulerRefused
        The batch system does not take it; it is recorded so.
    NoScheduler
        There is no program to submit it with; it is recorded so.
    SchedulerAway
        The batch system does not answer. The batch job is recorded, and is submitted, or found to
        be so, as soon as somebody asks (`watch.refresh`).
    """
    script_text(client, settings, scheduler, new)
    stored = client.create_batch_job(new, budget=budget)
    return send(client, settings, scheduler, run, stored)


def send(
    client: Client, settings: Settings, scheduler: Scheduler, run: Run, stored: BatchJob
) -> BatchJob:
    """Submit a batch job that is recorded (see `submit`)."""
    asked = _submission(client, settings, stored)
    try:
        script.write(asked, script_text(client, settings, scheduler, stored))
    except BaseException as error:
        _refused(client, stored, str(error))
        raise
    files = {"script": _below(client, asked.script), "output_file": _below(client, asked.output)}
    stored = _changed(client, stored, files)
    try:
        return submitted(client, stored, scheduler.submit(run, asked))
    except (SchedulerRefused, NoScheduler) as error:
        # The program that submits is the last that an adapter runs: nobody was asked.
        _refused(client, stored, str(error))
        raise
    except SchedulerError as error:
        found = _found(scheduler, run, stored)
        if found:
            return submitted(client, stored, found)
        _changed(client, stored, {"message": str(error)})
        raise SchedulerAway(
            f"it is not known whether batch job {stored.id} was submitted: {error}. It stays"
            " recorded, and the service, or `balsam queue ls`, finds out"
        ) from error


def _found(scheduler: Scheduler, run: Run, stored: BatchJob) -> str | None:
    """Return the id of a request whose submission had no answer, if the batch system knows it."""
    try:
        return scheduler.find(run, stored.name)
    except SchedulerError:
        return None


def submitted(client: Client, stored: BatchJob, scheduler_id: str) -> BatchJob:
    """Record that the batch system has taken a batch job, and by which id."""
    now = client.now()
    changes: dict[str, Any] = {"scheduler_id": scheduler_id, "submitted_at": now, "seen_at": now}
    client.update_batch_job(_id(stored), {**changes, "message": ""})
    # Its launcher may have been faster, and said that it runs.
    waiting = {BatchState.PENDING_SUBMISSION}
    client.update_batch_job(_id(stored), {"state": BatchState.QUEUED}, waiting)
    return record.batch_job(client, _id(stored))


def cancel(
    client: Client, scheduler: Scheduler, run: Run, batch_jobs: Iterable[BatchJob], reason: str
) -> list[BatchJob]:
    """Take batch jobs back; return those that were live.

    It is recorded before the batch system hears of it: where it does not answer now, it is asked
    again by `watch.refresh`, which also tells when they have ended.

    Raises
    ------
    SchedulerError
        The batch system does not answer, or refuses.
    """
    live = [each for each in batch_jobs if each.is_live]
    live = [each for each in live if client.update_batch_job(_id(each), {"cancel_reason": reason})]
    unknown = [each for each in live if not each.scheduler_id and not each.script]
    ended = {"state": BatchState.CANCELLED, "message": reason, "ended_at": client.now()}
    for each in unknown:
        client.update_batch_job(_id(each), ended, WAITING_STATES)
    ids = [each.scheduler_id for each in live if each.scheduler_id]
    if ids:
        scheduler.cancel(run, ids)
    return live


def _refused(client: Client, stored: BatchJob, message: str) -> None:
    failed = {"state": BatchState.SUBMIT_FAILED, "message": message, "ended_at": client.now()}
    client.update_batch_job(_id(stored), failed)


def _changed(client: Client, stored: BatchJob, changes: dict[str, Any]) -> BatchJob:
    client.update_batch_job(_id(stored), changes)
    return msgspec.structs.replace(stored, **changes)


def _below(client: Client, path: str) -> str:
    """Return *path* relative to the site."""
    return str(Path(path).relative_to(client.path.absolute()))


def _id(stored: BatchJob) -> int:
    assert stored.id is not None  # it was stored
    return stored.id
