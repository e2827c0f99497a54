"""What becomes of batch jobs: what the batch system, and what their launchers say of them.

Three things are held apart. What the batch system says counts, unless the launcher says that it
lives. That the batch system does not name a request says nothing by itself: only after
`service.missing_minutes` in which neither it nor a launcher was heard of it is taken for lost.
Words that we do not know are kept, and the request goes on as it was.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from typing import Any

import msgspec

from balsam.client.interface import Client
from balsam.config import Settings, user_name
from balsam.errors import SchedulerError
from balsam.model.batch_job import (
    ENDED_STATES,
    WAITING_STATES,
    BatchJob,
    BatchState,
)
from balsam.model.wire import LauncherInfo
from balsam.schedulers.scheduler import Run, Scheduler, Status
from balsam.service import record
from balsam.service.submit import submitted

#: A request that is recorded, but not known to be submitted, is looked for after so many seconds:
#: until then whoever recorded it may be about to submit it.
SETTLE_SECONDS = 60.0
#: That a request was seen is written down after so many seconds, when nothing else is.
_SEEN_SECONDS = 60.0
#: So many times longer a request may be missing while the history cannot be asked.
_HISTORY_AWAY = 6


def refresh(client: Client, scheduler: Scheduler, run: Run, settings: Settings) -> list[str]:
    """Ask the batch system about all live batch jobs at once, and record what it says.

    Of other users' it may say nothing, so that nothing follows when it does not name one; only
    they find out what was submitted, and take back what is to be cancelled. Returns what happened,
    in words.

    Raises
    ------
    SchedulerError
        The batch system does not answer, or cannot be understood. What it said before stands.
    """
    host = socket.gethostname()
    live = [each for each in record.live(client) if record.is_of(each, scheduler.name, host)]
    unsettled = [each for each in live if not each.scheduler_id and _is_mine(each)]
    news = [_settled(client, scheduler, run, each) for each in unsettled]
    known = [each for each in live if each.scheduler_id]
    if known:
        news += _followed(client, scheduler, run, settings, known)
    return [line for line in news if line]


def _followed(
    client: Client, scheduler: Scheduler, run: Run, settings: Settings, known: list[BatchJob]
) -> list[str]:
    ids = [each.scheduler_id for each in known]
    statuses = scheduler.status(run, ids)
    missing = [each for each in ids if each not in statuses]
    now, patience = client.now(), settings.service.missing_minutes * 60
    news: list[str] = []
    if missing:
        try:
            statuses = scheduler.history(run, missing) | statuses
        except SchedulerError as error:  # the others can be followed all the same
            patience *= _HISTORY_AWAY
            news.append(f"what became of {', '.join(missing)} is not known: {error}")
    unnamed = [each for each in known if each.scheduler_id not in statuses]
    gone = [each.scheduler_id for each in unnamed if each.cancel_reason and _is_mine(each)]
    try:
        # It may never have heard of it, and not name them just now: only now they are over.
        scheduler.cancel(run, gone)
    except SchedulerError as error:
        news.append(f"whether {', '.join(gone)} are taken back is not known: {error}")
    else:
        gone = []
    pilots = launchers_of(client, known)
    again: list[str] = []
    for each in known:
        status = statuses.get(each.scheduler_id)
        if each.scheduler_id in gone or (status is None and not _is_mine(each)):
            continue
        changes = judged(each, status, pilots.get(each.id), now, patience)
        after = msgspec.structs.replace(each, **changes)
        if changes and client.update_batch_job(_id(each), changes):
            news.append(told(each, after))
        is_left = after.is_live and after.state is not BatchState.ENDING
        if each.cancel_reason and is_left and _is_mine(each):
            again.append(each.scheduler_id)
    if again:
        scheduler.cancel(run, again)
    return news


def _is_mine(batch_job: BatchJob) -> bool:
    return batch_job.owner in ("", user_name())


def launchers_of(client: Client, batch_jobs: Iterable[BatchJob]) -> dict[int | None, LauncherInfo]:
    """Return the last launcher of each batch job that had one, by the batch job's id."""
    wanted = {each.id for each in batch_jobs}
    found = {each.batch_job_id: each for each in client.launchers(live=False)}
    return {number: info for number, info in found.items() if number in wanted}


def judged(
    batch_job: BatchJob,
    status: Status | None,
    launcher: LauncherInfo | None,
    now: float,
    patience: float,
) -> dict[str, Any]:
    """Return what changes in the record of a live batch job.

    Parameters
    ----------
    status
        What the batch system says of it; None when it does not name it.
    launcher
        Its last launcher, if it had one.
    now
        Seconds since the epoch.
    patience
        Seconds after which one that nobody heard of is lost.
    """
    silent_since = None if launcher is None else launcher.silent_since(now)
    alive = launcher is not None and silent_since is None
    if silent_since is not None and batch_job.came_back_after(silent_since):
        launcher = None  # of an earlier start
    if status is not None:
        changes = _as_told(batch_job, status, launcher, now)
    elif alive:
        changes = {}
    else:
        changes = _unnamed(batch_job, launcher, now, patience)
    if alive and changes.get("state", batch_job.state) not in (
        *ENDED_STATES,
        BatchState.RUNNING,
        BatchState.ENDING,
    ):
        changes["state"] = BatchState.RUNNING
    if changes.get("state") is BatchState.UNKNOWN:
        del changes["state"]  # it goes on as it was; the word is kept
    changed = {name: v for name, v in changes.items() if getattr(batch_job, name) != v}
    heard = status is not None or alive
    if heard and (changed or now - (batch_job.seen_at or 0.0) > _SEEN_SECONDS):
        changed["seen_at"] = now
    return changed


def _as_told(
    batch_job: BatchJob, status: Status, launcher: LauncherInfo | None, now: float
) -> dict[str, Any]:
    """Return the fields that the batch system's *status* gives."""
    changes: dict[str, Any] = {
        "state": status.state,
        "scheduler_state": status.word,
        "message": status.reason,
        "starts_at": status.starts_at,
    }
    told = {
        # What was asked for stays: some queues hand requests on to others.
        "queue": "" if batch_job.queue else status.queue,
        "nodes": status.nodes,
        "exit_code": status.exit_code,
        "started_at": status.started_at,
        "ended_at": status.ended_at,
    }
    changes |= {name: value for name, value in told.items() if value not in (None, "")}
    is_alive = launcher is not None and launcher.silent_since(now) is None
    if status.state in WAITING_STATES and not is_alive:  # perhaps again: it was requeued
        changes |= {"started_at": None, "nodes": status.nodes}
    if status.state in ENDED_STATES:
        changes["ended_at"] = status.ended_at or now
        changes["starts_at"] = None
        if batch_job.cancel_reason:
            changes["message"] = batch_job.cancel_reason
        elif not status.reason and launcher is not None:
            changes["message"] = launcher.message
        started = changes.get("started_at", batch_job.started_at)
        if started is None and launcher is not None:
            changes["started_at"] = launcher.started_at
    return changes


def _unnamed(
    batch_job: BatchJob, launcher: LauncherInfo | None, now: float, patience: float
) -> dict[str, Any]:
    """Return what changes when the batch system names a request neither now nor in its history."""
    if launcher is not None and launcher.ended_at is not None:
        # Of systems that forget we have what the launcher said.
        died = launcher.expires_at < launcher.ended_at
        state = BatchState.FAILED if died else BatchState.FINISHED
        return {
            "state": BatchState.CANCELLED if batch_job.cancel_reason else state,
            "message": batch_job.cancel_reason or launcher.message,
            "ended_at": launcher.ended_at,
        }
    heard = batch_job.seen_at or batch_job.submitted_at or batch_job.created_at
    if batch_job.cancel_reason:
        return {
            "state": BatchState.CANCELLED,
            "message": batch_job.cancel_reason,
            "ended_at": now,
        }
    if now - heard > patience:
        return {
            "state": BatchState.LOST,
            "message": f"the batch system has not known it for {(now - heard) / 60:.0f} minutes",
            "ended_at": now,
        }
    return {}


def told(before: BatchJob, after: BatchJob) -> str:
    """Return what happened to a batch job, in words; '' when nothing that matters."""
    if before.state is after.state:
        return ""
    who = f"batch job {after.id} ({after.scheduler_id})"
    why = f": {after.message}" if after.message else ""
    match after.state:
        case BatchState.RUNNING:
            return f"{who} runs on {after.nodes or f'{after.num_nodes} nodes'}"
        case BatchState.FAILED if after.exit_code is not None:
            return f"{who} failed with exit code {after.exit_code}{why}"
        case state if state in ENDED_STATES:
            return f"{who} ended, {state.value}{why}"
        case state if state in WAITING_STATES:
            return f"{who} is {state.value}{why}"
    return f"{who} is {after.state.value}"


def _settled(client: Client, scheduler: Scheduler, run: Run, each: BatchJob) -> str:
    """Find out whether a request whose submission had no answer was submitted."""
    now = client.now()
    if now - each.created_at < SETTLE_SECONDS and not each.message:
        return ""
    found = scheduler.find(run, each.name) if each.script else None
    if found:
        submitted(client, each, found)
        return f"batch job {each.id} had been submitted: the batch system knows it as {found}"
    if now - each.created_at < SETTLE_SECONDS:
        return ""
    state = BatchState.CANCELLED if each.cancel_reason else BatchState.SUBMIT_FAILED
    message = each.cancel_reason or each.message or "it was interrupted before it was submitted"
    changes = {"state": state, "message": message, "ended_at": now}
    if not client.update_batch_job(_id(each), changes, {BatchState.PENDING_SUBMISSION}):
        return ""
    return f"batch job {each.id} was not submitted: {message}"


def _id(batch_job: BatchJob) -> int:
    assert batch_job.id is not None  # it comes from the record
    return batch_job.id
