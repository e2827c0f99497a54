"""Launchers in allocations of a real Slurm: workers by srun, parallel jobs by srun and Hydra."""

from __future__ import annotations

from collections.abc import Iterator

import psutil
import pytest

from balsam.model.states import State
from balsam.model.wire import Outcome
from tests.integration.conftest import BIN, Campaign, wait_until
from tests.slurm import Slurm, cluster

S = State
#: Tells where it is, and what it was left of the worker's own step.
TELL = "#\necho $(hostname) ${SLURM_PROCID-no} ${PMI_RANK-no} ${PMIX_RANK-no}; sleep 1"


@pytest.fixture(scope="module")
def slurm() -> Iterator[Slurm]:
    with cluster(3, cpus=2) as found:
        yield found


def submit(slurm: Slurm, campaign: Campaign, *args: str) -> str:
    """Submit a batch job of all hosts that runs a launcher; return its id."""
    words = f"exec balsam --site {campaign.site} launcher --consume-all {' '.join(args)}"
    options = ["--parsable", "-N3", "--exclusive", "--chdir", campaign.site, "-o", "batch.out"]
    script = f"export PATH={BIN}:$PATH; {words}"
    return slurm.run("sbatch", *options, "--wrap", script).strip()


def output(campaign: Campaign) -> str:
    file = campaign.site / "batch.out"
    return file.read_text() if file.exists() else "(it has not started)"


@pytest.fixture
def database() -> str:
    """The hosts see no server's port."""
    return "sqlite"


@pytest.mark.slow
@pytest.mark.parametrize("mpi", ["srun", "mpich"])
def test_all_nodes_of_an_allocation_are_used(campaign: Campaign, slurm: Slurm, mpi: str) -> None:
    (campaign.site / "balsam.toml").write_text(f'[nodes]\ncores = 2\n[mpi]\ncommand = "{mpi}"\n')
    campaign.app("tell", TELL)
    pairs = campaign.jobs("tell", "pair0", "pair1", num_nodes=2, ranks_per_node=2, priority=1)
    jobs = campaign.jobs("tell", *(f"j{n}" for n in range(18)))
    submit(slurm, campaign, "--idle-seconds", "1")
    wait_until(lambda: set(campaign.states()) == {"JOB_FINISHED"}, lambda: output(campaign))
    wait_until(lambda: "Launcher 1 ended" in output(campaign))
    assert "3 nodes by srun" in output(campaign)
    assert {a.node for a in campaign.client.attempts(jobs)} == {"h1", "h2", "h3"}
    for job in jobs:
        host, *ranks = campaign.output(job).split()
        assert host in ("h1", "h2", "h3")
        # What it has of ranks is the batch script's: that of a program that is none of several.
        assert ranks in (["no"] * 3, ["0", "no", "no"])
    for pair in pairs:
        # srun tells, too, that this Slurm binds nothing.
        hosts = [line.split()[0] for line in campaign.output(pair).splitlines() if line[0] == "h"]
        assert sorted(map(hosts.count, set(hosts))) == [2, 2], campaign.output(pair)


@pytest.mark.slow
def test_a_worker_that_is_killed_is_started_again_in_the_allocation(
    campaign: Campaign, slurm: Slurm
) -> None:
    """And the batch system's order to end leaves nothing."""
    (campaign.site / "balsam.toml").write_text("[nodes]\ncores = 2\nsilence_seconds = 5\n")
    campaign.app("wait", "#\n[ $BALSAM_ATTEMPT = 1 ] || exit 0; exec sleep 1000")
    jobs = campaign.jobs("wait", *(f"j{n}" for n in range(6)))
    number = submit(slurm, campaign, "--persistent")
    wait_until(
        lambda: [a.pid > 0 for a in campaign.client.attempts(jobs)] == [True] * 6,
        lambda: output(campaign),
    )
    there = campaign.client.attempts(jobs)
    (victim, other) = (a for a in there if a.node == "h3")
    worker = psutil.Process(victim.pid).parent()
    assert worker is not None
    worker.kill()
    for job in (victim.job, other.job):
        campaign.wait_for(job, S.JOB_FINISHED)
        assert [a.outcome for a in campaign.attempts(job)] == [Outcome.LOST, Outcome.DONE]
        assert campaign.get(job).retries == 0
    left = [psutil.Process(a.pid) for a in there if a.node != "h3"]
    slurm.run("scancel", "--batch", "--signal=TERM", number)
    wait_until(lambda: "got SIGTERM" in output(campaign), lambda: output(campaign))
    wait_until(lambda: number not in slurm.run("squeue", "-h", "-o", "%A"))
    assert not any(process.is_running() for process in left)
    assert campaign.states() == {"JOB_FINISHED": 2, "RESTART_READY": 4}
