"""Many launchers on one PostgreSQL database: they share the jobs, and are in nobody's way."""

from __future__ import annotations

import os
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from balsam.client.connect import open_client
from balsam.client.interface import Client
from balsam.model.app import App
from balsam.model.job import Job
from balsam.model.query import ALL, Query
from balsam.model.states import END_STATES
from balsam.model.wire import Outcome

LAUNCHERS, SLOTS, JOBS = 4, 2, 20_000
#: What nobody may be told.
CONFLICTS = ("deadlock", "serialize", "in the way", "cannot answer", "Traceback")


def share(
    path: Path,
    balsam: str,
    environ: dict[str, str],
    bare: Callable[[], float],
    tell: Callable[..., None],
) -> None:
    """Have launchers take jobs that write down that they ran; check that each did, once.

    Parameters
    ----------
    bare
        Measures how many processes a second the smallest loop starts here, now.

    Raises
    ------
    SystemExit
        A job did not run, or ran twice, or a launcher was told of a conflict.
    """
    ran = path / "ran"
    client = open_client(path)
    note = f"/bin/sh -c 'echo $BALSAM_JOB_ID >> {ran}'"
    client.add_app(App(name="note", executable=note))
    before = bare()
    launchers = [_start(number, path, balsam, environ) for number in range(LAUNCHERS)]
    while len(client.launchers()) < LAUNCHERS:
        time.sleep(0.1)
    began = time.perf_counter()
    client.create_jobs([Job(name=f"n{i}", workflow="w", application="note") for i in range(JOBS)])
    ended = Query().where(state__in=[str(state) for state in END_STATES])
    while client.count_jobs(ended) < JOBS:
        time.sleep(0.2)
    seconds = time.perf_counter() - began
    for process in launchers:
        process.terminate()
    codes = [process.wait() for process in launchers]
    said = "".join((path / f"launcher{number}.txt").read_text() for number in range(LAUNCHERS))
    wrong = [f"a launcher ended with {code}" for code in codes if code]
    wrong += [f"{word!r} was said" for word in CONFLICTS if word in said]
    wrong += _accounts(client, ran)
    share_of_each = Counter(attempt.launcher_id for attempt in client.iterate_attempts(ALL))
    client.close()
    if wrong:
        raise SystemExit("\n".join(["launchers: " + "; ".join(wrong[:10]), said]))
    bare_rate = (before + bare()) / 2
    tell(
        "launchers",
        launchers=LAUNCHERS,
        slots=SLOTS,
        jobs_per_second=round(JOBS / seconds),
        bare_per_second=round(bare_rate),
        ratio=round(JOBS / seconds / bare_rate, 3),
        least_of_one=min(share_of_each.values()),
        ran_once=JOBS,
        conflicts=0,
    )


def _start(
    number: int, path: Path, balsam: str, environ: dict[str, str]
) -> subprocess.Popen[bytes]:
    """Start a launcher that sees as many processors as it is to have slots."""
    processors = sorted(os.sched_getaffinity(0))
    own = [processors[(number * SLOTS + i) % len(processors)] for i in range(SLOTS)]
    words = ["taskset", "--cpu-list", ",".join(map(str, own)), balsam, "launcher"]
    with (path / f"launcher{number}.txt").open("wb") as output:
        return subprocess.Popen(
            [*words, "--consume-all", "--persistent", "--output", "stream"],
            env=environ,
            stderr=output,
        )


def _accounts(client: Client, ran: Path) -> Iterator[str]:
    """Compare what the jobs wrote down with what is recorded; yield what does not agree."""
    written = Counter(ran.read_text().split())
    jobs = {job.job_id: job.state for job in client.iterate_jobs(ALL, ["state", "job_id"])}
    yield from (f"job {job} ran {n} times" for job, n in written.items() if n > 1)
    yield from (f"job {job} is {state}" for job, state in jobs.items() if job not in written)
    attempts = Counter(attempt.job_id for attempt in client.iterate_attempts(ALL))
    yield from (f"job {job} has {n} attempts" for job, n in attempts.items() if n > 1)
    outcomes = {attempt.outcome for attempt in client.iterate_attempts(ALL)}
    if outcomes != {Outcome.DONE} or len(attempts) != len(jobs) or len(jobs) != JOBS:
        yield f"{len(jobs)} jobs, {len(attempts)} attempts, {', '.join(map(str, outcomes))}"
