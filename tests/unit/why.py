"""Made-up sites, of which one asks why a job does not run."""

from __future__ import annotations

from typing import Any

from balsam.model.app import App
from balsam.model.batch_job import BatchJob, BatchState
from balsam.model.job import Job
from balsam.model.service import QueueState, ServiceInfo, ServiceStatus
from balsam.model.states import State
from balsam.model.wire import LauncherInfo
from balsam.report.reasons.facts import Facts, Held, Own
from balsam.report.reasons.findings import Answer
from balsam.report.reasons.walk import answer_of

NOW = 1_000_000.0


def job(**fields: Any) -> Job:
    """A job of ann's that is free since a minute."""
    given = {"id": 7, "name": "x", "workflow": "scan", "application": "sim", "owner": "ann"}
    return Job(**{**given, "state": State.PREPROCESSED, "updated_at": NOW - 60, **fields})


def launcher(**fields: Any) -> LauncherInfo:
    """A live launcher of ann's, on two nodes of 8 cores, for ten minutes now."""
    size = {"nodes": 2, "cores": 16, "gpus": 0, "memory_mib": 1000}
    times = {"started_at": NOW - 600, "expires_at": NOW + 60}
    given = {"id": 3, "host": "n1", "pid": 1, "owner": "ann", "jobs_of": "ann", **size, **times}
    return LauncherInfo(**{**given, **fields})


def batch_job(**fields: Any) -> BatchJob:
    """A request of ann's for two nodes for an hour, which is queued."""
    given = {"id": 4, "scheduler": "slurm", "scheduler_id": "812", "queue": "debug", "num_nodes": 2}
    more = {"wall_time_minutes": 60.0, "state": BatchState.QUEUED, "owner": "ann"}
    return BatchJob(**{**given, **more, **fields})


def queue(**fields: Any) -> QueueState:
    """Four nodes of 8 cores, for an hour at most."""
    size = {"max_nodes": 4, "cores_per_node": 8, "memory_mib": 1000}
    return QueueState(**{"name": "debug", "max_minutes": 60.0, **size, **fields})


def service(live: bool = True, **status: Any) -> ServiceInfo:
    """A service of ann's that looked a moment ago, or ended five minutes ago."""
    known = ServiceStatus(**{"updated_at": NOW - 5, "queues": [queue()], **status})
    info = ServiceInfo(id=1, host="login", owner="ann", started_at=NOW - 900, status=known)
    info.expires_at = NOW + 60
    if not live:
        info.ended_at, info.message = NOW - 300, "asked to by SIGTERM"
    return info


def facts(**given: Any) -> Facts:
    """A site with the app 'sim'."""
    return Facts(**{"now": NOW, "apps": {"sim": App(name="sim", executable="sim")}, **given})


def why(asked: Job, site: Facts | None = None, **own: Any) -> Answer:
    """What is said of a job, which always is a sentence of one line about it."""
    answer = answer_of(Own(job=asked, **own), facts() if site is None else site)
    first, *_ = answer.waits_for.split()
    assert first in ("waits", "runs", "is", "finished", "failed", "can", "cannot"), answer.waits_for
    assert answer.waits_for.isprintable()
    assert answer.waits_for[-1] != "."
    return answer


#: A launcher that has all its cores taken.
FULL = {3: Held(running=16, core_units=160_000)}
