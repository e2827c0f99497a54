"""Hooks around a run: preprocess, postprocess, and its calls as a handler."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from balsam.model.query import Query
from balsam.model.states import State
from balsam.model.wire import Outcome
from tests.integration.conftest import BIN, Campaign, Run, Start, wait_until

S = State


def log(campaign: Campaign, job: int, which: str) -> str:
    return Path(campaign.get(job).workdir, f"{which}.log").read_text()


def test_hooks_run_once_around_the_job_with_the_whole_environment(
    campaign: Campaign, run: Run
) -> None:
    """Fault L9: in the job's directory, found in PATH, with all that the launcher has."""
    for which in ("pre", "post"):
        campaign.program(which, f"echo {which} >> order; env; echo to stderr >&2")
    directory = campaign.program("run", "echo run >> order")
    scripts = str(Path(directory).parent)
    campaign.app("app", directory, preprocess="pre 'a  b'", postprocess="post")
    job = campaign.job("app", environ={"OWN": "x"})
    run(env={"INHERITED": "yes", "PATH": f"{scripts}:/usr/bin:/bin"})
    assert campaign.path(job) == ("READY PREPROCESSED RUNNING RUN_DONE POSTPROCESSED JOB_FINISHED")
    workdir = Path(campaign.get(job).workdir)
    assert (workdir / "order").read_text() == "pre\nrun\npost\n"
    first, *lines = log(campaign, job, "preprocess").splitlines()
    assert first == "# Balsam Preprocessor: pre 'a  b'"
    assert lines[-1] == "to stderr"
    first, *lines = log(campaign, job, "postprocess").splitlines()
    assert first == "# Balsam Postprocessor: post"
    told = {"OWN=x", "INHERITED=yes", f"BALSAM_SITE={campaign.site}", "BALSAM_ATTEMPT=1"}
    assert {*told, f"BALSAM_JOB_ID={campaign.get(job).job_id}"} <= set(lines)
    assert not any(line.startswith(("BALSAM_JOB_ERROR", "BALSAM_JOB_TIMEOUT")) for line in lines)
    assert campaign.output(job) == ""


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("/bin/sh -c 'seq 100; exit 3'", "exit code 3: "),
        ("/bin/sh -c 'kill -9 $$'", "ended by SIGKILL"),
        ("/no/such/hook", "program /no/such/hook does not exist"),
        ("no-such-hook", "program 'no-such-hook' is not found in PATH"),
    ],
)
def test_a_hook_that_fails_fails_its_job_with_the_reason(
    campaign: Campaign, run: Run, command: str, reason: str
) -> None:
    """Fault L9: the event has the end of its output, its log has all."""
    for which in ("preprocess", "postprocess"):
        campaign.app(which, "/bin/true", **{which: command})
    before, after = campaign.job("preprocess"), campaign.job("postprocess")
    good = campaign.job("true")
    run()
    assert campaign.path(before) == "READY FAILED"
    assert campaign.path(after) == "PREPROCESSED RUNNING RUN_DONE FAILED"
    assert f"preprocess: {reason}" in campaign.message(before, S.FAILED)
    assert f"postprocess: {reason}" in campaign.message(after, S.FAILED)
    if "seq" in command:
        assert campaign.message(after, S.FAILED).endswith("\n99\n100")
        whole = [str(i) for i in range(1, 101)]
        assert log(campaign, after, "postprocess").splitlines()[1:] == whole
    assert campaign.state(good) == S.JOB_FINISHED


def test_a_hook_that_takes_too_long_fails_its_job(campaign: Campaign, run: Run) -> None:
    (campaign.site / "balsam.toml").write_text("[launcher]\nhook_seconds = 0.5\n")
    campaign.app("app", "/bin/true", postprocess="sleep 1000")
    job = campaign.job("app")
    run()
    assert campaign.state(job) == S.FAILED
    assert "postprocess: ended by SIGKILL: took longer than its 0.5 s" in campaign.message(
        job, S.FAILED
    )


def test_preprocess_is_not_run_again_before_a_retry(campaign: Campaign, run: Run) -> None:
    app = campaign.program("app", "[ $BALSAM_ATTEMPT = 2 ]")
    campaign.app("app", app, preprocess=campaign.program("pre", "echo pre >> order"))
    job = campaign.job("app", max_retries=1)
    run()
    assert campaign.state(job) == S.JOB_FINISHED
    assert Path(campaign.get(job).workdir, "order").read_text() == "pre\n"


def test_few_hooks_at_a_time(campaign: Campaign, run: Run) -> None:
    (campaign.site / "balsam.toml").write_text("[launcher]\nhooks = 1\n")
    hook = campaign.program("hook", f"mkdir {campaign.site}/lock && rmdir {campaign.site}/lock")
    campaign.app("app", "/bin/true", postprocess=hook)
    campaign.jobs("app", *(f"j{i}" for i in range(30)))
    run()
    assert campaign.states() == {"JOB_FINISHED": 30}


# handlers -----------------------------------------------------------------------------------

API = """#!/usr/bin/env python
import os
from balsam.api import Job
job = Job.objects.get(job_id=os.environ["BALSAM_JOB_ID"])
assert os.environ["BALSAM_JOB_ERROR"] == "TRUE", os.environ
assert job.state == "RUN_ERROR", job.state
job.args = "good"
job.state = "{state}"
job.save()
"""
MODIFY = """#!/bin/sh
[ "$BALSAM_JOB_ERROR" = TRUE ] || exit 0
balsam modify $BALSAM_JOB_ID args good && balsam modify $BALSAM_JOB_ID state {state}
"""


@pytest.mark.parametrize("how", [API, MODIFY], ids=["python", "modify"])
def test_a_handler_repairs_its_job(campaign: Campaign, run: Run, how: str) -> None:
    """It finds the job in RUN_ERROR, changes it, and says how it goes on."""
    jobs = {}
    program = campaign.program("app", '[ "$1" = good ]')
    for state in ("RESTART_READY", "JOB_FINISHED", "FAILED"):
        text = how.format(state=state)
        if how is API:  # as the handler of errors only: it is called after a good run, too
            text = text.replace(
                "import os\n",
                "import os\nif 'BALSAM_JOB_ERROR' not in os.environ:\n    exit()\n",
                1,
            )
        campaign.app(state, program, postprocess=campaign.program(f"handle_{state}", text))
        jobs[state] = campaign.job(state, args="bad", post_error_handler=True)
    run(env={"BALSAM_SITE": str(campaign.site)})
    for state, job in jobs.items():
        assert campaign.get(job).args == "good", log(campaign, job, "postprocess")
        head = log(campaign, job, "postprocess").splitlines()[:2]
        assert head[0].startswith("# Balsam Postprocessor: /")
        assert head[1] == "# Invoked to handle RUN_ERROR"
        rest = "RUNNING RUN_DONE POSTPROCESSED JOB_FINISHED" if state == "RESTART_READY" else ""
        path = f"PREPROCESSED RUNNING RUN_ERROR {state} {rest}".strip()
        assert campaign.path(job) == path, campaign.tell(job)
    repaired = campaign.attempts(jobs["RESTART_READY"])
    assert [a.outcome for a in repaired] == [Outcome.ERROR, Outcome.DONE]
    assert campaign.get(jobs["RESTART_READY"]).retries == 0


def test_a_job_that_its_handler_left_unrepaired_has_failed(campaign: Campaign, run: Run) -> None:
    campaign.app("fail", "/bin/sh -c 'exit 4'", postprocess="/bin/true")
    handled = campaign.job("fail", post_error_handler=True)
    plain = campaign.job("fail")
    run()
    assert campaign.path(handled) == "PREPROCESSED RUNNING RUN_ERROR FAILED"
    assert "left the job in RUN_ERROR" in campaign.message(handled, S.FAILED)
    assert campaign.path(plain) == "PREPROCESSED RUNNING RUN_ERROR FAILED"
    assert not Path(campaign.get(plain).workdir, "postprocess.log").exists()


def test_a_timeout_handler_repairs_its_job(campaign: Campaign, run: Run) -> None:
    """The launcher that stops leaves the handler to the next one."""
    handler = """#!/bin/sh
    [ "$BALSAM_JOB_TIMEOUT" = TRUE ] || exit 0
    balsam modify $BALSAM_JOB_ID args good && balsam modify $BALSAM_JOB_ID state RESTART_READY
    """
    program = campaign.program("app", '[ "$1" = good ] || exec sleep 1000')
    campaign.app("app", program, postprocess=campaign.program("handler", handler.lstrip()))
    job = campaign.job("app", args="bad", post_timeout_handler=True)
    run("--time-limit-minutes", 0.1)
    assert campaign.path(job) == "PREPROCESSED RUNNING RUN_TIMEOUT"
    assert campaign.get(job).launcher_id is None
    run(env={"BALSAM_SITE": str(campaign.site)})
    assert campaign.state(job) == S.JOB_FINISHED, campaign.tell(job)
    assert "# Invoked to handle RUN_TIMEOUT\n" in log(campaign, job, "postprocess")
    outcomes = [attempt.outcome for attempt in campaign.attempts(job)]
    assert outcomes == [Outcome.TIMEOUT, Outcome.DONE]


def test_a_python_hook_finds_its_job_and_adds_children(campaign: Campaign, run: Run) -> None:
    """`#!/usr/bin/env python` is the launcher's own Python when that is in PATH."""
    text = f"""#!/usr/bin/env python
import os, sys
from balsam.api import Job
assert sys.executable == {sys.executable!r} or {str(BIN)!r} in os.environ["PATH"]
job = Job.objects.get(job_id=os.environ["BALSAM_JOB_ID"])
job.data["seen"] = job.state
job.save()
Job(name="child", workflow="w", application="true").save()
"""
    campaign.app("app", "/bin/true", postprocess=campaign.program("post.py", text))
    job = campaign.job("app")
    run("--idle-seconds", "0.1")
    assert campaign.state(job) == S.JOB_FINISHED, campaign.tell(job)
    assert campaign.get(job).data == {"seen": "RUN_DONE"}
    assert campaign.states() == {"JOB_FINISHED": 2}


def test_a_killed_job_s_hook_ends(campaign: Campaign, start: Start) -> None:
    hook = campaign.program("hook", "echo here; exec sleep 1000")
    campaign.app("app", "/bin/true", postprocess=hook)
    job = campaign.job("app")
    launcher = start()
    file = Path(campaign.get(job).workdir, "postprocess.log")
    wait_until(lambda: file.exists() and "here" in file.read_text(), lambda: campaign.tell(job))
    campaign.client.kill_jobs(Query().where(id=job))
    launcher.wait()
    assert campaign.path(job) == "PREPROCESSED RUNNING RUN_DONE USER_KILLED"
