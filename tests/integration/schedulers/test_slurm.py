"""What only a real Slurm shows: launchers in what the adapter asks for, and a controller lost."""

from __future__ import annotations

import os
import shlex
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psutil
import pytest

from balsam.errors import SchedulerAway
from balsam.model.batch_job import BatchState
from balsam.model.states import State
from balsam.schedulers.command import Command
from balsam.schedulers.scheduler import Answer, Status, Submission
from balsam.schedulers.slurm import SQUEUE_HEADER
from balsam.schedulers.slurm import Slurm as Adapter
from tests.integration.conftest import BIN, Campaign, is_running, wait_until
from tests.slurm import Slurm, cluster

B, S = BatchState, State
SLURM = Adapter()
Submit = Callable[..., str]


@pytest.fixture(scope="module")
def slurm() -> Iterator[Slurm]:
    with cluster(2, cpus=2) as found:
        yield found


@pytest.fixture
def run(slurm: Slurm) -> Iterator[Command]:
    """Run Slurm's commands; its nodes are free again after the test."""
    yield Command(30, slurm.commands())
    slurm.run("scancel", "--user=root")
    idle = ["sinfo", "--noheader", "--partition=debug", "--states=idle", "--format=%D"]
    wait_until(lambda: slurm.run(*idle).strip() == "2", lambda: slurm.run("sinfo"))


@pytest.fixture
def database() -> str:
    """The hosts see no server's port."""
    return "sqlite"


@pytest.fixture
def submit(run: Command, tmp_path: Path) -> Submit:
    """Submit a script of two nodes by the adapter; return the id of the request."""

    def submit(body: str, name: str = "balsam-1", num_nodes: int = 2) -> str:
        script = tmp_path / f"{name}.sh"
        submission = Submission(
            name=name,
            script=str(script),
            output=str(tmp_path / "batch.out"),
            directory=str(tmp_path),
            num_nodes=num_nodes,
            minutes=10,
        )
        script.write_text("\n".join(["#!/bin/bash", *SLURM.directives(submission), body, ""]))
        return SLURM.submit(run, submission)

    return submit


def launcher(campaign: Campaign, *args: str) -> str:
    """Return what a script runs so that a launcher works for the campaign."""
    words = ["balsam", "--site", str(campaign.site), "launcher", "--consume-all", *args]
    return f"export PATH={BIN}:$PATH\nexec {shlex.join(words)}"


def status(run: Command, number: str) -> Status | None:
    return SLURM.status(run, [number]).get(number)


def wait_for(run: Command, number: str, *states: BatchState) -> Status:
    def there() -> Status | None:
        found = status(run, number)
        return found if found and found.state in states else None

    found = wait_until(there, lambda: status(run, number))
    assert isinstance(found, Status)
    return found


def started(campaign: Campaign, jobs: list[int]) -> list[int]:
    """Return the processes of the jobs, once all run."""

    def there() -> list[int] | None:
        pids = [attempt.pid for attempt in campaign.client.attempts(jobs)]
        return pids if len(pids) == len(jobs) and all(pids) else None

    found = wait_until(there, lambda: campaign.tell(jobs[0]))
    assert isinstance(found, list)
    return found


@pytest.mark.slow
def test_workers_are_started_on_all_nodes_of_what_was_asked_for(
    campaign: Campaign, run: Command, submit: Submit, tmp_path: Path
) -> None:
    (campaign.site / "balsam.toml").write_text("[nodes]\ncores = 2\n")
    campaign.app("wait", "/bin/sleep 0.5")
    jobs = campaign.jobs("wait", *(f"j{n}" for n in range(8)))
    number = submit(launcher(campaign, "--idle-seconds", "1"))
    ended = wait_for(run, number, B.FINISHED, B.FAILED)
    told = (tmp_path / "batch.out").read_text()
    assert (ended.state, ended.exit_code) == (B.FINISHED, 0), told
    assert "2 nodes by srun" in told
    assert campaign.states() == {"JOB_FINISHED": 8}
    assert {attempt.node for attempt in campaign.client.attempts(jobs)} == {"h1", "h2"}


@pytest.mark.slow
def test_an_allocation_cancelled_while_jobs_run_loses_none(
    campaign: Campaign, run: Command, submit: Submit
) -> None:
    campaign.app("wait", "/bin/sleep 1000")
    jobs = campaign.jobs("wait", *(f"j{n}" for n in range(4)))
    number = submit(launcher(campaign))
    processes = [psutil.Process(pid) for pid in started(campaign, jobs)]
    SLURM.cancel(run, [number])
    wait_for(run, number, B.CANCELLED)
    wait_until(lambda: not any(is_running(process.pid) for process in processes))
    wait_until(lambda: "RUNNING" not in campaign.states(), campaign.states)
    assert campaign.states() == {"RESTART_READY": 4}


@pytest.mark.slow
def test_an_allocation_at_its_walltime_loses_no_jobs(
    campaign: Campaign, run: Command, submit: Submit, slurm: Slurm
) -> None:
    campaign.app("wait", "/bin/sleep 1000")
    jobs = campaign.jobs("wait", "a", "b")
    number = submit(launcher(campaign))
    processes = [psutil.Process(pid) for pid in started(campaign, jobs)]
    end = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(time.time() + 1))
    slurm.run("scontrol", "update", f"JobId={number}", f"EndTime={end}")
    wait_for(run, number, B.TIMEOUT)
    wait_until(lambda: not any(is_running(process.pid) for process in processes))
    wait_until(lambda: "RUNNING" not in campaign.states(), campaign.states)
    assert campaign.states() == {"RESTART_READY": 2}


@pytest.mark.slow
def test_a_controller_that_is_killed_knows_the_same_requests_again(
    run: Command, submit: Submit, slurm: Slurm, tmp_path: Path
) -> None:
    body = "until [ -e go ]; do sleep 0.1; done; exit 3"
    first = submit(body)
    wait_for(run, first, B.RUNNING)
    second = submit(body, "balsam-2")
    # It saves what it knows a little later: what came after would be lost, with its id.
    saved = slurm.path / "state" / "job_state"
    wait_until(lambda: saved.exists() and b"balsam-2" in saved.read_bytes())
    os.kill(slurm.process("slurmctld"), signal.SIGKILL)
    with pytest.raises(SchedulerAway, match=r"squeue: .*(Unable to contact|is not connected)"):
        SLURM.status(run, [first, second])
    with pytest.raises(SchedulerAway):
        SLURM.cancel(run, [second])
    (tmp_path / "go").touch()
    slurm.start_controller()

    def answers() -> dict[str, Status]:
        try:
            return SLURM.status(run, [first, second])
        except SchedulerAway:
            return {}

    assert set(wait_until(answers)) == {first, second}
    for number in (first, second):
        found = wait_for(run, number, B.FINISHED, B.FAILED)
        assert (found.state, found.exit_code) == (B.FAILED, 3)
    assert SLURM.find(run, "balsam-2") == second


@pytest.mark.slow
def test_a_drained_node_is_told_as_the_reason(run: Command, submit: Submit, slurm: Slurm) -> None:
    slurm.run("scontrol", "update", "NodeName=h2", "State=DRAIN", "Reason=disk")
    number = submit("exit 0")

    def reason() -> str:
        found = status(run, number)
        return found.reason if found else ""

    wait_until(lambda: "DRAINED" in reason(), reason)
    assert {queue.nodes for queue in SLURM.queues(run)} == {1}
    slurm.run("scontrol", "update", "NodeName=h2", "State=RESUME")
    assert wait_for(run, number, B.FINISHED).exit_code == 0


@pytest.mark.slow
def test_accounts_tell_of_what_the_queue_forgot(tmp_path: Path) -> None:
    script = tmp_path / "s.sh"
    submission = Submission(
        name="balsam-1",
        script=str(script),
        output=str(tmp_path / "out"),
        directory=str(tmp_path),
        num_nodes=1,
        minutes=10,
    )
    script.write_text("\n".join(["#!/bin/bash", *SLURM.directives(submission), "exit 3"]))
    with cluster(1, cpus=2, has_accounts=True) as accounted:
        run = Command(30, accounted.commands())

        def forgetful(argv: Sequence[str], stdin: str = "") -> Answer:
            answer = run(argv, stdin)
            if argv[0] != "squeue":
                return answer
            return Answer(argv=answer.argv, code=0, out=f"{SQUEUE_HEADER}\n", err="")

        number = SLURM.submit(run, submission)
        wait_for(run, number, B.FAILED)
        found = wait_until(lambda: SLURM.history(forgetful, [number]))[number]
        assert (found.state, found.exit_code) == (B.FAILED, 3)
        # Names come a little later than the end.
        assert wait_until(lambda: SLURM.find(forgetful, "balsam-1")) == number
        assert SLURM.find(forgetful, "balsam-2") is None
        assert SLURM.history(forgetful, ["999"]) == {}
