"""Nodes that are there, or may come: whether a job could run on them, and if not, why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from balsam.model.batch_job import BatchJob
from balsam.model.demand import Waiting
from balsam.model.resources import NodeResources
from balsam.model.service import QueueState
from balsam.model.states import State
from balsam.model.walltime import START_MINUTES, time_limit
from balsam.model.wire import LauncherInfo
from balsam.report.reasons.facts import EVERYTHING, Facts, Scope, Subject, scope_of
from balsam.report.reasons.reason import Reason
from balsam.report.reasons.words import listed, many, minutes_text

#: What stands for 'as many as you like', where it is not known how many there are.
_PLENTY = 1_000_000_000
#: After a run only a hook or a handler is left, which fits everywhere.
_AFTER_RUN = frozenset({State.RUN_DONE, State.RUN_ERROR, State.RUN_TIMEOUT, State.POSTPROCESSED})

#: From the one that is nearest to a fit.
MISFITS = (
    Reason.TOO_LITTLE_TIME,
    Reason.TOO_FEW_NODES,
    Reason.NODE_TOO_SMALL,
    Reason.SERIAL_ONLY,
    Reason.OTHER_TAGS,
    Reason.OTHER_WORKFLOW,
    Reason.OTHER_OWNER,
)


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """Nodes for a time."""

    name: str  #: ``launcher 3``, ``queue 'debug'``
    num_nodes: int | None = None  #: None: any number
    node: NodeResources | None = None  #: None: not known
    minutes: float | None = None  #: that a job may take there; None: no end is known
    whole_minutes: float | None = None  #: the same, from its start
    scope: Scope = EVERYTHING
    owner: str = ""  #: whose jobs it takes; '': anybody's
    is_serial: bool = False  #: only jobs of one rank


class Misfit(NamedTuple):
    """Why nodes are not for a job."""

    reason: Reason
    text: str  #: begins with a verb whose subject is the job


def of_launcher(launcher: LauncherInfo, facts: Facts) -> Offer:
    """Return what a launcher has."""
    ends, reserve = facts.ends_at(launcher), facts.reserve_seconds
    return Offer(
        name=f"launcher {launcher.id}",
        num_nodes=launcher.nodes,
        node=node_of(launcher),
        minutes=None if ends is None else (ends - reserve - facts.now) / 60,
        whole_minutes=None if ends is None else (ends - reserve - launcher.started_at) / 60,
        scope=scope_of(launcher),
        owner=launcher.jobs_of,
        is_serial=launcher.job_mode == "serial",
    )


def node_of(launcher: LauncherInfo) -> NodeResources:
    """Return a node of a launcher."""
    nodes = max(1, launcher.nodes)
    return _node(
        f"launcher {launcher.id}",
        launcher.cores // nodes,
        launcher.gpus // nodes,
        launcher.memory_mib,
    )


def of_batch_job(batch_job: BatchJob, facts: Facts) -> Offer:
    """Return what a batch job will have."""
    minutes = batch_job.wall_time_minutes or None
    usable = None if minutes is None else time_limit(minutes) - facts.reserve_seconds / 60
    started = facts.now if batch_job.started_at is None else batch_job.started_at
    queue = next((one for one in queues(facts) if one.name == batch_job.queue), None)
    return Offer(
        name=f"batch job {batch_job.id}",
        num_nodes=batch_job.num_nodes,
        node=None if queue is None else of_queue(queue, facts).node,
        minutes=None if usable is None else usable - (facts.now - started) / 60,
        whole_minutes=usable,
        scope=scope_of(batch_job),
        owner=batch_job.owner,
        is_serial=batch_job.job_mode == "serial",
    )


def queues(facts: Facts) -> list[QueueState]:
    """Return the queues as the service last knew them."""
    return [] if facts.service is None else facts.service.status.queues


def of_queue(queue: QueueState, facts: Facts) -> Offer:
    """Return the most that can be had of a queue."""
    name, minutes = f"queue {queue.name!r}", queue.max_minutes
    limits = [most for most in (queue.max_nodes, queue.nodes or None) if most is not None]
    usable = None if minutes is None else time_limit(minutes) - START_MINUTES
    own, seen = facts.nodes, list(map(node_of, facts.shapes))
    gpus = queue.gpus_per_node or max((len(each.gpus) for each in seen), default=0)
    cores = own.cores or queue.cores_per_node
    memory = own.memory_mib or queue.memory_mib
    node = _node(name, cores, gpus if own.gpus < 0 else own.gpus, memory)
    return Offer(
        name=name,
        num_nodes=min(limits, default=None),
        node=node if cores else None,
        minutes=usable,
        whole_minutes=usable,
    )


def _node(name: str, cores: int, gpus: int, memory_mib: int) -> NodeResources:
    return NodeResources(
        host=name,
        cores=cores,
        threads=cores,
        memory_mib=memory_mib or _PLENTY,
        gpus=tuple(map(str, range(gpus))),
    )


def misfit(subject: Subject, offer: Offer, facts: Facts) -> Misfit | None:
    """Return why the job cannot run there; None when it can."""
    job = subject.waiting
    if offer.owner and job.owner != offer.owner:
        return Misfit(
            Reason.OTHER_OWNER, f"belongs to {job.owner}, {offer.name} runs jobs of {offer.owner}"
        )
    outside = [part for part in offer.scope.parts if part not in subject.passes]
    if outside:
        return _out_of_scope(outside[0], offer)
    if offer.is_serial and not job.request.is_serial:
        return Misfit(
            Reason.SERIAL_ONLY,
            f"has several ranks, {offer.name} runs only jobs of one (--job-mode)",
        )
    if job.state in _AFTER_RUN:
        return None
    if offer.num_nodes is not None and job.num_nodes > offer.num_nodes:
        return Misfit(
            Reason.TOO_FEW_NODES,
            f"needs {many(job.num_nodes, 'node')}, {offer.name} has {offer.num_nodes}",
        )
    shortage = offer.node.shortage(job.request) if offer.node else ""
    if shortage:
        return Misfit(Reason.NODE_TOO_SMALL, shortage)
    minutes = minutes_needed(job, offer, facts)
    if offer.minutes is not None and minutes > offer.minutes:
        needs = f"needs {minutes_text(minutes)}" if minutes else "needs some time"
        left = minutes_text(offer.minutes) if offer.minutes > 0 else "none"
        return Misfit(Reason.TOO_LITTLE_TIME, f"{needs}, {offer.name} has {left} for it")
    return None


def _out_of_scope(part: Scope, offer: Offer) -> Misfit:
    if part.workflow_filter:
        text = f"is of no workflow with {part.workflow_filter!r}, as {offer.name} wants"
        return Misfit(Reason.OTHER_WORKFLOW, text)
    wanted = ", ".join(f"{key}={value}" for key, value in part.tags)
    return Misfit(Reason.OTHER_TAGS, f"has not the tags {wanted}, as {offer.name} wants")


def minutes_needed(job: Waiting, offer: Offer, facts: Facts) -> float:
    """Return the time that must be left: what the job says, else what earlier runs took."""
    if job.wall_time_minutes or job.was_timed_out:
        return job.wall_time_minutes
    learned = facts.run_times.get((job.application, job.num_nodes * job.ranks_per_node))
    if learned is None or offer.minutes is None:
        return 0.0
    whole = offer.whole_minutes if offer.whole_minutes is not None else offer.minutes
    return learned.needed(60 * whole) / 60


def nearest(misfits: Sequence[Misfit]) -> Misfit:
    """Return all *misfits* as one, with the reason that is nearest to a fit."""
    ranked = sorted(misfits, key=lambda each: MISFITS.index(each.reason))
    return Misfit(ranked[0].reason, listed([each.text for each in ranked]))


def remedy(reason: Reason, subject: Subject) -> str:
    """Return what would help against a misfit."""
    job = subject.waiting
    ask = submit_launch(subject)
    match reason:
        case Reason.TOO_FEW_NODES:
            return f"start a launcher with {many(job.num_nodes, 'node')} or more: {ask}"
        case Reason.NODE_TOO_SMALL:
            return f"start a launcher on larger nodes, or {ask_for_less(subject)}"
        case Reason.TOO_LITTLE_TIME:
            return f"start a launcher with more time: {ask}"
        case Reason.SERIAL_ONLY:
            return "start a launcher without `--job-mode serial`"
        case Reason.OTHER_TAGS:
            return "start a launcher without `--tag`, or with the job's tags"
        case Reason.OTHER_WORKFLOW:
            return "start a launcher that takes it: `balsam launcher --consume-all`"
        case _:
            return f"{job.owner} starts a launcher, or you do with `--owner {job.owner}`"


def ask_for_less(subject: Subject, field: str = "") -> str:
    """Return how the job is made smaller: by *field*, or by those that it asks of a node."""
    job = subject.waiting
    asked = {
        "cores_per_rank": job.cores_per_rank > 0,
        "threads_per_rank": job.threads_per_rank > 1 and not job.cores_per_rank,
        "ranks_per_node": job.ranks_per_node > 1,
        "gpus_per_rank": job.gpus_per_rank > 0,
        "memory_mib": job.memory_mib > 0,
    }
    fields = [field] if field else [name for name, is_asked in asked.items() if is_asked]
    fields = fields or ["threads_per_rank"]
    also = f" (or {', '.join(fields[1:])})" if fields[1:] else ""
    return f"ask for less: `balsam modify {subject.ref} {fields[0]} N`{also}"


def submit_launch(subject: Subject) -> str:
    """Return a command that asks for nodes on which the job can run."""
    job = subject.waiting
    minutes = max(60, int(job.wall_time_minutes) + 5)
    return f"`balsam submit-launch -n {job.num_nodes} -t {minutes}`"
