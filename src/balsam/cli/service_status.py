"""What is known of the service, as text and as JSON. The batch system is not asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import msgspec

from balsam.cli.output import duration, table, timestamp
from balsam.client.interface import Client
from balsam.config import Settings
from balsam.lifecycle.recover import is_seen_dead
from balsam.model.batch_job import BatchState
from balsam.model.query import ALL
from balsam.model.service import QueueState, ServiceInfo, ServiceStatus, Unmet
from balsam.service.background import log_file

#: Lines of news that are shown.
NEWS = 10


class Facts(msgspec.Struct, frozen=True):
    """All that is asked."""

    service: ServiceInfo | None
    now: float
    budget: float  #: node-hours; 0: no limit
    spent: float
    batch_jobs: dict[BatchState, int]
    log: str  #: path of its log

    has_died: bool = False  #: its process was of this host, and is not there any more

    @property
    def is_running(self) -> bool:
        return self.service is not None and is_running(self.service, self.now) and not self.has_died


def is_running(service: ServiceInfo, now: float) -> bool:
    """Tell whether *service* has not ended and gave a sign of life in time."""
    return service.ended_at is None and service.expires_at >= now


def gather(client: Client, settings: Settings) -> Facts:
    """Ask the database, and this host for the service's process where it is of here."""
    service = client.service()
    dead = service is not None and is_seen_dead(service.host, service.pid, service.pid_started)
    return Facts(
        service=service,
        has_died=dead,
        now=client.now(),
        budget=settings.service.budget_node_hours,
        spent=client.node_hours(),
        batch_jobs=dict(Counter(each.state for each in client.batch_jobs(ALL))),
        log=str(log_file(client.path)),
    )


# JSON -------------------------------------------------------------------------------------


def as_record(facts: Facts) -> dict[str, Any]:
    """Return the JSON form: `running`, the fields of the service and of what it last knew."""
    service = facts.service or ServiceInfo()
    told: dict[str, Any] = msgspec.to_builtins(service)
    status = told.pop("status")
    for fields in (told, status):
        for name in [name for name in fields if name.endswith("_at")]:
            fields[name] = timestamp(fields[name]) if fields[name] else None
    return {
        "running": facts.is_running,
        **(told if facts.service else dict.fromkeys(told)),
        **status,
        "budget_node_hours": facts.budget,
        "spent_node_hours": facts.spent,
        "left_node_hours": max(0.0, facts.budget - facts.spent) if facts.budget else None,
        "batch_jobs": {str(state): count for state, count in facts.batch_jobs.items()},
        "log": facts.log,
    }


# text -------------------------------------------------------------------------------------


def as_text(facts: Facts) -> str:
    """Return all that is known, a line for each thing, then tables."""
    return "\n".join(_lines(facts))


def _lines(facts: Facts) -> Iterator[str]:
    yield headline(facts)
    service = facts.service
    if service is not None:
        yield from _knowledge(service.status, facts)
    yield f"Budget: {budget_words(facts.budget, facts.spent)}"
    counts = [f"{facts.batch_jobs[s]} {s}" for s in BatchState if s in facts.batch_jobs]
    yield f"Batch jobs: {', '.join(counts) or 'none yet'}"
    if service is None:
        return
    status = service.status
    if status.waits:
        yield f"It asks for nothing more: {status.waits}"
    if status.queues:
        yield f"\n{_queues(status.queues)}"
    if status.unmet:
        yield f"\nJobs for which it asks for no nodes\n{unmet_table(status.unmet)}"
    if status.news:
        yield "\n".join(["\nLast news", *status.news[-NEWS:]])


def headline(facts: Facts) -> str:
    """Return in one line whether it runs, and if not, why not and how to start it."""
    service, start = facts.service, "`balsam service start` starts one"
    if service is None:
        return f"No service runs, and none ever did on this site; {start}."
    who = f"process {service.pid} on {service.host}, of {service.owner}"
    if facts.is_running:
        age = duration(facts.now - service.started_at)
        asked = ", and was asked to stop" if service.stop_requested else ""
        return f"Service {service.id} runs: {who}, for {age}{asked}. Its log: {facts.log}"
    if service.ended_at is None and facts.has_died:
        return f"No service runs: the last ({who}) died: there is no such process; {start}."
    if service.ended_at is None:
        silent = duration(facts.now - service.status.updated_at)
        return f"No service runs: the last ({who}) gave no sign of life for {silent}; {start}."
    ago = duration(facts.now - service.ended_at)
    why = f": {service.message}" if service.message else ""
    return f"No service runs: the last ({who}) ended {ago} ago{why}; {start}."


def _knowledge(status: ServiceStatus, facts: Facts) -> Iterator[str]:
    if status.scheduler:
        seen = status.scheduler_seen_at
        heard = f"heard {duration(facts.now - seen)} ago" if seen else "not heard yet"
        yield f"Batch system: {status.scheduler}, {heard}"
    if not status.elastic:
        yield "It asks for no nodes by itself (service.elastic is false)"
    files = status.files
    if facts.is_running and files.launcher_id:
        failed = f", of {files.failed} they could not be" if files.failed else ""
        yield (
            f"Files: of {files.in_hand} jobs they are moved or wait for their turn, of"
            f" {files.done} they were{failed} (as launcher {files.launcher_id})"
        )
    elif facts.is_running:
        yield "Files: it moves none (service.move_files is false, or it has only begun)"
    if status.trouble:
        yield f"Trouble: {status.trouble}"


def budget_words(budget: float, spent: float) -> str:
    """Return what was spent, and what is left."""
    if not budget:
        return f"no limit; {spent:.4g} node-hours are spent or asked for"
    left = max(0.0, budget - spent)
    return f"{spent:.4g} of {budget:g} node-hours are spent or asked for, {left:.4g} are left"


def _queues(queues: list[QueueState]) -> str:
    rows = [
        (
            each.name or "(default)",
            "yes" if each.is_open else "no",
            _range(each.min_nodes, each.max_nodes),
            _range(each.min_minutes, each.max_minutes),
            "" if each.max_queued is None else f"at most {each.max_queued}",
            each.comment,
        )
        for each in queues
    ]
    return table(("queue", "used", "nodes", "minutes", "requests", "why not"), rows)


def _range(least: float, most: float | None) -> str:
    return f"{least:g} or more" if most is None else f"{least:g} to {most:g}"


def unmet_table(unmet: list[Unmet]) -> str:
    """Return the jobs for which no nodes are asked as a table."""
    rows = [(each.count, each.example, each.what, each.reason) for each in unmet]
    return table(("jobs", "such as", "need", "why not"), rows)
