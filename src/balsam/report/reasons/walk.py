"""From layer to layer: what a job waits for, and what would help. Pure."""

from __future__ import annotations

import msgspec

from balsam.model.batch_job import BatchState
from balsam.report.reasons import asking, files, past, pilots
from balsam.report.reasons.facts import Facts, Own, Subject, subject_of
from balsam.report.reasons.findings import Answer, Finding
from balsam.report.reasons.reason import Reason

#: Each of these settles it when it has a reason: then nothing else matters.
_FIRST = (past.state, past.lease, past.parents, past.delay, past.app, files.files)
#: What may give a free job its nodes.
_NODES = (pilots.launchers, pilots.batch_jobs, asking.nodes, asking.service)
_LAST_LAYER = "service"
#: A launcher can take it: then it does not matter what else could.
_UNDER_WAY = (Reason.BUSY, Reason.STARTING, Reason.NOT_TAKEN)
_START = (
    "start one: `balsam launcher --consume-all` here, `balsam submit-launch` on nodes of the batch"
    " system, or `balsam service start`, which asks for nodes as they are needed"
)


def layers(subject: Subject, facts: Facts) -> list[Finding]:
    """Return what each layer has to do with a job, as far as that is of any matter."""
    found: list[Finding] = []
    for look in _FIRST:
        found.append(_in_one_line(look(subject, facts)))
        if found[-1].reason:
            return found
    return found + [_in_one_line(look(subject, facts)) for look in _NODES]


def _in_one_line(finding: Finding) -> Finding:
    """Return *finding* without the line breaks of what batch systems and programs said."""
    return msgspec.structs.replace(finding, found=" ".join(finding.found.split()))


def decisive(found: list[Finding], facts: Facts) -> Finding:
    """Return what a job waits for, of all that was *found* (see `layers`)."""
    if found[-1].layer != _LAST_LAYER:
        return found[-1]
    launchers, batch_jobs, nodes, service = found[-len(_NODES) :]
    if launchers.reason in _UNDER_WAY:
        return launchers
    if batch_jobs.reason.startswith("batch_job_"):
        return batch_jobs
    if nodes.reason in (Reason.IMPOSSIBLE, Reason.QUEUE_LIMITS):
        return nodes
    if facts.has_service:
        return service
    if launchers.reason:
        return _both(launchers, service)
    if batch_jobs.reason:
        return _both(batch_jobs, service)
    if nodes.reason:
        return _both(nodes, service)
    return service if service.reason else _nobody(launchers, batch_jobs, facts)


def _both(first: Finding, service: Finding) -> Finding:
    """Return *first*, and that the service, which could help, is down."""
    if not service.reason:
        return first
    text = f"{first.found}; and the service, which could ask for other nodes, is down"
    help = f"{service.help}; or {first.help}"
    return Finding(layer=first.layer, found=text, reason=first.reason, help=help)


def _nobody(launchers: Finding, batch_jobs: Finding, facts: Facts) -> Finding:
    last = facts.last_batch_job
    ended_well = last is None or last.state is BatchState.FINISHED
    asked = "" if ended_well else f"; {batch_jobs.found}"
    text = f"waits for a launcher, and nothing will start one: {launchers.found}{asked}"
    return Finding(layer="launchers", found=text, reason=Reason.NO_LAUNCHER, help=_START)


def answer_of(own: Own, facts: Facts) -> Answer:
    """Return why one job is where it is."""
    found = layers(subject_of(own, facts), facts)
    why = decisive(found, facts)
    job = own.job
    return Answer(
        id=job.id or 0,
        job_id=job.job_id,
        name=job.name,
        workflow=job.workflow,
        state=job.state,
        waits_for=why.found,
        reason=why.reason,
        help=why.help,
        layers=found,
    )
