"""Whether nodes will be asked for: the service, its queues and its budget; and what never fits.

Pure.
"""

from __future__ import annotations

from balsam.model.resources import NodeResources
from balsam.model.service import QueueState, ServiceInfo
from balsam.report.reasons import offers
from balsam.report.reasons.facts import Facts, Subject, alike
from balsam.report.reasons.findings import Finding
from balsam.report.reasons.offers import Misfit, Offer
from balsam.report.reasons.reason import Reason
from balsam.report.reasons.words import ago, lasting, listed, many, minutes_text

_STATUS = "see `balsam service status`"
_QUEUES = "see `balsam service status` and the [queues.NAME] of the settings"


def nodes(subject: Subject, facts: Facts) -> Finding:
    """Say whether any node that is known, now or from before, could ever run the job."""
    queues = [offers.of_queue(each, facts) for each in offers.queues(facts)]
    past = [_shape(offers.node_of(one), one.nodes if queues else None) for one in facts.shapes]
    known = [*queues, *past]
    if not known:
        return Finding(
            layer="nodes", found="no nodes are known yet, neither of launchers nor of queues"
        )
    misfits = [offers.misfit(subject, each, facts) for each in known]
    refused = [each for each in misfits[: len(queues)] if each is not None]
    if None not in misfits:
        text = _never(subject, known, [each for each in misfits if each is not None], facts)
        return Finding(
            layer="nodes",
            found=f"can never run on anything that is known here: it {text}",
            reason=Reason.IMPOSSIBLE,
            help=_less(subject, refused),
        )
    if queues and len(refused) == len(queues):
        text = _never(subject, queues, refused, facts)
        return Finding(
            layer="nodes",
            found=f"waits for nodes that no queue gives: it {text}",
            reason=Reason.QUEUE_LIMITS,
            help=_less(subject, refused),
        )
    had = [_shape(offers.node_of(one), one.nodes) for one in facts.shapes]
    small = [offers.misfit(subject, each, facts) for each in had]
    if not queues and None not in small:
        most = max(one.num_nodes or 0 for one in had)
        needs = many(subject.waiting.num_nodes, "node")
        text = f"waits for a launcher of its size: it needs {needs}, and none had more than {most}"
        help = offers.remedy(Reason.TOO_FEW_NODES, subject)
        return Finding(layer="nodes", found=text, reason=Reason.TOO_FEW_NODES, help=help)
    names = [one.name for one, why in zip(known, misfits, strict=True) if why is None]
    return Finding(layer="nodes", found=f"could run on {listed(list(dict.fromkeys(names)))}")


def _shape(node: NodeResources, num_nodes: int | None) -> Offer:
    return Offer(name=node.host, num_nodes=num_nodes, node=node)


def _never(subject: Subject, known: list[Offer], misfits: list[Misfit], facts: Facts) -> str:
    """Return what is asked for, and the most that there is of it."""
    job, reason = subject.waiting, offers.nearest(misfits).reason
    here = [one for one, why in zip(known, misfits, strict=True) if why.reason == reason]
    if reason == Reason.TOO_FEW_NODES:
        most = max(one.num_nodes or 0 for one in here)
        return f"needs {many(job.num_nodes, 'node')}, and {most} at most can be had"
    if reason == Reason.TOO_LITTLE_TIME:
        longest = max(here, key=lambda one: one.minutes or 0.0)
        return (
            f"needs {minutes_text(offers.minutes_needed(job, longest, facts))}, and jobs have"
            f" {minutes_text(longest.minutes or 0.0)} at most ({longest.name}, without the time"
            " that a launcher needs for its end)"
        )
    return next(why.text for why in misfits if why.reason == reason)


def _less(subject: Subject, refused: list[Misfit]) -> str:
    reason = offers.nearest(refused).reason if refused else Reason.NODE_TOO_SMALL
    fields = {Reason.TOO_FEW_NODES: "num_nodes", Reason.TOO_LITTLE_TIME: "wall_time_minutes"}
    less = offers.ask_for_less(subject, fields.get(reason, ""))
    if not refused:
        return less
    return f"{less}, or let the service use a queue that allows it ([queues.NAME] in the settings)"


def service(subject: Subject, facts: Facts) -> Finding:
    """Say whether the service will ask for nodes for the job, and why not."""
    info = facts.service
    if info is None:
        return Finding(layer="service", found="the site has had no service")
    if not facts.has_service:
        return _down(info, facts)
    status, owner = info.status, subject.waiting.owner
    if info.owner != owner:
        text = (
            f"waits for nodes; the service is {info.owner}'s and asks only for jobs of {info.owner}"
        )
        help = f"{owner} asks for nodes: {offers.submit_launch(subject)}"
        return _found(text, Reason.OTHER_OWNER, help)
    seen = status.scheduler_seen_at
    if status.trouble:
        last = f", which last answered {ago(seen, facts.now)}" if seen else ""
        system = f"the batch system{last}" if seen else "the batch system"
        text = f"waits for the service, which has trouble with {system}: {status.trouble}"
        return _found(
            text, Reason.SERVICE_TROUBLE, f"{_STATUS}; it goes on by itself when that is over"
        )
    if not status.elastic:
        text = "waits for nodes, and the service does not ask by itself (service.elastic is false)"
        ask = offers.submit_launch(subject)
        return _found(
            text, Reason.ELASTIC_OFF, f"ask for them: {ask}, or set service.elastic = true"
        )
    return (
        _unmet(subject, facts)
        or _queues(subject, facts)
        or _budget(subject, info)
        or _waits(subject, info, facts)
    )


def _found(text: str, reason: Reason, help: str) -> Finding:
    return Finding(layer="service", found=text, reason=reason, help=help)


def _down(info: ServiceInfo, facts: Facts) -> Finding:
    if info.ended_at is None:
        since = f"for {lasting(facts.now - info.expires_at)}: it gives no sign of life"
    else:
        said = f": {info.message}" if info.message else ""
        since = f"for {lasting(facts.now - info.ended_at)}{said}"
    text = f"waits for nodes, for which nobody asks: the service has been down {since}"
    return _found(text, Reason.SERVICE_DOWN, "`balsam service start`")


def _unmet(subject: Subject, facts: Facts) -> Finding | None:
    for example, unmet in facts.unmet:
        if unmet.example == subject.waiting.example or alike(example, subject.waiting):
            text = f"waits for nodes, for which the service does not ask: {unmet.reason}"
            return _found(text, Reason.UNMET, "`balsam service plan` says more")
    return None


def _queues(subject: Subject, facts: Facts) -> Finding | None:
    """Say why none of the queues can be used now."""
    fit = [
        each
        for each in offers.queues(facts)
        if offers.misfit(subject, offers.of_queue(each, facts), facts) is None
    ]
    shut = [each for each in fit if not each.is_open]
    full = [each for each in fit if each.is_open and _is_full(each, facts)]
    if not fit or len(shut) + len(full) < len(fit):
        return None
    if not full:
        comments = listed([f"{each.name} ({each.comment or 'closed'})" for each in shut])
        text = f"waits for a queue: the service uses none that could take it now: {comments}"
        return _found(text, Reason.QUEUE_CLOSED, _QUEUES)
    named = listed([f"{each.name} ({each.max_queued})" for each in full])
    text = f"waits for room in a queue: as many requests as allowed are there already: {named}"
    return _found(
        text, Reason.MAX_QUEUED, "nothing is needed; or allow more: max_queued of [queues.NAME]"
    )


def _is_full(queue: QueueState, facts: Facts) -> bool:
    asked = sum(one.queue == queue.name for one in facts.batch_jobs)
    return queue.max_queued is not None and asked >= queue.max_queued


def _budget(subject: Subject, info: ServiceInfo) -> Finding | None:
    status, job = info.status, subject.waiting
    left = status.budget_node_hours - status.spent_node_hours
    least = job.num_nodes * job.wall_time_minutes / 60
    if not status.budget_node_hours or (left > 0 and left >= least):
        return None
    text = (
        f"waits for node-hours: of the budget of {status.budget_node_hours:g},"
        f" {max(0.0, left):.3g} are left"
    )
    return _found(text, Reason.BUDGET_SPENT, "raise service.budget_node_hours in the settings")


def _waits(subject: Subject, info: ServiceInfo, facts: Facts) -> Finding:
    if info.status.waits:
        text = f"waits for the service to ask for nodes: {info.status.waits}"
        return _found(text, Reason.SERVICE_WAITS, _STATUS)
    looked = ago(info.status.updated_at or info.started_at, facts.now)
    text = f"waits for the service to ask for nodes; it looked {looked}"
    help = "nothing is needed; `balsam service plan` says what it would ask for, and why"
    return _found(text, Reason.SERVICE_SOON, help)
