"""The work that waits, and the allocations that there are for it, as the plan takes them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from math import inf

from balsam.model.batch_job import WAITING_STATES, BatchJob, BatchState
from balsam.model.demand import Waiting
from balsam.model.resources import NodeResources
from balsam.model.run_time import RunTime
from balsam.model.states import State
from balsam.model.walltime import time_limit
from balsam.model.wire import LauncherInfo, LauncherKind
from balsam.service.estimate import Work, kind
from balsam.service.plan import Allocation

#: Jobs are looked at up to this number, the first in the queue: what a site's requests can do.
MOST_JOBS = 100_000
#: A job whose retry comes within so many seconds is counted as one that comes soon.
SOON_SECONDS = 600.0
#: Minutes: no job is taken to need less.
SHORTEST = 1e-3
#: Of a launcher whose end is not known: it does whatever there is.
_ENDLESS_MINUTES = 1e6
Minutes = Callable[[Waiting], float]


def minutes_of(run_times: Iterable[RunTime], assumed: float, whole: float) -> Minutes:
    """Return how long a job of a class is taken to need, in minutes.

    What the job says counts, else what launchers go by: what hardly any run before exceeded, or
    what runs took on average when there never is as much time. What is only *assumed*, and the
    rest of a job whose run was ended by a launcher's end, is no longer than there is time for.

    Parameters
    ----------
    whole
        The minutes that the longest request has for jobs.
    """
    learned = {(each.application, each.ranks): each for each in run_times}
    most = whole if whole > 0 else inf

    def minutes(waiting: Waiting) -> float:
        if waiting.wall_time_minutes:
            return waiting.wall_time_minutes
        known = learned.get((waiting.application, waiting.num_nodes * waiting.ranks_per_node))
        if known is None:
            return min(assumed, most)
        longest = (known.longest or known.expected) / 60
        found = longest if longest <= most else known.expected / 60
        return max(min(found, most) if waiting.was_timed_out else found, SHORTEST)

    return minutes


def works_of(
    waiting: Iterable[Waiting],
    minutes: Minutes,
    owner: str,
    now: float,
    movers: Collection[int] | None = None,
) -> list[Work]:
    """Return the jobs of *owner* that no launcher has, which can run now or soon.

    Parameters
    ----------
    movers
        The services, as launchers, that move files: where they do, no node is to wait for that.
        None: launchers do.
    """
    found = []
    for each in waiting:
        is_moved = movers is not None and each.to_stage
        if each.owner != owner or (is_moved and each.state is State.POSTPROCESSED):
            continue
        if each.launcher_id is not None and not (is_moved and each.launcher_id in (movers or ())):
            continue
        if each.is_delayed and (each.retry_at or 0.0) > now + SOON_SECONDS:
            continue
        found.append(
            Work(
                request=each.request,
                minutes=minutes(each),
                count=each.count,
                example=each.example,
                workflow=each.workflow,
                is_soon=each.is_delayed or is_moved or each.state is State.AWAITING_PARENTS,
            )
        )
    return found


def allocations_of(
    live: Iterable[BatchJob],
    pilots: Mapping[int | None, LauncherInfo],
    waiting: Sequence[Waiting],
    minutes: Minutes,
    nodes: Mapping[str, NodeResources],
    owner: str,
    now: float,
) -> list[Allocation]:
    """Return the live batch jobs as supply for the jobs of *owner*.

    Those that are to be cancelled, and those for other users' jobs, have no time for any; they
    stand in their queue nevertheless.

    Parameters
    ----------
    pilots
        The launcher of each batch job that has one, by the batch job's id.
    nodes
        What the nodes of each queue are like.
    """
    found = []
    for each in live:
        pilot = pilots.get(each.id)
        is_ours = each.owner in ("", owner)
        is_supply = not each.cancel_reason and (pilot.jobs_of in ("", owner) if pilot else is_ours)
        node = nodes.get(each.queue) or _node_of(f"a node of batch job {each.id}", pilot)
        found.append(
            Allocation(
                batch_job=each.id or 0,
                queue=each.queue,
                num_nodes=each.num_nodes,
                minutes=max(0.0, _left(each, pilot, now)) if is_supply else 0.0,
                is_waiting=each.state in WAITING_STATES,
                is_ours=each.service_id is not None and is_ours and not each.cancel_reason,
                node=node,
                used=_used(pilot, waiting, minutes, node, now) if pilot else 0.0,
                takes=_filter(each.job_mode, each.wf_filter, each.tags),
            )
        )
    return found


def _left(batch_job: BatchJob, pilot: LauncherInfo | None, now: float) -> float:
    """Return the minutes that a batch job has left for jobs; none where its launcher is gone."""
    silent_since = None if pilot is None else pilot.silent_since(now)
    if silent_since is not None and batch_job.came_back_after(silent_since):
        pilot = silent_since = None  # of an earlier start
    if silent_since is not None or batch_job.state is BatchState.ENDING:
        return 0.0
    if pilot is not None and pilot.ends_at is not None:
        return (pilot.ends_at - now) / 60
    whole = time_limit(batch_job.wall_time_minutes)
    return whole if batch_job.started_at is None else whole - (now - batch_job.started_at) / 60


def started_by_hand(
    launchers: Iterable[LauncherInfo],
    waiting: Sequence[Waiting],
    minutes: Minutes,
    owner: str,
    now: float,
) -> list[Allocation]:
    """Return the live launchers that no batch job started, as supply for the jobs of *owner*."""
    found = []
    for each in launchers:
        if each.batch_job_id is not None or each.kind is not LauncherKind.PILOT:
            continue
        if each.ended_at is not None or each.expires_at < now or each.jobs_of not in ("", owner):
            continue
        node = _node_of(f"a node of launcher {each.id}", each)
        left = _ENDLESS_MINUTES if each.ends_at is None else (each.ends_at - now) / 60
        found.append(
            Allocation(
                batch_job=0,
                queue=None,
                num_nodes=max(1, each.nodes),
                minutes=max(0.0, left),
                is_waiting=False,
                is_ours=False,
                node=node,
                used=_used(each, waiting, minutes, node, now),
                takes=_filter(each.job_mode, each.workflow_filter, each.tags),
            )
        )
    return found


def _node_of(name: str, pilot: LauncherInfo | None) -> NodeResources:
    """Return what the nodes of an allocation are like, in a queue that we do not use or in none."""
    count = max(1, pilot.nodes) if pilot else 1
    cores = pilot.cores // count if pilot else 1
    gpus = pilot.gpus // count if pilot else 0
    return NodeResources(
        host=name,
        cores=cores,
        threads=cores,
        memory_mib=pilot.memory_mib if pilot else 0,
        gpus=tuple(str(number) for number in range(gpus)),
    )


def _used(
    pilot: LauncherInfo,
    waiting: Iterable[Waiting],
    minutes: Minutes,
    node: NodeResources,
    now: float,
) -> float:
    """Return the node-minutes that the jobs which a launcher has will still take."""
    used = 0.0
    for each in waiting:
        if each.launcher_id != pilot.id:
            continue
        work = Work(request=each.request, minutes=minutes(each), count=0, example=0)
        fits = kind(node, work)
        if fits:
            begun = (now - each.since) / 60 if each.state is State.RUNNING else 0.0
            rest = max(0.0, fits.minutes - max(0.0, begun))
            used += fits.nodes / fits.at_once * each.count * rest
    return used


def _filter(job_mode: str, workflow: str, tags: Mapping[str, str]) -> Callable[[Work], bool]:
    """Return which work a launcher takes that was started with these filters."""

    def takes(work: Work) -> bool:
        if tags or workflow not in work.workflow:
            return False
        return job_mode != "serial" or work.request.is_serial

    return takes
