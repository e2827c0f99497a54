"""What Balsam 0.x had as `balsam.launcher.dag`.

::

    from balsam import dag

    dag.submit(project="mine", queue="debug", nodes=2, wall_minutes=60, job_mode="mpi")
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec.structs import asdict

from balsam import config
from balsam.client.history import BatchJob
from balsam.client.site import default_site
from balsam.schedulers.command import Command
from balsam.schedulers.find import find
from balsam.service import submit as requests


def submit(
    project: str,
    queue: str,
    nodes: int,
    wall_minutes: float,
    job_mode: str = "auto",
    wf_filter: str = "",
    sched_flags: str = "",
    *,
    tags: Mapping[str, str] | None = None,
) -> BatchJob:
    """Submit a batch job: a request for nodes and time, with a launcher on them; return it.

    It belongs to the site that `Job.objects` is of. Blocks until the batch system has answered.

    Parameters
    ----------
    project, queue
        '' is the setting's (`scheduler.project`, `scheduler.queue`), or the batch system's
        default.
    job_mode
        'auto', 'serial' (only jobs of one rank) or 'mpi'.
    wf_filter
        Its launcher runs jobs whose workflow contains this.
    sched_flags
        Further words for the batch system, as in a shell.
    tags
        Its launcher runs jobs that have all these.

    Raises
    ------
    InvalidInput
        It asks for what there cannot be, or the site's template cannot be used.
    BudgetSpent
        It would cost more than `service.budget_node_hours` has left. Nothing is recorded.
    SchedulerRefused
        The batch system does not take it. It is recorded so.
    SchedulerAway
        The batch system does not answer. It is recorded, and its fate is found out later.
    """
    client = default_site().client
    settings = config.load(client.path)
    run = Command(settings.scheduler.timeout_seconds)
    scheduler = find(settings.scheduler.name, run)
    request = requests.BatchRequest(
        num_nodes=nodes,
        wall_time_minutes=wall_minutes,
        queue=queue,
        project=project,
        job_mode=job_mode,
        wf_filter=wf_filter,
        tags=dict(tags or {}),
        scheduler_flags=sched_flags,
    )
    new = requests.prepare(client, settings, scheduler, request)
    budget = settings.service.budget_node_hours
    return BatchJob(**asdict(requests.submit(client, settings, scheduler, run, new, budget=budget)))
