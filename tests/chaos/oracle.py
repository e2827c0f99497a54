"""What must be so when all is over, whatever went wrong."""

from __future__ import annotations

import json
import subprocess
from collections import Counter

import psutil

from balsam.model.query import Query
from balsam.model.states import END_STATES, State
from balsam.model.wire import Attempt, Event, Outcome
from tests.chaos.campaign import Campaign

#: Of these nobody says that they ran to their end.
UNSURE = {Outcome.LOST, Outcome.REFUSED, Outcome.KILLED, Outcome.TIMEOUT, Outcome.NOT_STARTED}


def verdict(campaign: Campaign) -> list[str]:
    """Return what is wrong; [] when nothing was lost, ended twice, or got stuck."""
    client = campaign.client
    jobs = {job.id or 0: job for job in client.jobs(Query())}
    wrong = [f"job {id_} is lost" for id_ in campaign.given if id_ not in jobs]
    wrong += [
        f"job {id_} {job.name} is stuck: {job.state}, launcher {job.launcher_id}"
        for id_, job in jobs.items()
        if job.state not in END_STATES
    ]
    events: dict[int, list[Event]] = {}
    for event in client.events(Query()):
        events.setdefault(event.job, []).append(event)
    for id_ in jobs:
        wrong += _twice(id_, events.get(id_, []))
    attempts = client.attempts(list(jobs))
    numbers = {job.job_id: id_ for id_, job in jobs.items()}
    wrong += _executions(campaign, numbers, attempts)
    done = {attempt.job for attempt in attempts if attempt.outcome is Outcome.DONE}
    wrong += [
        f"job {id_} {job.name} finished, and no attempt says so"
        for id_, job in jobs.items()
        if job.state is State.JOB_FINISHED and job.attempt and id_ not in done
    ]
    return wrong + _checked(campaign) + _left(campaign)


def _twice(job: int, events: list[Event]) -> list[str]:
    """A job ends once for each time that it began: when it was made, and when asked to rerun."""
    begun = 1 + sum(event.from_state in END_STATES for event in events)
    ends = sum(event.to_state in END_STATES for event in events)
    path = " ".join(event.to_state for event in events)
    return [] if ends == begun else [f"job {job} ended {ends} times, not {begun}: {path}"]


def _executions(campaign: Campaign, numbers: dict[str, int], attempts: list[Attempt]) -> list[str]:
    """Compare what the jobs wrote down with what is recorded."""
    ran: Counter[tuple[int, int, int]] = Counter()
    ended: Counter[tuple[int, int, int]] = Counter()
    for line in campaign.ledger.read_text().splitlines():
        job, attempt, launcher, what = line.split()
        (ran if what == "start" else ended)[numbers[job], int(attempt), int(launcher)] += 1
    recorded = {(a.job, a.number, a.launcher_id): a for a in attempts}
    wrong = [f"execution {key} ran {n} times" for key, n in ran.items() if n > 1]
    wrong += [f"execution {key} is not recorded" for key in ran if key not in recorded]
    for key, attempt in recorded.items():
        if attempt.outcome is Outcome.RUNNING or attempt.ended_at is None:
            wrong.append(f"attempt {key} never ended: {attempt}")
        elif attempt.outcome not in UNSURE and not (ran[key] and ended[key]):
            wrong.append(f"attempt {key} is recorded, and did not run: {attempt}")
    done = Counter(a.job for a in attempts if a.outcome is Outcome.DONE)
    # A kill can come when the program is done and this is not told yet.
    told = Counter(
        event.job
        for event in campaign.client.events(Query())
        if event.to_state in (State.RUN_DONE, State.USER_KILLED)
    )
    wrong += [f"job {job} was done {n} times" for job, n in done.items() if n > told[job]]
    return wrong


def _checked(campaign: Campaign) -> list[str]:
    """Return what `balsam db check` finds."""
    words = [*campaign.balsam_words("db", "check", "--json")]
    done = subprocess.run(words, env=campaign.environ, capture_output=True, text=True)
    if done.returncode == 0:
        return []
    try:
        return [f"db check: {finding}" for finding in json.loads(done.stdout)["findings"]]
    except (ValueError, KeyError):
        return [f"db check: {done.stdout}{done.stderr}"]


def _left(campaign: Campaign) -> list[str]:
    """Return processes and journals that were left behind."""
    wrong = [f"journal {file.name} is left" for file in (campaign.site / "log").glob("*.journal")]
    home = campaign.environ["BALSAM_HOME"]
    for process in psutil.process_iter():
        try:
            ours = process.environ().get("BALSAM_HOME") == home
            if ours and process.status() != psutil.STATUS_ZOMBIE:
                wrong.append(f"process {process.pid} is left: {process.cmdline()}")
        except psutil.Error:
            continue
    return wrong
