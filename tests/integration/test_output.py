"""Where the output of jobs goes, and how it is read back."""

from __future__ import annotations

import subprocess
from pathlib import Path

from balsam.model.query import Query
from balsam.model.wire import Outcome
from tests.integration.conftest import BIN, Campaign, Run


def logs(campaign: Campaign, job: int, *args: object) -> str:
    """What `balsam logs JOB ARGS…` prints."""
    command = [str(BIN / "balsam"), "--site", str(campaign.site), "logs", str(job)]
    done = subprocess.run([*command, *map(str, args)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_output_is_in_the_job_s_directory(campaign: Campaign, run: Run) -> None:
    campaign.app("say", "/bin/sh -c 'echo out; echo err >&2'")
    job = campaign.job("say", "a job", workflow="one/two")
    run()
    found = campaign.get(job)
    directory = campaign.site / "data" / "one" / "two" / f"a_job_{found.job_id[:8]}"
    assert Path(found.workdir) == directory
    assert (directory / "a job.out").read_text() == "out\nerr\n"
    assert logs(campaign, job) == "out\nerr\n"


def test_the_stream_keeps_the_output_of_jobs_apart(campaign: Campaign, run: Run) -> None:
    """Jobs that run at the same time write line by line; each attempt has its range."""
    lines = "for i in 1 2 3 4 5; do echo $BALSAM_JOB_ID $BALSAM_ATTEMPT $i; sleep 0.005; done"
    campaign.app("talk", f"#\n{lines}; [ $BALSAM_ATTEMPT = 2 ]")
    jobs = campaign.jobs("talk", *(f"j{i}" for i in range(60)), max_retries=1, node_packing_count=8)
    run("--output", "stream")
    files = set()
    for job in jobs:
        found = campaign.get(job)
        attempts = campaign.attempts(job)
        assert [a.outcome for a in attempts] == [Outcome.ERROR, Outcome.DONE]
        assert not Path(found.workdir).exists()
        for attempt in attempts:
            files.add(attempt.output_file)
            assert attempt.output_file.startswith("stream/1/")
            with (campaign.site / attempt.output_file).open() as file:
                file.seek(attempt.output_offset)
                text = file.read(attempt.output_size)
            expected = [f"{found.job_id} {attempt.number} {i}\n" for i in range(1, 6)]
            assert text == "".join(expected)
    # As many files as ran at a time, not as there are jobs.
    assert 2 <= len(files) <= 8
    for job in jobs[:2]:
        id_ = campaign.get(job).job_id
        for number in (1, 2):
            expected = [f"{id_} {number} {i}\n" for i in range(1, 6)]
            assert logs(campaign, job, "--attempt", number) == "".join(expected)
        assert logs(campaign, job, "--tail", 1) == f"{id_} 2 5\n"


def test_what_needs_a_directory_has_one_with_the_stream(campaign: Campaign, run: Run) -> None:
    """Hooks and files are in the job's own; the run is there, too. Others share theirs."""
    campaign.app("hooked", "/bin/pwd", preprocess="/usr/bin/touch made")
    campaign.app("plain", "/bin/pwd")
    hooked, plain = campaign.job("hooked"), campaign.job("plain")
    run("--output", "stream")
    workdir = Path(campaign.get(hooked).workdir)
    assert logs(campaign, hooked) == f"{workdir}\n"
    assert (workdir / "made").exists()
    assert (workdir / "preprocess.log").exists()
    assert not (workdir / "job.out").exists()
    assert logs(campaign, plain) == f"{campaign.site / 'data' / 'w'}\n"


def test_a_job_run_again_from_the_beginning_keeps_its_earlier_output(
    campaign: Campaign, run: Run
) -> None:
    campaign.app("say", "#\necho attempt $BALSAM_ATTEMPT")
    job = campaign.job("say")
    run()
    campaign.client.rerun_jobs(Query().where(id=job))
    run()
    assert campaign.output(job) == "attempt 1\nattempt 2\n"
    assert logs(campaign, job) == "attempt 1\nattempt 2\n"
    assert logs(campaign, job, "--attempt", 1) == "attempt 1\n"
    assert logs(campaign, job, "--attempt", 2) == "attempt 2\n"


def test_the_log_tells_what_ran(campaign: Campaign, run: Run) -> None:
    """Clients of the original look for these lines."""
    campaign.app("fail", "/bin/false")
    good, bad = campaign.job("true", "good"), campaign.job("fail", "bad")
    run()
    log = (campaign.site / "log" / "launcher_1.log").read_text()
    for job, name, end in ((good, "good", "WORKER_DONE"), (bad, "bad", "WORKER_ERROR")):
        label = f"[{name} | {campaign.get(job).job_id[:8]}]"
        assert f"{label} WORKER_START\n" in log
        assert f"{label} {end}\n" in log
