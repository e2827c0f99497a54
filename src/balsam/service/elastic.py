"""Asking for nodes as the work needs: gathers what the plan has to know, and carries it out."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from balsam.client.interface import Client
from balsam.config import QueuePolicy, Settings, user_name
from balsam.errors import BudgetSpent, SchedulerRefused
from balsam.model.batch_job import BatchJob
from balsam.model.demand import Waiting
from balsam.model.query import Query, parse
from balsam.model.resources import NodeResources
from balsam.model.service import QueueState
from balsam.model.states import State
from balsam.model.walltime import LAST_SECONDS, START_MINUTES
from balsam.model.wire import LauncherKind
from balsam.schedulers.scheduler import Queue, Run, Scheduler, Window
from balsam.service import record, submit
from balsam.service.demand import (
    MOST_JOBS,
    allocations_of,
    minutes_of,
    started_by_hand,
    works_of,
)
from balsam.service.offer import longest_work
from balsam.service.plan import Plan, Site, Submission, plan
from balsam.service.policy import failures, node_of, queue_states
from balsam.service.submit import BatchRequest

#: So many of the last batch jobs are looked at for failures in a row.
_LAST = 200


class Forecast(msgspec.Struct, kw_only=True):
    """What the service would do now, and what it knows beside."""

    plan: Plan
    queues: list[QueueState]
    spent: float  #: node-hours of all batch jobs
    budget: float  #: 0.0: no limit
    to_stage: int = 0  #: jobs for which no nodes are asked before the service has their files there


def foresee(
    client: Client,
    settings: Settings,
    found: Sequence[Queue],
    windows: Sequence[Window],
    here: NodeResources,
    since: float = 0.0,
) -> Forecast:
    """Return what is to be asked for; nothing is changed.

    Parameters
    ----------
    found, windows
        What the batch system tells of its queues, and of nodes that are free.
    here
        What this host has, where nobody knows what nodes have.
    since
        Failures before this time, in seconds since the epoch, are forgotten.
    """
    now = client.now()
    live = record.live(client)
    launchers = client.launchers(live=False)
    by_workflow = any(each.wf_filter for each in live)
    by_workflow |= any(each.workflow_filter for each in launchers if each.ended_at is None)
    waiting = client.waiting(MOST_JOBS, by_workflow=by_workflow)
    pilots = {each.batch_job_id: each for each in launchers}
    failed = failures(_last(client), {id_ for id_ in pilots if id_ is not None}, since)
    queues = queue_states(found, settings, failed, now)
    nodes = {queue.name: node_of(queue, settings, launchers, here) for queue in queues}
    grace = _grace_minutes(settings)
    whole = longest_work(queues, grace)
    minutes = minutes_of(client.run_times(), settings.service.job_minutes, whole)
    budget, spent = settings.service.budget_node_hours, client.node_hours()
    site = Site(
        queues=queues,
        nodes=nodes,
        allocations=[
            *allocations_of(live, pilots, waiting, minutes, nodes, user_name(), now),
            *started_by_hand(launchers, waiting, minutes, user_name(), now),
        ],
        windows=windows if settings.service.backfill else (),
        budget_left=budget - spent if budget else None,
        target_minutes=settings.service.target_minutes,
        grace_minutes=grace,
    )
    movers = _movers(client, settings)
    works = works_of(waiting, minutes, user_name(), now, movers)
    return Forecast(
        plan=plan(works, site),
        queues=queues,
        spent=spent,
        budget=budget,
        to_stage=0 if movers is None else _to_stage(waiting),
    )


def _movers(client: Client, settings: Settings) -> set[int] | None:
    """Return the services, as launchers, that move files; None where launchers move them."""
    if not settings.service.move_files or settings.launcher.stage_files == "always":
        return None
    return {each.id for each in client.launchers(kind=LauncherKind.SERVICE)}


def _to_stage(waiting: Sequence[Waiting]) -> int:
    """Return how many of our jobs run when their files are there."""
    mine = user_name()
    return sum(
        each.count
        for each in waiting
        if each.to_stage and each.owner == mine and each.state is State.READY
    )


def _grace_minutes(settings: Settings) -> float:
    """Return what launchers keep for their end, beyond the half of `START_MINUTES`."""
    seconds = settings.launcher.grace_seconds + LAST_SECONDS
    return max(0.0, seconds / 60 - START_MINUTES / 2)


def _last(client: Client) -> list[BatchJob]:
    """Return the last batch jobs of services, the newest first."""
    terms = parse({"service_id__isnull": False}, "batch_jobs")
    return client.batch_jobs(Query(filters=terms, order=("-id",), limit=_LAST))


def ask(
    client: Client,
    settings: Settings,
    scheduler: Scheduler,
    run: Run,
    wanted: Sequence[Submission],
    service: int,
) -> list[str]:
    """Submit what is *wanted*; return what happened, in words.

    Raises
    ------
    SchedulerAway
        The batch system does not answer; what was to follow is not asked for.
    ServiceRuns
        This service was ended.
    """
    news = []
    refusing: set[str] = set()
    for each in wanted:
        if each.queue in refusing:
            continue
        policy = settings.queues.get(each.queue, QueuePolicy())
        request = BatchRequest(
            num_nodes=each.num_nodes,
            wall_time_minutes=each.minutes,
            queue=each.queue,
            project=policy.project,
            scheduler_flags=policy.flags,
        )
        new = submit.prepare(client, settings, scheduler, request, service=service)
        nodes = f"{each.num_nodes} node{'s' if each.num_nodes > 1 else ''}"
        what = f"{nodes} for {each.minutes} minutes in queue {each.queue}".rstrip()
        try:
            budget = settings.service.budget_node_hours
            made = submit.submit(client, settings, scheduler, run, new, budget=budget)
        except SchedulerRefused as error:
            refusing.add(each.queue)
            news.append(f"{what} were refused: {error}")
        except BudgetSpent as error:
            news.append(str(error))
            break
        else:
            who = f"batch job {made.id} ({made.scheduler_id})"
            news.append(f"{who} asks for {what}: {each.why}")
    return news
