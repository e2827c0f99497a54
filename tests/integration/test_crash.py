"""kill -9: nothing is left running, nothing is forgotten, nothing is counted twice."""

from __future__ import annotations

import os
import signal
from collections import Counter
from pathlib import Path

import psutil
import pytest

from balsam.launcher.workers import MOST_STARTS
from balsam.model.query import Query, parse
from balsam.model.states import State
from balsam.model.wire import LauncherInfo, LeaseRequest, Outcome
from tests.integration.conftest import Campaign, Launcher, Run, Start, is_running, wait_until

S = State
#: A job that leaves a daemon: forked twice, in a session of its own.
DAEMON = """#!/usr/bin/env python3
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.environ["BALSAM_ATTEMPT"] != "1":
    sys.exit()
if os.fork() == 0:
    os.setsid()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    if os.fork() == 0:
        os.write(1, f"daemon {os.getpid()}\\n".encode())  # a line at once: two write here
        time.sleep(1000)
    os._exit(0)
os.write(1, f"job {os.getpid()}\\n".encode())
time.sleep(1000)
"""


def daemon(campaign: Campaign) -> int:
    """Add a job of DAEMON."""
    campaign.app("daemon", campaign.program("daemon.py", DAEMON))
    return campaign.job("daemon")


def processes_of(campaign: Campaign, job: int) -> list[int]:
    campaign.wait_for_output(job, "daemon")
    words = campaign.wait_for_output(job, "job").split()
    pids = [int(word) for word in words if word.isdecimal()]
    assert len(pids) == 2
    assert all(map(is_running, pids))
    return pids


@pytest.mark.parametrize("who", ["worker", "guardian"])
def test_a_worker_that_is_killed_is_replaced_and_leaves_nothing(
    campaign: Campaign, start: Start, who: str
) -> None:
    """Its job runs again, uncharged, after the last of its processes has ended."""
    job = daemon(campaign)
    launcher = start()
    pids = processes_of(campaign, job)
    victim: psutil.Process = getattr(launcher, who)()
    victim.kill()
    launcher.wait()
    assert not any(map(is_running, pids))
    assert campaign.path(job) == (
        "PREPROCESSED RUNNING RESTART_READY RUNNING RUN_DONE JOB_FINISHED"
    )
    outcomes = [attempt.outcome for attempt in campaign.attempts(job)]
    assert outcomes == [Outcome.LOST, Outcome.DONE]
    assert campaign.get(job).retries == 0
    assert "ended unexpectedly" in launcher.output


def test_a_worker_that_dies_again_and_again_ends_the_launcher(
    campaign: Campaign, start: Start
) -> None:
    """Fault S6: in order, with its jobs given back."""
    (campaign.site / "balsam.toml").write_text("[launcher]\ncrash_limit = 0\n")
    campaign.app("long", "#\necho ready $BALSAM_ATTEMPT; exec sleep 1000")
    job = campaign.job("long")
    launcher = start("--persistent")
    for attempt in range(1, MOST_STARTS + 1):
        campaign.wait_for_output(job, f"ready {attempt}\n")
        launcher.worker().kill()
    assert f"ended: there is no node left: its worker ended {MOST_STARTS} times" in launcher.wait()
    assert (campaign.state(job), campaign.get(job).launcher_id) == (S.RESTART_READY, None)
    assert [a.outcome for a in campaign.attempts(job)] == [Outcome.LOST] * MOST_STARTS


def test_a_launcher_that_is_killed_leaves_nothing(
    campaign: Campaign, start: Start, run: Run
) -> None:
    """Its worker and what that runs end by themselves; the next launcher goes on."""
    job = daemon(campaign)
    launcher = start()
    pids = processes_of(campaign, job)
    campaign.wait_for(job, S.RUNNING)
    pids += [launcher.guardian().pid, launcher.worker().pid]
    launcher.process.kill()
    wait_until(lambda: not any(map(is_running, pids)))
    said = run()
    assert "launcher 1 on" in said
    assert "died: took over 1 jobs" in said
    assert campaign.path(job) == (
        "PREPROCESSED RUNNING RESTART_READY RUNNING RUN_DONE JOB_FINISHED"
    )
    assert [a.outcome for a in campaign.attempts(job)] == [Outcome.LOST, Outcome.DONE]


def test_what_all_three_left_is_ended_by_the_next_launcher(
    campaign: Campaign, start: Start, run: Run
) -> None:
    """A4: the job does not run twice at the same time."""
    job = daemon(campaign)
    launcher = start()
    pids = processes_of(campaign, job)
    kill_all_of(launcher)
    said = run()
    assert not any(map(is_running, pids))
    assert "killed 2 leftover processes" in said
    assert campaign.state(job) == S.JOB_FINISHED


def test_a_launcher_that_ends_leaves_nothing(campaign: Campaign, start: Start) -> None:
    job = daemon(campaign)
    (campaign.site / "balsam.toml").write_text("[launcher]\ngrace_seconds = 0.5\n")
    launcher = start()
    pids = processes_of(campaign, job)
    launcher.process.terminate()
    launcher.wait()
    assert not any(map(is_running, pids))


def test_orphans_of_jobs_are_reaped_while_the_launcher_runs(
    campaign: Campaign, start: Start
) -> None:
    """A zombie for each would fill the table of processes."""
    campaign.app("orphan", "#\n(sleep 1000 &) &\nexit 0")
    campaign.app("long", "#\necho ready; exec sleep 1000")
    campaign.jobs("orphan", *(f"j{i}" for i in range(40)))
    job = campaign.job("long", priority=-1)
    launcher = start()
    campaign.wait_for_output(job, "ready")
    guardian, worker = launcher.guardian(), launcher.worker()
    wait_until(lambda: len(worker.children()) == 1, lambda: worker.children(recursive=True))
    assert guardian.children() == [worker]
    campaign.client.kill_jobs(Query())
    launcher.wait()


def kill_all_of(launcher: Launcher) -> None:
    """kill -9 the launcher, its guardian and its worker, so that none sees another's end.

    The children first: a stopped process whose parent ends is continued by the kernel, if that
    leaves its process group an orphan.
    """
    victims = [psutil.Process(launcher.process.pid)]
    victims += [p for p in victims[0].children(recursive=True) if _is_worker(p)]
    for victim in victims:
        _signal(victim, signal.SIGSTOP)
    for victim in reversed(victims):
        _signal(victim, signal.SIGKILL)
    launcher.process.wait()
    wait_until(lambda: not any(is_running(victim.pid) for victim in victims))


def _is_worker(process: psutil.Process) -> bool:
    try:
        return "balsam.launcher.worker" in process.cmdline()
    except psutil.NoSuchProcess:
        return False


def _signal(process: psutil.Process, number: int) -> None:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        pass


@pytest.mark.slow
def test_five_crashes_in_the_middle_of_two_thousand_jobs(
    campaign: Campaign, start: Start, run: Run
) -> None:
    count = 2000
    executed = campaign.site / "executed"
    note = f"echo $BALSAM_JOB_ID $BALSAM_ATTEMPT >> {executed}; sleep 0.01"  # a crash is faster
    campaign.app("note", f"/bin/sh -c '{note}'")
    campaign.jobs("note", *(f"j{i}" for i in range(count)))
    finished = 0
    for crash in range(5):
        launcher = start("--output", "stream" if crash % 2 else "directory")

        def is_in_the_middle(before: int = finished) -> bool:
            return campaign.states().get("JOB_FINISHED", 0) >= before + 100

        wait_until(is_in_the_middle, lambda one=launcher: one.output)
        kill_all_of(launcher)
        finished = campaign.states().get("JOB_FINISHED", 0)
        assert finished < count, "all was done before the crash"
    run()
    assert campaign.states() == {"JOB_FINISHED": count}
    check_accounts(campaign, executed, count)
    crashed = [info for info in campaign.client.launchers(live=False) if "died" in info.message]
    assert len(crashed) == 5
    assert campaign.client.launchers() == []


@pytest.mark.slow
def test_crashes_among_hooks_retries_and_children(
    campaign: Campaign, start: Start, run: Run
) -> None:
    """Every execution counts; only hooks, which leave no mark, may run again."""
    executed, count = campaign.site / "executed", 150
    program = campaign.program(
        "run", f"echo $BALSAM_JOB_ID $BALSAM_ATTEMPT >> {executed}; [ $BALSAM_ATTEMPT != 1 ]"
    )
    hooks = {"preprocess": "/usr/bin/touch made", "postprocess": "/usr/bin/test -e made"}
    campaign.app("app", program, **hooks)
    parents = campaign.jobs("app", *(f"p{i}" for i in range(count)), max_retries=1)
    for i, parent in enumerate(parents):
        campaign.job("app", f"c{i}", max_retries=1, parents=[parent])
    for crash in range(3):
        launcher = start()
        finished = 30 * (crash + 1)
        wait_until(
            lambda least=finished: campaign.states().get("JOB_FINISHED", 0) >= least,
            lambda one=launcher: (campaign.states(), one.output),
        )
        kill_all_of(launcher)
    run()
    assert campaign.states() == {"JOB_FINISHED": 2 * count}
    ran = Counter(tuple(line.split()) for line in executed.read_text().splitlines())
    assert max(ran.values()) == 1
    attempts = {(a.job_id, str(a.number)): a for a in campaign.client.iterate_attempts(Query())}
    assert set(ran) <= set(attempts)
    for job in campaign.client.iterate_jobs(Query()):
        outcomes = [attempts[job.job_id, str(n + 1)].outcome for n in range(job.attempt)]
        assert outcomes[-1] is Outcome.DONE
        assert set(outcomes[:-1]) <= {Outcome.ERROR, Outcome.LOST}
        assert outcomes.count(Outcome.ERROR) == job.retries <= 1


def check_accounts(campaign: Campaign, executed: Path, count: int) -> None:
    """Check that each job ended once and that every execution is recorded, once."""
    query = Query(filters=parse({"to_state": "JOB_FINISHED"}, "events"))
    ends = Counter(event.job for event in campaign.client.iterate_events(query))
    assert set(ends.values()) == {1}
    assert len(ends) == count
    ran = Counter(tuple(line.split()) for line in executed.read_text().splitlines())
    assert max(ran.values()) == 1, [pair for pair, n in ran.items() if n > 1]
    attempts = {
        (attempt.job_id, str(attempt.number)): attempt
        for attempt in campaign.client.iterate_attempts(Query())
    }
    assert set(ran) <= set(attempts)
    for attempt in attempts.values():
        assert attempt.ended_at is not None, attempt
        assert attempt.outcome in (Outcome.DONE, Outcome.LOST), attempt
    done = {key for key, attempt in attempts.items() if attempt.outcome is Outcome.DONE}
    assert len(done) == count
    assert done <= set(ran)
    assert {job.retries for job in campaign.client.iterate_jobs(Query())} == {0}
    assert list((campaign.site / "log").glob("*.journal")) == []
    assert list((campaign.site / "log").glob("*.new")) == []


# dead launchers -----------------------------------------------------------------------------


def test_a_dead_launcher_of_another_host_loses_its_jobs_when_its_lease_ends(
    campaign: Campaign, start: Start
) -> None:
    """Fault A4: by the database's clock, and with a line of history."""
    (campaign.site / "balsam.toml").write_text("[launcher]\nlease_seconds = 0.5\n")
    job, kept = campaign.jobs("true", "a", "b")
    client = campaign.client

    def take(seconds: float) -> int:
        id_ = client.register_launcher(LauncherInfo(host="elsewhere", pid=1), seconds)
        (leased,) = client.lease(id_, LeaseRequest(limit=1)).jobs
        assert leased.launcher_id == id_
        return id_

    take(1.0)
    alive = take(3600.0)
    launcher = start("--persistent")
    campaign.wait_for(job, S.JOB_FINISHED)
    launcher.process.terminate()
    said = launcher.wait()
    assert "launcher 1 on elsewhere died: took over 1 jobs" in said
    assert campaign.get(kept).launcher_id == alive
    assert campaign.state(kept) == S.PREPROCESSED


@pytest.mark.parametrize("space", ["another boot/pid:[1]", "{boot}/pid:[1]"])
def test_a_launcher_that_we_cannot_see_is_not_taken_for_dead(
    campaign: Campaign, run: Run, space: str
) -> None:
    """Fault A4: containers may have one host name, and each its own pids."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    info = LauncherInfo(
        host=os.uname().nodename, pid=4194304, pid_started=f"{space.format(boot=boot)}/1"
    )
    launcher = campaign.client.register_launcher(info, 3600.0)
    job = campaign.job("true")
    campaign.client.lease(launcher, LeaseRequest(limit=1))
    run()
    assert campaign.get(job).launcher_id == launcher


def test_a_damaged_journal_is_kept_and_stops_nobody(
    campaign: Campaign, start: Start, run: Run
) -> None:
    """Fault L1: the next launcher does not die of it, too."""
    job = daemon(campaign)
    launcher = start()
    processes_of(campaign, job)
    campaign.wait_for(job, S.RUNNING)
    kill_all_of(launcher)
    journal = campaign.site / "log" / "launcher_1.journal"
    journal.write_bytes(b'{"sent":[[\n' + journal.read_bytes())
    said = run()
    assert "launcher_1.journal, line 1 cannot be read" in said
    assert "kept as launcher_1.damaged" in said
    assert campaign.state(job) == S.JOB_FINISHED
    assert [a.outcome for a in campaign.attempts(job)] == [Outcome.LOST, Outcome.DONE]


def test_a_launcher_that_was_taken_for_dead_stops_what_it_runs(
    campaign: Campaign, start: Start
) -> None:
    """Nothing that it reports later counts."""
    campaign.app("patient", "#\necho ready $BALSAM_ATTEMPT; exec sleep 1000")
    job = campaign.job("patient")
    launcher = start()
    campaign.wait_for_output(job, "ready 1")
    campaign.wait_for(job, S.RUNNING)
    worker = launcher.worker()
    pids = [child.pid for child in worker.children()]
    campaign.client.retire_launcher(1, "taken for dead", lost=True)
    campaign.client.kill_jobs(Query().where(id=job))
    wait_until(lambda: launcher.process.poll() is not None, lambda: launcher.output)
    assert launcher.process.returncode == 1
    assert "has lost its lease: taken for dead" in launcher.output
    assert not any(map(is_running, [*pids, worker.pid]))
    assert campaign.path(job) == "PREPROCESSED RUNNING RESTART_READY USER_KILLED"
    (attempt,) = campaign.attempts(job)
    assert (attempt.outcome, attempt.exit_code) == (Outcome.REFUSED, -9)
