"""Whether a job is run again after a run that did not end well, and with what. Pure.

The job's rules are tried before the app's, and the first that matches decides; without
one, `max_retries` and `auto_timeout_retry` do. What was lost with its worker or launcher is
never charged, but counted: see `model.retry.is_over_limit`.
"""

from __future__ import annotations

from typing import NamedTuple

from balsam.model.app import App
from balsam.model.job import Job
from balsam.model.retry import (
    Rule,
    crash_reason,
    ending_text,
    grown_memory,
    grown_time,
    is_over_limit,
    number_text,
)
from balsam.model.states import State
from balsam.model.wire import Aftermath, Attempt


class Verdict(NamedTuple):
    """Where a job goes, why, and what changes with that."""

    to: State
    note: str = ""
    aftermath: Aftermath | None = None


def after_error(job: Job, app: App | None, last: Attempt | None, now: float) -> Verdict:
    """Return what follows for a job whose program failed.

    Parameters
    ----------
    last
        Its last execution, when this launcher knows it.
    """
    how = "" if job.exit_code is None else f" ({ending_text(job.exit_code)})"
    rule = _rule_for(job, app, timed_out=False)
    most = job.max_retries if rule is None else rule.max
    if rule is not None and rule.never:
        return Verdict(State.FAILED, f"not retried{how}, as '{rule}' says")
    if job.retries >= most:
        left = f"no retry left: {job.retries} of {most}{how}"
        return Verdict(State.FAILED, "" if rule is None else f"{left}, by '{rule}'")
    return _again(f"retry {job.retries + 1} of {most}{how}", job, rule, last, job.retries + 1, now)


def after_timeout(job: Job, app: App | None, last: Attempt | None, now: float) -> Verdict:
    """Return what follows for a job that the end of its launcher's time interrupted."""
    rule = _rule_for(job, app, timed_out=True)
    if rule is None:
        if job.auto_timeout_retry or job.post_timeout_handler:
            return Verdict(State.RESTART_READY)
        return Verdict(State.FAILED, "out of time; no retry wanted")
    if rule.never:
        return Verdict(State.FAILED, f"out of time; not retried, as '{rule}' says")
    if job.timeouts > rule.max:
        note = f"out of time {job.timeouts} times; '{rule}' allows {rule.max}"
        return Verdict(State.FAILED, note)
    number = max(1, job.timeouts)  # counted by those who know this field
    return _again(f"time-out {number} of {rule.max}", job, rule, last, number, now)


def after_loss(job: Job, message: str, limit: int, *, suspected: bool) -> Verdict:
    """Return what follows for a job whose worker died.

    Parameters
    ----------
    limit
        Most losses (`launcher.crash_limit`); 0: none.
    suspected
        The job may be why: it is counted.
    """
    if not suspected:
        return Verdict(State.RESTART_READY, message)
    crashed = Aftermath(crashed=True)
    if is_over_limit(job.crashes + 1, limit):
        return Verdict(State.FAILED, crash_reason(job.crashes + 1, message), crashed)
    return Verdict(State.RESTART_READY, message, crashed)


def _rule_for(job: Job, app: App | None, *, timed_out: bool) -> Rule | None:
    rules = [*job.retry, *(app.retry if app else ())]
    return next((r for r in rules if r.matches(job.exit_code, timed_out=timed_out)), None)


def _again(
    note: str, job: Job, rule: Rule | None, last: Attempt | None, number: int, now: float
) -> Verdict:
    """Return the verdict that runs the job again, as retry *number* by *rule*."""
    if rule is None:
        return Verdict(State.RESTART_READY, note)
    memory = grown_memory(rule, job.memory_mib, last.peak_memory_mib if last else None)
    minutes = grown_time(rule, job.wall_time_minutes, _minutes(last))
    delay = rule.delay_before(number)
    said = []
    if memory != job.memory_mib:
        said.append(f"memory {job.memory_mib} → {memory} MiB")
    if minutes != job.wall_time_minutes:
        was, new = number_text(job.wall_time_minutes), number_text(minutes)
        said.append(f"time {was} → {new} min")
    if delay:
        said.append(f"in {number_text(round(delay, 3))} s")
    aftermath = Aftermath(
        memory_mib=memory if memory != job.memory_mib else None,
        wall_time_minutes=minutes if minutes != job.wall_time_minutes else None,
        retry_at=now + delay if delay else None,
    )
    note = f"{note}: {', '.join(said)}" if said else note
    return Verdict(State.RESTART_READY, note, aftermath if said else None)


def _minutes(last: Attempt | None) -> float | None:
    if last is None or last.started_at is None or last.ended_at is None:
        return None
    return (last.ended_at - last.started_at) / 60
