"""What speaks against a request for nodes before it is submitted. Pure.

The limits of its queue refuse it; that no job could use it is a warning, for jobs may come yet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from balsam.errors import InvalidInput, nearest
from balsam.model.batch_job import BatchJob
from balsam.model.demand import Waiting
from balsam.schedulers.scheduler import Queue


def queues_of(batch_job: BatchJob, queues: Sequence[Queue]) -> list[Queue]:
    """Return the queues that *batch_job* names (Slurm takes several, ``a,b``), or the default.

    Raises
    ------
    InvalidInput
        There is no such queue, although the batch system tells of others.
    """
    if not batch_job.queue:
        return [each for each in queues if each.is_default]
    if not queues:
        return []
    known = {each.name: each for each in queues}
    names = batch_job.queue.split(",")
    for name in names:
        if name not in known:
            raise InvalidInput(
                f"{batch_job.scheduler} has no queue {name!r}; it has {', '.join(known)}."
                f"{nearest(name, list(known))} (--no-check submits all the same)"
            )
    return [known[name] for name in names]


def check_limits(batch_job: BatchJob, queues: Sequence[Queue]) -> None:
    """Raise `InvalidInput`, with the limit, when none of *queues* would take *batch_job*."""
    problems = [problem(batch_job, queue) for queue in queues]
    if problems and all(problems):
        raise InvalidInput(f"{'; '.join(problems)} (--no-check submits all the same)")


def problem(batch_job: BatchJob, queue: Queue) -> str:
    """Return which limit of *queue* speaks against *batch_job*; '' when none does."""
    nodes, minutes = batch_job.num_nodes, batch_job.wall_time_minutes
    limits = (
        (nodes, queue.min_nodes, queue.max_nodes, "nodes"),
        (minutes, queue.min_minutes, queue.max_minutes, "minutes"),
    )
    for asked, least, most, unit in limits:
        if most is not None and asked > most:
            unit = unit if most != 1 else unit.removesuffix("s")
            return f"queue {queue.name!r} gives at most {most:g} {unit}; {asked:g} are asked for"
        if least is not None and asked < least:
            return f"queue {queue.name!r} takes {least:g} {unit} or more; {asked:g} are asked for"
    return ""


def doubts(batch_job: BatchJob, queues: Iterable[Queue]) -> list[str]:
    """Return a warning for each of *queues* that could not start *batch_job* now."""
    found = []
    for each in queues:
        if not each.is_open:
            why = f": {each.comment}" if each.comment else ""
            found.append(f"queue {each.name!r} is not open{why}")
        elif 0 < each.nodes < batch_job.num_nodes:
            found.append(
                f"queue {each.name!r} has {each.nodes} nodes that are up, and"
                f" {batch_job.num_nodes} are asked for: it waits for more"
            )
    return found


def usable(batch_job: BatchJob, waiting: Iterable[Waiting], minutes: float) -> str:
    """Return what speaks against the use of *batch_job* by the jobs that wait; '' if nothing.

    Parameters
    ----------
    waiting
        Jobs that its launcher would take by owner, workflow and tags.
    minutes
        What its launcher has for jobs.
    """
    found = list(waiting)
    if not found:
        return "no job waits that its launcher would run, and it ends when it finds none"
    too_large = _unfit(found, lambda each: each.num_nodes > batch_job.num_nodes)
    parallel = _unfit(found, lambda each: batch_job.job_mode == "serial" and _ranks(each) > 1)
    too_long = _unfit(found, lambda each: each.wall_time_minutes > minutes)
    if too_large:
        most = max(each.num_nodes for each in too_large)
        return _told(too_large, found, "need", f"up to {most} nodes, and it has fewer")
    if parallel:
        return _told(parallel, found, "have", "several ranks, and it is serial")
    if too_long:
        longest = max(each.wall_time_minutes for each in too_long)
        left = f"of {batch_job.wall_time_minutes:g} its launcher has {minutes:.4g} for them"
        what = f"that up to {longest:g} minutes are needed, and {left}"
        return _told(too_long, found, "say", what)
    return ""


def _unfit(found: list[Waiting], unfit: Callable[[Waiting], bool]) -> list[Waiting]:
    return [each for each in found if unfit(each)]


def _ranks(each: Waiting) -> int:
    return each.num_nodes * each.ranks_per_node


def _told(some: list[Waiting], found: list[Waiting], verb: str, what: str) -> str:
    """Say what *some* of the jobs that were *found* do, and that they would not run."""
    count = sum(each.count for each in some)
    example = min(each.example for each in some)
    if count > 1:
        who = f"{count} jobs, such as {example}, {verb}"
    else:
        who = f"job {example} {'has' if verb == 'have' else f'{verb}s'}"
    end = "no job that waits would run in it" if len(some) == len(found) else "the others would run"
    return f"{who} {what}: {end}"
