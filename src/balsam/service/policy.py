"""Which queues the service may use, and how: what the batch system allows, and the site."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime

import msgspec

from balsam.config import QueuePolicy, Settings
from balsam.model.batch_job import ENDED_STATES, BatchJob, BatchState
from balsam.model.resources import NodeResources
from balsam.model.service import QueueState
from balsam.model.wire import LauncherInfo
from balsam.schedulers.scheduler import Queue

#: A queue is paused so long when failures reach the limit, and twice as long at each further one.
PAUSE_SECONDS = 600.0
LONGEST_PAUSE_SECONDS = 4 * 3600.0


class Failures(msgspec.Struct, frozen=True):
    """Batch jobs of one queue that failed one after the other, the last ones."""

    count: int
    last_at: float
    message: str

    def paused_until(self, limit: int) -> float:
        """Return when the next request may be made; 0.0 when they are fewer than *limit*."""
        if self.count < limit:
            return 0.0
        pause = PAUSE_SECONDS * 2.0 ** min(self.count - limit, 30)
        return self.last_at + min(pause, LONGEST_PAUSE_SECONDS)


def failures(
    batch_jobs: Iterable[BatchJob], launched: Collection[int], since: float
) -> dict[str, Failures]:
    """Return, by queue, the failures since the last success.

    A batch job failed when the batch system refused, failed or lost it, or when it ended without
    having started a launcher. One that was cancelled says nothing.

    Parameters
    ----------
    batch_jobs
        Those of the service, the newest first.
    launched
        Ids of the batch jobs whose launcher was heard of.
    since
        What was asked for before is forgotten: the service was started anew. (Batch systems tell
        ends in whole seconds, of their own clock.)
    """
    found: dict[str, Failures] = {}
    succeeded: set[str] = set()
    for each in batch_jobs:
        if each.state not in ENDED_STATES or each.state is BatchState.CANCELLED:
            continue
        ended_at = each.ended_at or each.created_at
        bad = each.state in (BatchState.SUBMIT_FAILED, BatchState.FAILED, BatchState.LOST)
        if each.created_at < since or not (bad or each.id not in launched):
            succeeded.add(each.queue)
        elif each.queue not in succeeded:
            before = found.get(each.queue)
            message = each.message or "it ended before its launcher started"
            found[each.queue] = (
                msgspec.structs.replace(before, count=before.count + 1)
                if before
                else Failures(1, ended_at, f"batch job {each.id}: {message}")
            )
    return found


def queue_states(
    found: Sequence[Queue], settings: Settings, failed: Mapping[str, Failures], now: float
) -> list[QueueState]:
    """Return the queues that the service may use, the preferred ones first.

    They are those of the settings; without any there, `scheduler.queue` or the batch system's
    default queue.
    """
    policies = {name: policy for name, policy in settings.queues.items() if policy.use}
    if not settings.queues:
        policies = {_default(found, settings): QueuePolicy()}
    known = {queue.name: queue for queue in found}
    limit = settings.service.failure_limit
    states = []
    for name, policy in policies.items():
        queue = known.get(name)
        if queue is None and known and name:
            comment = f"the batch system has no such queue; it has {', '.join(known)}"
            states.append(QueueState(name=name, is_open=False, comment=comment))
        else:
            state = _joined(queue or Queue(name=name), policy)
            states.append(_unless_paused(state, failed.get(name), limit, now))
    return states


def _default(found: Sequence[Queue], settings: Settings) -> str:
    if settings.scheduler.queue:
        return settings.scheduler.queue
    names = [queue.name for queue in found if queue.is_default]
    names += [queue.name for queue in found] if len(found) == 1 else []
    return names[0] if names else ""


def _joined(queue: Queue, policy: QueuePolicy) -> QueueState:
    """Return what both the batch system and the site allow."""

    def least(*limits: float | None) -> float | None:
        return min((limit for limit in limits if limit), default=None)

    max_nodes = least(queue.max_nodes, policy.max_nodes)
    max_queued = least(queue.max_queued, policy.max_queued)
    return QueueState(
        name=queue.name,
        is_open=queue.is_open,
        comment=queue.comment or ("" if queue.is_open else "it is closed"),
        min_nodes=max(1, queue.min_nodes or 1, policy.min_nodes),
        max_nodes=None if max_nodes is None else int(max_nodes),
        min_minutes=max(queue.min_minutes or 0.0, policy.min_minutes),
        max_minutes=least(queue.max_minutes, policy.max_minutes),
        max_queued=None if max_queued is None else int(max_queued),
        nodes=queue.nodes,
        cores_per_node=queue.cores_per_node,
        gpus_per_node=queue.gpus_per_node,
        memory_mib=queue.memory_mib,
    )


def _unless_paused(
    state: QueueState, failed: Failures | None, limit: int, now: float
) -> QueueState:
    """Return *state*, closed while it is paused; after a pause it gets one request, as a trial."""
    if failed is None or failed.count < limit:
        return state
    until = failed.paused_until(limit)
    if now >= until:
        return msgspec.structs.replace(state, max_queued=1)
    clock = datetime.fromtimestamp(until).strftime("%H:%M:%S")
    comment = (
        f"paused until {clock} after {failed.count} failures in a row, the last: {failed.message};"
        " `balsam service stop` and `start` resume it at once"
    )
    return msgspec.structs.replace(state, is_open=False, comment=comment)


def node_of(
    queue: QueueState, settings: Settings, launchers: Iterable[LauncherInfo], here: NodeResources
) -> NodeResources:
    """Return what the nodes of *queue* are like, as far as anybody knows.

    What the settings say counts; else what the batch system tells, what launchers found before,
    and as a last resort what this host (*here*) has.
    """
    own = settings.nodes
    seen = list(launchers)
    cores = max((each.cores // max(1, each.nodes) for each in seen), default=0)
    gpus = max((each.gpus // max(1, each.nodes) for each in seen), default=0)
    memory = max((each.memory_mib for each in seen), default=0)
    count = own.gpus if own.gpus >= 0 else queue.gpus_per_node or gpus
    cores = own.cores or queue.cores_per_node or cores or here.cores
    return NodeResources(
        host=f"a node of queue {queue.name}" if queue.name else "a node",
        cores=cores,
        threads=cores,
        memory_mib=own.memory_mib or queue.memory_mib or memory or here.memory_mib,
        gpus=tuple(str(number) for number in range(count)),
    )
