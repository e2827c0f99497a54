"""Retry rules, the crash limit, and what each attempt keeps, with real programs."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess

import pytest

from balsam.model.query import Query
from balsam.model.retry import parse_rules
from balsam.model.states import State
from balsam.model.wire import Attempt, Outcome
from tests.integration.conftest import BIN, Campaign, Run, Start, is_running
from tests.integration.test_crash import kill_all_of

S = State


def settings(campaign: Campaign, *lines: str) -> None:
    (campaign.site / "balsam.toml").write_text("\n".join(["[launcher]", *lines, ""]))


def messages(campaign: Campaign, job: int, to: State = S.RESTART_READY) -> list[str]:
    return [event.message for event in campaign.events(job) if event.to_state == to]


@pytest.mark.parametrize("end", ["exit 137", "kill -KILL $$"])
def test_a_program_that_runs_out_of_memory_gets_more(
    campaign: Campaign, run: Run, end: str
) -> None:
    campaign.app("hungry", f"#\n[ $BALSAM_ATTEMPT = 3 ] || {end}")
    campaign.client.update_apps(
        Query(), {"retry": parse_rules("exit=2: never; exit=137: memory*2, max=3")}
    )
    job = campaign.job("hungry", memory_mib=64)
    run()
    how = "exit code 137" if "exit" in end else "ended by SIGKILL"
    assert campaign.state(job) == S.JOB_FINISHED
    assert messages(campaign, job) == [
        f"retry 1 of 3 ({how}): memory 64 → 128 MiB",
        f"retry 2 of 3 ({how}): memory 128 → 256 MiB",
    ]
    found = campaign.get(job)
    assert (found.memory_mib, found.retries, found.attempt) == (256, 2, 3)
    assert [a.outcome for a in campaign.attempts(job)] == [Outcome.ERROR] * 2 + [Outcome.DONE]


def test_the_first_rule_that_matches_decides(campaign: Campaign, run: Run) -> None:
    """The job's rules before the app's, and these before `max_retries`."""
    campaign.app("fail", "#\neval $END")
    campaign.client.update_apps(
        Query(), {"retry": parse_rules("exit=2: never; signal=USR1: max=2")}
    )

    def job(name: str, end: str, **fields: object) -> int:
        return campaign.job("fail", name, environ={"END": end}, max_retries=1, **fields)

    never = job("never", "exit 2")
    own = job("own", "exit 2", retry=parse_rules("exit=1-9: max=3"))
    killed = job("killed", "kill -USR1 $$")
    other = job("other", "exit 3")
    run()
    assert {job: len(campaign.attempts(job)) for job in (never, own, killed, other)} == {
        never: 1,
        own: 4,
        killed: 3,
        other: 2,
    }
    assert campaign.states() == {"FAILED": 4}
    assert campaign.message(never, S.FAILED) == "not retried (exit code 2), as 'exit=2: never' says"
    assert campaign.message(killed, S.FAILED) == (
        "no retry left: 2 of 2 (ended by SIGUSR1), by 'signal=USR1: max=2'"
    )


def test_a_retry_waits_and_the_launcher_with_it(campaign: Campaign, run: Run) -> None:
    campaign.app("late", "#\n[ $BALSAM_ATTEMPT = 3 ]")
    job = campaign.job("late", retry=parse_rules("any: delay=0.5, backoff=2, max=2"))
    run("--idle-seconds", 0.1)
    assert campaign.state(job) == S.JOB_FINISHED
    assert messages(campaign, job) == [
        "retry 1 of 2 (exit code 1): in 0.5 s",
        "retry 2 of 2 (exit code 1): in 1 s",
    ]
    decided = [event.time for event in campaign.events(job) if event.to_state == "RESTART_READY"]
    first, second, third = campaign.attempts(job)
    assert first.ended_at
    assert first.ended_at <= decided[0]
    for attempt, earliest in ((second, decided[0] + 0.5), (third, decided[1] + 1.0)):
        assert attempt.started_at
        assert attempt.started_at >= earliest
    assert campaign.get(job).retry_at is None


def test_a_launcher_whose_time_is_over_before_does_not_wait(campaign: Campaign, run: Run) -> None:
    campaign.app("fail", "/bin/false")
    job = campaign.job("fail", retry=parse_rules("any: delay=3000"))
    said = run("--time-limit-minutes", 5)
    assert "nothing left to do" in said
    assert "1 jobs wait for their retry" in said
    found = campaign.get(job)
    (event,) = [event for event in campaign.events(job) if event.to_state == "RESTART_READY"]
    assert (found.state, found.launcher_id, found.retries) == (S.RESTART_READY, None, 1)
    assert found.retry_at
    assert abs(found.retry_at - event.time - 3000) < 1e-3


def test_a_job_that_has_grown_too_large_is_given_back(campaign: Campaign, run: Run) -> None:
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2**20
    campaign.app("fail", "/bin/false")
    job = campaign.job("fail", memory_mib=memory // 3, retry=parse_rules("any: memory*4, max=5"))
    said = run()
    assert "1 jobs need more than this launcher has" in said
    found = campaign.get(job)
    assert (found.state, found.launcher_id) == (S.RESTART_READY, None)
    assert (found.memory_mib, found.attempt) == (memory // 3 * 4, 1)


def test_time_that_was_too_short_grows_and_is_limited(campaign: Campaign, start: Start) -> None:
    settings(campaign, "grace_seconds = 0.5")
    campaign.app("long", "#\necho ready $BALSAM_ATTEMPT; exec sleep 1000")
    job = campaign.job("long", wall_time_minutes=2.0, retry=parse_rules("timeout: time*1.5, max=2"))
    for attempt in (1, 2, 3):
        launcher = start()
        campaign.wait_for_output(job, f"ready {attempt}\n")
        launcher.process.terminate()
        launcher.wait()
    assert messages(campaign, job) == [
        "time-out 1 of 2: time 2 → 3 min",
        "time-out 2 of 2: time 3 → 4.5 min",
    ]
    found = campaign.get(job)
    assert (found.state, found.timeouts, found.retries) == (S.FAILED, 3, 0)
    assert found.wall_time_minutes == 4.5
    assert campaign.message(job, S.FAILED) == (
        "out of time 3 times; 'timeout: max=2, time*1.5' allows 2"
    )
    assert [a.outcome for a in campaign.attempts(job)] == [Outcome.TIMEOUT] * 3


# the crash limit ----------------------------------------------------------------------------


def test_a_job_whose_worker_dies_each_time_fails(campaign: Campaign, start: Start) -> None:
    """A child that waits for that runs."""
    settings(campaign, "crash_limit = 2")
    campaign.app("deadly", "#\necho ready $BALSAM_ATTEMPT; exec sleep 1000")
    job = campaign.job("deadly", priority=1, max_retries=9, retry=parse_rules("any: max=9"))
    child = campaign.job("true", "child", parents_failed=[job])
    launcher = start()
    for attempt in (1, 2):
        campaign.wait_for_output(job, f"ready {attempt}\n")
        campaign.wait_for(job, S.RUNNING)
        launcher.worker().kill()
    launcher.wait()
    assert campaign.path(job) == "PREPROCESSED RUNNING RESTART_READY RUNNING FAILED"
    reason = campaign.message(job, S.FAILED)
    assert reason.startswith("its node or launcher died 2 times while it ran; see its attempts")
    found = campaign.get(job)
    assert (found.crashes, found.retries) == (2, 0)
    assert [a.outcome for a in campaign.attempts(job)] == [Outcome.LOST] * 2
    assert campaign.state(child) == S.JOB_FINISHED


def test_a_job_whose_launcher_dies_each_time_fails(
    campaign: Campaign, start: Start, run: Run
) -> None:
    settings(campaign, "crash_limit = 2")
    campaign.app("deadly", "#\necho ready $BALSAM_ATTEMPT; exec sleep 1000")
    job = campaign.job("deadly")
    for attempt in (1, 2):
        launcher = start()
        campaign.wait_for_output(job, f"ready {attempt}\n")
        campaign.wait_for(job, S.RUNNING)
        kill_all_of(launcher)
    run()
    assert campaign.path(job) == "PREPROCESSED RUNNING RESTART_READY RUNNING FAILED"
    assert "died 2 times while it ran" in campaign.message(job, S.FAILED)
    assert "launcher 2 on" in campaign.message(job, S.FAILED)
    assert campaign.get(job).crashes == 2
    assert campaign.client.rerun_jobs(Query()) == 1
    found = campaign.get(job)
    assert (found.state, found.crashes, found.attempt) == (S.PREPROCESSED, 0, 2)


# what an attempt keeps ----------------------------------------------------------------------


def only_attempt(campaign: Campaign, job: int) -> Attempt:
    (attempt,) = campaign.attempts(job)
    assert attempt.node == socket.gethostname()
    assert attempt.started_at
    assert attempt.ended_at
    assert attempt.started_at <= attempt.ended_at
    return attempt


def test_the_signal_that_ended_a_program_has_its_name(campaign: Campaign, start: Start) -> None:
    """In Python, in JSON and in `balsam show`."""
    campaign.app("long", "#\necho ready; exec sleep 1000")
    job = campaign.job("long")
    before = campaign.client.now()
    launcher = start()
    campaign.wait_for_output(job, "ready")
    campaign.wait_for(job, S.RUNNING)
    (pid,) = [child.pid for child in launcher.worker().children()]
    os.kill(pid, signal.SIGKILL)
    launcher.wait()
    assert not is_running(pid)
    attempt = only_attempt(campaign, job)
    assert (attempt.pid, attempt.exit_code, attempt.signal) == (pid, -9, "SIGKILL")
    assert before <= (attempt.started_at or 0)
    assert (attempt.ended_at or 0) <= campaign.client.now()
    show = [str(BIN / "balsam"), "--site", str(campaign.site), "show", str(job)]
    told = json.loads(subprocess.check_output([*show, "--json"]))["attempts"][0]
    assert (told["exit_code"], told["signal"], told["pid"]) == (-9, "SIGKILL", pid)
    text = subprocess.check_output(show, text=True)
    assert "exit_code: -9  (SIGKILL)" in text
    assert "| SIGKILL |" in text


def test_the_memory_that_a_program_used_is_kept(campaign: Campaign, run: Run) -> None:
    """And a job that asked for none grows from there."""
    text = "import sys; x = b'x' * (200 << 20); sys.exit(9)"
    campaign.app("large", f'/usr/bin/env python3 -c "{text}"')
    job = campaign.job("large", retry=parse_rules("exit=9: memory*2; any: never"))
    run()
    first, second = campaign.attempts(job)
    assert first.peak_memory_mib
    assert 200 < first.peak_memory_mib < 240
    assert (second.exit_code, second.signal) == (9, None)
    assert 2 * first.peak_memory_mib <= campaign.get(job).memory_mib < 481


def test_the_processor_time_that_a_program_used_is_kept(campaign: Campaign, run: Run) -> None:
    program = campaign.program(
        "burn.py",
        "#!/usr/bin/env python3\nimport time\n"
        "while (used := time.process_time()) < 0.5: pass\n"
        "print(used)\n",
    )
    campaign.app("burn", program)
    job = campaign.job("burn")
    run()
    used = float(campaign.output(job))
    attempt = only_attempt(campaign, job)
    assert attempt.cpu_seconds
    assert used <= attempt.cpu_seconds < used + 0.5
