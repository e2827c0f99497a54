"""Workers on several hosts: how they get there, and what happens when they do not."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest

from balsam.model.states import State
from balsam.model.wire import Outcome
from tests.hosts import Hosts
from tests.integration.conftest import Campaign, wait_until
from tests.integration.hosts.conftest import StartPilot, installed

S = State
#: Tells what of its environment a start command may have left there.
TELL = "#\nenv | cut -d= -f1 | grep -E '^(PMI|PMIX|OMPI|HYDRA|MPI_|MPIR|SSH)' || echo nothing"


@pytest.fixture(params=["mpich", "openmpi"])
def mpiexec(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An `mpiexec` in PATH, of each MPI."""
    bin = tmp_path / "bin"
    bin.mkdir()
    # No link: from where they seem to be, they would look for their daemons.
    script = bin / "mpiexec"
    script.write_text(f'#!/bin/sh\nexec {installed(f"mpirun.{request.param}")} "$@"\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{bin}{os.pathsep}{os.environ['PATH']}")


@pytest.mark.usefixtures("mpiexec")
def test_one_command_starts_all_workers(
    campaign: Campaign, hosts: Hosts, pilot: StartPilot
) -> None:
    """One that is killed is replaced; the others are not touched."""
    campaign.app("tell", TELL)
    campaign.app("wait", "#\n[ $BALSAM_ATTEMPT = 1 ] || exit 0; exec sleep 1000")
    told = campaign.jobs("tell", *(f"t{n}" for n in range(8)))
    parallel = campaign.job("tell", "parallel", num_nodes=2)
    settings = {"nodes.start": "mpiexec", "nodes.silence_seconds": 5, "mpi.command": "auto"}
    started = pilot("--persistent", settings=settings)
    wait_until(lambda: set(campaign.states()) == {"JOB_FINISHED"}, lambda: started.launcher.output)
    for job in told:
        assert campaign.output(job) == "nothing\n"
    assert len(campaign.output(parallel).splitlines()) >= 2
    waiting = campaign.job("wait", "wait")
    campaign.wait_for(waiting, S.RUNNING)
    host = campaign.attempts(waiting)[0].node
    others = {n: started.guardian(n).pid for n in (1, 2, 3, 4) if f"h{n}" != host}
    started.worker(int(host[1:])).kill()
    campaign.wait_for(waiting, S.JOB_FINISHED)
    assert [a.outcome for a in campaign.attempts(waiting)] == [Outcome.LOST, Outcome.DONE]
    assert {n: started.guardian(n).pid for n in others} == others
    started.launcher.process.terminate()
    started.launcher.wait()


def test_a_host_that_cannot_be_reached_is_told_and_the_others_work(
    campaign: Campaign, hosts: Hosts, pilot: StartPilot
) -> None:
    campaign.app("second", "/bin/sleep")
    hosts.cut(3)
    options = " -o ConnectTimeout=1"
    settings = {"nodes.ssh": " ".join(hosts.ssh) + options}
    started = pilot("--persistent", settings=settings)
    for number in (1, 2, 4):
        started.guardian(number)
    jobs = campaign.jobs("second", *(f"s{n}" for n in range(24)), args="1")
    wait_until(lambda: set(campaign.states()) == {"JOB_FINISHED"}, lambda: started.launcher.output)
    assert {a.node for a in campaign.client.attempts(jobs)} == {"h1", "h2", "h4"}
    wait_until(lambda: "h3" in started.launcher.output)
    started.launcher.process.terminate()
    started.launcher.wait()


def test_a_start_command_that_is_not_known_is_told_before_anything_runs(
    campaign: Campaign, pilot: StartPilot
) -> None:
    campaign.job("true")
    started = pilot(settings={"nodes.start": "ssj"})
    wait_until(lambda: started.launcher.process.poll() is not None)
    assert started.launcher.process.returncode == 2
    (line,) = started.launcher.output.splitlines()
    assert "nodes.start is 'ssj'" in line
    assert "Did you mean 'ssh'?" in line
    assert campaign.client.launchers(live=False) == []


def test_a_launcher_that_ends_before_its_workers_are_there_leaves_none(
    campaign: Campaign, hosts: Hosts, pilot: StartPilot
) -> None:
    started = pilot("--persistent")
    wait_until(lambda: any(is_ssh(pid) for pid in hosts.processes(1)))
    started.launcher.process.terminate()
    started.launcher.wait()
    hosts.wait_until_empty()


def is_ssh(pid: int) -> bool:
    try:
        return psutil.Process(pid).name() == "ssh"
    except psutil.NoSuchProcess:
        return False
