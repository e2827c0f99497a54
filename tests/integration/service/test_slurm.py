"""The service on a real Slurm: it gets the nodes for a campaign, within all limits."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from balsam.model.batch_job import BatchJob, BatchState
from balsam.model.query import ALL
from balsam.model.wire import Outcome
from tests.integration.conftest import BIN, Campaign, wait_until
from tests.slurm import Slurm, cluster

#: Two queues: of single nodes, and of several.
PARTITIONS = """
PartitionName=narrow Nodes=ALL MaxNodes=1 MaxTime=30 State=UP
PartitionName=wide Nodes=ALL MinNodes=2 MaxNodes=3 MaxTime=60 State=UP
"""
SETTINGS = """
[nodes]
cores = 4
[launcher]
lease_seconds = 15
[scheduler]
name = "slurm"
[service]
poll_seconds = 1.0
target_minutes = 15
idle_minutes = 0.05
budget_node_hours = 4.0
[queues.narrow]
max_queued = 2
max_minutes = 20
[queues.wide]
max_queued = 1
max_nodes = 2
max_minutes = 30
"""
#: How long slurmctld is away, in seconds.
AWAY = float(os.environ.get("BALSAM_TEST_AWAY_SECONDS", "8"))


@pytest.fixture(scope="module")
def slurm() -> Iterator[Slurm]:
    with cluster(4, cpus=4, more=PARTITIONS) as found:
        yield found


@pytest.fixture
def database() -> str:
    """The hosts see no server's port."""
    return "sqlite"


@contextmanager
def service(slurm: Slurm, campaign: Campaign) -> Iterator[None]:
    """Run the service on the first host."""
    with (campaign.site / "service.out").open("wb") as out:
        words = slurm.on(1, [BIN / "balsam", "--site", campaign.site, "service", "run"])
        started = subprocess.Popen(words, env=slurm.environ, stdout=out, stderr=out)
        try:
            yield
        finally:
            assert campaign.client.request_service_stop()
            assert started.wait(30) == 0


def said(campaign: Campaign) -> str:
    texts = [campaign.site / "service.out", *sorted((campaign.site / "qsubmit").glob("*.out"))]
    return "\n".join(f"{file.name}:\n{file.read_text()}" for file in texts if file.exists())


def trouble(campaign: Campaign) -> str:
    """What the service says that keeps it from working."""
    found = campaign.client.service()
    assert found is not None
    return found.status.trouble


def batch_jobs(campaign: Campaign) -> list[BatchJob]:
    return campaign.client.batch_jobs(ALL)


def batch_job(campaign: Campaign, number: int | None) -> BatchJob:
    (found,) = (each for each in batch_jobs(campaign) if each.id == number)
    return found


def plan(slurm: Slurm, campaign: Campaign) -> dict[str, object]:
    words = slurm.on(1, [BIN / "balsam", "--site", campaign.site, "service", "plan", "--json"])
    done = subprocess.run(words, env=slurm.environ, capture_output=True, text=True, check=True)
    found: dict[str, object] = json.loads(done.stdout)
    return found


@pytest.mark.slow
def test_a_campaign_of_two_queues(campaign: Campaign, slurm: Slurm) -> None:
    """400 jobs of one core and 20 of two nodes: few batch jobs, within limits and budget."""
    (campaign.site / "balsam.toml").write_text(SETTINGS + '[mpi]\ncommand = "srun"\n')
    campaign.app("one", "#\nsleep 0.5; hostname")
    campaign.app("pair", "#\nhostname")
    ones = campaign.jobs("one", *(f"o{n}" for n in range(400)), wall_time_minutes=1.0)
    pairs = campaign.jobs("pair", *(f"p{n}" for n in range(20)), num_nodes=2, wall_time_minutes=1.0)
    foretold = plan(slurm, campaign)["submissions"]
    assert isinstance(foretold, list)
    assert batch_jobs(campaign) == []  # to plan is to change nothing
    seen: list[tuple[str, int]] = []
    with service(slurm, campaign):

        def done() -> bool:
            words = ["squeue", "-h", "-o", "%P %D"]
            rows = [line.split() for line in slurm.run(*words).splitlines()]
            seen.extend((name, sum(row[0] == name for row in rows)) for name in ("narrow", "wide"))
            return campaign.states() == {"JOB_FINISHED": 420}

        wait_until(done, lambda: said(campaign))
        wait_until(lambda: not any(each.is_live for each in batch_jobs(campaign)))
    made = batch_jobs(campaign)
    print(f"foretold {len(foretold)}, made {len(made)}")
    assert len(made) <= len(foretold) + 1, said(campaign)
    for each in made:
        assert each.state is BatchState.FINISHED, said(campaign)
        limits = {"narrow": (1, 20), "wide": (2, 30)}[each.queue]
        assert each.num_nodes <= limits[0]
        assert each.wall_time_minutes <= limits[1]
    assert max(n for name, n in seen if name == "narrow") <= 2
    assert max(n for name, n in seen if name == "wide") <= 1
    assert sum(each.num_nodes * each.wall_time_minutes / 60 for each in made) <= 4.0 * len(made)
    assert campaign.client.node_hours() <= 4.0
    attempts = campaign.client.attempts([*ones, *pairs])
    assert [a.outcome for a in attempts] == [Outcome.DONE] * 420
    ran_by = {job.batch_job_id for job in campaign.client.jobs(ALL)}
    assert ran_by <= {each.id for each in made}
    assert all(sorted(campaign.output(job).split())[0] != "" for job in pairs)


@pytest.mark.slow
def test_slurmctld_dies_and_an_allocation_is_cancelled(campaign: Campaign, slurm: Slurm) -> None:
    (campaign.site / "balsam.toml").write_text(SETTINGS)
    # Enough for what the four nodes can do meanwhile; what is left then need not take its time.
    hurry = campaign.site / "hurry"
    campaign.app("one", f"#\n[ -e {hurry} ] || sleep 1; echo ended >>ends")
    count = int(16 * (AWAY + 30))
    jobs = campaign.jobs("one", *(f"o{n}" for n in range(count)), wall_time_minutes=1.0)
    with service(slurm, campaign):
        wait_until(lambda: campaign.states().get("JOB_FINISHED", 0) > 4, lambda: said(campaign))
        # What it has not saved it does not know when it starts again, and ends as an orphan.
        begun = max(each.started_at or 0.0 for each in batch_jobs(campaign))
        state = slurm.path / "state" / "job_state"
        wait_until(lambda: state.exists() and state.stat().st_mtime > begun + 2)
        psutil.Process(slurm.process("slurmctld")).send_signal(signal.SIGKILL)
        wait_until(lambda: trouble(campaign), lambda: said(campaign))
        try:
            subprocess.run(["sleep", str(AWAY)], check=True)
            assert campaign.states().get("JOB_FINISHED", 0) > 8  # the launchers did not mind
        finally:
            slurm.start_controller()
        wait_until(lambda: not trouble(campaign), lambda: said(campaign))
        victim = min(
            (each for each in batch_jobs(campaign) if each.state is BatchState.RUNNING),
            key=lambda each: -each.num_nodes,
        )
        slurm.run("scancel", victim.scheduler_id)
        wait_until(
            lambda: batch_job(campaign, victim.id).state is BatchState.CANCELLED,
            lambda: said(campaign),
        )
        hurry.touch()
        everything = {"JOB_FINISHED": count}
        wait_until(
            lambda: campaign.states() == everything,
            lambda: f"{campaign.states()}\n{batch_jobs(campaign)}\n{said(campaign)}",
            seconds=120,
        )
        wait_until(
            lambda: not any(each.is_live for each in batch_jobs(campaign)),
            lambda: f"{slurm.run('squeue')}\n{batch_jobs(campaign)}\n{said(campaign)}",
        )
    told = said(campaign)
    assert re.search(r"the batch system: .*trying again$", told, re.M)
    assert "the batch system answers again" in told
    states = [(each.id, each.state) for each in batch_jobs(campaign)]
    assert (victim.id, BatchState.CANCELLED) in states, told
    assert f"batch job {victim.id} ({victim.scheduler_id}) ended, cancelled" in told
    assert {state for _, state in states} == {BatchState.FINISHED, BatchState.CANCELLED}
    outcomes = Counter(a.outcome for a in campaign.client.attempts(jobs))
    assert outcomes[Outcome.DONE] == count, outcomes
    assert set(outcomes) <= {Outcome.DONE, Outcome.TIMEOUT, Outcome.LOST}
    ends = [Path(job.workdir, "ends").read_text() for job in campaign.client.jobs(ALL)]
    assert ends == ["ended\n"] * count
