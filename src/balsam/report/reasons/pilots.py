"""Launchers that live, and batch jobs that will start one. Pure."""

from __future__ import annotations

from balsam.model.batch_job import BatchJob, BatchState
from balsam.model.resources import UNITS
from balsam.model.wire import LauncherInfo
from balsam.report.reasons import offers
from balsam.report.reasons.facts import Facts, Held, Subject
from balsam.report.reasons.findings import Finding
from balsam.report.reasons.offers import Misfit
from balsam.report.reasons.reason import Reason
from balsam.report.reasons.words import ago, many, until

#: Seconds within which a launcher that has room takes a job.
_MOMENT = 15.0
#: Seconds for which what the batch system said is taken to be so still.
_FRESH = 300.0
#: From the one that is nearest to its start.
_ORDER = (
    BatchState.RUNNING,
    BatchState.QUEUED,
    BatchState.UNKNOWN,
    BatchState.HELD,
    BatchState.PENDING_SUBMISSION,
)


def launchers(subject: Subject, facts: Facts) -> Finding:
    """Say whether a launcher that lives can take the job."""
    live = facts.live
    if not live:
        return Finding(layer="launchers", found=_none(facts))
    verdicts = [
        (one, offers.misfit(subject, offers.of_launcher(one, facts), facts)) for one in live
    ]
    takers = [one for one, why in verdicts if why is None]
    misfits = [why for _, why in verdicts if why is not None]
    if not takers:
        return _unfit(subject, offers.nearest(misfits))
    free = [one for one in takers if _has_room(subject, one, facts.held.get(one.id, Held()))]
    return _idle(subject, free, facts) if free else _busy(subject, takers, facts)


def _has_room(subject: Subject, launcher: LauncherInfo, held: Held) -> bool:
    """Tell whether its nodes, all together, have as much free as the job needs."""
    request = subject.waiting.request
    node = offers.node_of(launcher)
    needs = request.all_core_units(node.cores) + held.core_units
    gpus = request.num_nodes * request.gpu_units + held.gpu_units
    memory = request.num_nodes * request.memory_mib + held.memory_mib
    return (
        needs <= launcher.nodes * node.cores * UNITS
        and gpus <= launcher.gpus * UNITS
        and memory <= launcher.nodes * node.memory_mib
    )


def _where(launchers: list[LauncherInfo]) -> str:
    one = launchers[0]
    if len(launchers) == 1:
        return f"launcher {one.id} on {one.host}"
    return f"{len(launchers)} launchers"


def _busy(subject: Subject, takers: list[LauncherInfo], facts: Facts) -> Finding:
    running = sum(facts.held.get(one.id, Held()).running for one in takers)
    ahead = subject.own.ahead if subject.own else 0
    before = f", and {many(ahead, 'job')} of a higher priority before it" if ahead else ""
    text = (
        f"waits for a free place in {_where(takers)}, with {many(running, 'job')} running{before}"
    )
    help = (
        "nothing is needed: its turn comes; sooner with a higher priority, `balsam modify"
        f" {subject.ref} priority 10`, or with more nodes, `balsam submit-launch`"
    )
    return Finding(layer="launchers", found=text, reason=Reason.BUSY, help=help)


def _none(facts: Facts) -> str:
    if facts.lost:
        last = facts.lost[-1]
        due = ago(last.expires_at, facts.now)
        return f"none lives; the sign of life of launcher {last.id} on {last.host} was due {due}"
    if not facts.launchers:
        return "there has been none yet"
    last = max(facts.launchers, key=lambda one: one.ended_at or 0.0)
    why = f": {last.message}" if last.message else ""
    ended = ago(last.ended_at or 0.0, facts.now)
    return f"none lives; the last, launcher {last.id} on {last.host}, ended {ended}{why}"


def _unfit(subject: Subject, why: Misfit) -> Finding:
    help = offers.remedy(why.reason, subject)
    text = f"waits for a launcher that can take it: it {why.text}"
    return Finding(layer="launchers", found=text, reason=why.reason, help=help)


def _idle(subject: Subject, free: list[LauncherInfo], facts: Facts) -> Finding:
    """Say that launchers have room, and what it means when they do not use it for the job."""
    where = _where(free)
    if subject.own is None:
        text = f"waits for {where}, which has room and may take it at any moment"
        help = "nothing is needed; if it lasts, `balsam why JOB` says more"
        return Finding(layer="launchers", found=text, reason=Reason.STARTING, help=help)
    waited = facts.now - subject.own.job.updated_at
    if min(waited, *(facts.now - one.started_at for one in free)) < _MOMENT:
        text = f"waits for {where}, which can take it at any moment"
        return Finding(
            layer="launchers", found=text, reason=Reason.STARTING, help="nothing is needed"
        )
    text = (
        f"waits for {where}, which could hold it and has room, but does not take it: perhaps too"
        " little time is left there, not all of the nodes are there, or they are held for another"
    )
    help = "see what the launcher printed, and `balsam ls times`; or start one with more time"
    return Finding(layer="launchers", found=text, reason=Reason.NOT_TAKEN, help=help)


def batch_jobs(subject: Subject, facts: Facts) -> Finding:
    """Say whether a batch job that has not started its launcher yet can take the job."""
    coming = sorted(facts.coming, key=lambda one: (_ORDER.index(one.state), one.id or 0))
    if not coming:
        return _nothing_asked(facts)
    verdicts = [
        (one, offers.misfit(subject, offers.of_batch_job(one, facts), facts)) for one in coming
    ]
    takers = [one for one, why in verdicts if why is None]
    if takers:
        return _of_batch_job(takers[0], len(takers) - 1, facts)
    why = offers.nearest([why for _, why in verdicts if why is not None])
    text = f"waits for a batch job that can take it: it {why.text}"
    return Finding(
        layer="batch_jobs", found=text, reason=why.reason, help=offers.remedy(why.reason, subject)
    )


def _nothing_asked(facts: Facts) -> Finding:
    last = facts.last_batch_job
    if last is None:
        return Finding(layer="batch_jobs", found="no nodes have been asked for yet")
    said = f": {last.message or last.cancel_reason}" if last.message or last.cancel_reason else ""
    if last.state == BatchState.SUBMIT_FAILED:
        text = (
            f"waits for nodes: the batch system refused the last request, batch job {last.id}{said}"
        )
        help = (
            f"see `balsam queue show {last.id}`, mend the request, and ask again with"
            " `balsam submit-launch`"
        )
        return Finding(layer="batch_jobs", found=text, reason=Reason.SUBMIT_FAILED, help=help)
    text = (
        f"no nodes are asked for now; the last request, batch job {last.id}, is {last.state}{said}"
    )
    return Finding(layer="batch_jobs", found=text)


def _of_batch_job(one: BatchJob, others: int, facts: Facts) -> Finding:
    more = f", or {many(others, 'more', 'more')} like it" if others else ""
    what = f"waits for batch job {one.id} ({_nature(one)}){more}"
    reason, where, help = _standing(one, facts)
    said = f": {one.message}" if one.message else ""
    start = f", expected to start {until(one.starts_at, facts.now)}" if one.starts_at else ""
    text = f"{what}, {where}{said}{start}"
    if one.seen_at is not None and facts.now - one.seen_at > _FRESH:
        text += f"; so it was {ago(one.seen_at, facts.now)}, when the batch system was last asked"
        help = f"ask it again: `balsam queue ls`; {help}"
    return Finding(layer="batch_jobs", found=text, reason=reason, help=help)


def _standing(one: BatchJob, facts: Facts) -> tuple[Reason, str, str]:
    """Return the reason, where the batch job stands, and what helps."""
    show = f"`balsam queue show {one.id}`"
    match one.state:
        case BatchState.RUNNING:
            since = "" if one.started_at is None else f" since {ago(one.started_at, facts.now)}"
            logs = f"if it takes minutes, see `balsam queue logs {one.id}`"
            return (
                Reason.BATCH_JOB_STARTING,
                f"which has its nodes{since}, but no launcher yet",
                logs,
            )
        case BatchState.QUEUED:
            help = f"nothing is needed: the batch system decides; see {show}"
            return Reason.BATCH_JOB_QUEUED, "which is queued in the batch system", help
        case BatchState.HELD:
            help = f"let it go by the batch system's own command; see {show}"
            return Reason.BATCH_JOB_HELD, "which is held in the batch system", help
        case BatchState.PENDING_SUBMISSION:
            where = "of which the batch system does not know yet"
            help = (
                "nothing is needed: it is submitted soon"
                if facts.has_service
                else "`balsam service start`"
            )
            return Reason.BATCH_JOB_NOT_SUBMITTED, where, help
        case _:
            where = f"of which the batch system says {one.scheduler_state!r}"
            return Reason.BATCH_JOB_UNKNOWN, where, f"see {show}"


def _nature(one: BatchJob) -> str:
    parts = [f"{one.scheduler} {one.scheduler_id}".strip() if one.scheduler_id else "", one.queue]
    return ", ".join([*filter(None, parts), many(one.num_nodes, "node")])
