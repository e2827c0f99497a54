"""What the service would ask for now, as text and as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from balsam.cli.batch_system import BatchSystem
from balsam.cli.context import warn
from balsam.cli.output import table
from balsam.cli.service_status import budget_words, is_running, unmet_table
from balsam.client.interface import Client
from balsam.errors import SchedulerError
from balsam.schedulers.scheduler import Window
from balsam.service.daemon import this_host
from balsam.service.elastic import Forecast, foresee

COLUMNS = ("queue", "nodes", "minutes", "jobs", "node-hours", "for")


def forecast(client: Client, system: BatchSystem) -> Forecast:
    """Ask the batch system and the database, and plan as the service would; change nothing.

    Failures before the service that runs was started, or before now when none runs, do not count:
    a service that starts forgets them.

    Raises
    ------
    SchedulerError
        The batch system does not tell its queues.
    """
    queues = system.scheduler.queues(system.run)
    windows: list[Window] = []
    if system.settings.service.backfill:
        try:
            windows = system.scheduler.windows(system.run)
        except SchedulerError as error:
            warn(f"which nodes are free cannot be told: {error}")
    service, now = client.service(), client.now()
    since = service.started_at if service is not None and is_running(service, now) else now
    return foresee(client, system.settings, queues, windows, this_host(), since)


def as_record(found: Forecast, system: BatchSystem) -> dict[str, Any]:
    """Return the JSON form."""
    plan = found.plan
    return {
        "scheduler": system.scheduler.name,
        "elastic": system.settings.service.elastic,
        "submissions": [
            {**msgspec.to_builtins(each), "node_hours": each.node_hours}
            for each in plan.submissions
        ],
        "surplus": plan.surplus,
        "unmet": msgspec.to_builtins(plan.unmet),
        "waits": plan.waits,
        "covered": plan.covered,
        "to_stage": found.to_stage,
        "queues": msgspec.to_builtins(found.queues),
        "budget_node_hours": found.budget,
        "spent_node_hours": found.spent,
        "asked_node_hours": sum(each.node_hours for each in plan.submissions),
    }


def as_text(found: Forecast, system: BatchSystem) -> str:
    """Return a line for each thing, and tables of what would be asked for and what would not."""
    return "\n".join(_lines(found, system))


def _lines(found: Forecast, system: BatchSystem) -> Iterator[str]:
    plan = found.plan
    if not system.settings.service.elastic:
        yield "The settings say service.elastic = false: the service would submit nothing of this."
    if plan.covered:
        yield f"{_count(plan.covered, 'job')} will be run by batch jobs that there are."
    if found.to_stage:
        yield (
            f"{_count(found.to_stage, 'job')} will be counted when their files are there, which the"
            " service moves."
        )
    if plan.submissions:
        cost = sum(each.node_hours for each in plan.submissions)
        number = _count(len(plan.submissions), "batch job")
        yield f"It would submit {number} to {system.scheduler.name}, {cost:.4g} node-hours:\n"
        rows = [
            (
                each.queue or "(default)",
                each.num_nodes,
                each.minutes,
                each.jobs,
                f"{each.node_hours:.4g}",
                each.why,
            )
            for each in plan.submissions
        ]
        yield f"{table(COLUMNS, rows)}\n"
    else:
        yield "It would submit nothing."
    if plan.waits:
        yield f"Nothing more, because {plan.waits}."
    if plan.surplus:
        ids = ", ".join(map(str, plan.surplus))
        yield f"It would cancel batch jobs that no job needs: {ids}."
    if plan.unmet:
        yield f"Jobs for which it asks for no nodes\n{unmet_table(plan.unmet)}\n"
    yield f"Budget: {budget_words(found.budget, found.spent)}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' if number != 1 else ''}"
