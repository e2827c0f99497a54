"""`balsam queue`: batch jobs on this machine as a batch system, and the record of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from balsam import config
from balsam.client.local import LocalClient
from balsam.model.batch_job import BatchJob, BatchState
from tests.acceptance.batch import add_jobs, batch_jobs, ok, refused, use_local, wait_for
from tests.acceptance.conftest import Balsam


@pytest.fixture
def here(balsam: Balsam, site: Path, balsam_home: Path) -> Balsam:
    """The site, with this machine as its batch system."""
    use_local(balsam_home, site)
    return balsam


def record(site: Path, **fields: object) -> int:
    """Put a batch job into the record, as if it had been submitted elsewhere."""
    client = LocalClient(site, config.load(site))
    try:
        made = client.create_batch_job(BatchJob(**fields))  # type: ignore[arg-type]
    finally:
        client.close()
    assert made.id is not None
    return made.id


# listing ----------------------------------------------------------------------------


def test_without_batch_jobs(here: Balsam) -> None:
    assert ok(here("queue", "ls")) == "No batch job waits or runs.\n"
    assert ok(here("queue", "ls", "--all")) == "No batch jobs yet.\n"
    assert ok(here("queue", "ls", "--json")) == "[]\n"
    assert "No batch jobs found" in ok(here("ls", "queues"))


def test_one_runs_and_the_next_waits(here: Balsam) -> None:
    add_jobs(here, 1, "/bin/sleep 300")
    for queue in ("debug", "batch"):
        ok(here("submit-launch", "-n", 1, "-t", 10, "-q", queue))
    wait_for(here, 1, "running")
    first, second = ok(here("queue", "ls")).splitlines()[2:]
    assert [cell.strip() for cell in first.split("|")[:6]] == [
        "1",
        "1",
        "debug",
        "1",
        "10",
        "running",
    ]
    assert first.split("|")[6].strip().startswith("runs ")
    assert [cell.strip() for cell in second.split("|")[5:6]] == ["queued"]
    assert "this machine is busy with request 1; may start in " in second
    assert ok(here("queue", "cancel", "--all", "--yes")) == "Cancelled 2 batch jobs.\n"
    for number in (1, 2):
        assert wait_for(here, number, "cancelled")["message"].startswith("cancelled by ")
    assert ok(here("queue", "ls")) == "No batch job waits or runs.\n"
    assert "ended " in ok(here("queue", "ls", "-a"))
    assert json.loads(ok(here("ls", "--json")))[0]["state"] != "RUNNING"


def test_what_the_scheduler_said_is_shown(here: Balsam, site: Path) -> None:
    """User pain 36: the batch system's own error."""
    here("submit-launch", "-n", 1, "-t", 5, "-q", "closed", "--no-check")
    for words in (("ls", "queues", "--verbose"), ("queue", "show", "1"), ("queue", "ls", "-a")):
        assert "queue 'closed' is closed" in ok(here(*words))
    shown = ok(here("queue", "show", 1))
    assert f"script: {site}/qsubmit/qlaunch1.sh\n" in shown
    assert "state: submit_failed\n" in shown


def test_the_end_of_its_output_is_shown(here: Balsam) -> None:
    add_jobs(here, 2, "/bin/true")
    ok(here("submit-launch", "-n", 1, "-t", 5))
    wait_for(here, 1, "finished")
    assert "Jobs that it ran last: 2 JOB_FINISHED\n" in ok(here("queue", "show", 1))
    for words in (("ls", "queues", "--verbose"), ("queue", "show", "1")):
        shown = ok(here(*words))
        assert "qlaunch1.out <==\nStarting Balsam launcher [" in shown
    shown = json.loads(ok(here("queue", "show", 1, "--json")))
    assert (shown["launchers"], shown["jobs_by_state"]) == ([1], {"JOB_FINISHED": 2})
    assert (shown["state"], shown["scheduler"]) == ("finished", "local")


def test_a_batch_system_that_is_away(here: Balsam, site: Path, balsam_home: Path) -> None:
    ok(here("submit-launch", "-n", 1, "-t", 5))
    wait_for(here, 1, "finished")
    number = record(site, scheduler="local", scheduler_id="7", state=BatchState.QUEUED)
    (balsam_home / "local" / "queues.toml").write_text("max_running = 'x'\n")
    done = here("queue", "ls")
    assert f"{number}  | 7 " in ok(done)
    assert "balsam: warning: 'local' failed: " in done.stderr
    assert "what follows is what was recorded when they were submitted" in done.stderr
    assert here("queue", "ls", "--no-refresh").stderr == ""
    assert "'local' failed" in refused(here("queue", "cancel", number, "--yes"), 1)
    assert "'local' failed" in refused(here("queue", "limits"), 1)


def test_one_of_another_batch_system(here: Balsam, site: Path) -> None:
    number = record(site, scheduler="slurm", scheduler_id="7", host="login1", queue="q")
    done = here("queue", "ls")
    assert "| 7 " in ok(done)
    assert f"batch job {number} is of slurm on login1, not of local here" in done.stderr
    said = refused(here("queue", "cancel", number, "--yes"))
    assert "was submitted to slurm on login1, and the batch system here is local" in said
    assert batch_jobs(here, "--no-refresh")[0]["cancel_reason"] == ""


# cancelling -------------------------------------------------------------------------


def test_cancelling_asks(here: Balsam, site: Path) -> None:
    number = record(site, scheduler="local", state=BatchState.QUEUED)
    done = here("queue", "cancel", number, stdin="n\n")
    assert (done.returncode, done.stdout) == (1, "Nothing was cancelled.\n")
    assert f"Really cancel batch job {number} (queued)? [y/n]: " in done.stderr
    assert "no answer" in refused(here("queue", "cancel", number))
    shown = ok(here("queue", "cancel", number, "--dry-run"))
    assert shown.endswith("Would cancel 1 batch job.\n")
    assert batch_jobs(here, "--no-refresh")[0]["cancel_reason"] == ""


def test_what_has_ended_is_not_cancelled(here: Balsam, site: Path) -> None:
    number = record(site, scheduler="local", state=BatchState.FAILED)
    said = ok(here("queue", "cancel", number))
    assert said == f"Ended before: {number} (failed).\nCancelled 0 batch jobs.\n"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("cancel",), 2, "give the ids of the batch jobs to cancel, or --all"),
        (("cancel", 1, "--all"), 2, "give the ids of the batch jobs to cancel, or --all"),
        (("cancel", 1), 1, "there is no batch job 1 on this site"),
        (("cancel", "x"), 2, "the id of a batch job is a number, not 'x'"),
        (("show", 1), 1, "there is no batch job 1 on this site"),
        (("logs", 1), 1, "there is no batch job 1 on this site"),
        (("logs", "9" * 30), 2, "the id of a batch job is a number"),
    ],
)
def test_wrong_use(here: Balsam, words: tuple[object, ...], code: int, said: str) -> None:
    assert said in refused(here("queue", *words), code)


# logs -------------------------------------------------------------------------------


def test_logs(here: Balsam) -> None:
    add_jobs(here, 1, "/bin/sleep 1")
    ok(here("queue", "submit", "-n", 1, "-t", 5))
    followed = ok(here("queue", "logs", 1, "--follow"))
    assert "==> qlaunch1.out <==\nStarting Balsam launcher [" in followed
    assert "==> launcher_1.log <==\n" in followed
    assert "WORKER_DONE" in followed
    last = "==> batch job 1 has ended, finished: nothing left to do <=="
    assert followed.splitlines()[-1] == last
    told = ok(here("queue", "logs", 1, "--tail", 1))
    assert "Launcher 1 ended: nothing left to do." in told
    assert "Starting Balsam launcher" not in told


def test_logs_of_one_that_wrote_nothing(here: Balsam, site: Path) -> None:
    number = record(site, scheduler="local", message="Priority", state=BatchState.QUEUED)
    said = refused(here("queue", "logs", number), 1)
    assert f"batch job {number} (queued: Priority) has written nothing" in said


# queues -----------------------------------------------------------------------------


def test_limits(here: Balsam, site: Path, balsam_home: Path) -> None:
    use_local(balsam_home, site, settings="[queues.debug]\nmax_queued = 2\nmax_minutes = 30\n")
    found = {each["name"]: each for each in json.loads(ok(here("queue", "limits", "--json")))}
    assert list(found) == ["debug", "batch", "closed"]
    assert (found["debug"]["max_minutes"], found["debug"]["is_default"]) == (60, True)
    assert found["debug"]["policy"]["max_queued"] == 2
    assert found["debug"]["windows"] == [{"num_nodes": 1, "minutes": 60}]
    assert (found["batch"]["policy"], found["closed"]["is_open"]) == (None, False)
    debug, _, closed = ok(here("queue", "limits")).splitlines()[4:]
    assert "at most 2 requests, 0 to 30 minutes" in debug
    assert "no: is_open is false in queues.toml" in closed
