"""All kinds of jobs in one launcher over four hosts."""

from __future__ import annotations

from collections import Counter

import pytest

from balsam.model.query import Query
from balsam.model.states import State
from balsam.report.summary import summarize
from tests.integration.conftest import Campaign
from tests.integration.hosts.conftest import CORES, GPUS, MEMORY_MIB, StartPilot
from tests.integration.hosts.occupancy import Limits, core_seconds, over_committed

#: Share of the cores that must be busy from the launcher's start to its end.
UTILIZATION = 0.9
#: Tells the devices and the host of each rank, and waits.
RANK = '#\necho "${CUDA_VISIBLE_DEVICES-none} on $(hostname)"; exec sleep 1'


def add_mixed(campaign: Campaign) -> dict[str, list[int]]:
    """Add jobs of all kinds, each of which takes about a second; return their ids by kind."""
    campaign.app("sleep", "/bin/sleep")
    campaign.app("rank", RANK)

    def names(kind: str, count: int) -> list[str]:
        return [f"{kind}{number}" for number in range(count)]

    return {
        "serial": campaign.jobs("sleep", *names("serial", 500), args="1", memory_mib=500),
        "two-rank": campaign.jobs("rank", *names("two-rank", 50), ranks_per_node=2),
        "two-node": campaign.jobs("rank", *names("two-node", 10), num_nodes=2, memory_mib=3000),
        "gpu": campaign.jobs("rank", *names("gpu", 20), gpus_per_rank=0.5),
    }


@pytest.mark.slow
def test_a_mixed_campaign_fills_four_hosts(campaign: Campaign, pilot: StartPilot) -> None:
    jobs = add_mixed(campaign)
    said = pilot().launcher.wait()
    assert campaign.states() == {"JOB_FINISHED": 580}, said
    attempts = campaign.client.attempts([job for kind in jobs.values() for job in kind])
    assert len(attempts) == 580
    (launcher,) = campaign.client.launchers(live=False)
    assert (launcher.nodes, launcher.cores, launcher.gpus) == (4, 4 * CORES, 4 * GPUS)
    used = Counter(attempt.node for attempt in attempts)
    assert set(used) == {"h1", "h2", "h3", "h4"}
    summary = summarize(campaign.client)
    assert launcher.ended_at is not None
    offered = 4 * CORES * (launcher.ended_at - launcher.started_at)
    by_placements = core_seconds(attempts) / offered
    print(f"utilization {summary.utilization:.3f}, by placements {by_placements:.3f}, {used}")
    assert over_committed(attempts, Limits(CORES, GPUS, MEMORY_MIB)) == []
    assert summary.utilization == pytest.approx(by_placements, abs=0.02)
    assert summary.utilization > UTILIZATION, said
    for job in jobs["two-node"]:
        hosts = [line.split(" on ")[1] for line in campaign.output(job).splitlines()]
        assert len(set(hosts)) == len(hosts) == 2, campaign.tell(job)
    for job in jobs["gpu"]:
        assert campaign.output(job).split(" on ")[0] in ("0", "1")


def test_a_job_that_needs_more_nodes_than_there_are_waits(
    campaign: Campaign, pilot: StartPilot
) -> None:
    campaign.app("rank", RANK)
    large = campaign.job("rank", "large", num_nodes=5)
    small = campaign.job("rank", "small", num_nodes=4)
    said = pilot().launcher.wait()
    assert campaign.state(small) == State.JOB_FINISHED, campaign.tell(small)
    assert campaign.state(large) == State.PREPROCESSED
    assert "1 jobs need more than this launcher has" in said
    hosts = {line.split(" on ")[1] for line in campaign.output(small).splitlines()}
    assert hosts == {"h1", "h2", "h3", "h4"}


def test_only_the_nodes_that_are_named_are_used(campaign: Campaign, pilot: StartPilot) -> None:
    campaign.app("rank", RANK)
    jobs = campaign.jobs("rank", *(f"j{n}" for n in range(6)))
    pilot("--nodes", "h[1-4]", "--limit-nodes", "2", "--offset-nodes", "1").launcher.wait()
    attempts = campaign.client.attempts(jobs)
    assert {attempt.node for attempt in attempts} == {"h2", "h3"}
    assert campaign.client.count_jobs(Query()) == 6
