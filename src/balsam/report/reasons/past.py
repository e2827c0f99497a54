"""Jobs that somebody has in hand already, or nobody will take any more. Pure."""

from __future__ import annotations

import re

from balsam.model.states import END_STATES, TABLE, State
from balsam.model.wire import Attempt, LauncherInfo, LauncherKind
from balsam.report.quantities import moment
from balsam.report.reasons.facts import Facts, Held, Own, Subject
from balsam.report.reasons.files import in_hand
from balsam.report.reasons.findings import Finding
from balsam.report.reasons.reason import Reason
from balsam.report.reasons.words import ago, lasting, many, minutes_text, until

#: What is written where the environment of a command cannot be had (launcher/prelude.py).
_OF_THE_PRELUDE = re.compile(r"\bbalsam: (.+ \(on [^()\s]+\))$", re.MULTILINE)
#: A way of more parents is not shown whole.
_LONGEST_WAY = 4
_STEPS = {
    State.READY: "stages its files in, or runs its preprocess hook",
    State.STAGED_IN: "runs its preprocess hook",
    State.RUN_DONE: "runs its postprocess hook",
    State.POSTPROCESSED: "stages its files out",
    State.RUN_ERROR: "runs its error handler, or sees whether it may run again",
    State.RUN_TIMEOUT: "runs its timeout handler, or sees whether it may run again",
}


def state(subject: Subject, facts: Facts) -> Finding:
    """Say what the state means, and for a job that has ended, why it did."""
    job = subject.waiting
    text = f"{job.state}: {TABLE[job.state].text}"
    if job.state == State.CREATED:
        text = "waits for its next state to be settled, which takes a moment"
        return Finding(layer="state", found=text, reason=Reason.SETTLING)
    if job.state not in END_STATES or subject.own is None:
        return Finding(layer="state", found=text)
    return _ended(subject, subject.own, facts)


def _ended(subject: Subject, own: Own, facts: Facts) -> Finding:
    when = ago(own.job.updated_at, facts.now)
    message = own.message or (_missing(own.attempt) if own.attempt else "")
    because = f": {message}" if message else ""
    if own.job.state == State.JOB_FINISHED:
        text = f"finished {when}{because}"
        return Finding(layer="state", found=text, reason=Reason.FINISHED)
    if own.job.state == State.USER_KILLED:
        text = f"waits for nothing: it was stopped by a user {when}{because}"
        help = f"run it again: `balsam rerun {subject.ref}`"
        return Finding(layer="state", found=text, reason=Reason.KILLED, help=help)
    if own.root:
        first = own.root[-1]
        text = f"failed {when}, because job {first.job} {first.text}"
        help = f"mend job {first.job} first, then `balsam rerun {first.job} {subject.ref}`"
        return Finding(layer="state", found=text, reason=Reason.PARENT_FAILED, help=help)
    ran = _attempt_text(own.attempt) if own.attempt else "; it did not run"
    look = f"look at its output: `balsam logs {subject.ref}`, then" if own.attempt else "then"
    help = f"{look} run it again: `balsam rerun {subject.ref}`"
    text = f"failed {when}{because}{ran}"
    return Finding(layer="state", found=text, reason=Reason.FAILED, help=help.removeprefix("then "))


def _missing(attempt: Attempt) -> str:
    """Return what was not there for a run: a module, a conda environment, a container's image."""
    said = _OF_THE_PRELUDE.findall(attempt.message)
    return said[-1] if said else ""


def _attempt_text(attempt: Attempt) -> str:
    ended = "" if attempt.exit_code is None else f", exit code {attempt.exit_code}"
    if attempt.signal:
        ended = f", ended by {attempt.signal}"
    where = f" on {attempt.node}" if attempt.node else ""
    return f" (attempt {attempt.number}{where}: {attempt.outcome}{ended})"


def lease(subject: Subject, facts: Facts) -> Finding:
    """Say which launcher has the job, and whether that one lives."""
    number = subject.waiting.launcher_id
    if number is None:
        return Finding(layer="lease", found="no launcher has it")
    launcher = facts.by_id.get(number)
    if launcher is None or launcher.ended_at is not None or facts.is_lost(launcher):
        return _lost(number, launcher, facts)
    if launcher.kind is LauncherKind.SERVICE:
        return in_hand(subject, launcher)
    if subject.waiting.state == State.RUNNING:
        return _running(subject, launcher, facts)
    step = _STEPS.get(subject.waiting.state)
    if step:
        text = f"is in the hands of launcher {number} on {launcher.host}, which {step} in its turn"
        help = f"follow it: `balsam ls --id {subject.ref} --history`" if subject.own else ""
        return Finding(layer="lease", found=text, reason=Reason.STEP, help=help)
    held = facts.held.get(number, Held())
    text = (
        f"waits for a free place in launcher {number} on {launcher.host}, which has taken it and"
        f" runs {many(held.running, 'job')} now"
    )
    return Finding(
        layer="lease", found=text, reason=Reason.IN_STOCK, help="nothing is needed: its turn comes"
    )


def _lost(number: int, launcher: LauncherInfo | None, facts: Facts) -> Finding:
    where = f" on {launcher.host}" if launcher else ""
    since = "which has ended"
    if launcher is not None and launcher.ended_at is None:
        since = f"whose sign of life was due {ago(launcher.expires_at, facts.now)}"
    text = f"waits for somebody to take it over from launcher {number}{where}, {since}"
    if facts.live or facts.has_service:
        help = "nothing is needed: a launcher or the service that lives takes it over soon"
    else:
        help = "start a launcher, which takes it over: `balsam launcher --consume-all`"
    return Finding(layer="lease", found=text, reason=Reason.LAUNCHER_LOST, help=help)


def _running(subject: Subject, launcher: LauncherInfo, facts: Facts) -> Finding:
    own, job = subject.own, subject.waiting
    started = own.attempt.started_at if own and own.attempt else None
    if own is None or started is None:
        return Finding(
            layer="lease",
            found="runs",
            reason=Reason.RUNNING,
            help="nothing is needed",
        )
    node = own.attempt.node if own.attempt else ""
    text = f"runs on {node or launcher.host} since {moment(started)} UTC"
    text += f", {lasting(facts.now - started)} by now"
    if job.wall_time_minutes:
        text += f" of the {minutes_text(job.wall_time_minutes)} that it was expected to take"
    learned = facts.run_times.get((job.application, job.num_nodes * job.ranks_per_node))
    if learned is not None:
        text += f"; such runs take {lasting(learned.expected)} on average"
    ends = facts.ends_at(launcher)
    if ends is not None:
        text += f"; its launcher's time ends {until(ends, facts.now)}"
    help = f"see what it writes: `balsam logs {subject.ref} --follow`"
    return Finding(layer="lease", found=text, reason=Reason.RUNNING, help=help)


def delay(subject: Subject, facts: Facts) -> Finding:
    """Say whether the job waits for the time of its retry."""
    time = subject.waiting.retry_at
    if time is None or time <= facts.now:
        return Finding(layer="retry", found="it does not wait for a retry")
    which = "" if subject.own else "the first of them "
    text = f"waits for the time of its retry: {which}{until(time, facts.now)}"
    return Finding(
        layer="retry",
        found=text,
        reason=Reason.RETRY_WAIT,
        help="nothing is needed: its time comes",
    )


def app(subject: Subject, facts: Facts) -> Finding:
    """Say whether the program of the job is registered."""
    name = subject.waiting.application
    found = facts.apps.get(name)
    if found is None:
        text = f"cannot run: there is no app {name!r} any more, and it fails when it is to run"
        help = f"register it again: `balsam app --name {name} --executable …`"
        return Finding(layer="app", found=text, reason=Reason.APP_MISSING, help=help)
    if not found.executable and "run" not in found.function.hooks:
        text = f"cannot run: app {name!r} has no executable"
        help = f"`balsam modify {name} executable … --type apps`"
        return Finding(layer="app", found=text, reason=Reason.APP_MISSING, help=help)
    return Finding(layer="app", found=f"app {name!r} is registered")


def parents(subject: Subject, facts: Facts) -> Finding:
    """Say which parents the job waits for, and what these wait for."""
    if subject.waiting.state != State.AWAITING_PARENTS:
        return Finding(layer="parents", found="it waits for no parent")
    own = subject.own
    if own is None:
        return Finding(
            layer="parents",
            found="waits for parents, which have to end first",
            reason=Reason.PARENTS,
            help="see what these wait for: the other lines, or `balsam why JOB`",
        )
    left = {each: n for each, n in own.parents.items() if each not in END_STATES}
    total = sum(own.parents.values())
    counted = ", ".join(f"{n} {each}" for each, n in left.items())
    text = "waits for its parent"
    if total > 1:
        text = f"waits for {sum(left.values())} of its {total} parents ({counted})"
    if not own.root:
        return Finding(layer="parents", found=text, reason=Reason.PARENTS)
    root = own.root[-1]
    way = " → ".join(_some([str(each.job) for each in own.root]))
    if len(own.root) > 1:
        text += f", in the end ({way}) for"
    elif total > 1:
        text += ", such as"
    else:
        text += ","
    text += f" job {root.job}, which {root.text}"
    return Finding(layer="parents", found=text, reason=Reason.PARENTS, help=root.help)


def _some(way: list[str]) -> list[str]:
    """Return a way, without its middle when it is long."""
    return way if len(way) <= _LONGEST_WAY else [way[0], "…", way[-1]]
